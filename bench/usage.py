"""What usage tables cost: when nothing comes of them, and when every credit is to be reported."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from time import process_time
from typing import Any, Final

from redis.asyncio import Redis

from bench import processes, stores
from bench.gateway import Scene, subscriber
from bench.load import call_all, channel
from bench.peers import GRANT
from bench.processes import Measured
from bench.rows import Better, Plan, Row, Sample
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable

SESSIONS: Final = 10_000
ECHOES: Final = 7500
ECHO: Final = 200
"""Octets of an echoed message, there and back."""
CALLERS: Final = 64
FIELD: Final = b"x" * 200
PIPELINE: Final = 200
OCTETS: Final = 1000
"""What a rule carries, up and down, between two tables."""


class Tables:
    """A daemon with sessions, and what pipelined reports of them, ever more."""

    def __init__(self, server: Measured, scene: Scene, devices: range) -> None:
        self.server = server
        self.scene = scene
        self.devices = devices
        self._octets = count(OCTETS, OCTETS)
        self._more = 0

    def table(self, more: int = 0) -> bytes:
        """Return a table that says of each rule that it has carried a little more, or so much."""
        self._more += more
        return self.scene.table(self.devices, next(self._octets) + self._more)

    async def report(self, table: bytes) -> None:
        """Report a table."""
        await call_all(self.scene.connection, self.scene.name("ReportRuleStats"), [table], 1)

    async def cost_s(self, table: bytes) -> float:
        """Return the CPU time that a table and all that comes of it takes."""
        before = await self.server.quiet()
        await self.report(table)
        return await self.server.quiet() - before

    async def warm_up(self) -> None:
        """Report the first usage of every session, and some more."""
        for _ in range(2):
            await self.report(self.table())


async def usage(plan: Plan) -> AsyncIterator[Row]:
    """Measure tables of 10,000 sessions with two rules each."""
    for row in (_nothing_due(plan), _all_changed(plan), _all_due(plan)):
        yield await row


async def _nothing_due(plan: Plan) -> Row:
    async with AsyncExitStack() as stack:
        tables = await _tables(stack, plan, {})

        async def sample() -> Sample:
            table = tables.table()
            return Sample(await tables.cost_s(table), _decoded_s(table))

        what = f"ReportRuleStats, {len(tables.devices):,} sessions x 2 rules, nothing due, memory"
        samples = await _samples(plan, what, sample)
        return Row(what, Better.LESS, 6, "x bare decode and one read of each field", "s", samples)


async def _all_changed(plan: Plan) -> Row:
    async with AsyncExitStack() as stack:
        server = await stores.server(stack, plan)
        tables = await _tables(stack, plan, {"store": {"url": server.url}, "support_stateless": True})

        async def sample() -> Sample:
            return Sample(await tables.cost_s(tables.table()), await _pipelined_s(server.url, tables.devices))

        what = f"ReportRuleStats, {len(tables.devices):,} sessions x 2 rules, all changed, Redis"
        samples = await _samples(plan, what, sample)
        return Row(what, Better.LESS, 2, "x a bare pipeline of one 200-byte field per session", "s", samples)


async def _all_due(plan: Plan) -> Row:
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(processes.echo())
        calls = await stack.enter_async_context(channel(echo.address))
        tables = await _tables(stack, plan, await stores.redis(stack, plan))
        echoes = [b"x" * ECHO] * plan.count(ECHOES)

        async def sample() -> Sample:
            await tables.report(tables.table())
            cost_s = await tables.cost_s(tables.table(GRANT))
            before = await echo.quiet()
            await call_all(calls, f"/bench.Echo/{ECHO}", echoes, CALLERS)
            echo_s = await echo.quiet() - before
            return Sample(cost_s, echo_s, {"us per credit": cost_s / len(tables.devices) / 2 * 1e6})

        what = f"ReportRuleStats, {2 * len(tables.devices):,} credits due, answers processed, Redis"
        samples = await _samples(plan, what, sample)
        return Row(what, Better.LESS, 1, f"x {len(echoes):,} bare echo calls", "s", samples)


async def _tables(stack: AsyncExitStack, plan: Plan, keys: dict[str, Any]) -> Tables:
    """Start a daemon with sessions of which usage was seen."""
    others = await stack.enter_async_context(processes.peers())
    server = await stack.enter_async_context(processes.daemon(plan.folder, **keys, **Scene.config(plan, others)))
    scene = Scene(await stack.enter_async_context(channel(server.address)))
    await scene.set_up()
    devices = range(plan.count(SESSIONS))
    plan.progress(f"usage: {len(devices)} devices attach")
    await scene.attach(devices)
    tables = Tables(server, scene, devices)
    await tables.warm_up()
    return tables


async def _samples(plan: Plan, what: str, sample: Callable[[], Awaitable[Sample]]) -> tuple[Sample, ...]:
    samples: list[Sample] = []
    for number in range(plan.rounds):
        plan.progress(f"{what}: round {number + 1} of {plan.rounds}")
        samples.append(await sample())
    return tuple(samples)


def _decoded_s(octets: bytes) -> float:
    """Return the CPU time of a bare decode and one read of each field."""
    before = process_time()
    for record in RuleRecordTable.FromString(octets).records:
        _ = record.sid, record.ue_ipv4, record.ue_ipv6, record.teid, record.rule_id, record.rule_version
        _ = record.bytes_tx, record.bytes_rx, record.dropped_tx, record.dropped_rx
    return process_time() - before


async def _pipelined_s(url: str, devices: range) -> float:
    """Return the CPU time of a bare client that writes one field per session."""
    client = Redis.from_url(url.removesuffix("/0") + "/1")
    before = process_time()
    for start in range(0, len(devices), PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for device in devices[start : start + PIPELINE]:
            pipeline.hset(f"session:{{{subscriber(device)}}}-483920", "meter", FIELD)
        await pipeline.execute()
    taken_s = process_time() - before
    await client.aclose()
    return taken_s
