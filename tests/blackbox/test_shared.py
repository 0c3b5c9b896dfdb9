"""Several daemons over one store: any of them serves any session, and one of them looks after all (requirement X4)."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import PEERS, Gateway, gateway
from tests.blackbox.messages import GRANT, Device
from tests.blackbox.native import Client, reason_of, sessions, state_of
from tests.blackbox.peers import PATIENCE_S, hanging
from tests.blackbox.streams import (
    START,
    STOP,
    AioClient,
    StreamDaemon,
    create,
    end,
    info,
    listening,
    new_source,
    streams,
)
from tests.blackbox.watching import kinds, watching
from tests.store.conftest import cluster as cluster  # noqa: PLC0414, a fixture
from tests.store.servers import ClusterOfThree, Server

pytestmark = pytest.mark.blackbox

LEASE_S = 2
CREATED = "CREATED ACTIVATED"
UPDATES = 40


def shared(url: str) -> dict[str, Any]:
    """Return the configuration of a daemon that shares a store."""
    return {"support_stateless": True, "store": {"url": url, "exclusive": False, "lease_s": LEASE_S}}


@asynccontextmanager
async def two_gateways(folder: Path, url: str) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Run two daemons with the same peers, which the first one has; pipelined reports to the first one."""
    async with AsyncExitStack() as stack:
        (folder / "a").mkdir()
        (folder / "b").mkdir()
        first = await stack.enter_async_context(gateway(folder / "a", **shared(url)))
        peers = {name: peer.address for name, peer in first.peers.items()}
        second = gateway(folder / "b", down=PEERS, set_up=False, peers=peers, **shared(url))
        yield first, await stack.enter_async_context(second)


@asynccontextmanager
async def two_daemons(folder: Path, url: str) -> AsyncIterator[tuple[StreamDaemon, StreamDaemon]]:
    """Run two daemons without peers."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    async with streams(folder / "a", **shared(url)) as first, streams(folder / "b", **shared(url)) as second:
        yield first, second


@pytest.fixture
def url(one_valkey: Server) -> str:
    """Give an empty store."""
    one_valkey.flush()
    return one_valkey.url


async def test_what_one_creates_the_other_serves(tmp_path: Path, url: str) -> None:
    """A session of one daemon is got, changed and ended through the other, which tells its own watchers."""
    source = new_source()
    async with two_daemons(tmp_path, url) as (first, second):
        a, b = AioClient(first.process.address), AioClient(second.process.address)
        async with (
            watching(second.process.address) as watcher,
            listening(b, START, source) as started,
            listening(a, STOP, source) as stopped,
        ):
            key = await create(a, source, identifier="Monza")
            assert (await info(b, key)).identifier == "Monza"
            assert (await started.next()).session_key == key
            assert (await end(b, key)).success
            assert (await stopped.next()).session_key == key
            assert (await info(a, key)).is_complete
            assert await watcher.told(2) == [(key, CREATED), (key, "CLOSED")]
        await a.close()
        await b.close()


async def test_no_update_is_lost(tmp_path: Path, url: str) -> None:
    """Two daemons that change one session at the same time lose nothing of what either did."""
    async with two_daemons(tmp_path, url) as (first, second):
        clients = [AioClient(first.process.address), AioClient(second.process.address)]
        key = await create(clients[0], new_source())

        async def tie(client: AioClient, name: str) -> None:
            for number in range(UPDATES):
                request = api.AddAssociateSessionRequest(session_key=key, associate_session_key=f"{name}{number}")
                assert (await client.call("AddAssociateSession", request)).success

        await asyncio.gather(*(tie(client, name) for client, name in zip(clients, "ab", strict=True)))
        tied = (await info(clients[0], key)).associate_session_keys
        assert sorted(tied) == sorted(f"{name}{number}" for name in "ab" for number in range(UPDATES))
        for name in "ab":
            assert [other for other in tied if other[0] == name] == [f"{name}{number}" for number in range(UPDATES)]
        for client in clients:
            await client.close()


async def test_a_watch_goes_on_at_the_other_daemon(tmp_path: Path, url: str) -> None:
    """X3: a resume token of one daemon is good at the other: no gap, no repetition, also after a kill."""
    source = new_source()
    request = {"filter": f'data_source = "{source}"'}
    async with two_daemons(tmp_path, url) as (first, second):
        a, b = AioClient(first.process.address), AioClient(second.process.address)
        async with watching(first.process.address, **request) as watcher:
            keys = [await create(client, source) for client in (a, b) * 5]
            told = [key for key, _ in await watcher.told(7)]
            first.process.send(signal.SIGKILL)
            await first.process.ended()
        keys += [await create(b, source) for _ in range(5)]
        async with watching(second.process.address, resume_token=watcher.token, **request) as again:
            told += [key for key, _ in await again.told(8)]
        assert told == keys
        await a.close()
        await b.close()


async def test_a_deadline_is_kept_once(tmp_path: Path, url: str) -> None:
    """W4, L7: sessions that expire, made through either daemon, end once, also when the one is killed that would do it.

    Each is told of as it was made, paused and resumed, through whichever daemon that was.
    """
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        sessions(tmp_path / "a", **shared(url)) as first,
        sessions(tmp_path / "b", **shared(url)) as second,
        watching(second.process.address) as watcher,
    ):
        a, b = first.client(), second.client()
        ttl = Duration(seconds=3)
        made = [await (a, b)[number % 2].create("voice", ttl=ttl) for number in range(10)]
        await b.pause(made[0].key)
        await a.resume(made[0].key)
        assert (await b.get(made[1].key, peek=True)).key == made[1].key
        told = await watcher.told(12)
        assert [said for key, said in told if key == made[0].key] == [CREATED, "PAUSED", "RESUMED"]
        first.process.send(signal.SIGKILL)
        await first.process.ended()
        ended = await watcher.told(10)
        assert sorted(ended) == sorted((one.key, "EXPIRED CLOSED") for one in made)
        last = await b.create("voice")
        assert await watcher.told(1) == [(last.key, CREATED)]


@pytest.mark.slow
async def test_l2_what_nobody_uses_is_closed_once(tmp_path: Path, url: str) -> None:
    """Idle sessions, made through either daemon, are closed once; use through one daemon keeps the other from it.

    One of the two looks after all sessions, and each keeps one in use: so one of these is used at the other only.
    """
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    config = {**shared(url), "watch": {"heartbeat_s": 5}}  # it takes longer than a watcher is patient
    async with (
        sessions(tmp_path / "a", **config) as first,
        sessions(tmp_path / "b", **config) as second,
        watching(first.process.address) as one,
        watching(second.process.address) as other,
    ):
        clients, idle = (first.client(), second.client()), Duration(seconds=3)
        used = [await client.create("voice", idle_timeout=idle) for client in clients]
        left = [await clients[number % 2].create("voice", idle_timeout=idle) for number in range(10)]
        using = [asyncio.create_task(use(client, kept.key)) for client, kept in zip(clients[::-1], used, strict=True)]
        ended = [await watcher.events(22) for watcher in (one, other)]
        for task in using:
            task.cancel()
        last = await clients[0].create("voice")
        assert await one.told(1) == await other.told(1) == [(last.key, CREATED)]
        assert [state_of(await clients[0].get(kept.key, peek=True)) for kept in used] == ["ACTIVE", "ACTIVE"]
    for events in ended:
        closed = [event.session for event in events if kinds(event) == "CLOSED"]
        assert sorted(each.key for each in closed) == sorted(each.key for each in left)
        assert {reason_of(each) for each in closed} == {"IDLE"}
        assert all(each.end_time.ToMilliseconds() >= each.create_time.ToMilliseconds() + 3000 for each in closed)


async def use(client: Client, key: str) -> None:
    """Use a session again and again."""
    while True:
        await client.get(key)
        await asyncio.sleep(0.1)


async def test_a_gateway_session_is_served_by_both(tmp_path: Path, url: str) -> None:
    """A device attaches through one daemon and detaches through the other; the peers hear of everything once."""
    device = Device(1)
    async with two_gateways(tmp_path, url) as (first, second), watching(second.daemon.address) as watcher:
        await until_ready(second)
        session_id = await second.create(device)
        await first.sessions.UpdateTunnelIds(device.tunnels())
        await first.pipelined.activate.asked()
        sessions = SessionServiceStub(second.channel)
        got = await sessions.GetSession(session_service_pb2.GetSessionRequest(key=session_id))
        assert got.session.subscriber == device.subscriber
        assert session_id == (await first.states())[device.subscriber][device.apn][-1]["session_id"]
        await first.report(device.used(GRANT, 0))
        (update,) = await first.policy.update.asked()
        assert update.updates[0].usage.bytes_tx == GRANT
        await second.sessions.EndSession(device.end())
        await first.report(device.used(GRANT, 7))
        ended = await first.report_until_ended(session_id)
        assert [(usage.bytes_tx, usage.bytes_rx) for usage in ended.credit_usages] == [(0, 7)]
        await until_gone(first, device)
        await until_gone(second, device)
        assert (await watcher.event()).session.key == session_id
        assert len(first.policy.terminate.requests) == len(first.pipelined.deactivate.requests) == 1
        assert len(first.pipelined.activate.requests) == len(first.policy.create.requests) == 1


async def test_a_subscriber_has_one_session_of_an_apn(tmp_path: Path, url: str) -> None:
    """However many requests of one subscriber both daemons get at once, one session is active in the end."""
    device = Device(1)
    async with two_gateways(tmp_path, url) as (first, second):
        await until_ready(second)
        asked = [whole.create(device) for whole in (first, second) * 4]
        found = set(await asyncio.gather(*asked, return_exceptions=True))
        assert {one for one in found if not isinstance(one, str)} == set()
        states = (await second.states())[device.subscriber][device.apn]
        assert len([state for state in states if state["lifecycle_state"] == "SESSION_ACTIVE"]) == 1


async def test_the_other_takes_over(tmp_path: Path, url: str) -> None:
    """When the daemon is killed that looks after the sessions, the other one goes on: effects, reports and timers.

    The report that was on its way goes out again with the same number.
    """
    device, other = Device(1), Device(2)
    async with two_gateways(tmp_path, url) as (first, second):
        await until_ready(second)
        first.write_config(session_force_termination_timeout_ms=1000)
        session_id = await first.attach(device)
        await first.attach(other)
        normal, first.policy.update.behaviour = first.policy.update.behaviour, hanging
        await first.report(device.used(GRANT, 0))
        (lost,) = await first.policy.update.asked()
        first.policy.update.behaviour = normal
        normal_deactivate, first.pipelined.deactivate.behaviour = first.pipelined.deactivate.behaviour, hanging
        await first.sessions.EndSession(other.end())
        await first.pipelined.deactivate.asked()
        first.pipelined.deactivate.behaviour = normal_deactivate
        await first.daemon.stop(signal.SIGKILL)
        await second.daemon.logged("lease_held")
        again = await first.policy.update.asked(count=2)
        assert again[1].updates[0].request_number == lost.updates[0].request_number
        assert again[1].updates[0].usage == lost.updates[0].usage
        await first.pipelined.deactivate.asked(count=2)
        await second.report(device.used(GRANT, 5), epoch=1_700_000_001)
        await second.daemon.logged("data_plane_set_up")
        await second.sessions.EndSession(device.end())
        await second.report(device.used(GRANT, 5), epoch=1_700_000_001)
        ended = await reported_until_ended(first, second, session_id)
        assert sum(usage.bytes_rx for usage in ended.credit_usages) == 5


async def test_a_cluster_is_shared(tmp_path: Path, cluster: ClusterOfThree) -> None:
    """Over a cluster, too, what one daemon writes is told by the other, in order and once, whoever is killed."""
    cluster.flush()
    source = new_source()
    async with two_daemons(tmp_path, cluster.url) as (first, second):
        a, b = AioClient(first.process.address), AioClient(second.process.address)
        async with watching(second.process.address, filter=f'data_source = "{source}"') as watcher:
            keys = [await create(client, source) for client in (a, b) * 20]
            for key in keys[::2]:
                await end(b, key)
            told = await watcher.told(60)
            for key in keys:
                mine = [said for other, said in told if other == key]
                assert mine == [CREATED, "CLOSED"][: 2 if key in keys[::2] else 1]
            first.process.send(signal.SIGKILL)
            await first.process.ended()
            await second.process.logged("lease_held", timeout_s=30)
            last = await create(b, source)
            assert await watcher.told(1) == [(last, CREATED)]
        await a.close()
        await b.close()


async def until_ready(whole: Gateway) -> None:
    """Return when a daemon has heard that pipelined is set up by the other."""
    admin = AdminServiceStub(whole.channel)

    async def is_ready() -> bool:
        status = await admin.GetStatus(admin_service_pb2.GetStatusRequest())
        return bool(status.pipelined_setup == admin_service_pb2.SETUP_STATE_READY)

    await until(is_ready)


async def until_gone(whole: Gateway, device: Device) -> None:
    """Return when a daemon has no session of a device any more."""

    async def is_gone() -> bool:
        return device.subscriber not in await whole.states()

    await until(is_gone)


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Return when something is as wanted that nobody tells of; each look is a call that takes its time."""
    async with asyncio.timeout(PATIENCE_S):
        while not await look():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def reported_until_ended(first: Gateway, second: Gateway, session_id: str) -> Any:
    """Let pipelined report to the second daemon until the policy side has heard of an end."""
    for _ in range(150):
        await second.report(epoch=1_700_000_001)
        found = [end for end in first.policy.terminate.requests if end.session_id == session_id]
        if found:
            return found[0]
        await asyncio.sleep(0.1)
    raise AssertionError(f"{session_id} was not reported as over")
