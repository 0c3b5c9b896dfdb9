"""What all simulated peers share about gRPC: how a server is bound, and how a channel behaves."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from msgspec import Struct

SERVER_OPTIONS: Final = (("grpc.so_reuseport", 0),)
"""Two peers on one port must be an error, not a lottery."""
CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
"""A peer that was away is found again within a second."""
GRACE_S: Final = 0.5

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Register: TypeAlias = Callable[[grpc.aio.Server], None]


class CannotListen(Exception):
    """An address cannot be bound."""


class Listening(Struct, frozen=True):
    """A server that accepts calls, and the address at which it does."""

    server: grpc.aio.Server
    address: str

    async def close(self) -> None:
        """Stop accepting calls; those that run have a moment to end."""
        await self.server.stop(GRACE_S)


async def listen(address: str, services: Sequence[Register]) -> Listening:
    """Serve at `host:port`; port 0 is any free one."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    for register in services:
        register(server)
    host, _, _ = address.rpartition(":")
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise CannotListen(f"cannot listen on {address}: is the port in use?") from error
    await server.start()
    return Listening(server, f"{host}:{port}")


def channel(address: str) -> grpc.aio.Channel:
    """Return a channel to a service."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
