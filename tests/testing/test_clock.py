"""The clock stands still until it is turned."""

import asyncio

from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle


async def test_sleepers_wake_in_the_order_of_their_moments() -> None:
    """Turning the clock wakes those whose moment has come, the earliest first; equal moments in order of asking."""
    clock, woken = HandClock(1000), list[str]()

    async def sleep(name: str, at_ms: int) -> None:
        await clock.sleep_until(at_ms)
        woken.append(name)

    sleepers = [asyncio.create_task(sleep(*args)) for args in (("c", 1300), ("a", 1100), ("b", 1100), ("past", 999))]
    await settle()
    assert (woken, clock.next_ms()) == (["past"], 1100)
    clock.advance(299)
    await settle()
    assert (woken, clock.now_ms(), clock.next_ms()) == (["past", "a", "b"], 1299, 1300)
    clock.advance(1)
    await asyncio.gather(*sleepers)
    assert (woken, clock.next_ms()) == (["past", "a", "b", "c"], None)


async def test_a_sleeper_that_went_away_is_not_waited_for() -> None:
    """A task that is cancelled in its sleep leaves no moment behind."""
    clock = HandClock(1000)
    sleeper = asyncio.create_task(clock.sleep_until(2000))
    await settle()
    sleeper.cancel()
    await settle()
    assert clock.next_ms() is None
    clock.advance(5000)


def test_numbers_are_known() -> None:
    """Numbers count up from 1, below the bound, so that a test knows the ids of its sessions."""
    clock = HandClock()
    assert [clock.number(3) for _ in range(4)] == [1, 2, 0, 1]
