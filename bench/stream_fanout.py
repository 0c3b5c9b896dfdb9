#!/usr/bin/env python3
"""How long a CreateSession takes, with subscribers that read, and with one more that never does.

    bench/stream_fanout.py [--creates 3000] [--rounds 5] [--readers 2] [--store memory:]

Each round measures both in turn, on a daemon and data sources of its own, so that what slows the machine down slows
both. Latencies are those that the client sees, one call after the other.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import perf_counter
from typing import Any

import grpc
import yaml
from grpc import aio

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub as Stub

QUEUE = 500
"""A short queue and a long name, so that the stuck subscriber is full, and cut off, well before the end of a round."""
SMALL_WINDOW = (("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0))
"""Each client has a connection of its own, which takes no more than 64 kB before somebody reads."""
PADDING = "x" * 1000
QUANTILES = (50, 90, 99)


@asynccontextmanager
async def daemon(store: str) -> AsyncIterator[str]:
    """Run a daemon; give its address."""
    listen = {"listen": "127.0.0.1:0"}
    keys = {"server": listen, "metrics": listen, "store": {"url": store}, "stream_api": {"notification_queue": QUEUE}}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        yaml.safe_dump(keys, config)
        config.flush()
        process = await create_subprocess_exec(sys.executable, "-m", "sessiond", "--config", config.name, stderr=PIPE)
        assert process.stderr is not None
        while (line := json.loads(await process.stderr.readline()))["event"] != "ready":
            pass
        try:
            yield line["listen"]
        finally:
            process.terminate()
            await process.communicate()


async def measure(store: str, creates: int, readers: int, *, stuck: bool) -> list[float]:
    """Return how many seconds each create took."""
    source = f"bench {PADDING}"
    request = api.GetSessionStartNotificationRequest(data_source=source)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(daemon(store))
        channels = [aio.insecure_channel(address, options=SMALL_WINDOW) for _ in range(readers + 2)]
        writer, *others = [Stub(await stack.enter_async_context(channel)) for channel in channels]
        listening = [stub.GetSessionStartNotification(request) for stub in others[: readers + stuck]]
        await asyncio.gather(*(call.initial_metadata() for call in listening))
        reading = [asyncio.create_task(_read(call, creates)) for call in listening[:readers]]
        took: list[float] = []
        for _ in range(creates):
            started = perf_counter()
            await writer.CreateSession(api.CreateSessionRequest(data_source=source))
            took.append(perf_counter() - started)
        await asyncio.gather(*reading)
        if stuck and not await _was_cut_off(listening[-1]):
            print("the stuck subscriber was not cut off: more creates are needed")
        for call in listening:
            call.cancel()
    return took


async def _read(call: Any, count: int) -> None:
    for _ in range(count):
        await call.read()


async def _was_cut_off(call: Any) -> bool:
    """Read what a stuck subscriber has left unread; return whether it was cut off."""
    with suppress(aio.AioRpcError, TimeoutError):
        async with asyncio.timeout(5):
            async for _ in call:
                pass
    return call.done() and await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def quantiles(took: list[float]) -> str:
    """Return the quantiles in milliseconds."""
    cuts = statistics.quantiles(took, n=100)
    return "  ".join(f"p{quantile} {cuts[quantile - 1] * 1000:6.3f} ms" for quantile in QUANTILES)


async def main() -> None:
    """Measure in turn, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--creates", type=int, default=3000, help="creates in a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each kind")
    parser.add_argument("--readers", type=int, default=2, help="subscribers that read")
    parser.add_argument("--store", default="memory:", help="store.url of the daemon")
    options = parser.parse_args()
    took: dict[bool, list[float]] = {False: [], True: []}
    for number in range(options.rounds * 2):
        stuck = bool(number % 2) is not bool(number // 2 % 2)
        round_ = await measure(options.store, options.creates, options.readers, stuck=stuck)
        took[stuck] += round_
        print(f"{'with   ' if stuck else 'without'} a stuck subscriber  {quantiles(round_)}", flush=True)
    print("\nall rounds:")
    for stuck, all_ in took.items():
        print(f"{'with   ' if stuck else 'without'} a stuck subscriber  {quantiles(all_)}")
    p99 = [statistics.quantiles(all_, n=100)[98] for all_ in took.values()]
    print(f"p99 with / without: {p99[1] / p99[0]:.2f}")


if __name__ == "__main__":
    asyncio.run(main())
