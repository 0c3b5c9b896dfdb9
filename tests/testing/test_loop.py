"""`settle` returns when nothing moves by itself any more, and not before."""

import asyncio

import pytest

from sessiond.testing import loop
from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle


async def test_all_that_can_happen_has_happened() -> None:
    """Chains of tasks, callbacks and futures have run to where they wait for the test."""
    done: list[str] = []
    clock = HandClock()

    async def inner() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        done.append("inner")

    async def outer() -> None:
        await asyncio.wait([asyncio.create_task(inner()), asyncio.create_task(inner())])
        asyncio.get_running_loop().call_soon(lambda: asyncio.create_task(waiting()))

    async def waiting() -> None:
        await asyncio.gather(inner(), inner())
        done.append("waits")
        await clock.sleep_until(clock.now_ms() + 1)
        done.append("never")

    task = asyncio.create_task(outer())
    await settle()
    assert task.done()
    assert done == ["inner"] * 4 + ["waits"]


async def test_several_may_settle_at_the_same_time() -> None:
    """Tasks that settle do not wait for each other."""
    await asyncio.gather(settle(), settle(), settle())


async def test_what_never_rests_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that goes on for ever is said to do so."""
    monkeypatch.setattr(loop, "MAX_TURNS", 100)

    async def restless() -> None:
        while True:  # noqa: ASYNC110, restless on purpose
            await asyncio.sleep(0)

    task = asyncio.create_task(restless())
    with pytest.raises(AssertionError, match="still moving"):
        await settle()
    task.cancel()
