"""Time works on sessions at the right moment: never early, earliest first, and not at moments that were replaced."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import pytest

from sessiond.app.commit import Outcome
from sessiond.app.deadlines import BATCH, Deadlines
from sessiond.core.lifecycle import State
from sessiond.core.session import Gateway, Head, Session
from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle


class World:
    """Deadlines at work, and the ticks they made: (milliseconds since the start, keys)."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.start_ms = self.clock.now_ms()
        self.ticks: list[tuple[int, list[str]]] = []
        self.deadlines = Deadlines(self.clock, self._tick)
        self.failing: list[Exception] = []
        self.rearm: list[Session] = []

    def closing(self, key: str, in_ms: int) -> Session:
        """Return a session that waits for its final usage until some time after the start; 0 is without end."""
        decide_by_ms = self.start_ms + in_ms if in_ms else 0
        head = Head(state=State.CLOSING, created_at_ms=self.start_ms)
        return Session(key=key, type="lte", scope=key, head=head, gateway=Gateway(decide_by_ms=decide_by_ms))

    def arm(self, *armed: tuple[str, int]) -> None:
        """Give sessions a deadline some milliseconds after the start."""
        for key, in_ms in armed:
            self.deadlines.observe(Outcome(None, self.closing(key, in_ms)))

    async def until(self, at_ms: int) -> None:
        """Turn the clock to some milliseconds after the start, stopping wherever somebody waits."""
        await settle()
        end_ms = self.start_ms + at_ms
        while (next_ms := self.clock.next_ms()) is not None and next_ms <= end_ms:
            self.clock.advance(next_ms - self.clock.now_ms())
            await settle()
        self.clock.advance(end_ms - self.clock.now_ms())
        await settle()

    async def _tick(self, keys: Sequence[str]) -> None:
        self.ticks.append((self.clock.now_ms() - self.start_ms, list(keys)))
        for session in self.rearm:
            self.deadlines.arm(session)
        if self.failing:
            raise self.failing.pop(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Give deadlines that run."""
    world = World()
    running = asyncio.create_task(world.deadlines.run())
    yield world
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_nothing_is_done_early(world: World) -> None:
    """One millisecond before its deadline a session is left alone; at the deadline its time has come, once."""
    world.arm(("s-1", 1000))
    await world.until(999)
    assert world.ticks == []
    await world.until(5000)
    assert world.ticks == [(1000, ["s-1"])]


async def test_the_earliest_comes_first(world: World) -> None:
    """Whatever the order in which deadlines were set, time works on sessions in the order of their deadlines."""
    world.arm(("late", 3000), ("early", 1000), ("middle", 2000))
    await world.until(3000)
    assert world.ticks == [(1000, ["early"]), (2000, ["middle"]), (3000, ["late"])]


async def test_an_earlier_deadline_wakes_the_sleeper(world: World) -> None:
    """A deadline that is set while a later one is slept to is kept all the same."""
    world.arm(("late", 60_000))
    await world.until(500)
    world.arm(("early", 1000))
    await world.until(1000)
    assert world.ticks == [(1000, ["early"])]


@pytest.mark.parametrize(("first_ms", "second_ms"), [(1000, 2000), (2000, 1000)])
async def test_a_replaced_deadline_is_no_deadline(world: World, first_ms: int, second_ms: int) -> None:
    """A session has the deadline that was set last, whether it is later or earlier than the one before."""
    world.arm(("s-1", first_ms), ("s-1", second_ms))
    await world.until(5000)
    assert world.ticks == [(second_ms, ["s-1"])]


async def test_a_deadline_taken_away_never_comes(world: World) -> None:
    """A session that waits for nothing any more is left alone."""
    world.arm(("s-1", 1000), ("s-1", 0))
    await world.until(5000)
    assert world.ticks == []


async def test_a_deadline_set_twice_comes_once(world: World) -> None:
    """Every write sets the deadline again; the same moment is no second deadline."""
    world.arm(("s-1", 1000), ("s-1", 1000), ("s-1", 2000), ("s-1", 1000))
    await world.until(5000)
    assert world.ticks == [(1000, ["s-1"])]


async def test_a_deadline_in_the_past_comes_at_once(world: World) -> None:
    """What came due while nobody looked is done right away."""
    await world.until(2000)
    world.arm(("s-1", 1000))
    await settle()
    assert world.ticks == [(2000, ["s-1"])]


async def test_what_is_due_together_is_done_in_batches(world: World) -> None:
    """Sessions of one moment are taken together, but never more than a batch of them."""
    world.arm(*[(f"s-{number}", 1000) for number in range(2 * BATCH + 1)])
    await world.until(1000)
    assert [(at_ms, len(keys)) for at_ms, keys in world.ticks] == [(1000, BATCH), (1000, BATCH), (1000, 1)]
    assert len({key for _, keys in world.ticks for key in keys}) == 2 * BATCH + 1


async def test_a_failed_tick_is_made_again(world: World) -> None:
    """If the store is away when a deadline comes, it comes again a second later; other deadlines are kept."""
    world.failing = [RuntimeError("away"), RuntimeError("still away")]
    world.arm(("s-1", 1000), ("s-2", 2500))
    await world.until(5000)
    assert world.ticks == [(1000, ["s-1"]), (2000, ["s-1"]), (2500, ["s-2"]), (3000, ["s-1"])]


async def test_a_failed_tick_leaves_deadlines_that_were_set_by_then(world: World) -> None:
    """A tick that failed half-way has given some sessions their next deadline already; they keep it."""
    world.failing = [RuntimeError("away")]
    world.rearm = [world.closing("s-1", 7000)]
    world.arm(("s-1", 1000), ("s-2", 1000))
    await world.until(1500)
    world.rearm = []
    await world.until(9000)
    assert world.ticks == [(1000, ["s-1", "s-2"]), (2000, ["s-2"]), (7000, ["s-1"])]


async def test_a_clock_that_stops_in_between_wakes_nobody(world: World) -> None:
    """Without any deadline nothing is slept to."""
    await settle()
    assert world.clock.next_ms() is None


async def test_the_next_deadline_is_known(world: World) -> None:
    """It is the earliest of those that are still in force."""
    assert world.deadlines.next_ms is None
    world.arm(("s-1", 1000), ("s-2", 2000))
    assert world.deadlines.next_ms == world.start_ms + 1000
    world.arm(("s-1", 3000))
    assert world.deadlines.next_ms == world.start_ms + 2000
    world.arm(("s-1", 0), ("s-2", 0))
    assert world.deadlines.next_ms is None


async def test_what_was_forgotten_can_come_again(world: World) -> None:
    """A daemon that keeps the sessions once more has their deadlines once more, whatever they were before."""
    world.arm(("s-1", 1000), ("s-2", 2000))
    world.deadlines.clear()
    assert world.deadlines.next_ms is None
    await world.until(1500)
    assert world.ticks == []
    world.arm(("s-1", 3000), ("s-2", 2000))
    await world.until(3000)
    assert world.ticks == [(2000, ["s-2"]), (3000, ["s-1"])]
