"""Decisions are written with the revision that was read, or made again; only what is written is told."""

import asyncio

import pytest
from msgspec import structs

from sessiond.app.commit import ATTEMPTS, SETTLE_PAUSE_MS, Committer, Outcome
from sessiond.app.ports.store import Delete, Update
from sessiond.core.draft import Draft
from sessiond.core.effects import LogEvent, TerminateSession
from sessiond.core.errors import Aborted, AlreadyExists, NotFound, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Gateway, Head, Session
from sessiond.core.update import Change, UpdateCriteria
from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle
from tests.app.stores import TroubledStore

TOLD = LogEvent("something", {})


def session(key: str = "s-1", **fields: object) -> Session:
    """Return a small gateway session."""
    known = {"head": Head(state=State.ACTIVE, created_at_ms=1), "gateway": Gateway(), **fields}
    return Session(key=key, type="lte", scope=key, **known)  # type: ignore[arg-type]


def numbered(by: int = 1) -> UpdateCriteria:
    """Return a change that counts the request number up."""
    return UpdateCriteria({("gateway", ""): Change({"request_number": by})})


def number_up(draft: Draft) -> int:
    """Decide to count the request number up, and tell something; the reply is the new number."""
    draft.change("gateway", "", Change({"request_number": 1}))
    draft.tell(TOLD)
    return draft.gateway.request_number


def number_of(outcome_or_session: Session) -> int:
    """Return the request number of a session."""
    assert outcome_or_session.gateway is not None
    return outcome_or_session.gateway.request_number


class World:
    """A committer over a troubled store, and what its observers hear."""

    def __init__(self) -> None:
        self.store = TroubledStore()
        self.clock = HandClock()
        self.committer = Committer(self.store, self.clock)
        self.heard: list[Outcome] = []
        self.committer.observe(self.heard.append)

    async def session(self, key: str = "s-1") -> Session:
        """Return a session as it is stored."""
        stored = await self.store.get(key)
        assert stored is not None
        return stored.session


@pytest.fixture
async def world() -> World:
    """Give a committer over a store with three sessions."""
    world = World()
    await world.store.put(session(), session("s-2"), session("s-3"))
    return world


async def test_a_decision_is_written_and_then_told(world: World) -> None:
    """The reply is the decision's, the store has the change, and observers hear of before, after and the news."""
    before = await world.session()
    assert await world.committer.commit("s-1", number_up) == 2
    assert number_of(await world.session()) == 2
    assert world.heard == [Outcome(before, await world.session(), (TOLD,))]


async def test_observers_hear_in_their_order(world: World) -> None:
    """Those who observe first are told first, and all of them of every write."""
    order: list[int] = []
    world.committer.observe(lambda _: order.append(1))
    world.committer.observe(lambda _: order.append(2))
    await world.committer.commit("s-1", number_up)
    await world.committer.commit("s-2", number_up)
    assert order == [1, 2, 1, 2]


async def test_a_refused_decision_changes_nothing(world: World) -> None:
    """An error that a decision raises goes to the caller, though it came after a change and after news."""

    def decide(draft: Draft) -> None:
        number_up(draft)
        raise NotFound("NO", "no")

    with pytest.raises(NotFound):
        await world.committer.commit("s-1", decide)
    assert number_of(await world.session()) == 1
    assert world.heard == []
    assert world.store.writes == []


async def test_a_decision_for_nothing_writes_nothing_but_tells_its_news(world: World) -> None:
    """Without a change there is no write; news is spread all the same, and without news nobody is told anything."""
    await world.committer.commit("s-1", lambda draft: draft.tell(TOLD))
    await world.committer.commit("s-1", lambda _: None)
    assert world.store.writes == []
    assert world.heard == [Outcome(session(), session(), (TOLD,))]


async def test_a_session_that_is_not_there_is_not_found(world: World) -> None:
    """To decide about an unknown session is refused by name."""
    with pytest.raises(NotFound) as refusal:
        await world.committer.commit("s-9", number_up)
    assert refusal.value.reason == "SESSION_NOT_FOUND"


async def test_r5_after_a_conflict_it_is_decided_again_on_what_is_there_now(world: World) -> None:
    """If somebody else wrote first, both changes are there in the end, and only one outcome is told."""
    world.store.rival("s-1", numbered(10))
    assert await world.committer.commit("s-1", number_up) == 12
    assert number_of(await world.session()) == 12
    assert [number_of(outcome.after) for outcome in world.heard] == [12]


async def test_conflicts_are_survived_a_bounded_number_of_times(world: World) -> None:
    """After that many conflicts in a row the caller is told to try again, and nothing of the decision is written."""
    decided: list[int] = []
    world.store.rival("s-1", *[numbered(10)] * 99)
    with pytest.raises(Aborted) as refusal:
        await world.committer.commit("s-1", lambda draft: decided.append(number_up(draft)))
    assert refusal.value.reason == "SESSION_BUSY"
    assert len(decided) == ATTEMPTS
    assert number_of(await world.session()) == 1 + 10 * ATTEMPTS
    assert world.heard == []


async def test_a_new_session_is_stored_and_told(world: World) -> None:
    """Observers hear of a session that was not there before, with the news of its creation."""
    await world.committer.create(session("s-9"), [TOLD])
    assert await world.session("s-9") == session("s-9")
    assert world.heard == [Outcome(None, session("s-9"), (TOLD,))]


async def test_a_key_that_is_taken_is_refused(world: World) -> None:
    """A second session of the same key is refused by name, and nobody hears of it."""
    with pytest.raises(AlreadyExists) as refusal:
        await world.committer.create(session())
    assert refusal.value.reason == "SESSION_EXISTS"
    assert world.heard == []


async def test_a_session_is_removed_by_the_write_after_which_nothing_is_left_to_do(world: World) -> None:
    """A closed session stays while a peer must still hear of it; with the last effect struck off it goes."""
    head = Head(state=State.CLOSED, created_at_ms=1)
    await world.store.put(session("s-9", head=head, effects={"000001": TerminateSession()}))
    await world.committer.commit("s-9", number_up)
    assert isinstance(world.store.writes[-1][0], Update)
    await world.committer.commit("s-9", lambda draft: draft.remove("effects", "000001"))
    assert isinstance(world.store.writes[-1][0], Delete)
    assert await world.store.get("s-9") is None
    assert [outcome.after.effects for outcome in world.heard] == [{"000001": TerminateSession()}, {}]


async def test_a_store_that_is_away_is_said_to_be_away(world: World) -> None:
    """A failed read or write goes to the caller as it is, and nobody is told of a change that may not be there."""
    for operation in ("get", "write"):
        world.store.fail(operation)
        with pytest.raises(Unavailable):
            await world.committer.commit("s-1", number_up)
    assert world.heard == []


async def test_many_are_decided_and_written_together(world: World) -> None:
    """All changes go to the store in one call; the replies come by key."""
    replies = await world.committer.commit_many({"s-1": number_up, "s-2": number_up})
    assert replies == {"s-1": 2, "s-2": 2}
    assert [len(writes) for writes in world.store.writes] == [2]
    assert [outcome.after.key for outcome in world.heard] == ["s-1", "s-2"]


async def test_sessions_that_are_gone_are_passed_over(world: World) -> None:
    """A key without a session has no reply and holds nobody back."""
    assert await world.committer.commit_many({"s-9": number_up, "s-2": number_up}) == {"s-2": 2}


async def test_a_poisonous_decision_harms_only_its_own_session(world: World) -> None:
    """If one decision of many fails, it changes nothing, and all others are written and told."""

    def poison(draft: Draft) -> int:
        number_up(draft)
        raise ZeroDivisionError

    replies = await world.committer.commit_many({"s-1": number_up, "s-2": poison, "s-3": number_up})
    assert replies == {"s-1": 2, "s-3": 2}
    assert number_of(await world.session("s-2")) == 1
    assert [outcome.after.key for outcome in world.heard] == ["s-1", "s-3"]


async def test_only_those_that_met_a_conflict_are_decided_again(world: World) -> None:
    """A conflict of one session makes that one read and decided again, on what is there now."""
    decided: list[str] = []

    def decide(draft: Draft) -> int:
        decided.append(draft.key)
        return number_up(draft)

    world.store.rival("s-2", numbered(10))
    replies = await world.committer.commit_many(dict.fromkeys(("s-1", "s-2", "s-3"), decide))
    assert replies == {"s-1": 2, "s-2": 12, "s-3": 2}
    assert decided == ["s-1", "s-2", "s-3", "s-2"]


async def test_of_many_one_that_never_gets_through_is_given_up(world: World) -> None:
    """After the same bounded number of conflicts a session is left alone; the others have their replies."""
    world.store.rival("s-1", *[numbered(10)] * 99)
    assert await world.committer.commit_many({"s-1": number_up, "s-2": number_up}) == {"s-2": 2}
    assert number_of(await world.session()) == 1 + 10 * ATTEMPTS


async def test_of_many_a_decision_for_nothing_has_its_reply_and_tells_its_news(world: World) -> None:
    """Without a change a session is not written; its reply and its news count all the same."""

    def decide(draft: Draft) -> str:
        draft.tell(TOLD)
        return "heard"

    assert await world.committer.commit_many({"s-1": decide}) == {"s-1": "heard"}
    assert world.store.writes == []
    assert world.heard == [Outcome(session(), session(), (TOLD,))]


async def test_a_write_that_happened_all_the_same_is_told(world: World) -> None:
    """A write whose answer was lost is told as soon as the store is back, though nobody asks for the session."""
    world.store.fail("answer")
    before = await world.session()
    with pytest.raises(Unavailable):
        await world.committer.commit("s-1", number_up)
    assert world.heard == []
    await settled(world)
    assert world.heard == [Outcome(before, await world.session(), (TOLD,))]


async def test_a_write_that_did_not_happen_is_not_told(world: World) -> None:
    """When the store is back and has nothing of it, nothing is let out."""
    world.store.fail("write")
    with pytest.raises(Unavailable):
        await world.committer.commit("s-1", number_up)
    await settled(world)
    assert (world.heard, number_of(await world.session())) == ([], 1)


async def test_what_is_in_doubt_is_told_before_the_next_decision(world: World) -> None:
    """Observers hear of changes in the order in which they happened."""
    world.store.fail("answer")
    with pytest.raises(Unavailable):
        await world.committer.commit("s-1", number_up)
    assert await world.committer.commit("s-1", number_up) == 3
    assert [number_of(outcome.after) for outcome in world.heard] == [2, 3]


async def test_what_is_in_doubt_is_told_before_the_next_session_of_the_subscriber(world: World) -> None:
    """The end of a session is told before a new one of the same subscriber begins, and that waits for the store."""
    new = structs.replace(session("s-9"), scope="s-1")
    world.store.fail("answer")
    with pytest.raises(Unavailable):
        await world.committer.commit("s-1", number_up)
    world.store.fail("get", 2)
    await settle()
    with pytest.raises(Unavailable):
        await world.committer.create(new)
    assert world.heard == []
    await world.committer.create(new)
    assert [outcome.after.key for outcome in world.heard] == ["s-1", "s-9"]


async def test_a_store_that_stays_away_is_asked_again(world: World) -> None:
    """What became of a write is found out however long the store is away, twice a second."""
    world.store.fail("answer")
    with pytest.raises(Unavailable):
        await world.committer.commit("s-1", number_up)
    world.store.fail("get", 3)
    for _ in range(3):
        await settle()
        assert world.heard == []
        world.clock.advance(SETTLE_PAUSE_MS)
    await settled(world)
    assert [number_of(outcome.after) for outcome in world.heard] == [2]


async def test_a_new_session_and_a_removed_one_can_be_in_doubt(world: World) -> None:
    """Creating and removing are told too when it turns out that they happened, and only then."""
    new, over = session("s-9"), session("s-8", head=Head(state=State.CLOSED, created_at_ms=1))
    await world.store.put(over)
    for trouble, told in (("write", []), ("answer", ["s-9", "s-8"])):
        world.store.fail(trouble, 2)
        with pytest.raises(Unavailable):
            await world.committer.create(new, [TOLD])
        with pytest.raises(Unavailable):
            await world.committer.commit("s-8", number_up)
        await settled(world)
        assert [outcome.after.key for outcome in world.heard] == told
    assert await world.store.get("s-8") is None


async def test_a_caller_that_goes_away_is_told_of_by_the_store(world: World) -> None:
    """A commit that is cancelled while it is written is let out if it was written."""
    going_on = world.store.hold("answer")
    task = asyncio.create_task(world.committer.commit("s-1", number_up))
    await asyncio.sleep(0)
    assert world.store.writes
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    going_on.set()
    await settled(world)
    assert [number_of(outcome.after) for outcome in world.heard] == [2]


async def test_of_two_writes_in_doubt_the_one_that_happened_is_told(world: World) -> None:
    """Two commits of the same revision, both unanswered: what the store has says which one it was."""
    world.store.turns = 1
    world.store.fail("answer", 2)
    first = asyncio.create_task(world.committer.commit("s-1", number_up))
    second = asyncio.create_task(world.committer.commit("s-1", lambda draft: draft.set("head", reason="mine")))
    assert all(isinstance(error, Unavailable) for error in await asyncio.gather(first, second, return_exceptions=True))
    await settled(world)
    assert [outcome.after for outcome in world.heard] == [await world.session()]


async def test_a_committer_that_is_closed_asks_no_more(world: World) -> None:
    """What is in doubt when the daemon stops is taken up by the next start."""
    world.store.fail("answer")
    with pytest.raises(Unavailable):
        await world.committer.commit("s-1", number_up)
    await world.committer.close()
    assert world.heard == []
    await Committer(world.store, world.clock).close()


async def settled(world: World) -> None:
    """Wait until nothing is in doubt."""
    assert world.committer._settling is not None
    await world.committer._settling
