"""A clock that stands still until somebody turns it."""

import asyncio
import heapq
import itertools
import uuid


class HandClock:
    """Implements `app.ports.clock.Clock`; `advance` wakes whoever slept to a moment that has come."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._numbers = itertools.count(1)

    def now_ms(self) -> int:
        """Return the unix time in milliseconds."""
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> None:
        """Return when the clock has been turned to that time."""
        if at_ms <= self._now_ms:
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (at_ms, next(self._order), woken))
        await woken

    def number(self, bound: int) -> int:
        """Return 1, 2, 3, ... below the bound."""
        return next(self._numbers) % bound

    def uuid(self) -> str:
        """Return UUIDs of version 4 that count up."""
        return str(uuid.UUID(int=next(self._numbers), version=4))

    def next_ms(self) -> int | None:
        """Return the earliest moment to which anybody sleeps; None if nobody does."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance(self, by_ms: int) -> None:
        """Turn the clock on."""
        self._now_ms += by_ms
        while self._sleepers and self._sleepers[0][0] <= self._now_ms:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)
