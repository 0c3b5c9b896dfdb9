"""The store of a benchmark: a Valkey of its own, on the other core."""

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bench.processes import OTHER_CORE
from bench.rows import Plan

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.store.servers import Server, binary_of


async def server(stack: AsyncExitStack, plan: Plan) -> Server:
    """Start a server."""
    started = Server(binary_of("valkey"), plan.folder / "valkey", "--server-cpulist", str(OTHER_CORE)).start()
    stack.callback(started.stop)
    return started


async def redis(stack: AsyncExitStack, plan: Plan) -> dict[str, Any]:
    """Start a server; return the section of the configuration that names it."""
    started = await server(stack, plan)
    return {"store": {"url": started.url}, "support_stateless": True}
