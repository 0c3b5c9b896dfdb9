"""Patience: waiting for outcomes, no longer than is good.

One timer looks after all who wait: one for each would cost as much as a part of the write that they wait for.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection

STEP_S: Final = 0.1
"""How much longer than wanted somebody may wait."""


class Patience:
    """Waits for futures."""

    def __init__(self) -> None:
        self._until_s: dict[asyncio.Future[bool], float] = {}
        """Who waits, and until when."""
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, outcomes: "Collection[asyncio.Future[Any]]", timeout_s: float) -> bool:
        """Return whether all of these are done within a time; what they are is not looked at."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        left = len(outcomes)

        def done(_: "asyncio.Future[Any]") -> None:
            nonlocal left
            left -= 1
            if not left and not waiter.done():
                waiter.set_result(True)

        awaited = tuple(outcomes)
        for outcome in awaited:
            outcome.add_done_callback(done)
        self._until_s[waiter] = loop.time() + timeout_s
        if self._timer is None:
            self._timer = loop.call_later(STEP_S, self._look)
        try:
            return await waiter or all(outcome.done() for outcome in awaited)
        finally:
            del self._until_s[waiter]

    def _look(self) -> None:
        """Tell those who have waited long enough."""
        loop = asyncio.get_running_loop()
        for waiter, until_s in self._until_s.items():
            if until_s <= loop.time() and not waiter.done():
                waiter.set_result(False)
        self._timer = loop.call_later(STEP_S, self._look) if self._until_s else None
