"""Offsets of a Kafka broker, asked of one that is scripted (stream_api/behaviour.md 4)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sessiond.core.errors import PeerFailed
from sessiond.southbound.broker.kafka import KafkaOffsets
from tests.southbound.kafka_broker import KafkaBroker

BY_TOPIC = None
MAPPED = {"Stream1": 1, "Stream2": 2}
NOT_LEADER = 6


@pytest.fixture
async def broker() -> AsyncIterator[KafkaBroker]:
    """Give a broker."""
    running = await KafkaBroker().start()
    yield running
    await running.stop()


class Asked:
    """Makes adapters that are closed after the test."""

    def __init__(self, broker: KafkaBroker, stack: AsyncExitStack) -> None:
        self._broker = broker
        self._stack = stack

    def __call__(self, partitions: Mapping[str, int] | None = None, deadline_ms: int = 5000) -> KafkaOffsets:
        """Return an adapter."""
        adapter = KafkaOffsets(self._broker.address, deadline_ms, partitions)
        self._stack.push_async_callback(adapter.close)
        return adapter


@pytest.fixture
async def asked(broker: KafkaBroker) -> AsyncIterator[Asked]:
    """Give what asks the broker."""
    async with AsyncExitStack() as stack:
        yield Asked(broker, stack)


async def test_mapped_partitions_have_their_high_watermarks(broker: KafkaBroker, asked: Asked) -> None:
    """The two fixed keys and one for each mapped partition, with the next offset of each."""
    broker.topics = {"car": {0: 5, 1: 6, 2: 7, 3: 8}, "car_essential": {0: 9}, "boat": {0: 1}}
    offsets = await asked(MAPPED).of("car")
    assert offsets.by_partition == {"car:0": 5, "car_essential:0": 9, "car:1": 6, "car:2": 7}
    assert offsets.streams == ("Stream1", "Stream2")


async def test_what_is_not_there_is_0_and_stays_away(broker: KafkaBroker, asked: Asked) -> None:
    """A topic or partition that is missing begins at 0; it is not asked for by name, which would create it."""
    adapter = asked(MAPPED)
    assert set((await adapter.of("car")).by_partition.values()) == {0}
    broker.topics = {"car": {0: 5, 1: 6}}
    assert (await adapter.of("car")).by_partition == {"car:0": 5, "car_essential:0": 0, "car:1": 6, "car:2": 0}
    assert broker.named == []


async def test_each_stream_can_have_a_topic(broker: KafkaBroker, asked: Asked) -> None:
    """Streams are the topics of exactly this data source, wherever upper case is used."""
    names = ["car.Speed", "car.Gear.x", "Car.Speed", "car2.Speed", "carx"]
    broker.topics = {"car": {0: 1}, "car_essential": {0: 2}, **{name: {0: 3} for name in names}}
    adapter = asked(BY_TOPIC)
    offsets = await adapter.of("car")
    assert offsets.streams == ("Gear.x", "Speed") == await adapter.streams("car")
    assert offsets.by_partition == {"car:0": 1, "car_essential:0": 2, "car.Gear.x:0": 3, "car.Speed:0": 3}
    assert await adapter.streams("Car") == ("Speed",)


async def test_readers_do_not_ask_the_broker_each_time(broker: KafkaBroker, asked: Asked) -> None:
    """The list of topics is good for a moment, for every data source; configured streams need no broker at all."""
    broker.topics = {"car.Speed": {0: 3}, "boat.Depth": {0: 3}}
    adapter = asked(BY_TOPIC)
    await adapter.streams("car")
    before = broker.metadata_asked
    for _ in range(100):
        assert (await adapter.streams("car"), await adapter.streams("boat")) == (("Speed",), ("Depth",))
    assert broker.metadata_asked == before
    await broker.stop()
    assert await asked(MAPPED).streams("car") == ("Stream1", "Stream2")


async def test_a_topic_that_has_just_gone_begins_at_0(broker: KafkaBroker, asked: Asked) -> None:
    """The broker says so itself when it is asked for the offset."""
    broker.topics = {"car": {0: 5}, "car_essential": {0: 6}}
    adapter = asked(BY_TOPIC)
    await adapter.of("car")
    del broker.topics["car"]
    assert (await adapter.of("car")).by_partition == {"car:0": 0, "car_essential:0": 6}


@pytest.mark.parametrize("fault", [{"leaderless": {"car"}}, {"errors": {"car": NOT_LEADER}}])
async def test_a_partition_without_a_leader_is_a_failure(
    broker: KafkaBroker, asked: Asked, fault: dict[str, Any]
) -> None:
    """An offset that nobody can tell is not told as 0; it can be asked for again."""
    broker.topics = {"car": {0: 5}}
    adapter = asked(BY_TOPIC)
    for name, value in fault.items():
        setattr(broker, name, value)
    with pytest.raises(PeerFailed) as caught:
        await adapter.of("car")
    assert (caught.value.status, caught.value.answered) == ("UNAVAILABLE", True)
    broker.leaderless, broker.errors = set(), {}
    adapter._known_until_s = 0.0
    assert (await adapter.of("car")).by_partition["car:0"] == 5


async def test_a_broker_that_is_away_is_a_failure_until_it_is_back(broker: KafkaBroker, asked: Asked) -> None:
    """It need not be there at the start, and may come back at any time."""
    broker.topics = {"car": {0: 5}}
    await broker.stop()
    adapter = asked(MAPPED)
    with pytest.raises(PeerFailed) as caught:
        await adapter.of("car")
    assert caught.value.status == "UNAVAILABLE"
    await broker.start()
    assert (await adapter.of("car")).by_partition["car:0"] == 5
    await broker.stop()
    adapter._known_until_s = 0.0
    with pytest.raises(PeerFailed):
        await adapter.of("car")
    await broker.start()
    assert (await adapter.of("car")).by_partition["car:0"] == 5


async def test_a_broker_that_does_not_answer_is_not_waited_for_long(broker: KafkaBroker, asked: Asked) -> None:
    """There is a deadline, and what comes after it is asked anew."""
    broker.topics = {"car": {0: 5}}
    broker.silent = True
    adapter = asked(MAPPED, deadline_ms=200)
    with pytest.raises(PeerFailed) as caught:
        await adapter.of("car")
    assert caught.value.status in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
    broker.silent = False
    assert (await asked(MAPPED).of("car")).by_partition["car:0"] == 5


async def test_an_adapter_that_was_not_used_closes(asked: Asked) -> None:
    """Nothing is connected before it is needed, and closing twice is fine."""
    adapter = asked(MAPPED)
    await adapter.close()
    await adapter.close()
