"""After a restart: which of the sessions that are remembered the access side still knows, and the end of the others."""

from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address

from msgspec import Struct

from sessiond.core.decide.release import release
from sessiond.core.draft import Draft
from sessiond.core.lifecycle import State
from sessiond.core.session import Context, Rat, Session
from sessiond.core.situation import Situation

NOT_ATTACHED = "NOT_ATTACHED"
"""The reason of an end: the access side did not know the session any more."""
_PREFIX_BITS = 64
"""A device has a /64 of its own and makes the rest of its address itself (TS 23.401 clause 5.3.1.2.2)."""


class Attachment(Struct, frozen=True, kw_only=True):
    """A subscriber who is attached to an access point; what the access side does not know is empty."""

    subscriber: str
    apn: str = ""
    ue_ipv4: str = ""
    ue_ipv6: str = ""
    session_id: str = ""


class Attachments:
    """All that is attached; `tells_ipv6`: somebody who has an IPv6 address and nothing else would be among it."""

    def __init__(self, attachments: Iterable[Attachment], *, tells_ipv6: bool = True) -> None:
        self._tells_ipv6 = tells_ipv6
        self._of: dict[str, list[Attachment]] = {}
        for attachment in attachments:
            self._of.setdefault(attachment.subscriber, []).append(attachment)

    def has(self, session: Session) -> bool:
        """Whether a gateway session still stands, or nothing can be said about it."""
        context = session.context
        if context is None or (context.ue_ipv6 and not context.ue_ipv4 and not self._tells_ipv6):
            return True
        return any(_is(session.key, context, attachment) for attachment in self._of.get(context.subscriber, ()))


def can_be_asked_about(session: Session) -> bool:
    """Whether the access side is to say if a session stands; one that begins or ends is left to its timers."""
    return session.head.state is State.ACTIVE and session.context is not None and session.context.rat is Rat.LTE


def not_attached(draft: Draft, at: Situation) -> bool:
    """End a session that the access side does not know, if that is still to be done; it is not told so again."""
    if draft.head.state is not State.ACTIVE:
        return False
    release(draft, at, NOT_ATTACHED, notify=False)
    return True


def _is(key: str, context: Context, attachment: Attachment) -> bool:
    """Whether an attachment of the session's subscriber is this session's: by its id, its address, its access point."""
    if attachment.session_id:
        return attachment.session_id == key
    if (attachment.ue_ipv4 or attachment.ue_ipv6) and (context.ue_ipv4 or context.ue_ipv6):
        same_ipv4 = context.ue_ipv4 != "" and attachment.ue_ipv4 == context.ue_ipv4
        return same_ipv4 or _same_prefix(attachment.ue_ipv6, context.ue_ipv6)
    return attachment.apn == context.apn


def _same_prefix(one: str, other: str) -> bool:
    try:
        return int(IPv6Address(one)) >> _PREFIX_BITS == int(IPv6Address(other)) >> _PREFIX_BITS
    except AddressValueError:
        return False
