"""The stream use cases over a store: sessions in order, told of in time, kept as long as their profile says."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from sessiond.app.ports.store import Count, Counted, Write, Written
from sessiond.app.streams import Moment, Notice, StreamManager
from sessiond.core.decide.streams import NewStream, Offsets
from sessiond.core.errors import NotFound, PeerFailed, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.profiles import Profile
from sessiond.core.session import GivenTime, Head, Identity, Session, Stream
from sessiond.core.settings import Settings
from sessiond.store.memory import MemoryStore
from sessiond.testing.gateway import SimulatedGateway
from sessiond.testing.loop import settle
from tests.app.scenes import VIDEO, gateway, ue

DAY_MS = 86_400_000
CAR = NewStream(data_source="car")


class ScriptedOffsets:
    """Implements `app.ports.offsets.StreamOffsets`: counts up, or fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: PeerFailed | None = None

    async def of(self, data_source: str) -> Offsets:
        """Return one more than the last time."""
        await self.streams(data_source)
        self.asked.append(data_source)
        return Offsets({f"{data_source}:0": len(self.asked)}, ("First",))

    async def streams(self, data_source: str) -> tuple[str, ...]:
        """Return two streams."""
        if self.error is not None:
            raise self.error
        return ("First", "Second")

    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
async def world() -> AsyncIterator[SimulatedGateway]:
    """Return an application at work."""
    async with gateway() as whole:
        yield whole


@pytest.fixture
def manager(world: SimulatedGateway) -> StreamManager:
    """Return what clients of streams can ask for."""
    return world.application.streams


def with_profile(**fields: Any) -> Settings:
    """Return settings with another profile of stream sessions."""
    return Settings(profiles={"stream": Profile(**fields)})


def heard(manager: StreamManager, moment: Moment, data_source: str = "car") -> tuple[list[str], "asyncio.Task[None]"]:
    """Return the keys that a subscriber has heard of so far, and the subscriber."""
    keys: list[str] = []

    async def run() -> None:
        with manager.subscribe(moment, data_source) as subscription:
            async for notice in subscription:
                assert notice == Notice(notice.key, data_source)
                keys.append(notice.key)

    return keys, asyncio.create_task(run())


async def gone(*tasks: "asyncio.Task[None]") -> None:
    """Let subscribers go."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_keys_are_uuids_of_version_4(manager: StreamManager) -> None:
    """A key is a version 4 GUID in lower case, and no two are equal."""
    keys = [(await manager.create(CAR)).key for _ in range(3)]
    assert [str(uuid.UUID(key)) for key in keys] == keys
    assert {uuid.UUID(key).version for key in keys} == {4}
    assert len(set(keys)) == 3


async def test_sessions_are_listed_in_order_by_exact_data_source(manager: StreamManager) -> None:
    """Each data source has its own list, oldest first, ended ones too; upper case and the empty text are names."""
    first, other, second = [await manager.create(NewStream(data_source=name)) for name in ("car", "Car", "car")]
    nameless = await manager.create(NewStream())
    await manager.end(first.key, None)
    assert manager.keys("car") == [first.key, second.key]
    assert (manager.keys("Car"), manager.keys(""), manager.keys("none")) == ([other.key], [nameless.key], [])
    assert manager.counts() == {"car": 2, "Car": 1, "": 1}


async def test_creations_that_overtake_each_other_are_listed_by_number(manager: StreamManager) -> None:
    """A session whose write took longer than that of a later one still comes before it."""
    late, early = (
        Session(
            key=key,
            type="stream",
            scope=key,
            head=Head(state=State.ACTIVE, created_at_ms=1),
            identity=Identity(data_source="car", number=number),
            stream=Stream(),
        )
        for key, number in (("b", 2), ("a", 1))
    )
    manager.take_up(late)
    manager.take_up(early)
    assert manager.keys("car") == ["a", "b"]
    assert ["b", (await manager.create(CAR)).key] == manager.keys("car")[1:]


async def test_start_and_stop_are_told_before_the_answer(manager: StreamManager) -> None:
    """Who listens has heard of a session when the one who asked for it gets its answer; a second end is no news."""
    (starts, one), (stops, two), (others, three) = (
        heard(manager, Moment.START),
        heard(manager, Moment.STOP),
        heard(manager, Moment.START, "Car"),
    )
    await settle()
    assert manager.subscribers() == {Moment.START: 2, Moment.STOP: 1}
    session = await manager.create(CAR)
    assert (starts, stops) == ([session.key], [])
    await manager.end(session.key, None)
    assert stops == [session.key]
    await manager.end(session.key, None)
    await manager.identify(session.key, "Monza")
    await settle()
    assert (starts, stops, others) == ([session.key], [session.key], [])
    await gone(one, two, three)
    assert manager.subscribers() == {Moment.START: 0, Moment.STOP: 0}


async def test_an_end_has_the_offsets_of_now_and_keeps_the_first(world: SimulatedGateway) -> None:
    """Each end answers with fresh offsets; the session keeps those of its beginning and of its first end."""
    offsets = ScriptedOffsets()
    manager = StreamManager(world.application.committer, world.store, world.circumstances, offsets, 10)
    session = await manager.create(CAR)
    first, now = await manager.end(session.key, GivenTime(7))
    assert now.by_partition == {"car:0": 2}
    again, now = await manager.end(session.key, GivenTime(8))
    assert now.by_partition == {"car:0": 3}
    assert again == first
    assert again.stream == Stream(
        streams=("First",), start_offsets={"car:0": 1}, end_offsets={"car:0": 2}, terminated=GivenTime(7)
    )
    with pytest.raises(NotFound):
        await manager.end("nobody", None)
    assert len(offsets.asked) == 3


async def test_without_offsets_nothing_begins_or_ends(world: SimulatedGateway) -> None:
    """If the broker does not answer, a create and an end fail and change nothing; streams are those of the start."""
    offsets = ScriptedOffsets()
    manager = StreamManager(world.application.committer, world.store, world.circumstances, offsets, 10)
    session = await manager.create(CAR)
    assert await manager.streams(session) == ("First", "Second")
    offsets.error = PeerFailed("UNAVAILABLE", "no broker", answered=True)
    with pytest.raises(PeerFailed):
        await manager.create(CAR)
    with pytest.raises(PeerFailed):
        await manager.end(session.key, None)
    assert (await manager.session(session.key)).head.state is State.ACTIVE
    assert await manager.streams(session) == ("First",)
    assert len(await world.sessions()) == 1


async def test_a_gateway_session_is_none_of_theirs(world: SimulatedGateway, manager: StreamManager) -> None:
    """Clients of streams neither see nor change a gateway session; the gateway's operator does not see streams."""
    world.policy.script("create", VIDEO)
    gateway_key = await world.attach(ue())
    stream = await manager.create(CAR)
    before = await world.session(gateway_key)
    calls: list[Callable[[str], object]] = [
        manager.session,
        lambda key: manager.end(key, None),
        lambda key: manager.identify(key, "x"),
        lambda key: manager.describe(key, {"x": "y"}),
        lambda key: manager.associate(key, "x"),
    ]
    for call in calls:
        for key in (gateway_key, "nobody"):
            with pytest.raises(NotFound):
                await call(key)  # type: ignore[misc]
    assert await world.session(gateway_key) == before
    assert manager.counts() == {"car": 1}
    assert stream.context is None
    await world.detach(ue())
    await world.report()
    assert await world.find(gateway_key) is None
    assert manager.counts() == {"car": 1}


async def test_an_ended_session_goes_when_its_time_has_come(world: SimulatedGateway, manager: StreamManager) -> None:
    """Seven days after its end a session is there for the last moment; one that goes on stays."""
    ended, active = await manager.create(CAR), await manager.create(CAR)
    await manager.end(ended.key, None)
    await world.advance(7 * DAY_MS - 1)
    assert manager.keys("car") == [ended.key, active.key]
    await world.advance(1)
    assert manager.keys("car") == [active.key]
    assert await world.find(ended.key) is None


async def test_only_the_newest_ended_sessions_are_kept() -> None:
    """Beyond the limit those go first that ended first; each data source has a limit of its own."""
    async with gateway(settings=with_profile(retention_newest=2)) as world:
        manager = world.application.streams
        keys = [(await manager.create(CAR)).key for _ in range(4)]
        other = (await manager.create(NewStream(data_source="boat"))).key
        for key in (keys[2], other, keys[0], keys[1]):
            await manager.end(key, None)
        await world.application.retention.drain()
        assert manager.keys("car") == [keys[0], keys[1], keys[3]]
        assert manager.counts() == {"car": 3, "boat": 1}


async def test_a_session_that_went_by_time_does_not_count() -> None:
    """The limit counts sessions that are there: one that is gone makes room."""
    async with gateway(settings=with_profile(retention_newest=2, retention_after_end_ms=1000)) as world:
        manager = world.application.streams
        for _ in range(3):
            session = await manager.create(CAR)
            await manager.end(session.key, None)
            await world.advance(600)
        await world.application.retention.drain()
        assert manager.keys("car") == [session.key]


async def test_a_restart_remembers_all_and_tells_of_none(world: SimulatedGateway, manager: StreamManager) -> None:
    """After a restart sessions, order, words, end and last moment are as before; nobody is told of them."""
    keys = [(await manager.create(NewStream(data_source="car", details={"lap": str(at)}))).key for at in range(12)]
    for key in keys:
        await manager.associate(keys[0], key)
    await manager.end(keys[3], None)
    before = {key: await world.session(key) for key in keys}
    await world.close()
    world.application = world._new()
    manager = world.application.streams
    starts, task = heard(manager, Moment.START)
    await settle()
    await world.start()
    assert manager.keys("car") == keys
    assert {key: await world.session(key) for key in keys} == before
    assert list(before[keys[0]].associates.values()) == keys
    assert starts == []
    new = await manager.create(CAR)
    assert (manager.keys("car"), starts) == ([*keys, new.key], [new.key])
    await world.advance(7 * DAY_MS)
    assert manager.keys("car") == [key for key in [*keys, new.key] if key != keys[3]]
    await gone(task)


async def test_a_lower_limit_takes_effect_with_a_restart() -> None:
    """What is too many when the daemon starts goes, oldest end first."""
    store = MemoryStore()
    async with gateway(store) as world:
        keys = [(await world.application.streams.create(CAR)).key for _ in range(4)]
        for key in reversed(keys):
            await world.application.streams.end(key, None)
            await world.advance(1)
    async with gateway(store, settings=with_profile(retention_newest=1), clock=world.clock) as world:
        await world.application.retention.drain()
        assert world.application.streams.keys("car") == keys[:1]


class FailingStore(MemoryStore):
    """A store that is away for as long as it is told."""

    away = False

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes, if it is there."""
        if self.away:
            raise Unavailable("STORE_UNAVAILABLE", "the store is away")
        return await super().write(writes)


async def test_what_cannot_be_forgotten_now_is_forgotten_later() -> None:
    """While the store is away nothing goes; it goes when the store is back."""
    store = FailingStore()
    async with gateway(store, settings=with_profile(retention_newest=1)) as world:
        manager, retention = world.application.streams, world.application.retention
        keys = [(await manager.create(CAR)).key for _ in range(2)]
        await manager.end(keys[0], None)
        await manager.end(keys[1], None)
        store.away = True
        await world.settle()
        assert manager.keys("car") == keys
        store.away = False
        await world.advance(1000)
        await retention.drain()
        assert manager.keys("car") == [keys[1]]
