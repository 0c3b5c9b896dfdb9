"""Deadlines: one loop that sleeps to the earliest moment at which time alone changes a session.

The deadlines are no state of their own: each is derived from its session after every write, so a restart that loads
the sessions has them all again.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Sequence

import structlog

from sessiond.app.commit import Outcome
from sessiond.app.ports.clock import Clock
from sessiond.core.decide.tick import deadline
from sessiond.core.errors import Fenced, Unavailable
from sessiond.core.session import Session, finished

log = structlog.get_logger(__name__)

BATCH = 100
"""How many sessions are looked at in one go, some 5 ms of work; then others get their turn."""
RETRY_AFTER_MS = 1000
"""How long after a tick that failed the sessions that it left without a deadline are looked at again."""


class Deadlines:
    """Calls `tick` with the keys of sessions whose deadline has come.

    Each session is in the heap once, at its deadline or before: one that is put off again and again, as long as it is
    used, is found to be early when its old time comes, and goes back.
    """

    def __init__(
        self,
        clock: Clock,
        tick: Callable[[Sequence[str]], Awaitable[None]],
        used_at_ms: Callable[[Session], int] = lambda _: 0,
    ) -> None:
        """`used_at_ms` says when a session was last used as far as that is not written."""
        self._clock = clock
        self._tick = tick
        self._used_at_ms = used_at_ms
        self._due: dict[str, int] = {}
        self._in_heap: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()

    def observe(self, outcome: Outcome) -> None:
        """Take the deadline of a session that was written."""
        self.arm(outcome.after)

    def arm(self, session: Session) -> None:
        """Take the deadline of a session; it replaces the one it had."""
        used_at_ms = self._used_at_ms(session)
        at_ms = None if finished(session) else deadline(session, self._clock.now_ms(), used_at_ms)
        if at_ms is None:
            self._due.pop(session.key, None)
        elif self._due.get(session.key) != at_ms:
            self._set(session.key, at_ms)
            if self._heap[0][0] == at_ms:
                self._changed.set()

    @property
    def next_ms(self) -> int | None:
        """When the next deadline comes; None if there is none."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            self._go_back(*heapq.heappop(self._heap))
        return self._heap[0][0] if self._heap else None

    def clear(self) -> None:
        """Forget all deadlines."""
        self._due.clear()
        self._in_heap.clear()
        self._heap.clear()

    async def run(self) -> None:
        """Sleep and tick for ever."""
        while True:
            self._changed.clear()
            keys = self._take()
            if keys:
                await self._run_tick(keys)
                await asyncio.sleep(0)  # a store in memory waits for nothing, and others want their turn
            else:
                await self._sleep()

    async def _run_tick(self, keys: Sequence[str]) -> None:
        try:
            await self._tick(keys)
        except Fenced:
            log.debug("tick_left_to_successor", sessions=len(keys))
        except Unavailable as error:
            log.warning("tick_waits_for_store", sessions=len(keys), text=error.text)
            self._put_off(keys)
        except Exception:
            log.exception("tick_failed", sessions=len(keys))
            self._put_off(keys)

    def _put_off(self, keys: Sequence[str]) -> None:
        """Try again in a while, unless something else has come due for a session."""
        again_ms = self._clock.now_ms() + RETRY_AFTER_MS
        for key in keys:
            if key not in self._due:
                self._set(key, again_ms)

    def _set(self, key: str, at_ms: int) -> None:
        self._due[key] = at_ms
        if at_ms < self._in_heap.get(key, at_ms + 1):
            self._in_heap[key] = at_ms
            heapq.heappush(self._heap, (at_ms, key))

    def _go_back(self, at_ms: int, key: str) -> None:
        """Put a session that came off the heap before its deadline to where it belongs; one that has none is out."""
        if self._in_heap.get(key) != at_ms:
            return  # an earlier entry has taken its place
        del self._in_heap[key]
        if key in self._due:
            self._set(key, self._due[key])

    def _take(self) -> list[str]:
        """Take what is due now off the heap."""
        now_ms, keys = self._clock.now_ms(), list[str]()
        while self._heap and self._heap[0][0] <= now_ms and len(keys) < BATCH:
            at_ms, key = heapq.heappop(self._heap)
            if self._due.get(key) == at_ms:
                del self._due[key]
                self._in_heap.pop(key, None)
                keys.append(key)
            else:
                self._go_back(at_ms, key)
        return keys

    async def _sleep(self) -> None:
        """Sleep until the earliest deadline, or until an earlier one comes."""
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._changed.wait())]
        if self._heap:
            waits.append(asyncio.ensure_future(self._clock.sleep_until(self._heap[0][0])))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
