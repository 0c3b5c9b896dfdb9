"""Streams over real gRPC: begun at once, cut off when their client is stuck, ended orderly when the server closes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import aio
from structlog.testing import capture_logs

from sessiond.app.commit import Outcome
from sessiond.app.feed import Beat, Feed
from sessiond.app.notifications import Notifications
from sessiond.app.ports.store import Create
from sessiond.core.errors import InvalidArgument
from sessiond.core.lifecycle import State
from sessiond.core.session import Head, Session
from sessiond.northbound.server import Server
from sessiond.northbound.watching import tell
from sessiond.store.memory import MemoryStore
from sessiond.testing.store_contract import session

QUEUE = 50
METHOD = "/test.Test/Watch"
PAYLOAD = bytes(100_000)
"""Large, so that few of them fill what a connection takes before somebody reads."""


class Service:
    """Has one method that tells of everything, as octets."""

    def __init__(self) -> None:
        self.hub: Notifications[str, bytes] = Notifications(
            lambda outcome: [("all", outcome.after.key.encode())], QUEUE
        )

        self.address = ""

    def add(self, server: aio.Server) -> None:
        """Serve the method."""
        handler = grpc.unary_stream_rpc_method_handler(self.watch, bytes, bytes)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", {"Watch": handler}),))

    async def watch(self, request: bytes, context: Any) -> None:
        """Tell of everything, unless the request is wrong."""
        if request:
            raise InvalidArgument("WRONG", "the request is wrong")
        await tell(self.hub.subscribe("all"), context, lambda item: item + PAYLOAD)

    def happen(self, number: int) -> None:
        """Let something happen."""
        head = Head(state=State.ACTIVE, created_at_ms=0)
        self.hub.observe(Outcome(None, Session(key=str(number), type="t", scope="s", head=head)))


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[tuple[Server, Any]]:
    """Serve, and give the method of a client."""
    server = Server([service.add], [], reflect=False)
    port = await server.listen("127.0.0.1:0", None)
    service.address = f"127.0.0.1:{port}"
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close, 0.0)
        channel = await stack.enter_async_context(aio.insecure_channel(f"127.0.0.1:{port}", options=options))
        yield server, channel.unary_stream(METHOD)


async def ended(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return how a stream ended."""
    return await call.code(), await call.details()


@pytest.mark.parametrize("begun", [1, 20])
async def test_streams_end_with_a_reason_when_the_server_closes(begun: int) -> None:
    """Each of them, also one that is just beginning, is told UNAVAILABLE and not cut off like a lost connection."""
    async with serving(Service()) as (server, watch):
        calls = [watch(b"") for _ in range(20)]
        for call in calls[:begun]:
            await call.initial_metadata()
        await server.close(1.0)
        assert {await ended(call) for call in calls} == {(grpc.StatusCode.UNAVAILABLE, "sessiond is shutting down")}


async def test_others_have_their_turn_while_nothing_is_said() -> None:
    """Who looks through many sessions of which none is meant holds nobody up."""
    store = MemoryStore()
    await store.write([Create(session(f"sms-{number}")) for number in range(1000)])
    feed, turns, seen = Feed(store), 0, list[int]()

    def message(item: Any) -> bytes | None:
        if isinstance(item, Session):
            seen.append(turns)
            return None
        return b"" if isinstance(item, Beat) else b"complete"

    class Meant(Service):
        async def watch(self, request: bytes, context: Any) -> None:
            await tell(feed.watch(snapshot=True), context, message)

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(Meant()) as (_, watch):
        other = asyncio.create_task(take_turns())
        call = watch(b"")
        assert [await call.read(), await call.read()] == [b"", b"complete"]
        other.cancel()
        call.cancel()
    await feed.close()
    assert len(seen) == 1000
    assert len(set(seen)) >= 5


async def test_a_refusal_is_a_status() -> None:
    """An error of a stream becomes a status like that of any call."""
    async with serving(Service()) as (_, watch):
        assert await ended(watch(b"wrong")) == (grpc.StatusCode.INVALID_ARGUMENT, "the request is wrong")


async def test_a_stuck_client_is_cut_off_and_told_why() -> None:
    """A client that does not read loses its place; when it reads again it gets what was on its way, and the reason."""
    service = Service()
    async with serving(service) as (_, watch):
        stuck, reading = watch(b""), watch(b"")
        await asyncio.gather(stuck.initial_metadata(), reading.initial_metadata())
        number = 0
        while service.hub.counts() == {"all": 2}:
            service.happen(number)
            assert (await reading.read()).startswith(str(number).encode())
            number += 1
        assert service.hub.counts() == {"all": 1}
        service.happen(number)
        assert (await reading.read()).startswith(str(number).encode())
        got = 0
        while (message := await read_or_end(stuck)) is not None:
            assert message.startswith(str(got).encode())
            got += 1
        assert 0 < got < number
        code, text = await ended(stuck)
        assert (code, "too slow a subscriber" in text) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
        reading.cancel()


async def read_or_end(call: Any) -> bytes | None:
    """Return the next message, None if there is none."""
    try:
        message = await call.read()
    except aio.AioRpcError:
        return None
    return None if message is aio.EOF else bytes(message)


async def test_a_client_that_hangs_up_leaves_nothing() -> None:
    """As soon as the server knows, there is no subscription and no task of it."""
    service = Service()
    async with serving(service) as (_, watch):
        calls = [watch(b"") for _ in range(10)]
        await asyncio.gather(*(call.initial_metadata() for call in calls))
        for call in calls:
            call.cancel()
        async with asyncio.timeout(10):
            while service.hub.counts():  # noqa: ASYNC110, no event says that it is gone
                await asyncio.sleep(0)


async def test_clients_that_vanish_amid_messages_are_no_failure() -> None:
    """Many are told something when their connection is lost: nothing is logged as a failure, and nothing is left."""
    service = Service()
    with capture_logs() as logged:
        async with serving(service):
            for _ in range(8):
                await hang_up_amid_messages(service)
    assert logged == []


async def hang_up_amid_messages(service: Service) -> None:
    """Let many clients hang up at once that have not read what is under way; return when nothing of them is left."""
    async with aio.insecure_channel(service.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        watch: Any = channel.unary_stream(METHOD)
        calls = [watch(b"") for _ in range(50)]
        await asyncio.gather(*(call.initial_metadata() for call in calls))
        for number in range(20):
            service.happen(number)
        await calls[0].read()
        for call in calls:
            call.cancel()
    async with asyncio.timeout(10):
        while service.hub.counts():  # noqa: ASYNC110, no event says that it is gone
            await asyncio.sleep(0)
