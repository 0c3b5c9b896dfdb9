"""Waiting until nothing moves any more: what a test with a hand-turned clock needs instead of sleeping."""

import asyncio
from typing import Any, Final
from weakref import WeakSet

QUIET_TURNS: Final = 3
"""Turns of the loop in which nothing may move: a callback can wake a task one or two turns later."""
MAX_TURNS: Final = 100_000

_settling: Final = WeakSet[asyncio.Task[Any]]()


async def settle() -> None:
    """Return when every other task waits for something that only a test can bring about.

    That is a clock to be turned or an answer to be released; real time and real input are not waited for. Work that
    never comes to rest is a mistake, and said to be one.
    """
    this = asyncio.current_task()
    if this is None:
        raise RuntimeError("settle is for tasks")
    _settling.add(this)
    try:
        await _quiet()
    finally:
        _settling.discard(this)


async def _quiet() -> None:
    quiet = 0
    for _ in range(MAX_TURNS):
        await asyncio.sleep(0)
        quiet = 0 if any(_moves(task) for task in asyncio.all_tasks()) else quiet + 1
        if quiet == QUIET_TURNS:
            return
    raise AssertionError(f"something is still moving after {MAX_TURNS} turns of the loop")


def _moves(task: asyncio.Task[Any]) -> bool:
    """Whether a task will go on by itself; asyncio has no public way to ask what a task waits for."""
    if task in _settling:
        return False
    waits_for: asyncio.Future[Any] | None = task._fut_waiter  # type: ignore[attr-defined]
    return waits_for is None or waits_for.done()
