"""What a table of 20,000 usage records does to those who create sessions meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Final

from bench import processes, stores
from bench.gateway import Scene
from bench.load import Load, call_all, channel
from bench.rows import Better, Plan, Row, Sample

SESSIONS: Final = 10_000
CREATES: Final = 3000
CALLERS: Final = 64
FEW_CALLERS: Final = 4
EVERY_S: Final = 2.0
OCTETS: Final = 1000
READY: Final = 60
"""Tables that are made before a round; one that used them up would measure creates without tables."""


async def tables(plan: Plan) -> AsyncIterator[Row]:
    """Measure creates with and without tables: p99 beside tables without pause, the rate with one now and then."""
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(processes.peers())
        keys = await stores.redis(stack, plan)
        server = await stack.enter_async_context(processes.daemon(plan.folder, **keys, **Scene.config(plan, others)))
        creating = Scene(await stack.enter_async_context(channel(server.address)))
        reporting = Scene(await stack.enter_async_context(channel(server.address)))
        await creating.set_up()
        plan.progress(f"tables: {plan.count(SESSIONS)} devices attach")
        present = range(plan.count(SESSIONS))
        await creating.attach(present)
        used, device = count(OCTETS, OCTETS), count(len(present))

        async def creates(callers: int) -> Load:
            requests = creating.creates(next(device) for _ in range(plan.count(CREATES)))
            return await call_all(creating.connection, creating.name("CreateSession"), requests, callers)

        @asynccontextmanager
        async def reports(pause_s: float) -> AsyncIterator[None]:
            # Made in advance: to make one holds the callers up, who share this process, and not the daemon.
            ready = [reporting.table(present, next(used)) for _ in range(READY)]

            async def report() -> None:
                for table in ready:
                    await call_all(reporting.connection, reporting.name("ReportRuleStats"), [table], 1)
                    await asyncio.sleep(pause_s)
                raise RuntimeError("more tables are needed")

            reporter = asyncio.create_task(report())
            yield
            if reporter.done():
                await reporter
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)

        late: list[Sample] = []
        fewer: list[Sample] = []
        for number in range(plan.rounds):
            plan.progress(f"creates beside tables: round {number + 1} of {plan.rounds}")
            await server.quiet()
            alone = await creates(FEW_CALLERS)
            async with reports(0):
                beside = await creates(FEW_CALLERS)
            late.append(Sample(beside.quantile_ms(99), alone.quantile_ms(99), {"p50 ms": beside.quantile_ms(50)}))
            await server.quiet()
            alone = await creates(CALLERS)
            async with reports(EVERY_S):
                beside = await creates(CALLERS)
            rates = {"calls/s": beside.calls_per_s, "calls/s without": alone.calls_per_s}
            fewer.append(Sample(1000 / beside.calls_per_s, 1000 / alone.calls_per_s, rates))
        records = 2 * len(present)
        yield Row(
            f"CreateSession p99 while tables of {records:,} records are processed",
            Better.LESS, 3, "x its p99 without", "ms", tuple(late),
        )  # fmt: skip
        yield Row(
            f"creates/s, Redis, {len(present):,} sessions present, a full table every {EVERY_S:g} s",
            Better.MORE, 0.6, "of the creates/s without tables", "ms per create", tuple(fewer),
        )  # fmt: skip
