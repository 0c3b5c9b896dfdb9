"""Draining: ends the gateway sessions there are, at a pace of the operator's choice, and can keep new ones out."""

from functools import partial
from typing import Final

import structlog
from msgspec import Struct

from sessiond.app.commit import Committer
from sessiond.app.ports.store import Store
from sessiond.app.situation import Circumstances
from sessiond.core.decide.release import release
from sessiond.core.draft import Draft
from sessiond.core.errors import Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.situation import Situation

log = structlog.get_logger(__name__)

CHUNK: Final = 200
"""Sessions decided in one go before other requests get their turn."""


class Drained(Struct, frozen=True):
    """How many sessions had not ended before, and how many of these are over, and ending, now."""

    matched: int
    closed: int = 0
    closing: int = 0


class Draining:
    """Whether new sessions are welcome, and the way to get rid of those that are there."""

    def __init__(self, committer: Committer, store: Store, circumstances: Circumstances) -> None:
        self._committer = committer
        self._store = store
        self._circumstances = circumstances
        self.refuses_new = False
        """New gateway sessions are refused."""

    def check(self) -> None:
        """Raise Unavailable if new sessions are refused."""
        if self.refuses_new:
            raise Unavailable("DRAINING", "sessiond takes no new sessions", retry_after_ms=10_000)

    async def count(self) -> Drained:
        """Return how many sessions there are to end."""
        return Drained(len(await self._keys()))

    async def drain(self, message: str, per_second: int) -> Drained:
        """End all sessions, at most so many in a second (0: as fast as can be); return when each end is written."""
        keys, clock = await self._keys(), self._circumstances.clock
        step = min(per_second, CHUNK) if per_second else CHUNK
        log.info("draining", sessions=len(keys), per_second=per_second, message=message)
        started_ms = clock.now_ms()
        for start in range(0, len(keys), step):
            if per_second:
                await clock.sleep_until(started_ms + start * 1000 // per_second)
            decide = partial(_release, at=self._circumstances.now())
            await self._committer.commit_many(dict.fromkeys(keys[start : start + step], decide))
        found = [await self._store.get(key) for key in keys]
        closing = sum(stored is not None and stored.session.head.state is State.CLOSING for stored in found)
        closed = sum(stored is None or stored.session.head.state is State.CLOSED for stored in found)
        log.info("drained", sessions=len(keys), closed=closed, closing=closing)
        return Drained(len(keys), closed, closing)

    async def _keys(self) -> list[str]:
        everyone = [stored.session async for stored in self._store.load()]
        return [
            session.key
            for session in everyone
            if session.gateway is not None and session.head.state is not State.CLOSED
        ]


def _release(draft: Draft, at: Situation) -> None:
    release(draft, at, "DRAINED", notify=True)
