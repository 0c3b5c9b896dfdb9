"""The only place that reads the clock and makes random numbers."""

import asyncio
import random  # noqa: TID251, here is where
import time
import uuid

LONGEST_NAP_MS = 1000
"""How late it may be seen that somebody has set the wall clock."""


class SystemClock:
    """Implements `app.ports.clock.Clock` with the system's wall clock and random source."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def now_ms(self) -> int:
        """Return the unix time in milliseconds."""
        return int(time.time() * 1000)  # noqa: TID251

    async def sleep_until(self, at_ms: int) -> None:
        """Return when that time has come, never earlier."""
        while (left_ms := at_ms - self.now_ms()) > 0:  # noqa: ASYNC110, no event says that the wall clock was set
            await asyncio.sleep(min(left_ms, LONGEST_NAP_MS) / 1000)

    def number(self, bound: int) -> int:
        """Return a random number, at least 0 and below the bound."""
        return self._random.randrange(bound)

    def uuid(self) -> str:
        """Return a random UUID of version 4, in lower case."""
        return str(uuid.uuid4())  # noqa: TID251


def utc_offset_minutes() -> int:
    """Return how far local time is ahead of UTC at this moment, in minutes."""
    return time.localtime().tm_gmtoff // 60
