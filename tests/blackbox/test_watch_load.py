"""Many who watch and do not read: nobody waits for them, they cost little, and they are told to come back."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import aio

from sessiond.client import Watch, connect
from sessiond.pb.sessiond.v1 import session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import refusal
from tests.blackbox.streams import AioClient, create, new_source, streams
from tests.blackbox.watching import OPTIONS, Watcher, watching
from tests.store.servers import Server, free_port

pytestmark = pytest.mark.blackbox

MEGABYTE = 2**20
CREATORS = 16
HEALTHY = 4
PATIENCE_S = 240
WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384))
"""A client takes no more than a few messages before somebody reads."""


@pytest.mark.parametrize(
    ("stuck", "creates"), [(40, 300), pytest.param(1000, 5000, marks=pytest.mark.slow)], ids=["few", "many"]
)
async def test_who_never_reads_costs_little(tmp_path: Path, stuck: int, creates: int) -> None:
    """All creates succeed, memory grows by a bounded amount, and a healthy watcher misses nothing."""
    source = new_source("x" * 500)
    async with streams(tmp_path) as daemon:
        address = daemon.process.address
        client = AioClient(address)
        await create(client, source)
        before = resident(daemon.process.pid)
        async with never_reading(address, stuck), watching(address) as healthy:
            keys: list[str] = []

            async def work() -> None:
                while len(keys) < creates:
                    keys.append("")
                    keys[keys.index("")] = await create(client, source)

            reading = asyncio.create_task(healthy.told(creates))
            await asyncio.gather(*(work() for _ in range(CREATORS)))
            heard = await reading
            grown = resident(daemon.process.pid) - before
        assert sorted(key for key, _ in heard) == sorted(keys[:creates])
        assert grown <= 150 * MEGABYTE, f"grew by {grown / MEGABYTE:.0f} MB"
        print(f"grew by {grown / MEGABYTE:.0f} MB")
        await client.close()


@asynccontextmanager
async def never_reading(address: str, count: int) -> AsyncIterator[None]:
    """Let so many watch that do not read, over connections that they share."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(aio.insecure_channel(address, options=(*OPTIONS, *WINDOW)))
            for _ in range(max(1, count // 50))
        ]
        stubs = itertools.cycle([SessionServiceStub(channel) for channel in channels])
        calls = [next(stubs).WatchSessions(session_service_pb2.WatchSessionsRequest()) for _ in range(count)]
        await asyncio.gather(*(call.initial_metadata() for call in calls))
        yield
        for call in calls:
            call.cancel()


@pytest.mark.slow
async def test_a_kill_with_many_who_watch(tmp_path: Path, one_valkey: Server) -> None:
    """X3: killed amid creations, with many watching that do not read: the others have no gap and no repetition.

    Who reads goes on by itself, who does not read comes back, too; all sessions that were acknowledged are there.
    """
    one_valkey.flush()
    stuck, creates = 1000, 5000
    listen, made, wanted = f"127.0.0.1:{free_port()}", list[str](), "type = sms"
    keys = iter([f"load-{number}" for number in range(creates)])
    details = {"text": "x" * 500}
    async with (
        streams(tmp_path, server={"listen": listen}, store={"url": one_valkey.url}) as daemon,
        connect(listen, timeout_s=120) as client,
        AsyncExitStack() as healthy,
    ):

        async def work() -> None:
            for key in keys:
                made.append((await client.create("sms", key=key, details=details)).key)

        watches = [await watching_alone(healthy, listen, wanted) for _ in range(HEALTHY)]
        reading = [asyncio.create_task(told(watch, 2 * creates)) for watch in watches]
        creating = [asyncio.create_task(work()) for _ in range(CREATORS)]
        async with never_reading(listen, stuck):
            while len(made) < creates // 2:
                await asyncio.wait(creating, timeout=0.01)
            assert len(made) < creates
            await daemon.process.stop(signal.SIGKILL)
        await daemon.process.start()
        async with never_reading(listen, stuck), asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*creating)
            stories = await asyncio.gather(*reading)
        there = {one.key async for one in client.list(wanted)}
    assert len(made) == len(set(made)) == creates
    assert there == set(made)
    for story in stories:
        assert story.keys() == there
        assert [key for key, kinds in story.items() if kinds != ["CREATED", "ACTIVATED"]] == []


async def watching_alone(stack: AsyncExitStack, address: str, wanted: str) -> Watch:
    """Return a watch with a client of its own."""
    client = await stack.enter_async_context(connect(address, timeout_s=120))
    return await stack.enter_async_context(client.watch(wanted))


async def told(watch: Watch, count: int) -> dict[str, list[str]]:
    """Return what is said of each session in the next events, in its order."""
    story: dict[str, list[str]] = {}
    for _ in range(count):
        event = await anext(watch)
        story.setdefault(event.session.key, []).append(event.kind)
    return story


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
