"""How calls end is told to whoever measures them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sessiond.core.errors import NotFound
from sessiond.northbound.server import Server

METHOD = "a.Service/Method"


class World:
    """A server with one method, which does what it is told by the request, and what was told of its calls."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.seconds: list[float] = []
        self.changed = asyncio.Event()
        self.running = asyncio.Event()

    def watch(self, method: str, code: str, seconds: float) -> None:
        """Take what is told."""
        self.told.append((method, code))
        self.seconds.append(seconds)
        self.changed.set()

    async def behave(self, request: bytes, context: Any) -> bytes:
        """Do what the request says."""
        match request:
            case b"missing":
                raise NotFound("NOTHING", "there is none")
            case b"broken":
                raise ZeroDivisionError
            case b"refused":
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")
            case b"hanging":
                self.running.set()
                await asyncio.Event().wait()
        return request

    def register(self, server: grpc.aio.Server) -> None:
        """Add the method to a server."""
        handler = grpc.unary_unary_rpc_method_handler(
            self.behave, request_deserializer=bytes, response_serializer=bytes
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Service", {"Method": handler}),))


@pytest.fixture
async def world() -> AsyncIterator[tuple[World, Any]]:
    """Serve, and give what is told together with a client."""
    world = World()
    server = Server([world.register], [], reflect=False, watch=world.watch)
    port = await server.listen("127.0.0.1:0", None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield world, channel.unary_unary(f"/{METHOD}")
    await server.close(0.1)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"fine", "OK"),
        (b"missing", "NOT_FOUND"),
        (b"broken", "INTERNAL"),
        (b"refused", "UNIMPLEMENTED"),
    ],
)
async def test_every_end_is_told(world: tuple[World, Any], request_: bytes, code: str) -> None:
    """Method, status and duration of each call are told once."""
    told, call = world
    waiting = call(request_)
    assert (await waiting.code()).name == code
    await told.changed.wait()
    assert told.told == [(METHOD, code)]
    assert 0 <= told.seconds[0] < 10


async def test_a_call_that_its_caller_gives_up(world: tuple[World, Any]) -> None:
    """It is told as cancelled."""
    told, call = world
    waiting = call(b"hanging")
    asking = asyncio.ensure_future(waiting)
    await told.running.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await told.changed.wait()
    assert told.told == [(METHOD, "CANCELLED")]
