"""Draining: ends the sessions that are meant, at a pace of the operator's choice, and can keep new ones out."""

from collections.abc import Callable
from typing import Final

import structlog
from msgspec import Struct

from sessiond.app.commit import Committer
from sessiond.app.listing import Listing
from sessiond.app.ports.store import Store
from sessiond.app.sessions import SessionManager
from sessiond.app.situation import Circumstances
from sessiond.app.welcome import Welcome
from sessiond.core.decide.requests import note_change
from sessiond.core.draft import Draft
from sessiond.core.filters import Filter
from sessiond.core.lifecycle import State

log = structlog.get_logger(__name__)

CHUNK: Final = 200
"""Sessions decided in one go before other requests get their turn."""
REASON: Final = "DRAINED"


class Drained(Struct, frozen=True, gc=False):
    """How many sessions had not ended before, and how many of these are over, and ending, now."""

    matched: int
    closed: int = 0
    closing: int = 0


class Draining:
    """The way to get rid of many sessions, each in the way of its kind; `welcome` says whether new ones are let in."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        listing: Listing,
        sessions: SessionManager,
        circumstances: Circumstances,
        welcome: Welcome,
    ) -> None:
        self.welcome = welcome
        self._committer = committer
        self._store = store
        self._listing = listing
        self._sessions = sessions
        self._circumstances = circumstances

    async def count(self, wanted: Filter) -> Drained:
        """Return how many sessions there are to end."""
        return Drained(len(await self._keys(wanted)))

    async def drain(self, wanted: Filter, message: str, per_second: int) -> Drained:
        """End all that are meant, at most so many in a second (0: as fast as can be); return when it is written."""
        keys, clock = await self._keys(wanted), self._circumstances.clock
        step = min(per_second, CHUNK) if per_second else CHUNK
        log.info("draining", filter=wanted.text, sessions=len(keys), per_second=per_second, message=message)
        started_ms = clock.now_ms()
        for start in range(0, len(keys), step):
            if per_second:
                await clock.sleep_until(started_ms + start * 1000 // per_second)
            decisions = {key: await self._end_of(key, message) for key in keys[start : start + step]}
            await self._committer.commit_many(decisions)
        found = [await self._store.get(key) for key in keys]
        closing = sum(stored is not None and stored.session.head.state is State.CLOSING for stored in found)
        closed = sum(stored is None or stored.session.head.state is State.CLOSED for stored in found)
        log.info("drained", sessions=len(keys), closed=closed, closing=closing)
        return Drained(len(keys), closed, closing)

    async def _end_of(self, key: str, message: str) -> Callable[[Draft], None]:
        """Return how a session is ended; nothing happens to one that is gone."""
        stored = await self._store.get(key)
        if stored is None:
            return lambda _: None
        act = await self._sessions.ending(stored.session, message, reason=REASON)

        def end(draft: Draft) -> None:
            at = self._circumstances.now()
            act(draft, at)
            if draft.changed and draft.is_native:
                note_change(draft, at.now_ms)

        return end

    async def _keys(self, wanted: Filter) -> list[str]:
        everyone = self._listing.every(wanted, wanted)
        return [session.key async for session in everyone if session.head.state is not State.CLOSED]
