#!/usr/bin/env python3
"""What a call costs a daemon that owns its store, one that shares it, and each of two that share it.

    bench/fleet.py [--calls 4000]

A Valkey is started for it. CPU time is that of the daemons, all together; the second daemon, the store and the load
share a core, so that calls a second say little about a machine with more of them.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import processes, stores
from bench.calls import CALLERS, NATIVE, WARM_UP
from bench.load import Channel, call_all, channel
from bench.processes import MEASURED_CORE, OTHER_CORE, Measured
from bench.rows import Plan
from sessiond.pb.sessiond.v1.session_pb2 import Session
from sessiond.pb.sessiond.v1.session_service_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    GetSessionRequest,
    UpdateSessionRequest,
)


class Fleet(NamedTuple):
    """Daemons over one store, and a connection to each."""

    servers: Sequence[Measured]
    connections: Sequence[Channel]

    async def quiet(self) -> float:
        """Return the CPU time of all when they have nothing to do."""
        return sum([await server.quiet() for server in self.servers])

    async def call(self, method: str, requests: Sequence[bytes]) -> list[bytes]:
        """Spread calls over the daemons; print what each call cost."""
        before = await self.quiet()
        count = len(self.connections)
        loads = await asyncio.gather(
            *(
                call_all(connection, NATIVE + method, requests[number::count], CALLERS // count)
                for number, connection in enumerate(self.connections)
            )
        )
        cpu_us = (await self.quiet() - before) / len(requests) * 1e6
        rate = sum(load.calls_per_s for load in loads)
        p99_ms = max(load.quantile_ms(99) for load in loads)
        print(f"  {method:14} {cpu_us:6.0f} us of CPU per call  {rate:6.0f} calls/s  p99 {p99_ms:5.1f} ms", flush=True)
        return [answer for load in loads for answer in load.answers]


async def started(stack: AsyncExitStack, plan: Plan, count: int, store: Mapping[str, object]) -> Fleet:
    """Start daemons; the first has a core for itself."""
    servers = []
    for number in range(count):
        folder = plan.folder / f"{number}"
        folder.mkdir()
        core = OTHER_CORE if number else MEASURED_CORE
        servers.append(await stack.enter_async_context(processes.daemon(folder, core=core, **store)))
    return Fleet(servers, [await stack.enter_async_context(channel(server.address)) for server in servers])


async def measure(count: int, calls: int, *, exclusive: bool) -> None:
    """Create, read and change sessions; each call goes to another daemon than the one before about that session."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            plan = Plan(Path(folder), 1, 1, print)
            store = await stores.redis(stack, plan)
            store["store"] |= {"exclusive": exclusive}
            fleet = await started(stack, plan, count, store)
            create = [CreateSessionRequest(session=Session(type="execution")).SerializeToString()]
            await call_all(fleet.connections[0], NATIVE + "CreateSession", create * WARM_UP, CALLERS)
            answers = await fleet.call("CreateSession", create * calls)
            keys = [CreateSessionResponse.FromString(answer).session.key for answer in answers]
            await fleet.call("GetSession", [GetSessionRequest(key=key).SerializeToString() for key in reversed(keys)])
            await fleet.call("UpdateSession", [_update(key) for key in keys])


def _update(key: str) -> bytes:
    session = Session(key=key)
    session.details["step"] = "2"
    return UpdateSessionRequest(session=session).SerializeToString()


async def run(calls: int) -> None:
    """Measure each fleet."""
    for text, count, exclusive in (
        ("one daemon that owns its store", 1, True),
        ("one daemon that shares its store", 1, False),
        ("two daemons that share a store", 2, False),
    ):
        print(text, flush=True)
        await measure(count, calls, exclusive=exclusive)


def main() -> None:
    """Run with what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=4000, help="of each kind (4000)")
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    processes.pin(OTHER_CORE)
    uvloop.run(run(parser.parse_args().calls))


if __name__ == "__main__":
    main()
