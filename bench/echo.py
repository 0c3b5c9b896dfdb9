#!/usr/bin/env python3
"""The yardstick of calls: a bare grpc.aio server that answers `/bench.Echo/<octets>` with so many octets."""

import asyncio
import json
import sys
from typing import Any

import grpc
import uvloop
from grpc import aio


class Echo(grpc.GenericRpcHandler):
    """Answers every method with as many octets as its name says."""

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method."""
        answer = b"x" * int(handler_call_details.method.rpartition("/")[2])

        async def behave(_: bytes, __: Any) -> bytes:
            return answer

        return grpc.unary_unary_rpc_method_handler(behave)


async def main() -> None:
    """Serve until killed."""
    server = aio.server()
    server.add_generic_rpc_handlers([Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"event": "ready", "listen": f"127.0.0.1:{port}"}), file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
