"""Native sessions and time: whoever comes first ends what is over, also when the clock is set."""

from collections.abc import AsyncIterator

import pytest

from sessiond.app.activity import STEP_MS
from sessiond.app.commit import Outcome
from sessiond.core.decide.change import Wanted
from sessiond.core.decide.native import NewSession
from sessiond.core.errors import NotFound
from sessiond.core.lifecycle import State
from sessiond.core.session import Session
from sessiond.testing.gateway import SimulatedGateway
from sessiond.testing.loop import settle
from tests.app.scenes import gateway

HOUR_MS = 3_600_000


class World:
    """An application at work, and what happened in it."""

    def __init__(self, whole: SimulatedGateway) -> None:
        self.clock = whole.clock
        self.sessions = whole.application.sessions
        self.outcomes = list[Outcome]()
        whole.application.committer.observe(self.outcomes.append)

    async def create(self, kind: str = "ussd", ttl_ms: int | None = None, idle_timeout_ms: int | None = None) -> str:
        """Return the key of a new session."""
        wanted = NewSession(type=kind, ttl_ms=ttl_ms, idle_timeout_ms=idle_timeout_ms)
        session, _ = await self.sessions.create("", wanted, None, reuse_active=False, wait=True)
        return session.key

    def ends(self) -> list[tuple[str, str]]:
        """Return which sessions have ended, and why."""
        return [
            (outcome.after.key, outcome.after.head.reason)
            for outcome in self.outcomes
            if outcome.after.head.state is State.CLOSED and outcome.before is not None
        ]

    async def reason(self, key: str) -> str:
        """Return why a session is not found."""
        with pytest.raises(NotFound) as caught:
            await self.sessions.get(key)
        return caught.value.reason

    async def on(self, by_ms: int) -> None:
        """Turn the clock, and let everybody do what that brings."""
        self.clock.advance(by_ms)
        await settle()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Give an application at work."""
    async with gateway() as whole:
        yield World(whole)


async def test_the_timer_ends_what_is_over(world: World) -> None:
    """At its time, not before, with its reason."""
    key = await world.create(ttl_ms=1000)
    await world.on(999)
    assert world.ends() == []
    await world.on(1)
    assert world.ends() == [(key, "EXPIRED")]
    assert await world.reason(key) == "SESSION_EXPIRED"


async def test_who_comes_before_the_timer_ends_it(world: World) -> None:
    """Nobody sees a session whose time is over, though the timer has not come to it yet; it ends once."""
    key, other = await world.create(ttl_ms=1000), await world.create(ttl_ms=1000)
    world.clock.advance(1000)  # nobody has had a turn since
    assert await world.reason(key) == "SESSION_EXPIRED"
    with pytest.raises(NotFound):
        await world.sessions.update(other, Wanted(identifier="late"))
    assert sorted(world.ends()) == sorted([(key, "EXPIRED"), (other, "EXPIRED")])
    await settle()
    assert len(world.ends()) == 2


async def test_a_clock_that_is_set_on_ends_what_is_over_by_it(world: World) -> None:
    """A step of the clock is time that has passed."""
    key = await world.create()
    await world.on(24 * HOUR_MS)
    assert world.ends() == [(key, "EXPIRED")]


async def test_use_keeps_a_session_from_being_idle(world: World) -> None:
    """Each use counts, written or not; without any more it ends so long after the last one, to the millisecond."""
    key = await world.create("peer", idle_timeout_ms=1000)
    for _ in range(5):
        await world.on(900)
        await world.sessions.get(key)
    written = [outcome for outcome in world.outcomes if outcome.before is not None]
    assert written == []
    await world.on(999)
    assert world.ends() == []
    await world.on(1)
    assert world.ends() == [(key, "IDLE")]


async def test_who_peeks_does_not_use(world: World) -> None:
    """A session that is only looked at is idle."""
    key = await world.create("peer", idle_timeout_ms=1000)
    await world.on(900)
    await world.sessions.get(key, peek=True)
    await world.on(100)
    assert world.ends() == [(key, "IDLE")]


async def test_a_use_after_a_step_is_written(world: World) -> None:
    """So that a crash loses no more than a step."""
    key = await world.create("peer")
    await world.on(STEP_MS - 1)
    await world.sessions.get(key)
    assert len(world.outcomes) == 1
    await world.on(1)
    await world.sessions.get(key)
    assert [used_at_ms(outcome.after) for outcome in world.outcomes[1:]] == [world.clock.now_ms()]


def used_at_ms(session: Session) -> int:
    """Return when a session was last used, as it is written."""
    assert session.record is not None
    return session.record.used_at_ms


async def test_sessions_that_are_put_off_again_and_again(world: World) -> None:
    """A session that is touched all the time expires once, after the last touch."""
    key = await world.create(ttl_ms=1000)
    for _ in range(50):
        await world.on(100)
        await world.sessions.touch(key, 1000)
    await world.on(999)
    assert world.ends() == []
    await world.on(1)
    assert world.ends() == [(key, "EXPIRED")]
