"""Many who watch and do not read: nobody waits for them, they cost little, and they are told to come back."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpc import aio

from sessiond.pb.sessiond.v1 import session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import refusal
from tests.blackbox.streams import AioClient, create, new_source, streams
from tests.blackbox.watching import OPTIONS, Watcher, watching

pytestmark = pytest.mark.blackbox

MEGABYTE = 2**20
CREATORS = 16
WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384))
"""A client takes no more than a few messages before somebody reads."""


@pytest.mark.parametrize(
    ("stuck", "creates"), [(40, 300), pytest.param(1000, 5000, marks=pytest.mark.slow)], ids=["few", "many"]
)
async def test_who_never_reads_costs_little(tmp_path: Path, stuck: int, creates: int) -> None:
    """All creates succeed, memory grows by a bounded amount, and a healthy watcher misses nothing."""
    source = new_source("x" * 500)
    async with streams(tmp_path) as daemon, AsyncExitStack() as stack:
        address = daemon.process.address
        client = AioClient(address)
        await create(client, source)
        before = resident(daemon.process.pid)
        channels = [
            await stack.enter_async_context(aio.insecure_channel(address, options=(*OPTIONS, *WINDOW)))
            for _ in range(max(1, stuck // 50))
        ]
        calls = [
            SessionServiceStub(channels[number % len(channels)]).WatchSessions(
                session_service_pb2.WatchSessionsRequest()
            )
            for number in range(stuck)
        ]
        await asyncio.gather(*(call.initial_metadata() for call in calls))
        async with watching(address) as healthy:
            keys: list[str] = []

            async def work() -> None:
                while len(keys) < creates:
                    keys.append("")
                    keys[keys.index("")] = await create(client, source)

            reading = asyncio.create_task(healthy.told(creates))
            await asyncio.gather(*(work() for _ in range(CREATORS)))
            told = await reading
        grown = resident(daemon.process.pid) - before
        assert sorted(key for key, _ in told) == sorted(keys[:creates])
        assert grown <= 150 * MEGABYTE, f"grew by {grown / MEGABYTE:.0f} MB"
        print(f"grew by {grown / MEGABYTE:.0f} MB")
        for call in calls:
            call.cancel()
        await client.close()


def resident(pid: int) -> int:
    """Return how much memory a process has, in octets."""
    with Path(f"/proc/{pid}/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


async def test_who_is_too_slow_is_let_go(tmp_path: Path) -> None:
    """A watcher that falls too far behind is ended with a reason, and goes on with its token: no gap, no repetition."""
    source = new_source("y" * 60_000)
    async with streams(tmp_path, watch={"window": 20}) as daemon, AsyncExitStack() as stack:
        address = daemon.process.address
        client = AioClient(address)
        channel = await stack.enter_async_context(aio.insecure_channel(address, options=(*OPTIONS, *WINDOW)))
        slow = await Watcher(channel).begun()
        keys = [await create(client, source) for _ in range(60)]
        told: list[str] = []

        async def read() -> None:
            while True:
                told.append((await slow.event()).session.key)

        refused = await refusal(read())
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW")
        async with watching(address, resume_token=slow.token) as again:
            told += [key for key, _ in await again.told(len(keys) - len(told))]
        assert told == keys
        await client.close()
