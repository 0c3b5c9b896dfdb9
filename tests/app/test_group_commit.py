"""What is decided while a group is written is the next group; everybody hears what became of his own decision."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.app.commit import Committer
from sessiond.app.group_commit import GroupCommit
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, NotFound, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Gateway, Head, Session
from sessiond.core.update import Change, UpdateCriteria
from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle
from tests.app.stores import TroubledStore

KEYS = ("s-1", "s-2", "s-3")


class World:
    """A group commit over a troubled store with three sessions."""

    def __init__(self) -> None:
        self.store = TroubledStore()
        self.group = GroupCommit(Committer(self.store, HandClock()))

    async def put(self) -> None:
        """Store the sessions."""
        head = Head(state=State.ACTIVE, created_at_ms=1)
        await self.store.put(*(Session(key=key, type="lte", scope=key, head=head, gateway=Gateway()) for key in KEYS))

    def begin(self, key: str, by: int = 1) -> "asyncio.Task[None]":
        """Begin to count the request number of a session up."""
        return asyncio.ensure_future(self.group.commit(key, lambda draft: up(draft, by)))

    async def numbers(self) -> list[int]:
        """Return how far the request number of each session was counted up."""
        found = [await self.store.get(key) for key in KEYS]
        return [one.session.gateway.request_number - 1 if one and one.session.gateway else -1 for one in found]


def up(draft: Draft, by: int) -> None:
    """Count the request number up."""
    draft.change("gateway", "", Change({"request_number": by}))


def _criteria(by: int) -> UpdateCriteria:
    return UpdateCriteria({("gateway", ""): Change({"request_number": by})})


@pytest.fixture
async def world() -> World:
    """Give one."""
    world = World()
    await world.put()
    return world


async def test_what_comes_alone_is_written_at_once(world: World) -> None:
    """There is nothing to wait for."""
    await world.group.commit("s-1", lambda draft: up(draft, 1))
    assert await world.numbers() == [1, 0, 0]
    assert [len(writes) for writes in world.store.writes] == [1]


async def test_what_comes_while_a_group_is_written_is_the_next(world: World) -> None:
    """However many there are, they are one write; two about one session are one change of it, in their order."""
    held = world.store.hold("write")
    first = world.begin("s-1")
    await settle()
    rest = [world.begin("s-2"), world.begin("s-3", 2), world.begin("s-3", 3)]
    await settle()
    assert not first.done()
    held.set()
    await asyncio.gather(first, *rest)
    assert await world.numbers() == [1, 1, 5]
    assert [len(writes) for writes in world.store.writes] == [1, 2]


async def test_a_session_that_is_gone_concerns_only_who_decides_about_it(world: World) -> None:
    """The others are written."""
    world.begin("s-1")
    with pytest.raises(NotFound):
        await world.group.commit("s-9", lambda draft: up(draft, 1))
    assert await world.numbers() == [1, 0, 0]


async def test_a_decision_that_fails_concerns_only_who_made_it(world: World) -> None:
    """It is told its own error; also another decision about the same session is written."""

    def refuse(_: Draft) -> None:
        raise FailedPrecondition("NO", "no")

    others = [world.begin("s-1"), world.begin("s-2")]
    with pytest.raises(FailedPrecondition):
        await world.group.commit("s-2", refuse)
    await asyncio.gather(*others)
    assert await world.numbers() == [1, 1, 0]


async def test_a_conflict_is_decided_again(world: World) -> None:
    """What somebody else has written meanwhile is not lost."""
    world.store.rival("s-1", _criteria(10))
    await asyncio.gather(world.begin("s-1"), world.begin("s-2"))
    assert await world.numbers() == [11, 1, 0]


async def test_everybody_hears_of_a_store_that_is_away(world: World) -> None:
    """Those of the group that could not be written; who comes after that finds the store as it is by then."""
    world.store.fail("write")
    outcomes = await asyncio.gather(world.begin("s-1"), world.begin("s-2"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    await world.group.commit("s-3", lambda draft: up(draft, 1))
    assert await world.numbers() == [0, 0, 1]


async def test_who_goes_holds_nobody_up(world: World) -> None:
    """A caller that is cancelled while it waits leaves the others their answers."""
    held = world.store.hold("write")
    goes, stays = world.begin("s-1"), world.begin("s-2")
    await settle()
    goes.cancel()
    held.set()
    await stays
    assert goes.cancelled()
    assert (await world.numbers())[1] == 1


async def test_after_closing_nothing_is_under_way(world: World) -> None:
    """Whoever waits is cancelled by whoever closes, as its own tasks are."""
    world.store.hold("write")
    waiting = world.begin("s-1")
    await settle()
    await world.group.close()
    waiting.cancel()
    assert await asyncio.gather(waiting, return_exceptions=True)
    assert await world.numbers() == [0, 0, 0]


async def test_it_can_be_taken_up_again_after_closing(world: World) -> None:
    """Also if it was closed before its task had its first turn; what waited then is not written later."""
    given_up = asyncio.ensure_future(world.group.commit("s-1", lambda draft: up(draft, 1)))
    await asyncio.sleep(0)
    given_up.cancel()
    await world.group.close()
    async with asyncio.timeout(5):
        await world.group.commit("s-2", lambda draft: up(draft, 1))
    assert await world.numbers() == [0, 1, 0]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 9), st.integers(0, 3))), st.integers(0, 3))
def test_whatever_comes_when_is_written_once(decisions: list[tuple[str, int, int]], turns: int) -> None:
    """The law: what is decided adds up, however decisions, writes and conflicts are mixed."""

    async def run() -> None:
        world = World()
        await world.put()
        world.store.turns = turns
        world.store.rival("s-1", _criteria(100))
        tasks: list[asyncio.Task[Any]] = []
        for key, by, pause in decisions:
            tasks.append(world.begin(key, by))
            for _ in range(pause):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        wanted: Counter[str] = Counter()
        for key, by, _ in decisions:
            wanted[key] += by
        rival = 100 if decisions else 0
        assert await world.numbers() == [wanted["s-1"] + rival, wanted["s-2"], wanted["s-3"]]

    asyncio.run(run())
