"""A daemon whose sessions are in Redis: it may be killed, replaced, and be without its store for a while."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tests.blackbox.harness import Daemon, Gateway, gateway, refusal, refusal_of, sessiond
from tests.blackbox.messages import EPOCH, Device
from tests.store.servers import ClusterOfThree, Server, binary_of, closing_down

pytestmark = pytest.mark.blackbox

Code = grpc.StatusCode
DEVICES = [Device(1), Device(2), Device(3)]
TAKEN_OVER = 3


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """Give a Valkey."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    with closing_down(server):
        yield server.start()


@pytest.fixture(params=["valkey", "redis", "cluster"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server | ClusterOfThree]:
    """Give each kind of server in turn."""
    kind = ClusterOfThree if request.param == "cluster" else Server
    servers = kind(binary_of(request.param), tmp_path / request.param)
    with closing_down(servers):
        yield servers.start()


def kept_in(url: str, **store: Any) -> dict[str, Any]:
    """Return the configuration of a daemon whose sessions are kept there."""
    return {"store": {"url": url, **store}, "support_stateless": True}


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_daemon_that_is_killed_goes_on(
    tmp_path: Path, place: Server | ClusterOfThree, *, exclusive: bool
) -> None:
    """After kill -9, sessions, counters and flows are what they were, and nothing of it is cleaned up."""
    async with gateway(tmp_path, **kept_in(place.url, exclusive=exclusive)) as whole:
        for device in DEVICES:
            await whole.attach(device)
        used = [device.used(1000 * number, 200) for number, device in enumerate(DEVICES, 1)]
        await whole.report(*used)
        before = await whole.states()
        assert await whole.daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        whole.pipelined.set_up_policies.requests.clear()
        await whole.start()
        assert await whole.states() == before
        await whole.set_up(EPOCH + 1)
        (setup,) = whole.pipelined.set_up_policies.requests
        assert {request.ip_addr for request in setup.requests} == {device.ue_ipv4 for device in DEVICES}
        await whole.report(*used, epoch=EPOCH + 1)
        assert whole.directoryd.read_all.requests == []
        assert whole.policy.terminate.requests == []


async def test_an_end_that_was_promised_is_told_after_a_kill(tmp_path: Path, valkey: Server) -> None:
    """A session that ends while the policy side is away, and its daemon is killed, is reported by the next run."""
    async with gateway(tmp_path, **kept_in(valkey.url)) as whole:
        session_id = await whole.attach(DEVICES[0])
        await whole.policy.kill()
        await whole.sessions.EndSession(DEVICES[0].end())
        await whole.daemon.stop(signal.SIGKILL)
        await whole.policy.start()
        await whole.start()
        await whole.set_up(EPOCH + 1)
        for _ in range(50):
            await whole.report(epoch=EPOCH + 1)
            if whole.policy.terminate.requests:
                break
            await asyncio.sleep(0.1)
        (end,) = await whole.policy.terminate.asked()
        assert end.session_id == session_id


async def test_a_second_daemon_takes_over(tmp_path: Path, valkey: Server) -> None:
    """The one before it says so, serves no more, and ends with a status of its own; the sessions go on with the new."""
    async with gateway(tmp_path, **kept_in(valkey.url)) as whole:
        await whole.attach(DEVICES[0])
        before = await whole.states()
        first, old_channel, old_health = whole.daemon, whole.sessions, whole.health
        whole.daemon = Daemon(whole.config_file, whole.changes, {})
        await whole.start()
        await first.logged("taken_over")
        assert await first.ended() == TAKEN_OVER
        refused = await refusal(old_channel.CreateSession(DEVICES[1].create("")))
        assert refused.code is Code.UNAVAILABLE
        assert (await refusal(old_health.Check(HealthCheckRequest()))).code is Code.UNAVAILABLE
        assert await whole.states() == before
        await whole.set_up(EPOCH + 1)
        await whole.attach(DEVICES[1])
        await first.close()


async def test_a_store_that_is_away_for_a_while(tmp_path: Path, valkey: Server) -> None:
    """Callers hear in time that they should try again; nobody is forgotten, and nothing has to be done about it."""
    async with gateway(tmp_path, **kept_in(valkey.url)) as whole:
        await whole.attach(DEVICES[0])
        before = await whole.states()
        valkey.freeze()
        loop = asyncio.get_running_loop()
        try:
            began = loop.time()
            refused = await refusal(whole.sessions.EndSession(DEVICES[0].end()))
            assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert refused.retry_after_ms > 0
            assert loop.time() - began < 5
            answer = await whole.health.Check(HealthCheckRequest())
            assert answer.status == HealthCheckResponse.SERVING
        finally:
            valkey.thaw()
        await _taken(lambda: whole.sessions.EndSession(DEVICES[0].end()))
        assert before.keys() == (await whole.states()).keys()
        assert whole.daemon.status is None


async def test_a_daemon_that_waits_for_its_store(tmp_path: Path) -> None:
    """It says what it waits for, can be told to stop, and is ready as soon as the store is there."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    whole = Gateway(tmp_path, kept_in(server.url), [], {})
    try:
        await whole.daemon.begin()
        await whole.daemon.logged("store_awaited")
        assert await whole.daemon.stop(signal.SIGTERM) == 0
        await whole.daemon.begin()
        await whole.daemon.logged("store_awaited")
        await asyncio.to_thread(server.start)
        await whole.daemon.logged("ready")
        assert await whole.daemon.stop() == 0
    finally:
        await whole.close()
        server.stop()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:wrong@127.0.0.1:{port}/0", "store.url: the store does not do its work: "),
        ("redis+cluster://127.0.0.1:{port}", "store.url: the store is no cluster: "),
        ("redis://127.0.0.1:{port}/0?colour=blue", "store.url: cannot be used: "),
    ],
)
async def test_a_store_that_cannot_be_used(tmp_path: Path, valkey: Server, url: str, said: str) -> None:
    """What waiting would not mend ends the start, with the line of the configuration, and without the password."""
    file = tmp_path / "sessiond.yml"
    store = f"store: {{url: '{url.format(port=valkey.port)}'}}\n"
    file.write_text("server: {listen: 127.0.0.1:0}\nmetrics: {listen: null}\n" + store, encoding="utf-8")
    ended = await sessiond("--config", file)
    assert ended.status == 2
    assert f"sessiond.yml:3: {said}" in ended.stderr
    assert "wrong@" not in ended.stderr


async def _taken(call: Callable[[], Awaitable[object]]) -> None:
    """Make a call again and again until somebody takes it; until then all are told to come again."""
    for _ in range(50):
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            refused = refusal_of(error)
        else:
            return
        assert refused.code is Code.UNAVAILABLE
    raise AssertionError
