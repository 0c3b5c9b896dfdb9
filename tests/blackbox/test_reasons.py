"""Reasons for which requests are refused that no other test of this folder has to do with (docs/errors.md)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.ma.streaming.api.v1.api_pb2 import CreateSessionRequest as CreateStream
from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub
from sessiond.pb.sessiond.v1 import admin_service_pb2 as admin
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.blackbox.harness import refusal
from tests.blackbox.native import Client, sessions

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """Give a client of a daemon that all tests share: what makes no sense does not get as far as its store."""
    async with sessions(tmp_path_factory.mktemp("reasons")) as running:
        yield running.client()


async def ended_before_it_began(client: Client) -> Any:
    """End a session earlier than it was made."""
    made = await client.create()
    return await client.end(made.key, end_time=Timestamp(seconds=made.create_time.seconds - 10))


def drained(client: Client, **fields: Any) -> Awaitable[Any]:
    """Drain nothing."""
    request = admin.DrainSessionsRequest(filter="key = nobody", **fields)
    return AdminServiceStub(client.channel).DrainSessions(request)


def listed(client: Client, **fields: Any) -> Awaitable[Any]:
    """List sessions."""
    return client.stub.ListSessions(service.ListSessionsRequest(**fields))


def stream(client: Client, **fields: Any) -> Awaitable[Any]:
    """Make a session of a stream."""
    return SessionManagementServiceStub(client.channel).CreateSession(CreateStream(data_source="Car", **fields))


REFUSED: Final[dict[str, tuple[Callable[[Client], Awaitable[Any]], str]]] = {
    "CONTRADICTION": (lambda client: drained(client, refuse_new=True, accept_new=True), "accept_new"),
    "DURATION_INVALID": (lambda client: stream(client, utc_offset=Duration(seconds=1, nanos=-1)), "utc_offset"),
    "DURATION_OUT_OF_RANGE": (lambda client: client.create(ttl=Duration(seconds=-1)), "session.ttl"),
    "MESSAGE_TOO_LONG": (lambda client: drained(client, message="x" * 257), "message"),
    "ORDER_INVALID": (lambda client: listed(client, order_by="colour"), "order_by"),
    "PAGE_SIZE_INVALID": (lambda client: listed(client, page_size=-1), "page_size"),
    "SESSION_KEY_MISSING": (lambda client: client.touch(""), "key"),
    "TIME_INVALID": (ended_before_it_began, "end_time"),
}
"""What is refused for each reason, and the field to blame."""


@pytest.mark.parametrize("reason", REFUSED)
async def test_a_request_that_makes_no_sense(client: Client, reason: str) -> None:
    """It is refused by name, and by the path of the field."""
    ask, field = REFUSED[reason]
    refused = await refusal(ask(client))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refused.fields == (field,)
