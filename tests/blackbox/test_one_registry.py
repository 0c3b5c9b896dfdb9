"""Sessions of all surfaces live in one daemon and do not meet (requirement X1)."""

import json
from pathlib import Path

import grpc
import pytest

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import Refusal, gateway, refusal
from tests.blackbox.messages import Device
from tests.blackbox.streams import AioClient, create, current, end, info

pytestmark = pytest.mark.blackbox


async def test_gateway_and_stream_sessions_do_not_meet(tmp_path: Path) -> None:
    """Clients of streams find no gateway session, under no name; the gateway's operator sees no stream."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        client = AioClient(whole.daemon.address)
        key = await whole.attach(device)
        before = await whole.states()
        stream = await create(client, device.subscriber)
        assert await whole.states() == before
        assert await current(client, device.subscriber) == [stream]
        assert await current(client, "") == []
        assert await info(client, key) == api.GetSessionInfoResponse()
        assert await end(client, key) == api.EndSessionResponse()
        request = api.UpdateSessionDetailsRequest(session_key=key, details={"a": "b"})
        assert not (await client.call("UpdateSessionDetails", request)).success
        assert await whole.states() == before
        await whole.detach(device)
        assert json.dumps(await whole.states()) == "{}"
        assert not (await info(client, stream)).is_complete
        assert (await end(client, stream)).success
        await client.close()


async def test_sessions_of_every_surface_are_got_through_the_native_one(tmp_path: Path) -> None:
    """A session is found by its key, wherever it was made, and tells where that was."""
    async with gateway(tmp_path) as whole:
        sessions, client = SessionServiceStub(whole.channel), AioClient(whole.daemon.address)

        async def got(key: str) -> session_pb2.Session:
            return (await sessions.GetSession(session_service_pb2.GetSessionRequest(key=key))).session

        device = Device(1)
        attached, stream = await whole.attach(device), await create(client, "Car", identifier="Monza")
        of_gateway, of_stream = await got(attached), await got(stream)
        assert (of_gateway.origin, of_gateway.type) == (session_pb2.SESSION_ORIGIN_GATEWAY, "lte")
        assert (of_gateway.subscriber, of_gateway.gateway.apn) == (device.subscriber, device.apn)
        assert (of_stream.origin, of_stream.type) == (session_pb2.SESSION_ORIGIN_STREAM_API, "stream")
        assert (of_stream.data_source, of_stream.identifier) == ("Car", "Monza")
        nobody = await refusal(got("nobody"))
        assert nobody == Refusal(grpc.StatusCode.NOT_FOUND, "there is no session nobody", "SESSION_NOT_FOUND")
        nothing = await refusal(got(""))
        assert (nothing.code, nothing.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("key",))
        await client.close()


async def test_what_is_done_in_a_session_of_another_surface(tmp_path: Path) -> None:
    """Its statistics are read; executions, traffic and keys are not for it."""
    async with gateway(tmp_path) as whole:
        sessions, client = SessionServiceStub(whole.channel), AioClient(whole.daemon.address)
        attached, stream = await whole.attach(Device(1)), await create(client, "Car")
        await whole.report(Device(1).used(60_000, 30_000))
        for key, sent in ((attached, 60_000), (stream, 0)):
            asked = session_service_pb2.GetSessionStatisticsRequest(key=key)
            counted = await sessions.GetSessionStatistics(asked)
            assert (counted.state, counted.traffic.bytes_sent) == (session_pb2.SESSION_STATE_ACTIVE, sent)
            assert counted.HasField("uptime")
            wanted = session_service_pb2.AuthorizeExecutionRequest(
                key=key, operation=session_service_pb2.OPERATION_EXECUTE
            )
            for call in (
                sessions.AuthorizeExecution(wanted),
                sessions.RecordTraffic(session_service_pb2.RecordTrafficRequest(key=key)),
                sessions.RotateSessionKey(session_service_pb2.RotateSessionKeyRequest(key=key)),
            ):
                refused = await refusal(call)
                assert (refused.code, refused.reason) == (
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "SESSION_OF_OTHER_SURFACE",
                )
        await client.close()
