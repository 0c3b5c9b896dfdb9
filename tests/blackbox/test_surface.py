"""Every service that a daemon offers, found as a stranger finds them: no method falls over whatever it is sent."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import Device

pytestmark = pytest.mark.blackbox

Code = grpc.StatusCode
NEVER = {Code.UNKNOWN, Code.INTERNAL}
"""What a caller is never told: these say that nobody has thought of what happened."""
LIBRARIES = ("grpc.reflection.",)
"""Reflection is one stream of requests, answered by the library."""
ENDS_THE_DAEMON = "/magma.orc8r.Service303/StopService"
MESSAGES = {
    "empty": b"",
    "no tag": b"\xff" * 11,
    "cut off": b"\x0a\x05ab",
    "every small field as a number": b"".join(bytes([number << 3, 1]) for number in range(1, 16)),
    "every small field as text": b"".join(bytes([number << 3 | 2, 1]) + b"x" for number in range(1, 16)),
    "every small field as empty text": b"".join(bytes([number << 3 | 2, 0]) for number in range(1, 16)),
    "every small field as the largest number": b"".join(
        bytes([number << 3]) + b"\xff" * 9 + b"\x01" for number in range(1, 16)
    ),
}


async def asked(whole: Gateway, *requests: ServerReflectionRequest) -> AsyncIterator[FileDescriptorProto | str]:
    """Yield the names of services, or the files, that reflection answers with."""
    stub = ServerReflectionStub(whole.channel)
    async for answer in stub.ServerReflectionInfo(iter(requests)):
        for service in answer.list_services_response.service:
            yield service.name
        for octets in answer.file_descriptor_response.file_descriptor_proto:
            yield FileDescriptorProto.FromString(octets)


async def offered(whole: Gateway) -> dict[str, MethodDescriptorProto]:
    """Return every method of every service by its name on the wire, but for those that end the daemon."""
    names = {str(name) async for name in asked(whole, ServerReflectionRequest(list_services=""))}
    found: dict[str, MethodDescriptorProto] = {}
    for name in sorted(name for name in names if not name.startswith(LIBRARIES)):
        async for file in asked(whole, ServerReflectionRequest(file_containing_symbol=name)):
            assert isinstance(file, FileDescriptorProto)
            for service in file.service:
                if f"{file.package}.{service.name}" == name:
                    found |= {f"/{name}/{method.name}": method for method in service.method}
    del found[ENDS_THE_DAEMON]
    return found


async def status_of(whole: Gateway, name: str, method: MethodDescriptorProto, octets: bytes) -> grpc.StatusCode:
    """Return how a call ends; a stream of answers may go on and on."""
    try:
        if method.server_streaming:
            call: aio.UnaryStreamMultiCallable[bytes, bytes] = whole.channel.unary_stream(name)
            async for _ in call(octets, timeout=0.5):
                pass
        else:
            await whole.call(name, octets)
    except aio.AioRpcError as error:
        return error.code()
    return Code.OK


async def test_no_method_falls_over(tmp_path: Path) -> None:
    """Whatever octets any method is sent, it is answered with a status that says who must do what."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        methods = await offered(whole)
        assert len(methods) > 20
        cases = [(name, kind) for name in methods for kind in MESSAGES]
        codes = await asyncio.gather(*(status_of(whole, name, methods[name], MESSAGES[kind]) for name, kind in cases))
        seen = dict(zip(cases, codes, strict=True))
        assert {case: code.name for case, code in seen.items() if code in NEVER} == {}
        assert (await whole.states())[Device(1).subscriber].keys() == {Device(1).apn}
