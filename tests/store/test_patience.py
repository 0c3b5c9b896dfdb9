"""Outcomes are waited for, but not for ever."""

import asyncio

import pytest

from sessiond.store.patience import Patience
from sessiond.testing.loop import settle


def outcomes(count: int) -> "list[asyncio.Future[int]]":
    """Return some that are not there yet."""
    return [asyncio.get_running_loop().create_future() for _ in range(count)]


async def test_it_waits_until_all_are_there() -> None:
    """However they come; an error or a cancellation is an outcome, too."""
    first, second, third = awaited = outcomes(3)
    waiting = asyncio.ensure_future(Patience().wait(awaited, 60.0))
    second.set_result(1)
    third.cancel()
    await settle()
    assert not waiting.done()
    first.set_exception(ValueError())
    assert await waiting
    assert first.exception()


async def test_what_is_there_already_is_not_waited_for() -> None:
    """One turn of the loop is enough."""
    (known,) = outcomes(1)
    known.set_result(1)
    assert await Patience().wait([known], 60.0)


async def test_who_has_waited_long_enough_is_told() -> None:
    """Each after its own time; what is late changes nothing any more."""
    patience = Patience()
    late, in_time = outcomes(2)
    asyncio.get_running_loop().call_later(0, in_time.set_result, 1)
    assert list(await asyncio.gather(patience.wait([late], 0.01), patience.wait([in_time], 0.01))) == [False, True]
    late.set_result(1)
    assert await patience.wait([late], 0.01)


async def test_who_goes_holds_nobody_up() -> None:
    """A waiter that is cancelled is looked after no more."""
    patience = Patience()
    goes = asyncio.ensure_future(patience.wait(outcomes(1), 0.01))
    stays = asyncio.ensure_future(patience.wait(outcomes(1), 0.01))
    await asyncio.sleep(0)
    goes.cancel()
    assert not await stays
    assert goes.cancelled()


async def test_what_comes_with_the_last_moment_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told that something is late finds something that is."""
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    patience, (outcome,) = Patience(), outcomes(1)
    waiting = asyncio.ensure_future(patience.wait([outcome], 1.0))
    await asyncio.sleep(0)
    monkeypatch.setattr(loop, "time", lambda: now_s + 60.0)
    patience._look()
    outcome.set_result(1)
    monkeypatch.undo()
    assert await waiting
