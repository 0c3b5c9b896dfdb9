"""The stream service under many events, many subscribers, and one who never reads (requirement S6)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests.blackbox.streams import (
    START,
    STOP,
    AioClient,
    AioSubscription,
    Subscription,
    create,
    current,
    end,
    info,
    listening,
    streams,
)

pytestmark = [pytest.mark.blackbox, pytest.mark.slow, pytest.mark.timeout(300)]

SESSIONS = 10_000
AT_ONCE = 50
SHORT = {"notification_queue": 1500}
LONG = "car" * 150
"""A long name, so that the notifications of all sessions are more than a connection takes before somebody reads."""


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[AioClient]:
    """Give a client."""
    client = AioClient(address)
    yield client
    await client.close()


async def heard(subscription: Subscription, count: int) -> list[str]:
    """Return the keys of the next notifications."""
    return [(await subscription.next()).session_key for _ in range(count)]


@pytest.fixture(params=["memory", "valkey"])
def store(request: pytest.FixtureRequest) -> dict[str, str]:
    """Give the section `store` of the configuration, for each store in turn."""
    return {"url": request.getfixturevalue("one_valkey").url if request.param == "valkey" else "memory:"}


async def test_a_subscriber_that_never_reads_takes_nothing_from_others(tmp_path: Path, store: dict[str, str]) -> None:
    """All of 10,000 starts and stops reach the one that reads, in order; the other is cut off and told why."""
    async with streams(tmp_path, store=store, stream_api=SHORT) as daemon, AsyncExitStack() as stack:
        address = daemon.process.address
        writer, reader, stuck = [await stack.enter_async_context(connected(address)) for _ in range(3)]
        silent = [await stack.enter_async_context(listening(stuck, method, LONG)) for method in (START, STOP)]
        starts, stops = [await stack.enter_async_context(listening(reader, method, LONG)) for method in (START, STOP)]
        reading = asyncio.gather(*(asyncio.create_task(heard(stream, SESSIONS)) for stream in (starts, stops)))
        await asyncio.gather(*(_create_and_end(writer, SESSIONS // AT_ONCE) for _ in range(AT_ONCE)))
        started, stopped = await reading
        assert started == await current(writer, LONG)
        assert len(set(started)) == SESSIONS
        assert set(stopped) == set(started)
        for subscription in silent:
            assert isinstance(subscription, AioSubscription)
            refused = await subscription.refused()
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SUBSCRIBER_TOO_SLOW")
            assert refused.text.startswith("1500 notifications")
        await daemon.until_subscribers(2)


async def _create_and_end(client: AioClient, count: int) -> None:
    for _ in range(count):
        assert (await end(client, await create(client, LONG))).success


async def test_subscribers_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    """50 subscribers connect, read one event and cancel, 200 times over: the daemon is as large as it was."""
    async with streams(tmp_path) as daemon, connected(daemon.process.address) as writer:
        await rounds(daemon.process.address, writer, 20)
        await daemon.until_subscribers(0)
        before = resident_octets(daemon.process.pid)
        await rounds(daemon.process.address, writer, 200)
        await daemon.until_subscribers(0)
        grown = resident_octets(daemon.process.pid) - before
        print(f"grown by {grown / 1e6:.1f} MB from {before / 1e6:.1f} MB")
        assert grown < 10_000_000
        assert len(await current(writer, "car")) == 220


async def rounds(address: str, writer: AioClient, count: int) -> None:
    """Let 50 subscribers connect, read one event and cancel, so many times."""
    for _ in range(count):
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(address)) for _ in range(50)]
            subscriptions = [client.subscribe(START, "car") for client in clients]
            await asyncio.gather(*(subscription.begun() for subscription in subscriptions))
            key = await create(writer, "car")
            events = await asyncio.gather(*(subscription.next() for subscription in subscriptions))
            assert {event.session_key for event in events} == {key}
            for subscription in subscriptions:
                subscription.cancel()
            assert (await info(writer, key)).success


def resident_octets(pid: int) -> int:
    """Return how much memory a process has."""
    statm = Path(f"/proc/{pid}/statm")
    if not statm.exists():
        pytest.skip("this system does not say how much memory a process has")
    return int(statm.read_text(encoding="ascii").split()[1]) * 4096
