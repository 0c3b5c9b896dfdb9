"""Names of sessions and subscribers, and the keys under which a session keeps its credits."""

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from sessiond.core.errors import InvalidArgument

SESSION_NUMBERS: Final = 1_000_000
"""How many session ids one subscriber can have: `<subscriber>-<0..999999>`, the form session_proxy parses."""

RECENT: Final = 2048
"""Keys whose scopes are remembered: who is asked about is asked about several times in a row."""

_SUBSCRIBER: Final = re.compile(r"IMSI[0-9]{1,15}")
_GATEWAY_SESSION: Final = re.compile(rf"({_SUBSCRIBER.pattern})-[0-9]{{1,6}}")


def check_subscriber(subscriber: str, field: str) -> str:
    """Return a subscriber id that is `IMSI` and 1 to 15 digits (TS 23.003 clause 2.2); refuse others by field path."""
    if not subscriber:
        raise InvalidArgument("SUBSCRIBER_ID_MISSING", "the subscriber id is empty", field=field)
    if not _SUBSCRIBER.fullmatch(subscriber):
        text = f"{subscriber[:40]!r} is not a subscriber id: IMSI and up to 15 digits, as in IMSI001010000000001"
        raise InvalidArgument("SUBSCRIBER_ID_MALFORMED", text, field=field)
    return subscriber


def session_id(subscriber: str, number: int) -> str:
    """Return the id of a gateway session."""
    return f"{subscriber}-{number}"


@lru_cache(RECENT)
def scope_of(key: str) -> str:
    """Return what keeps sessions together: the subscriber of a gateway session, of any other its own key."""
    gateway_session = _GATEWAY_SESSION.fullmatch(key)
    return gateway_session[1] if gateway_session else key


def credit_key(rating_group: int, service_identifier: int | None = None) -> str:
    """Return the key of a credit: `<rating group>` or `<rating group>/<service identifier>` (TS 32.299 7.2)."""
    return f"{rating_group}/{service_identifier}" if service_identifier else str(rating_group)


def credit_key_parts(key: str) -> tuple[int, int | None]:
    """Return (rating group, service identifier or None) of a credit key."""
    rating_group, _, identifier = key.partition("/")
    return int(rating_group), int(identifier) if identifier else None


PEER_KEY_DIGITS: Final = 16
"""The key of a session between nodes is so many hex digits."""


def key_of_request(namespace: str, request_id: str) -> str:
    """Return the key of a session that a request makes: of the form of a UUID, and the same each time it is sent."""
    digest = blake2b(f"{len(namespace)}:{namespace}:{request_id}".encode(), digest_size=16).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:]}"
