"""A daemon whose store fails, in every way a store can: callers hear in time, and no octet is lost or counted twice.

What the store alone does about faults is shown in tests/store/test_redis_faults.py; here it is the whole daemon.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from sessiond.store.redis_keys import slot_of_scope
from tests.blackbox.harness import Gateway, Refusal, gateway, refusal, refusal_of
from tests.blackbox.messages import GRANT, Device, amounts
from tests.store.proxy import FaultProxy
from tests.store.servers import NODES, ClusterOfThree, Server, binary_of, closing_down, free_port

pytestmark = [pytest.mark.blackbox, pytest.mark.slow]

Code = grpc.StatusCode
DEVICES = [Device(1), Device(2)]
CALLER_S: Final = 8.0
"""How long a caller waits; an MME waits ten seconds."""
USED: Final = GRANT // 10
REPORTS: Final = 12


class Fault(NamedTuple):
    """How a store is made to fail, and to work again."""

    begin: Callable[[FaultProxy, Server], object]
    end: Callable[[FaultProxy, Server], object] = lambda proxy, _: proxy.heal()


def _says(error: bytes) -> Fault:
    """Return the fault that the server says this to every command."""
    return Fault(lambda proxy, _: setattr(proxy, "error", error))


def _set(server: Server, name: str, value: Any) -> None:
    with server.client() as client:
        client.config_set(name, value)


def _follow(server: Server, host: str, port: str) -> None:
    """Make the server a replica of a server that is not there, or the master again."""
    with server.client() as client:
        client.replicaof(host, port)


FAULTS: Final[dict[str, Fault]] = {
    "cut off": Fault(lambda proxy, _: proxy.cut(refuse=True)),
    "replies are lost": Fault(lambda proxy, _: proxy.swallow()),
    "half closed": Fault(lambda proxy, _: proxy.half_close()),
    "too slow": Fault(lambda proxy, _: setattr(proxy, "delay_s", 60.0)),
    "stopped (SIGSTOP)": Fault(lambda _, server: server.freeze(), lambda _, server: server.thaw()),
    "loading": _says(b"-LOADING Redis is loading the dataset in memory"),
    "disk full": _says(b"-MISCONF Errors writing to the AOF file: No space left on device"),
    "out of memory": Fault(
        lambda _, server: _set(server, "maxmemory", 1), lambda _, server: _set(server, "maxmemory", 0)
    ),
    "a replica": Fault(
        lambda _, server: _follow(server, "127.0.0.1", str(free_port())),
        lambda _, server: _follow(server, "NO", "ONE"),
    ),
}


class Line(NamedTuple):
    """A daemon with one device attached, and what is between it and its store."""

    whole: Gateway
    proxy: FaultProxy
    server: Server
    session: str


@asynccontextmanager
async def laid(folder: Path, server: Server) -> AsyncIterator[Line]:
    """Lay a line to an empty server."""
    server.flush()
    async with FaultProxy(server.port) as proxy:
        config: dict[str, Any] = {"store": {"url": proxy.url}, "support_stateless": True}
        async with gateway(folder, **config) as whole:
            yield Line(whole, proxy, server, await whole.attach(DEVICES[0]))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_store_that_fails(tmp_path: Path, one_valkey: Server, fault: Fault) -> None:
    """Callers are told when to come again, before they give up; then all goes on, and usage is counted once."""
    device = DEVICES[0]
    async with laid(tmp_path, one_valkey) as (whole, proxy, server, session):
        await whole.report(device.used(1000, 100))
        fault.begin(proxy, server)
        try:
            for refused in await _refusals(whole, device):
                assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "STORE_UNAVAILABLE")
                assert refused.retry_after_ms > 0
            answer = await whole.health.Check(HealthCheckRequest())
            assert answer.status == HealthCheckResponse.SERVING
        finally:
            fault.end(proxy, server)
        await _taken(lambda: whole.report(device.used(3000, 300)))
        await whole.report(device.used(3000, 300))
        await _taken(lambda: whole.sessions.UpdateTunnelIds(device.tunnels()))
        await whole.sessions.EndSession(device.end())
        assert amounts(await whole.report_until_ended(session)) == [(3000, 300)]
        await whole.attach(DEVICES[1])
        assert whole.daemon.status is None


async def test_a_store_that_does_not_let_us(tmp_path: Path, one_valkey: Server) -> None:
    """Rights that were taken away are the operator's to give back: callers are told so, and all goes on once he has."""
    async with laid(tmp_path, one_valkey) as (whole, proxy, _, _):
        proxy.error = b"-NOPERM this user has no permissions to run the 'evalsha' command"
        refused = await refusal(whole.sessions.CreateSession(DEVICES[1].create(), timeout=CALLER_S))
        assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "STORE_REFUSED")
        proxy.heal()
        await _taken(lambda: whole.attach(DEVICES[1]))


async def test_replies_that_get_lost(tmp_path: Path, one_valkey: Server) -> None:
    """Each write is carried out, but its first reply never comes: nobody notices, and everything counts once."""
    device = DEVICES[0]
    async with laid(tmp_path, one_valkey) as (whole, proxy, _, session):
        for number in range(1, REPORTS + 1):
            proxy.lose_reply(b"EVALSHA")
            await whole.report(device.used(USED * number, number))
        proxy.lose_reply(b"EVALSHA")
        await whole.sessions.EndSession(device.end())
        end = await whole.report_until_ended(session)
        reported = [update.usage for request in whole.policy.update.requests for update in request.updates] + list(
            end.credit_usages
        )
        assert sum(usage.bytes_tx for usage in reported) == USED * REPORTS
        assert sum(usage.bytes_rx for usage in reported) == REPORTS
        assert len(whole.policy.terminate.requests) == 1


async def test_slots_that_move(tmp_path: Path) -> None:
    """While the slot of a session goes from node to node (MOVED, ASK, TRYAGAIN), its usage is counted once."""
    device = DEVICES[0]
    cluster = ClusterOfThree(binary_of("cluster"), tmp_path / "cluster")
    with closing_down(cluster):
        cluster.start()
        config: dict[str, Any] = {"store": {"url": cluster.url}, "support_stateless": True}
        async with gateway(tmp_path, **config) as whole:
            session = await whole.attach(device)
            slot = slot_of_scope(device.subscriber)
            moving = asyncio.create_task(asyncio.to_thread(_move_about, cluster, slot))
            number = 0
            while not moving.done() or number < REPORTS:
                number += 1
                used = device.used(10 * number, number)
                await _taken(lambda used=used: whole.report(used))  # type: ignore[misc]
            await moving
            await _taken(lambda: whole.sessions.EndSession(device.end()))
            assert amounts(await whole.report_until_ended(session)) == [(10 * number, number)]


def _move_about(cluster: ClusterOfThree, slot: int) -> None:
    home = cluster.home_of(slot)
    for giver, taker in ((home, (home + 1) % NODES), ((home + 1) % NODES, home)) * 2:
        cluster.move(slot, giver, taker)


async def _refusals(whole: Gateway, device: Device) -> list[Refusal]:
    """Return how calls that must write are refused."""
    calls: tuple[Awaitable[object], ...] = (
        whole.report(device.used(3000, 300)),
        whole.sessions.CreateSession(DEVICES[1].create(), timeout=CALLER_S),
        whole.sessions.UpdateTunnelIds(device.tunnels(), timeout=CALLER_S),
    )
    return await asyncio.gather(*(refusal(call) for call in calls))


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
