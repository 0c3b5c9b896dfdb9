"""Gathering: calls that arrive together are carried out together.

gRPC hands over one call in every few turns of the event loop. Carried out one by one, each finds the caches of the
processor full of what gRPC and the kernel did since the last, and shares nothing with the others: no pipeline to the
store, no write to a socket. So a call waits for those right behind it, and they go on in a row, at half the cost
(docs/performance.md). It waits for turns of the loop, not for time: a call that comes alone is held up by some 50 us.
So the next ones go straight on, and only now and then one looks again who else comes. They do so for longer where the
core is shared with other processes: in each turn that gives it up, one of them may have it for milliseconds.
"""

import asyncio
import os
from time import perf_counter
from typing import Final

QUIET_TURNS: Final = 12
"""After so many turns of the loop without another call nobody else comes: gRPC needs about four for a call, and more
where its threads have a core of their own, because turns are shorter then."""
MOST_CALLS: Final = 64
LONGEST_S: Final = 0.01
"""So many calls, or so long a wait, are enough even if calls keep coming, or the turns of the loop are long."""
STRAIGHT_ON: Final = 31
"""How many calls wait for nobody after one that has waited for nothing."""
STRAIGHT_ON_WHERE_SHARED: Final = 511
FOREIGN_S: Final = 0.002
"""The threads of gRPC need less; if the core is gone for so long, another process had it."""


class Gathering:
    """Lets calls go on together with those that arrive right behind them."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._quiet_turns = 0
        self._since_s = 0.0
        self._straight_on = 0

    async def join(self) -> None:
        """Return as soon as no other call arrives for a moment, or enough have."""
        if self._straight_on:
            self._straight_on -= 1
            return
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._since_s = loop.time()
            loop.call_soon(self._turn)
        self._quiet_turns = 0
        going_on = loop.create_future()
        self._waiting.append(going_on)
        await going_on

    def _turn(self) -> None:
        """Look after a turn of the loop whether to wait for another; the threads of gRPC may need the core for it."""
        gone_s = perf_counter()
        os.sched_yield()
        gone_s = perf_counter() - gone_s
        loop = asyncio.get_running_loop()
        self._quiet_turns += 1
        enough = len(self._waiting) >= MOST_CALLS or loop.time() - self._since_s >= LONGEST_S
        if gone_s >= FOREIGN_S:
            self._straight_on = STRAIGHT_ON_WHERE_SHARED
        elif enough or self._quiet_turns >= QUIET_TURNS:
            self._straight_on = STRAIGHT_ON if len(self._waiting) == 1 else 0
        else:
            loop.call_soon(self._turn)
            return
        together, self._waiting = self._waiting, []
        for going_on in together:
            if not going_on.done():  # its caller has not gone meanwhile
                going_on.set_result(None)
