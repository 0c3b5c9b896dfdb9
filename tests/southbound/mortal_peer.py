"""A gRPC server as a process of its own, to be killed: says its address, then the name of each method it is asked."""

import asyncio
import sys
from typing import Any

import grpc
from grpc import aio


class _Deaf(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def handle(_: bytes, __: "aio.ServicerContext[bytes, bytes]") -> bytes:
            print(handler_call_details.method, flush=True)
            await asyncio.Event().wait()
            return b""

        return grpc.unary_unary_rpc_method_handler(handle)


async def _main() -> None:
    server = aio.server()
    server.add_generic_rpc_handlers((_Deaf(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
