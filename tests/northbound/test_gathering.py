"""Calls that arrive together go on together; nobody waits for ever, and a call that comes alone hardly waits at all."""

import asyncio
from itertools import count

import pytest

from sessiond.northbound import gathering
from sessiond.northbound.gathering import (
    FOREIGN_S,
    LONGEST_S,
    MOST_CALLS,
    QUIET_TURNS,
    STRAIGHT_ON,
    STRAIGHT_ON_WHERE_SHARED,
    Gathering,
)


async def turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


def join(calls: Gathering) -> "asyncio.Task[None]":
    """Let a call arrive."""
    return asyncio.ensure_future(calls.join())


async def test_a_call_that_comes_alone_goes_on_after_a_few_turns() -> None:
    """It waits for others for turns of the loop, not for time."""
    call = join(Gathering())
    await turns(QUIET_TURNS)
    assert not call.done()
    await turns(4)
    assert call.done()


async def test_calls_that_arrive_together_go_on_in_one_turn_and_in_their_order() -> None:
    """Each that arrives in time is waited for, and nobody overtakes anybody."""
    calls, went_on = Gathering(), list[int]()

    async def call(number: int) -> None:
        await calls.join()
        went_on.append(number)

    tasks = list[asyncio.Task[None]]()
    for number in range(5):
        tasks.append(asyncio.ensure_future(call(number)))
        await turns(QUIET_TURNS // 2)
        assert went_on == []
    while not went_on:
        await turns(1)
    assert went_on == [0, 1, 2, 3, 4]
    await asyncio.gather(*tasks)


async def test_enough_calls_go_on_even_if_more_keep_coming() -> None:
    """A stream of calls without a gap does not hold back those at its head."""
    calls, arrived = Gathering(), list[asyncio.Task[None]]()
    while not any(call.done() for call in arrived):
        arrived.append(join(calls))
        await turns(1)
    went_on = [call.done() for call in arrived]
    assert MOST_CALLS <= went_on.index(False) <= MOST_CALLS + 4
    await asyncio.gather(*arrived)


async def test_a_call_waits_no_longer_than_that_if_turns_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that take long, because there is other work, count for less."""
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now_s)
    calls = Gathering()
    first = join(calls)
    await turns(2)
    assert not first.done()
    now_s += LONGEST_S
    await turns(3)
    assert first.done()


async def test_a_caller_that_goes_holds_nobody_up() -> None:
    """A call that is cancelled while it waits leaves the others their turn."""
    calls = Gathering()
    gone, stays = join(calls), join(calls)
    await turns(1)
    gone.cancel()
    await stays
    assert gone.cancelled()


async def test_the_next_calls_gather_anew() -> None:
    """What comes after a group has gone on is the beginning of another."""
    calls = Gathering()
    await asyncio.gather(join(calls), join(calls))
    again = [join(calls), join(calls)]
    await turns(QUIET_TURNS // 2)
    assert not any(call.done() for call in again)
    await asyncio.gather(*again)


async def test_after_a_call_that_came_alone_many_go_straight_on() -> None:
    """One caller after the other pays for the wait once in so many calls; then it is looked again who else comes."""
    calls = Gathering()
    await join(calls)
    for _ in range(STRAIGHT_ON):
        straight = join(calls)
        await turns(1)
        assert straight.done()
    looking = join(calls)
    await turns(QUIET_TURNS // 2)
    assert not looking.done()
    together = [looking, join(calls)]
    await asyncio.gather(*together)
    waits_again = join(calls)
    await turns(2)
    assert not waits_again.done()
    await waits_again


async def test_where_another_process_has_the_core_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving up the core costs the turn of the other process then: one looks again only after many calls."""
    moments = count(0.0, FOREIGN_S)
    monkeypatch.setattr(gathering, "perf_counter", lambda: next(moments))
    calls = Gathering()
    first, second = join(calls), join(calls)
    await turns(4)
    assert first.done()
    assert second.done()
    for _ in range(STRAIGHT_ON_WHERE_SHARED):
        straight = join(calls)
        await turns(1)
        assert straight.done()
    looking = join(calls)
    await turns(1)
    assert not looking.done()
    await looking
