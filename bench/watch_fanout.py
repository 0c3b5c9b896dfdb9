#!/usr/bin/env python3
"""What it costs the daemon to tell an event to many who watch, beside a bare gRPC server that writes the same octets.

    bench/watch_fanout.py [--watchers 1000] [--events 100] [--rounds 3]

The cost is the processor time of the server for each event and watcher, so that the clients, which run beside it, and
whatever else the machine does, do not count. Both are measured in turn.
"""

import argparse
import asyncio
import os
import statistics
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc import aio

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub
from sessiond.pb.sessiond.v1.session_service_pb2 import WatchSessionsRequest

sys.path.insert(0, str(Path(__file__).resolve().parent))
from stream_fanout import daemon

WATCH = "/sessiond.v1.SessionService/WatchSessions"
PER_CONNECTION = 100
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


class Bare:
    """A server that tells each who listens what it is given, and does nothing else."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[bytes]] = []

    async def watch(self, _: bytes, context: Any) -> None:
        """Tell until the caller leaves."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.append(queue)
        await context.write(b"begun")
        while True:
            await context.write(await queue.get())

    async def tell(self, octets: bytes, _: Any) -> bytes:
        """Tell all."""
        for queue in self._queues:
            queue.put_nowait(octets)
        return b""

    async def serve(self) -> None:
        """Serve on a free port, and say on which."""
        server = aio.server(options=(("grpc.http2.bdp_probe", 0),))
        methods = {
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "Tell": grpc.unary_unary_rpc_method_handler(self.tell),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bare", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


@asynccontextmanager
async def bare() -> AsyncIterator[str]:
    """Run the bare server; give its address."""
    process = await create_subprocess_exec(sys.executable, __file__, "--bare", stdout=PIPE)
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def measure(address: str, method: str, request: bytes, tell: Any, watchers: int, events: int) -> float:
    """Return the microseconds of processor time that an event costs the server for each who watches."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(aio.insecure_channel(address, options=OPTIONS))
            for _ in range(max(1, watchers // PER_CONNECTION))
        ]
        calls = [channels[number % len(channels)].unary_stream(method)(request) for number in range(watchers)]
        await asyncio.gather(*(call.read() for call in calls))
        pid = _listener(address)
        before = _cpu_s(pid)
        reading = [asyncio.create_task(_read(call, events)) for call in calls]
        for _ in range(events):
            await tell()
        await asyncio.gather(*reading)
        used = _cpu_s(pid) - before
        for call in calls:
            call.cancel()
    return used / watchers / events * 1e6


async def _read(call: Any, count: int) -> None:
    for _ in range(count):
        await call.read()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _listener(address: str) -> int:
    """Return the process that listens on a port."""
    port = int(address.rpartition(":")[2])
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text("ascii").splitlines()
    ]
    sockets = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(entry.readlink()) in sockets and entry.parts[2] != str(os.getpid()):
                return int(entry.parts[2])
        except OSError:
            continue
    raise LookupError(address)


async def of_daemon(watchers: int, events: int) -> float:
    """Measure the daemon."""
    async with daemon("memory:") as address, aio.insecure_channel(address) as channel:
        stub = SessionManagementServiceStub(channel)

        async def create() -> None:
            await stub.CreateSession(api.CreateSessionRequest(data_source="bench"))

        return await measure(address, WATCH, WatchSessionsRequest().SerializeToString(), create, watchers, events)


async def of_bare(watchers: int, events: int) -> float:
    """Measure the bare server."""
    async with bare() as address, aio.insecure_channel(address) as channel:
        tell = channel.unary_unary("/Bare/Tell")

        async def say() -> None:
            await tell(bytes(300))

        return await measure(address, "/Bare/Watch", b"", say, watchers, events)


async def main() -> None:
    """Measure in turn, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help="be the bare server")
    options = parser.parse_args()
    if options.bare:
        await Bare().serve()
    ours, theirs = list[float](), list[float]()
    for _ in range(options.rounds):
        theirs.append(await of_bare(options.watchers, options.events))
        ours.append(await of_daemon(options.watchers, options.events))
        print(f"bare {theirs[-1]:6.1f} us   daemon {ours[-1]:6.1f} us", flush=True)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"an event costs {statistics.median(ours):.1f} us per watcher: {ratio:.2f} of the bare fan-out")


if __name__ == "__main__":
    asyncio.run(main())
