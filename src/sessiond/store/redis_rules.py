"""The static rules that policydb keeps in Redis: a hash, each of whose values holds one rule."""

from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sessiond.core.errors import InvalidArgument, Unavailable
from sessiond.core.rules import Catalogue, PolicyRule
from sessiond.translate.rules import policy_rule_from_redis

log = structlog.get_logger(__name__)

HASH: Final = "policydb:rules"
TIMEOUT_S: Final = 2.0
"""How long Redis may take to answer, and how long to be connected to."""


class RedisRules:
    """Reads the hash, again and again; a value is parsed only if it is not the one that was there before.

    A URL that makes no sense is a ValueError or TypeError.
    """

    def __init__(self, url: str) -> None:
        cluster = "+cluster" in url.partition("://")[0]
        kind: Any = RedisCluster if cluster else Redis
        self._redis = kind.from_url(
            url.replace("+cluster", "", 1) if cluster else url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # it is asked again soon anyway
        )
        if not cluster:
            self._redis.connection_pool.make_connection()  # connects to nobody, but looks at the options of the URL
        self._known: dict[bytes, tuple[bytes, PolicyRule | None]] = {}
        self._catalogue: Catalogue = {}

    async def read(self) -> Catalogue:
        """Return all rules by id, the very same mapping if nothing has changed; raise Unavailable if Redis is away.

        A value that is no rule is left out, and logged when it is first seen.
        """
        try:
            values: dict[bytes, bytes] = await self._redis.hgetall(HASH)
        except (RedisError, OSError) as error:
            raise Unavailable("RULES_UNAVAILABLE", f"{HASH} cannot be read: {error}") from error
        known = {field: self._parsed(field, value) for field, value in values.items()}
        if known != self._known:
            found = (known[field][1] for field in sorted(known))
            self._catalogue = {rule.id: rule for rule in found if rule is not None}
        self._known = known
        return self._catalogue

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    def _parsed(self, field: bytes, value: bytes) -> tuple[bytes, PolicyRule | None]:
        """Return a value with the rule in it, None if there is none."""
        before = self._known.get(field)
        if before is not None and before[0] == value:
            return before
        try:
            return value, policy_rule_from_redis(value)
        except InvalidArgument as error:
            log.error("rule_refused", field=field.decode(errors="backslashreplace"), text=error.text)
            return value, None
