#!/usr/bin/env python3
"""The yardstick of watching: a bare grpc.aio server that sends what it is given to everybody who listens."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from grpc import aio


class Fanout(grpc.GenericRpcHandler):
    """`Listen` is a stream of everything that `Publish` is called with."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes]] = set()

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method."""
        if handler_call_details.method.endswith("/Publish"):
            return grpc.unary_unary_rpc_method_handler(self._publish)
        return grpc.unary_stream_rpc_method_handler(self._listen)

    async def _publish(self, request: bytes, _: Any) -> bytes:
        for queue in self._queues:
            queue.put_nowait(request)
        return b""

    async def _listen(self, _: bytes, __: Any) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)
        yield b""
        while True:
            yield await queue.get()


async def main() -> None:
    """Serve until killed."""
    server = aio.server()
    server.add_generic_rpc_handlers([Fanout()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"event": "ready", "listen": f"127.0.0.1:{port}"}), file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
