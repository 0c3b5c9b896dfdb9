"""The rows of calls: the CPU time of a bare echo server for a call of the same size / that of the daemon per operation.

An operation is everything that follows from a call: the daemon is left to finish what it owes its peers before its CPU
time is read.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

from bench import processes, stores
from bench.gateway import Scene, ended, sizes
from bench.load import Channel, Load, call_all, channel
from bench.processes import Measured
from bench.rows import Better, Plan, Row, Sample
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2

CALLS: Final = 4000
CALLERS: Final = 64
WARM_UP: Final = 500
NATIVE: Final = "/sessiond.v1.SessionService/"


class Target(NamedTuple):
    """A row without its samples."""

    name: str
    bound: float

    def row(self, samples: Sequence[Sample]) -> Row:
        """Return the row."""
        return Row(self.name, Better.MORE, self.bound, "of bare echo", "us of CPU per call", tuple(samples))


NATIVE_MEMORY: Final = Target("native CreateSession, memory", 0.75)
NATIVE_REDIS: Final = Target(f"native CreateSession, Redis, {CALLERS} callers", 0.55)
CREATE: Final = Target(f"gateway CreateSession + policy + directoryd, Redis, {CALLERS} callers", 0.40)
TUNNELS: Final = Target("UpdateTunnelIds with flows, Redis", 0.50)
END: Final = Target("EndSession to CCR-T, Redis", 0.35)


class Yardstick:
    """A bare echo server beside the daemon."""

    def __init__(self, server: Measured, connection: Channel) -> None:
        self._server = server
        self._connection = connection

    async def cpu_us(self, requests: Sequence[bytes], answer_size: int) -> float:
        """Return what one echo costs."""
        before = await self._server.quiet()
        await call_all(self._connection, f"/bench.Echo/{answer_size}", requests, CALLERS)
        return (await self._server.quiet() - before) / len(requests) * 1e6


async def yardstick(stack: AsyncExitStack) -> Yardstick:
    """Start a yardstick."""
    server = await stack.enter_async_context(processes.echo())
    return Yardstick(server, await stack.enter_async_context(channel(server.address)))


async def native(plan: Plan) -> AsyncIterator[Row]:
    """Measure CreateSession of our own API in memory and in Redis."""
    for target, in_redis in ((NATIVE_MEMORY, False), (NATIVE_REDIS, True)):
        async with AsyncExitStack() as stack:
            echo = await yardstick(stack)
            keys: dict[str, Any] = await stores.redis(stack, plan) if in_redis else {}
            server = await stack.enter_async_context(processes.daemon(plan.folder, **keys))
            connection = await stack.enter_async_context(channel(server.address))
            await call_all(connection, f"{NATIVE}CreateSession", _native_creates(WARM_UP), CALLERS)
            samples = []
            for number in range(plan.rounds):
                plan.progress(f"{target.name}: round {number + 1} of {plan.rounds}")
                requests = _native_creates(plan.count(CALLS))
                before = await server.quiet()
                load = await call_all(connection, f"{NATIVE}CreateSession", requests, CALLERS)
                cpu_us = (await server.quiet() - before) / len(requests) * 1e6
                samples.append(await _sample(echo, cpu_us, requests, load))
            yield target.row(samples)


async def gateway(plan: Plan) -> AsyncIterator[Row]:
    """Measure a gateway session from its creation to its end."""
    samples: dict[Target, list[Sample]] = {CREATE: [], TUNNELS: [], END: []}
    async with AsyncExitStack() as stack:
        echo = await yardstick(stack)
        others = await stack.enter_async_context(processes.peers())
        keys = await stores.redis(stack, plan)
        server = await stack.enter_async_context(processes.daemon(plan.folder, **keys, **Scene.config(plan, others)))
        connection = await stack.enter_async_context(channel(server.address))
        scene = Scene(connection)
        await scene.set_up()
        await _whole_life(scene, server, others, range(WARM_UP))
        for number in range(plan.rounds):
            plan.progress(f"gateway calls: round {number + 1} of {plan.rounds}")
            first = WARM_UP + number * plan.count(CALLS)
            lives = await _whole_life(scene, server, others, range(first, first + plan.count(CALLS)))
            for target, (cpu_us, requests, load) in zip(samples, lives, strict=True):
                samples[target].append(await _sample(echo, cpu_us, requests, load))
    for target, measured in samples.items():
        yield target.row(measured)


Measurement = tuple[float, Sequence[bytes], Load]


async def _whole_life(scene: Scene, server: Measured, others: Measured, devices: range) -> list[Measurement]:
    """Create, connect and end a session for each device; return what each step cost for each."""
    measured: list[Measurement] = []
    for method, requests in (
        ("CreateSession", scene.creates(devices)),
        ("UpdateTunnelIds", scene.tunnels(devices)),
        ("EndSession", scene.ends(devices)),
    ):
        before = await server.quiet()
        load = await call_all(scene.connection, scene.name(method), requests, CALLERS)
        if method == "EndSession":
            await server.quiet()
            await scene.report_nothing()
            await ended(others, devices[-1] + 1)
        cpu_us = (await server.quiet() - before) / len(devices) * 1e6
        measured.append((cpu_us, requests, load))
    return measured


async def _sample(echo: Yardstick, cpu_us: float, requests: Sequence[bytes], load: Load) -> Sample:
    notes = {"calls/s": load.calls_per_s, "p50 ms": load.quantile_ms(50), "p99 ms": load.quantile_ms(99)}
    return Sample(cpu_us, await echo.cpu_us(requests, sizes(load.answers)), notes)


def _native_creates(count: int) -> list[bytes]:
    message = session_service_pb2.CreateSessionRequest(session=session_pb2.Session(type="execution"))
    return [message.SerializeToString()] * count
