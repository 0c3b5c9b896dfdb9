"""The stream service beside a Kafka broker: where the data of a session begins and ends."""

from pathlib import Path

import grpc
import pytest

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from tests.blackbox.streams import CLIENTS, create, current, end, info, streams
from tests.southbound.kafka_broker import KafkaBroker

pytestmark = pytest.mark.blackbox


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_session_knows_where_its_data_begins_and_ends(tmp_path: Path, kind: str) -> None:
    """It has the offsets of its beginning for ever; an end, and each repeated one, answers with those of the moment."""
    broker = await KafkaBroker().start()
    broker.topics = {"car": {0: 5}, "car_essential": {0: 6}, "car.Speed": {0: 7}}
    async with streams(tmp_path, stream_api={"BrokerUrl": broker.address, "StreamCreationStrategy": 2}) as daemon:
        client = CLIENTS[kind](daemon.process.address)
        made = await client.call("CreateSession", api.CreateSessionRequest(data_source="car"))
        start = {"car:0": 5, "car_essential:0": 6, "car.Speed:0": 7}
        assert dict(made.new_session.topic_partition_offsets) == start
        for now in (15, 25):
            broker.topics = {topic: {0: now} for topic in broker.topics}
            ended = await end(client, made.session_key)
            assert dict(ended.end_session.topic_partition_offsets) == dict.fromkeys(start, now)
        known = await info(client, made.session_key)
        assert dict(known.topic_partition_offsets) == start
        assert (known.main_offset, known.essentials_offset, list(known.streams)) == (5, 6, ["Speed"])
        await client.close()
    await broker.stop()


async def test_without_its_broker_nothing_begins_or_ends(tmp_path: Path) -> None:
    """Wrong offsets would lose data: a create and an end are UNAVAILABLE until the broker is back, all else goes on."""
    broker = await KafkaBroker().start()
    async with streams(tmp_path, stream_api={"BrokerUrl": broker.address}) as daemon:
        client = CLIENTS["aio"](daemon.process.address)
        key = await create(client, "car")
        await broker.stop()
        for call in (create(client, "boat"), end(client, key)):
            with pytest.raises(grpc.RpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await current(client, "boat") == []
        assert not (await info(client, key)).is_complete
        await broker.start()
        assert (await end(client, key)).success
        await client.close()
    await broker.stop()
