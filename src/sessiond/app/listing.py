"""Listing: which sessions there are, a page at a time and in any order, without keeping anybody else waiting.

A page begins right after the place in the order at which the last one ended, so that a session that was there all the
time is in exactly one page, whatever comes and goes meanwhile (if what it is ordered by changes, in one or none).

A session is shown as it is to whoever asks for it: with its last use, written or not, and not at all from the moment at
which its time is over until its end is written.

Where a filter asks for one session, one subscriber or one data source, no other is looked at. In the order of creation
a page costs what it looks at; in other orders, and where other daemons make sessions too, all sessions.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from heapq import nlargest, nsmallest
from operator import itemgetter
from typing import Final

from msgspec import Struct

from sessiond.app.activity import Activity
from sessiond.app.callers import visible
from sessiond.app.commit import Outcome
from sessiond.app.ports.clock import Clock
from sessiond.app.ports.store import Store, Stored
from sessiond.core import names
from sessiond.core.decide import lapse
from sessiond.core.filters import Filter
from sessiond.core.lifecycle import State
from sessiond.core.orders import CREATED, Order, Place
from sessiond.core.session import Session, finished

TURN: Final = 500
"""Sessions looked at before others get their turn."""
SPARSE: Final = 1000
"""Places of sessions that are gone are taken out together: when there are so many, and they are a quarter of all."""
BY_CREATION: Final = Order()

Meant = Callable[[Session], bool]


class Page(Struct, frozen=True, gc=False):
    """Some sessions in their order, and the place of the last one; None if there are no more."""

    sessions: tuple[Session, ...]
    end: Place | None


class Lookups(Struct):
    """How single sessions were found for clients: in memory, or by asking the store (requirement L9)."""

    hits: int = 0
    misses: int = 0


class Listing:
    """Knows the order in which sessions were created, and finds those that are meant.

    `complete` says that this daemon hears of every session; if not, the store is asked for all of them each time.
    """

    def __init__(self, store: Store, activity: Activity, clock: Clock, *, complete: bool = True) -> None:
        self._store = store
        self._activity = activity
        self._clock = clock
        self._complete = complete
        self.lookups = Lookups()
        self._places: list[Place] = []
        self._gone: set[Place] = set()

    def observe(self, outcome: Outcome) -> None:
        """Take a session that is new; drop one that is gone."""
        if outcome.before is None:
            self.take_up(outcome.after)
        elif finished(outcome.after):
            self._drop(outcome.after)

    def take_up(self, session: Session) -> None:
        """Take a session that is there."""
        place = BY_CREATION.place(session)
        self._gone.discard(place)
        if not self._places or place > self._places[-1]:
            self._places.append(place)
            return
        at = bisect_left(self._places, place)
        if self._places[at] != place:
            self._places.insert(at, place)

    def looked_up(self) -> None:
        """Count a look-up; a daemon that knows every session has answered it from memory."""
        if self._complete:
            self.lookups.hits += 1
        else:
            self.lookups.misses += 1

    async def page(self, wanted: Filter, meant: Meant, order: Order, size: int, after: Place | None) -> Page:
        """Return a page of what is meant and may be seen; `wanted` says what must be looked at for that."""
        pinned, meant = self._pinned(wanted), visible(meant)
        if pinned is None and self._complete and order.field == CREATED:
            found = await self._in_order(meant, order, size + 1, after)
        else:
            everyone = self._in_turns(pinned if pinned is not None else self._store.load())
            found = await _sorted(everyone, meant, order, size + 1, after)
        sessions = tuple(found[:size])
        return Page(sessions, order.place(sessions[-1]) if len(found) > size else None)

    async def every(self, wanted: Filter, meant: Meant) -> AsyncIterator[Session]:
        """Yield all sessions that are meant, and that the caller may see, in no order; others have their turn."""
        pinned, meant = self._pinned(wanted), visible(meant)
        async for session in self._in_turns(pinned if pinned is not None else self._store.load()):
            if meant(session):
                yield session

    def _pinned(self, wanted: Filter) -> AsyncIterator[Stored] | None:
        """Return the few sessions that can be meant, if the filter says so; else None."""
        if (key := wanted.pinned("key")) is not None:
            return self._one(key)
        if subscriber := wanted.pinned("subscriber"):
            return _each(self._store.find(subscriber))
        if data_source := wanted.pinned("data_source"):
            return _each(self._store.named(names.of_data_source(data_source)))
        return None

    async def _one(self, key: str) -> AsyncIterator[Stored]:
        stored = await self._store.get(key)
        if stored is not None:
            yield stored

    async def _in_turns(self, everyone: AsyncIterator[Stored]) -> AsyncIterator[Session]:
        """Yield sessions as they are shown, and let others have their turn."""
        now_ms, looked_at = self._clock.now_ms(), 0
        async for stored in everyone:
            looked_at += 1
            if looked_at % TURN == 0:
                await asyncio.sleep(0)
                now_ms = self._clock.now_ms()
            if (session := self._shown(stored, now_ms)) is not None:
                yield session

    def _shown(self, stored: Stored, now_ms: int) -> Session | None:
        """Return a session as whoever asks for it sees it, None if nobody does any more."""
        session = stored.session
        if session.head.forgotten or (session.head.state is not State.CLOSED and lapse.expired(session, now_ms)):
            return None
        return self._activity.up_to_date(session)

    async def _in_order(self, meant: Meant, order: Order, count: int, after: Place | None) -> list[Session]:
        """Return the first sessions after a place that are meant, in the order of creation or against it."""
        found: list[Session] = []
        while places := self._next(order, after):
            now_ms = self._clock.now_ms()
            for place in places:
                if place in self._gone:  # its key may be that of a session that was made since
                    continue
                stored = await self._store.get(place[1])
                session = None if stored is None else self._shown(stored, now_ms)
                if session is not None and meant(session):
                    found.append(session)
                    if len(found) == count:
                        return found
            after = places[-1]
            await asyncio.sleep(0)
        return found

    def _next(self, order: Order, after: Place | None) -> list[Place]:
        """Return the places that come next, as many as are looked at in one turn."""
        if order.descending:
            end = len(self._places) if after is None else bisect_left(self._places, after)
            return self._places[max(0, end - TURN) : end][::-1]
        start = 0 if after is None else bisect_right(self._places, after)
        return self._places[start : start + TURN]

    def _drop(self, session: Session) -> None:
        """Take out a session that is gone; it is cheaper to do that with many at once."""
        self._gone.add(BY_CREATION.place(session))
        if len(self._gone) > max(SPARSE, len(self._places) // 4):
            self._places = [place for place in self._places if place not in self._gone]
            self._gone.clear()


async def _each(found: Awaitable[list[Stored]]) -> AsyncIterator[Stored]:
    for stored in await found:
        yield stored


async def _sorted(
    everyone: AsyncIterator[Session], meant: Meant, order: Order, count: int, after: Place | None
) -> list[Session]:
    """Return the first sessions after a place that are meant; no more are kept than can be among them."""
    first = nlargest if order.descending else nsmallest
    found: list[tuple[Place, Session]] = []
    async for session in everyone:
        if meant(session):
            place = order.place(session)
            if after is None or order.is_after(place, after):
                found.append((place, session))
            if len(found) > 2 * count + TURN:
                found = first(count, found, key=itemgetter(0))
    return [session for _, session in first(count, found, key=itemgetter(0))]
