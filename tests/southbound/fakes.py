"""Peers to talk to: a gRPC server that says what a test wants, and one that speaks as little HTTP/2 as it is told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

M = TypeVar("M", bound=Message)
Behaviour = Callable[[bytes, "aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]

HOST = "127.0.0.1"
PREFACE_LENGTH = 24
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
ACK = END_STREAM = 1
END_HEADERS = 4
SERVER_OPTIONS = (("grpc.max_receive_message_length", 1_000_000),)


class FakePeer(grpc.GenericRpcHandler):
    """Answers every method of every service: with `behaviour`, else with the message in `answers` for its name."""

    def __init__(self, behaviour: Behaviour | None = None, **answers: Message) -> None:
        self.behaviour = behaviour
        self.answers = answers
        self.calls: list[tuple[str, bytes]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return the handler of any method."""
        method = handler_call_details.method.rpartition("/")[2]

        async def handle(request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
            self.calls.append((method, request))
            if self.behaviour is not None:
                return await self.behaviour(request, context)
            return self.answers[method].SerializeToString() if method in self.answers else b""

        return grpc.unary_unary_rpc_method_handler(handle)

    def methods(self) -> list[str]:
        """Return the names of the methods that were called, in order."""
        return [method for method, _ in self.calls]

    def request(self, method: str, kind: type[M]) -> M:
        """Return the one request to a method."""
        (request,) = (request for name, request in self.calls if name == method)
        return kind.FromString(request)


@asynccontextmanager
async def served(peer: FakePeer, address: str = f"{HOST}:0") -> AsyncIterator[tuple[str, aio.Server]]:
    """Serve a peer; yield its address and the server."""
    server = aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((peer,))
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"{HOST}:{port}", server
    finally:
        await server.stop(None)


@contextmanager
def reserved_address() -> Iterator[str]:
    """Yield an address on which nobody listens, and that nobody else is given meanwhile; a gRPC server may take it."""
    with closing(socket.socket()) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((HOST, 0))
        yield f"{HOST}:{holder.getsockname()[1]}"


@asynccontextmanager
async def silent_peer() -> AsyncIterator[str]:
    """Serve a port that accepts connections and never says a word."""
    connected: list[asyncio.StreamWriter] = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)

    async with _tcp(listen) as address:
        yield address
        for writer in connected:
            writer.transport.abort()


@asynccontextmanager
async def http1_peer() -> AsyncIterator[str]:
    """Serve a port that speaks HTTP/1.1 only."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with _tcp(refuse) as address:
        yield address


class Frame(NamedTuple):
    """A frame of HTTP/2 (RFC 9113 clause 4.1) in the stream of a request, or in stream 0."""

    kind: int
    payload: bytes = b""
    flags: int = 0
    in_stream: bool = True

    def written(self, stream: int) -> bytes:
        """Return the octets of the frame."""
        number = stream if self.in_stream else 0
        head = len(self.payload).to_bytes(3, "big") + bytes([self.kind, self.flags])
        return head + number.to_bytes(4, "big") + self.payload


def headers(*fields: tuple[str, str], status: int = 200, end: bool = False) -> Frame:
    """Return the headers that begin an answer."""
    return _headers([(":status", str(status)), ("content-type", "application/grpc"), *fields], end=end)


def trailers(*fields: tuple[str, str]) -> Frame:
    """Return the headers that end an answer."""
    return _headers(fields, end=True)


def message(content: bytes, *, says: int | None = None) -> Frame:
    """Return a message as gRPC frames it, and its length as it says it is."""
    length = len(content) if says is None else says
    return Frame(DATA, b"\0" + length.to_bytes(4, "big") + content)


def reset(code: int) -> Frame:
    """Return the frame that breaks a stream off (RFC 9113 clause 6.4)."""
    return Frame(RST_STREAM, code.to_bytes(4, "big"))


@asynccontextmanager
async def raw_peer(*answer: Frame, hang_up: bool = False) -> AsyncIterator[str]:
    """Serve HTTP/2 by hand: each request is answered with these frames, or with the end of the connection."""
    connected: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        writer.write(Frame(SETTINGS, in_stream=False).written(0))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readexactly(PREFACE_LENGTH)
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == SETTINGS and not flags & ACK:
                    writer.write(Frame(SETTINGS, flags=ACK, in_stream=False).written(0))
                if kind == HEADERS:
                    writer.write(b"".join(frame.written(stream) for frame in answer))
                    if hang_up:
                        writer.transport.abort()

    async with _tcp(talk) as address:
        yield address
        for writer in connected:
            writer.transport.abort()


def _headers(fields: Sequence[tuple[str, str]], *, end: bool) -> Frame:
    """Return a frame of headers, none of which is compressed (RFC 7541 clause 6.2.2)."""
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    return Frame(HEADERS, block, END_HEADERS | (END_STREAM if end else 0))


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


@asynccontextmanager
async def _tcp(talk: Talk) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(talk(reader, writer)))

    server = await asyncio.start_server(begin, HOST, 0)
    try:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
