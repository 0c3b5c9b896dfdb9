"""Stream sessions that outlive their daemon (requirements S2 and S5)."""

import asyncio
import signal
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from tests.blackbox.streams import (
    CLIENTS,
    START,
    STOP,
    Client,
    create,
    current,
    end,
    info,
    listening,
    new_source,
    streams,
)
from tests.store.servers import Server

pytestmark = pytest.mark.blackbox

SESSIONS = 30


async def filled(client: Client, source: str) -> list[str]:
    """Make sessions, many at the same moment, with everything that can be said about them; end some."""
    await create(
        client, source, identifier="Monza", type="Race", version=3, details={"lap": "1"},
        utc_offset=Duration(seconds=-60, nanos=-1), creation_time=Timestamp(seconds=1, nanos=999_999_999),
    )  # fmt: skip
    await asyncio.gather(*(create(client, source) for _ in range(SESSIONS)))
    keys = await current(client, source)
    first = keys[0]
    await client.call("UpdateSessionDetails", api.UpdateSessionDetailsRequest(session_key=first, details={"": "x:y"}))
    for other in keys[:12]:
        request = api.AddAssociateSessionRequest(session_key=first, associate_session_key=other)
        await client.call("AddAssociateSession", request)
    for key in keys[1::3]:
        await client.call(
            "EndSession", api.EndSessionRequest(session_key=key, termination_time=Timestamp(seconds=2, nanos=1))
        )
    await end(client, keys[2])
    return keys


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_everything_is_as_before(tmp_path: Path, one_valkey: Server, kind: str, number: signal.Signals) -> None:
    """After a restart, orderly or not: keys, order, words, associates and completion; and they go on from there."""
    source = new_source(f"{number.name} {kind}")
    async with streams(tmp_path, store={"url": one_valkey.url}) as daemon:
        client = CLIENTS[kind](daemon.process.address)
        keys = await filled(client, source)
        before = [await info(client, key) for key in keys]
        await client.close()
        await daemon.process.stop(number)
        await daemon.process.start()
        client = CLIENTS[kind](daemon.process.address)
        assert await current(client, source) == keys
        assert [await info(client, key) for key in keys] == before
        assert list(before[0].associate_session_keys) == keys[:12]
        assert (await daemon.metrics("stream_api_sessions_total"))[source] == len(keys)
        new = await create(client, source)
        assert await current(client, source) == [*keys, new]
        answer = await end(client, keys[1])
        assert answer.end_session.termination_time == Timestamp(seconds=2, nanos=1)
        await client.close()


@pytest.mark.parametrize("kind", CLIENTS)
async def test_who_subscribes_again_hears_of_what_is_new(tmp_path: Path, one_valkey: Server, kind: str) -> None:
    """The stream ends with the daemon; a new one brings nothing of before, and what began before may end now."""
    source = new_source(f"again {kind}")
    async with streams(tmp_path, store={"url": one_valkey.url}) as daemon:
        client = CLIENTS[kind](daemon.process.address)
        async with listening(client, START, source) as starts:
            key = await create(client, source)
            assert (await starts.next()).session_key == key
            ending = asyncio.create_task(starts.status())
            await daemon.process.stop()
            assert (await ending)[0] is grpc.StatusCode.UNAVAILABLE
        await client.close()
        await daemon.process.start()
        client = CLIENTS[kind](daemon.process.address)
        async with listening(client, START, source) as starts, listening(client, STOP, source) as stops:
            new = await create(client, source)
            await end(client, key)
            assert (await starts.next()).session_key == new
            assert (await stops.next()).session_key == key
        await client.close()
