"""What sessions cost in memory, and whether the number of those present makes any of them dearer."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

from bench import processes
from bench.gateway import Scene
from bench.load import channel
from bench.rows import Better, Plan, Row, Sample
from bench.usage import Tables

PRESENT: Final = (100, 1000, 10_000, 100_000)
TABLES: Final = 500
"""Tables with one changed session."""
AT_ONCE: Final = 10_000
"""Sessions in one table, or attached in one go."""
KIB: Final = 1024
MB: Final = 10**6


async def memory(plan: Plan) -> AsyncIterator[Row]:
    """Fill a daemon with sessions, once: what they take, and what a table with one of them costs on the way."""
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(processes.peers())
        server = await stack.enter_async_context(processes.daemon(plan.folder, **Scene.config(plan, others)))
        scene = Scene(await stack.enter_async_context(channel(server.address)))
        await scene.set_up()
        await server.quiet()
        empty, present, costs_s = server.memory_bytes, 0, dict[int, float]()
        for number in [plan.count(full) for full in PRESENT]:
            for start in range(present, number, AT_ONCE):
                plan.progress(f"memory: {start:,} of {plan.count(PRESENT[-1]):,} sessions")
                some = range(start, min(start + AT_ONCE, number))
                await scene.attach(some)
                await Tables(server, scene, some).warm_up()
            present = number
            one = Tables(server, scene, range(number // 2, number // 2 + 1))
            await one.warm_up()
            await one.warm_up()
            tables = [one.table() for _ in range(TABLES)]
            before = await server.quiet()
            for table in tables:
                await one.report(table)
            costs_s[number] = (await server.quiet() - before) / TABLES
        few, *_ = costs_s
        notes = {f"us among {number}": cost_s * 1e6 for number, cost_s in costs_s.items()}
        yield Row(
            f"ReportRuleStats with one changed session among up to {present:,}",
            Better.LESS, 1.5, f"x the same among {few:,}", "s", (Sample(max(costs_s.values()), costs_s[few], notes),),
        )  # fmt: skip
        each = (server.memory_bytes - empty) / present
        yield Row(
            "memory per gateway session (2 rules, 2 credits)",
            Better.LESS, 1, "x 6 KiB", "KiB", (Sample(each / KIB, 6),),
        )  # fmt: skip
        yield Row(
            f"memory with {present:,} gateway sessions",
            Better.LESS, 1, "x 640 MB", "MB", (Sample(server.memory_bytes / MB, 640),),
        )  # fmt: skip
