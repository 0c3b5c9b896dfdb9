"""WatchSessions: what happens to sessions of every surface, as it happens, without a gap and without a repetition."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.sessiond.v1 import session_pb2
from tests.blackbox.harness import gateway, refusal_of
from tests.blackbox.messages import Device
from tests.blackbox.streams import AioClient, StreamDaemon, create, end, new_source, streams
from tests.blackbox.watching import OPTIONS, Watcher, kinds, watching
from tests.store.servers import Server

pytestmark = pytest.mark.blackbox

CREATED = "CREATED ACTIVATED"


@pytest.fixture(params=["memory", "valkey"])
async def daemon(request: pytest.FixtureRequest, tmp_path: Path, one_valkey: Server) -> AsyncIterator[StreamDaemon]:
    """Give a daemon that serves streams, over each kind of store in turn."""
    one_valkey.flush()
    url = "memory:" if request.param == "memory" else one_valkey.url
    async with streams(tmp_path, store={"url": url}) as daemon:
        yield daemon


async def test_sessions_of_every_surface_are_watched(tmp_path: Path) -> None:
    """X1: a gateway session and a stream session are told of through one stream, in their order."""
    device = Device(1)
    async with gateway(tmp_path) as whole, watching(whole.daemon.address) as watcher:
        client = AioClient(whole.daemon.address)
        attached = await whole.attach(device)
        assert await watcher.told(1) == [(attached, "CREATED")]
        told = [await watcher.event()]
        while kinds(told[-1]) != "ACTIVATED":
            told.append(await watcher.event())
        assert told[-1].session.subscriber == device.subscriber
        assert told[-1].session.state == session_pb2.SESSION_STATE_ACTIVE
        stream = await create(client, "Car", identifier="Monza")
        while (event := await watcher.event()).session.key != stream:
            assert kinds(event) == "UPDATED"
        assert (kinds(event), event.session.identifier) == (CREATED, "Monza")
        await whole.detach(device)
        over = [kinds(await watcher.event()) for _ in range(2)]
        assert over in (["CLOSING", "CLOSED"], ["CLOSING", "CLOSED DELETED"])
        await end(client, stream)
        await client.close()


async def test_an_update_says_what_changed(daemon: StreamDaemon) -> None:
    """An event has the session after it, when it was, and the fields that are different now."""
    client, source = AioClient(daemon.process.address), new_source()
    async with watching(daemon.process.address) as watcher:
        key = await create(client, source)
        request = api.UpdateSessionDetailsRequest(session_key=key, details={"lap": "2"})
        await client.call("UpdateSessionDetails", request)
        await client.call(
            "UpdateSessionIdentifier", api.UpdateSessionIdentifierRequest(session_key=key, identifier="Q")
        )
        await client.call(
            "UpdateSessionIdentifier", api.UpdateSessionIdentifierRequest(session_key=key, identifier="Q")
        )
        await end(client, key)
        created, described, named, ended = await watcher.events(4)
        assert [kinds(event) for event in (created, described, named, ended)] == [
            CREATED,
            "UPDATED",
            "UPDATED",
            "CLOSED",
        ]
        assert list(described.changed_fields.paths) == ["details"]
        assert list(named.changed_fields.paths) == ["identifier"]
        assert (described.session.details["lap"], named.session.identifier) == ("2", "Q")
        assert created.session.create_time.ToMilliseconds() <= created.event_time.ToMilliseconds()
        assert ended.session.end_reason == session_pb2.END_REASON_CLIENT
    await client.close()


async def test_a_filter_and_kinds_and_a_mask(daemon: StreamDaemon) -> None:
    """Only what is meant is told; a session that is meant no more, with the event that made it so."""
    client, source, other = AioClient(daemon.process.address), new_source(), new_source()
    address = daemon.process.address
    wanted = f'data_source = "{source}" AND state = ACTIVE'
    async with (
        watching(address, filter=wanted) as active,
        watching(address, filter=f'data_source = "{source}"', kinds=["SESSION_EVENT_KIND_UPDATED"]) as updates,
        watching(address, read_mask={"paths": ["key", "identifier"]}) as masked,
    ):
        key, foreign = await create(client, source, identifier="A"), await create(client, other)
        await client.call(
            "UpdateSessionIdentifier", api.UpdateSessionIdentifierRequest(session_key=key, identifier="B")
        )
        await end(client, key)
        await client.call(
            "UpdateSessionIdentifier", api.UpdateSessionIdentifierRequest(session_key=key, identifier="C")
        )
        second = await create(client, source)
        assert await active.told(4) == [(key, CREATED), (key, "UPDATED"), (key, "CLOSED"), (second, CREATED)]
        assert [event.session.identifier for event in await updates.events(2)] == ["B", "C"]
        first, of_other = await masked.events(2)
        assert first.session == session_pb2.Session(key=key, identifier="A")
        assert of_other.session == session_pb2.Session(key=foreign)
    await client.close()


async def test_a_snapshot_comes_first(daemon: StreamDaemon) -> None:
    """All sessions that there are, then that they are complete, and from there on what happens."""
    client, source = AioClient(daemon.process.address), new_source()
    keys = [await create(client, source) for _ in range(30)]
    await end(client, keys[0])
    wanted = f'data_source = "{source}" AND state = ACTIVE'
    async with watching(daemon.process.address, snapshot=True, filter=wanted) as watcher:
        assert {event.session.key for event in await watcher.snapshot()} == set(keys[1:])
        await end(client, keys[1])
        assert await watcher.told(1) == [(keys[1], "CLOSED")]
    await client.close()


async def test_a_snapshot_while_sessions_come_and_go(daemon: StreamDaemon) -> None:
    """X3: a snapshot and what is told with it and after it give the sessions as they are in the end."""
    client, source = AioClient(daemon.process.address), new_source()
    keys = [await create(client, source) for _ in range(50)]

    async def change(key: str) -> None:
        for number in range(3):
            request = api.UpdateSessionIdentifierRequest(session_key=key, identifier=f"{number}")
            await client.call("UpdateSessionIdentifier", request)
        await end(client, key)

    changing = asyncio.gather(*(change(key) for key in keys))
    async with watching(daemon.process.address, snapshot=True, filter=f'data_source = "{source}"') as watcher:
        known = {event.session.key: event.session for event in await watcher.snapshot()}
        await changing
        late = await create(client, source)
        while late not in known:
            event = await watcher.event()
            assert kinds(event) != CREATED or event.session.key == late
            known[event.session.key] = event.session
    assert set(known) == {*keys, late}
    assert {known[key].identifier for key in keys} == {"2"}
    assert {known[key].state for key in keys} == {session_pb2.SESSION_STATE_CLOSED}
    await client.close()


async def test_a_watch_is_resumed(daemon: StreamDaemon) -> None:
    """X3: whoever comes back with a token is told what it has missed, and all after that, once."""
    client, source = AioClient(daemon.process.address), new_source()
    request = {"filter": f'data_source = "{source}"'}
    async with watching(daemon.process.address, **request) as watcher:
        keys = [await create(client, source) for _ in range(5)]
        assert await watcher.told(3) == [(key, CREATED) for key in keys[:3]]
        token = watcher.token
    keys += [await create(client, source) for _ in range(300)]
    for _ in range(2):
        async with watching(daemon.process.address, resume_token=token, **request) as again:
            keys.append(await create(client, source))
            assert await again.told(len(keys) - 3) == [(key, CREATED) for key in keys[3:]]
    await client.close()


async def test_what_has_happened_is_told_first(daemon: StreamDaemon) -> None:
    """X3: with its history a watch begins at the oldest event, or after a token, and says when the past is told."""
    client, source, address = AioClient(daemon.process.address), new_source(), daemon.process.address
    request = {"filter": f'data_source = "{source}"', "history": True}
    keys = [await create(client, source) for _ in range(220)]
    async with watching(address, **request) as watcher:
        assert watcher.token == ""
        past = await watcher.history()
        assert [(event.session.key, kinds(event)) for event in past] == [(key, CREATED) for key in keys]
        keys.append(await create(client, source))
        assert await watcher.told(1) == [(keys[-1], CREATED)]
        token = watcher.token
    keys.append(await create(client, source))
    async with watching(address, resume_token=token, **request) as watcher:
        assert [event.session.key for event in await watcher.history()] == keys[-1:]
    async with watching(address, **(request | {"filter": 'data_source = "nobody"'})) as watcher:
        assert await watcher.history() == []
    await client.close()


async def test_a_history_outlives_its_daemon(tmp_path: Path, one_valkey: Server) -> None:
    """What was told before a daemon was killed is told by its next run, and what was never told to anybody."""
    source = new_source()
    async with streams(tmp_path, store={"url": one_valkey.url}) as daemon:
        client = AioClient(daemon.process.address)
        keys = [await create(client, source) for _ in range(5)]
        await daemon.process.stop(signal.SIGKILL)
        await daemon.process.start()
        await client.close()
        async with watching(daemon.process.address, filter=f'data_source = "{source}"', history=True) as watcher:
            assert [event.session.key for event in await watcher.history()] == keys


async def test_a_watch_goes_on_after_a_kill(tmp_path: Path, one_valkey: Server) -> None:
    """X3: a daemon that is killed while sessions are created leaves no gap and no repetition."""
    source = new_source()
    request = {"filter": f'data_source = "{source}"'}
    told: list[str] = []
    acknowledged: list[str] = []
    async with streams(tmp_path, store={"url": one_valkey.url}) as daemon:
        token = ""
        for _ in range(3):
            client = AioClient(daemon.process.address)
            async with watching(daemon.process.address, resume_token=token, **request) as watcher:
                reading = asyncio.create_task(_read(watcher, told))
                creating = [asyncio.create_task(_create_on(client, source, acknowledged)) for _ in range(8)]
                enough = len(acknowledged) + 150
                while len(acknowledged) < enough:
                    await asyncio.wait(creating, timeout=0.05)
                daemon.process.send(signal.SIGKILL)
                await asyncio.gather(reading, *creating)
                token = watcher.token
            await client.close()
            await daemon.process.ended()
            await daemon.process.start()
        client = AioClient(daemon.process.address)
        last = await create(client, source)
        async with watching(daemon.process.address, resume_token=token, **request) as watcher:
            while last not in told:
                told.append((await watcher.event()).session.key)
        await client.close()
    assert len(set(told)) == len(told), "something was told twice"
    assert set(acknowledged) <= set(told), "something was not told"


async def test_memory_does_not_outlive_its_daemon(tmp_path: Path) -> None:
    """A token of a daemon that has forgotten everything is refused: a snapshot is needed."""
    async with streams(tmp_path, store={"url": "memory:"}) as daemon:
        client = AioClient(daemon.process.address)
        async with watching(daemon.process.address) as watcher:
            await create(client, new_source())
            await watcher.event()
        await client.close()
        await daemon.process.stop(signal.SIGKILL)
        await daemon.process.start()
        refused = await _refused(daemon.process.address, resume_token=watcher.token)
        assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_EXPIRED")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"resume_token": "x"}, "RESUME_TOKEN_INVALID"),
        ({"resume_token": "1."}, "RESUME_TOKEN_INVALID"),
        ({"resume_token": "1.1-1", "snapshot": True}, "INVALID_CONFIGURATION"),
        ({"history": True, "snapshot": True}, "INVALID_CONFIGURATION"),
        ({"filter": "state ="}, "FILTER_INVALID"),
        ({"read_mask": {"paths": ["nothing"]}}, "FIELD_MASK_INVALID"),
    ],
)
async def test_what_cannot_be_watched(tmp_path: Path, request_: dict[str, Any], reason: str) -> None:
    """A request that makes no sense is refused at once, with the field to blame."""
    async with streams(tmp_path) as daemon:
        refused = await _refused(daemon.process.address, **request_)
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert refused.fields[0] in request_


async def _refused(address: str, **request: Any) -> Any:
    """Return how a watch is refused."""
    async with aio.insecure_channel(address, options=OPTIONS) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await Watcher(channel, **request).next()
    return refusal_of(caught.value)


async def _read(watcher: Watcher, told: list[str]) -> None:
    """Read until the stream breaks."""
    try:
        while True:
            told.append((await watcher.event()).session.key)
    except aio.AioRpcError:
        return


async def _create_on(client: AioClient, source: str, acknowledged: list[str]) -> None:
    """Create sessions until the daemon is gone."""
    try:
        while True:
            acknowledged.append(await create(client, source))
    except aio.AioRpcError:
        return
