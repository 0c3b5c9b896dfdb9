"""The channel: what a call that fails says about what became of the request."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode, aio

from sessiond.core.errors import PeerFailed
from sessiond.pb.magma.orc8r import common_pb2, event_pb2
from sessiond.southbound import channel as channel_module
from sessiond.southbound.channel import Channel
from tests.southbound import fakes
from tests.southbound.fakes import FakePeer, Frame

LONG_S = 20.0
SHORT_S = 0.3

REFUSED = (True, True)
NEVER_SENT = (True, False)
UNKNOWN = (False, True)


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Channel]:
    """Yield a channel to a peer."""
    channel = Channel(address)
    try:
        yield channel
    finally:
        await channel.close()


async def ask(channel: Channel, deadline_s: float = LONG_S, payload: str = "") -> common_pb2.Void:
    """Ask the peer something."""
    method = channel.connection.unary_unary(
        "/test.Test/Ask",
        request_serializer=event_pb2.Event.SerializeToString,
        response_deserializer=common_pb2.Void.FromString,
    )
    return await channel.call(method, event_pb2.Event(value=payload), deadline_s)


async def failure(address: str, deadline_s: float = LONG_S, payload: str = "") -> PeerFailed:
    """Return how a call to this address fails."""
    async with connected(address) as channel:
        with pytest.raises(PeerFailed) as caught:
            await ask(channel, deadline_s, payload)
    return caught.value


async def ready(channel: Channel) -> None:
    """Return when the peer is connected."""
    state = channel.connection.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        await channel.connection.wait_for_state_change(state)
        state = channel.connection.get_state(try_to_connect=True)


def fate(error: PeerFailed) -> tuple[bool, bool]:
    """Return what an error says about the request."""
    return error.answered, error.reached


class Asked:
    """A behaviour that notes that it was asked and waits for ever."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __call__(self, _: bytes, __: "aio.ServicerContext[bytes, bytes]") -> bytes:
        """Wait until the call is given up."""
        self.asked.set()
        await asyncio.Event().wait()
        return b""


async def test_answer_is_returned() -> None:
    """A peer that answers is heard."""
    async with fakes.served(FakePeer()) as (address, _), connected(address) as channel:
        assert await ask(channel) == common_pb2.Void()


@pytest.mark.parametrize("code", [code for code in StatusCode if code not in {StatusCode.OK, StatusCode.CANCELLED}])
async def test_status_of_the_peer_is_a_refusal(code: StatusCode) -> None:
    """What the peer says itself is passed on unchanged, and the request was not carried out."""

    async def refuse(_: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        await context.abort(code, "ocs down")
        return b""

    async with fakes.served(FakePeer(refuse)) as (address, _):
        error = await failure(address)
    assert (error.status, error.text, fate(error)) == (code.name, "ocs down", REFUSED)


async def test_peer_that_gives_up_in_the_middle_leaves_doubt() -> None:
    """CANCELLED is said of work that was begun."""

    async def give_up(_: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        await context.abort(StatusCode.CANCELLED, "stopped")
        return b""

    async with fakes.served(FakePeer(give_up)) as (address, _):
        error = await failure(address)
    assert (error.status, fate(error)) == ("CANCELLED", UNKNOWN)


async def test_peer_that_stumbles_has_refused() -> None:
    """An exception in a peer comes as its status."""

    async def stumble(_: bytes, __: "aio.ServicerContext[bytes, bytes]") -> bytes:
        raise RuntimeError("stumbled")

    async with fakes.served(FakePeer(stumble)) as (address, _):
        error = await failure(address)
    assert (error.status, fate(error)) == ("UNKNOWN", REFUSED)


async def test_our_own_deadline_leaves_doubt() -> None:
    """A peer that does not answer in time may have carried the request out."""
    async with fakes.served(FakePeer(Asked())) as (address, _):
        error = await failure(address, SHORT_S)
    assert (error.status, fate(error)) == ("DEADLINE_EXCEEDED", UNKNOWN)


async def test_peer_that_never_says_a_word_leaves_doubt() -> None:
    """A port that accepts and is silent costs no more than the deadline."""
    async with fakes.silent_peer() as address:
        error = await failure(address, SHORT_S)
    assert (error.status, fate(error)) == ("DEADLINE_EXCEEDED", UNKNOWN)


async def test_peer_that_stops_in_the_middle_leaves_doubt() -> None:
    """A server that shuts down while it works may have carried the request out."""
    behaviour = Asked()
    async with fakes.served(FakePeer(behaviour)) as (address, server), connected(address) as channel:
        call = asyncio.create_task(ask(channel))
        await behaviour.asked.wait()
        await server.stop(None)
        with pytest.raises(PeerFailed) as caught:
            await call
    assert (caught.value.status, fate(caught.value)) == ("UNAVAILABLE", UNKNOWN)


async def test_peer_that_is_killed_in_the_middle_leaves_doubt() -> None:
    """A process that dies while it works may have carried the request out."""
    program = Path(__file__).with_name("mortal_peer.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    async with connected(address) as channel:
        call = asyncio.create_task(ask(channel))
        assert await process.stdout.readline() == b"/test.Test/Ask\n"
        process.kill()
        with pytest.raises(PeerFailed) as caught:
            await call
        await process.wait()
    assert (caught.value.status, fate(caught.value)) == ("UNAVAILABLE", UNKNOWN)


async def test_refused_connection_means_nothing_was_sent() -> None:
    """A peer that does not run has certainly not carried anything out, and fails at once."""
    with fakes.reserved_address() as address:
        error = await failure(address)
    assert (error.status, fate(error)) == ("UNAVAILABLE", NEVER_SENT)


async def test_unknown_host_means_nothing_was_sent() -> None:
    """A name that cannot be resolved fails like a peer that does not run; this one is not even looked up."""
    error = await failure("not..a..name:1")
    assert (error.status, fate(error)) == ("UNAVAILABLE", NEVER_SENT)


async def test_http1_peer_means_nothing_was_sent() -> None:
    """Something that is no gRPC server gets no request."""
    async with fakes.http1_peer() as address:
        error = await failure(address)
    assert (error.status, fate(error)) == ("UNAVAILABLE", NEVER_SENT)


async def test_peer_that_comes_back_is_used_again() -> None:
    """A peer that was stopped and started again is asked again, without a restart of ours, within a second or so."""
    with fakes.reserved_address() as address:
        async with connected(address) as channel:
            async with fakes.served(FakePeer(), address):
                await ask(channel)
            with pytest.raises(PeerFailed):
                await ask(channel)
            async with fakes.served(FakePeer(), address), asyncio.timeout(3):
                await ready(channel)
                assert await ask(channel) == common_pb2.Void()


async def test_peer_that_starts_late_is_found() -> None:
    """A peer that was not there at first is asked as soon as it is."""
    with fakes.reserved_address() as address:
        async with connected(address) as channel:
            with pytest.raises(PeerFailed):
                await ask(channel)
            async with fakes.served(FakePeer(), address), asyncio.timeout(3):
                await ready(channel)
                assert await ask(channel) == common_pb2.Void()


STATUS_OK = ("grpc-status", "0")
GARBAGE = {
    "no message": ([fakes.headers(STATUS_OK, end=True)], "INTERNAL", UNKNOWN),
    "half a message": (
        [fakes.headers(), fakes.message(b"half", says=9), fakes.trailers(STATUS_OK)],
        "INTERNAL",
        UNKNOWN,
    ),
    "not a message": ([fakes.headers(), fakes.message(b"\xff\xff"), fakes.trailers(STATUS_OK)], "INTERNAL", UNKNOWN),
    "no status": ([fakes.headers(end=True)], "UNKNOWN", UNKNOWN),
    "status of another world": ([fakes.headers(("grpc-status", "99"), end=True)], "UNKNOWN", REFUSED),
    "flags that do not exist": ([Frame(fakes.DATA, b"noise", 0xFF)], "INTERNAL", UNKNOWN),
    "headers that are none": ([Frame(fakes.HEADERS, b"\xff" * 10, 5)], "UNKNOWN", UNKNOWN),
    "stream refused": ([fakes.reset(7)], "UNAVAILABLE", NEVER_SENT),
    "stream cancelled": ([fakes.reset(8)], "CANCELLED", UNKNOWN),
    "stream failed": ([fakes.reset(2)], "INTERNAL", UNKNOWN),
    "too many streams": ([fakes.reset(11)], "RESOURCE_EXHAUSTED", UNKNOWN),
    "proxy without a peer": ([fakes.headers(status=503, end=True)], "UNAVAILABLE", NEVER_SENT),
    "proxy that lost the peer": ([fakes.headers(status=502, end=True)], "UNAVAILABLE", UNKNOWN),
    "proxy that does not know the peer": ([fakes.headers(status=404, end=True)], "UNIMPLEMENTED", NEVER_SENT),
}


@pytest.mark.parametrize(("answer", "status", "expected"), GARBAGE.values(), ids=GARBAGE)
async def test_answer_that_makes_no_sense(answer: list[Frame], status: str, expected: tuple[bool, bool]) -> None:
    """Whatever comes in place of an answer is a failure, and leaves doubt unless it says that nothing was done."""
    async with fakes.raw_peer(*answer) as address:
        error = await failure(address, LONG_S)
    assert (error.status, fate(error)) == (status, expected)


async def test_connection_that_ends_with_the_request_leaves_doubt() -> None:
    """A peer that hangs up after it got the request may have carried it out."""
    async with fakes.raw_peer(hang_up=True) as address:
        error = await failure(address)
    assert (error.status, fate(error)) == ("UNAVAILABLE", UNKNOWN)


async def test_answer_that_is_too_large_leaves_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer whose answer we do not take has carried the request out."""
    options = {**dict(channel_module.OPTIONS), "grpc.max_receive_message_length": 100}
    monkeypatch.setattr(channel_module, "OPTIONS", tuple(options.items()))

    async def talk(_: bytes, __: "aio.ServicerContext[bytes, bytes]") -> bytes:
        return bytes(1000)

    async with fakes.served(FakePeer(talk)) as (address, _):
        error = await failure(address)
    assert (error.status, fate(error)) == ("RESOURCE_EXHAUSTED", UNKNOWN)


async def test_request_that_is_too_large_is_refused() -> None:
    """A peer that does not take the request has not carried it out."""
    async with fakes.served(FakePeer()) as (address, _):
        error = await failure(address, payload="x" * 2_000_000)
    assert (error.status, fate(error)) == ("RESOURCE_EXHAUSTED", REFUSED)


async def test_closing_fails_the_calls_under_way() -> None:
    """A channel that is closed leaves nobody waiting, and no task that waits is taken for cancelled."""
    behaviour = Asked()
    async with fakes.served(FakePeer(behaviour)) as (address, _):
        channel = Channel(address)
        call = asyncio.create_task(ask(channel))
        await behaviour.asked.wait()
        await channel.close()
        with pytest.raises(PeerFailed) as caught:
            await call
    assert (caught.value.status, fate(caught.value)) == ("CANCELLED", UNKNOWN)


async def test_closed_channel_sends_nothing() -> None:
    """A call after the end fails like one to a peer that does not run."""
    async with fakes.served(FakePeer()) as (address, _):
        channel = Channel(address)
        await channel.close()
        with pytest.raises(PeerFailed) as caught:
            await ask(channel)
    assert (caught.value.status, fate(caught.value)) == ("UNAVAILABLE", NEVER_SENT)


async def test_cancelled_task_stays_cancelled() -> None:
    """Who cancels a call is not told of a peer that failed."""
    behaviour = Asked()
    async with fakes.served(FakePeer(behaviour)) as (address, _), connected(address) as channel:
        call = asyncio.create_task(ask(channel))
        await behaviour.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
