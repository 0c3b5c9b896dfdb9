"""The nine errors that have a name, each provoked from outside (requirement L8)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from sessiond.client.errors import error_of
from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.harness import refusal, refusal_of
from tests.blackbox.native import Client, NativeDaemon, said, sessions

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
Code = grpc.StatusCode
PROFILES: Final = {"hasty": {"confirm_within_s": 1}}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    async with sessions(tmp_path_factory.mktemp("named"), store={"url": url}, profiles=PROFILES) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


def execution(client: Client, key: str, function: str = "pay") -> Awaitable[object]:
    """Ask whether a session may execute a function."""
    wish = service.AuthorizeExecutionRequest(key=key, operation=service.OPERATION_EXECUTE, function=function)
    return client.stub.AuthorizeExecution(wish)


async def not_found(client: Client) -> None:
    """Read what was never made."""
    await client.get("nobody")


async def expired(client: Client) -> None:
    """Read a session until its time is over."""
    made = await client.create("sms", ttl=Duration(nanos=1_000_000))
    async with asyncio.timeout(15):
        while True:
            await client.get(made.key)


async def not_active(client: Client) -> None:
    """Execute in a session that is suspended."""
    made = await client.create("execution")
    await client.pause(made.key)
    await execution(client, made.key)


async def permission_denied(client: Client) -> None:
    """Execute in a session that may not."""
    await execution(client, (await client.create("ussd")).key)


async def invalid_configuration(client: Client) -> None:
    """Make a session of a profile that nobody has written."""
    await client.create("unheard-of")


async def creation_failed(client: Client) -> None:
    """Wait for a session that nobody agrees to."""
    await client.made(said("hasty"))


async def activation_failed(client: Client) -> None:
    """Agree to a session that was withdrawn meanwhile."""
    waited_for = refusal(client.made(said("hasty", key="too-late")))
    assert (await waited_for).reason == "CREATION_FAILED"
    try:
        await client.activate("too-late")
    finally:
        await client.delete("too-late")


async def quota_exceeded(client: Client) -> None:
    """Execute once more than a session may."""
    key = (await client.create("execution", quotas={"executions": session.Quota(limit=1)})).key
    await execution(client, key)
    await execution(client, key)


async def policy_violation(client: Client) -> None:
    """Execute a function that isolation denies."""
    isolation = session.Isolation(denied_functions=["pay"])
    await execution(client, (await client.create("execution", isolation=isolation)).key)


NAMED: Final[dict[str, tuple[Callable[[Client], Awaitable[None]], Code, str]]] = {
    "SessionNotFound": (not_found, Code.NOT_FOUND, "SESSION_NOT_FOUND"),
    "SessionExpired": (expired, Code.NOT_FOUND, "SESSION_EXPIRED"),
    "SessionNotActive": (not_active, Code.FAILED_PRECONDITION, "SESSION_NOT_ACTIVE"),
    "PermissionDenied": (permission_denied, Code.PERMISSION_DENIED, "PERMISSION_DENIED"),
    "InvalidConfiguration": (invalid_configuration, Code.INVALID_ARGUMENT, "INVALID_CONFIGURATION"),
    "CreationFailed": (creation_failed, Code.FAILED_PRECONDITION, "CREATION_FAILED"),
    "ActivationFailed": (activation_failed, Code.FAILED_PRECONDITION, "ACTIVATION_FAILED"),
    "QuotaExceeded": (quota_exceeded, Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"),
    "PolicyViolation": (policy_violation, Code.PERMISSION_DENIED, "POLICY_VIOLATION"),
}
"""How each is provoked, and the status and reason by which everybody knows it, for ever."""


class TestL8:
    """Errors by name, each a gRPC status with a stable reason."""

    @pytest.mark.parametrize("name", NAMED)
    async def test_each_has_its_status_and_reason(self, client: Client, name: str) -> None:
        """Told on the wire, and raised under its name by the client."""
        provoke, code, reason = NAMED[name]
        with pytest.raises(aio.AioRpcError) as caught:
            await provoke(client)
        refused = refusal_of(caught.value)
        assert (refused.code, refused.reason) == (code, reason)
        assert refused.text
        assert type(error_of(caught.value)).__name__ == name

    @pytest.mark.parametrize("name", ["PermissionDenied", "QuotaExceeded", "PolicyViolation", "SessionNotActive"])
    async def test_what_is_refused_leaves_the_session_as_it_was(self, client: Client, name: str) -> None:
        """Nothing was executed or used; the refusal itself is counted."""
        made = await client.create("execution", key=f"kept-{name.lower()}", quotas={"sms": session.Quota(limit=0)})
        wish = service.AuthorizeExecutionRequest(key=made.key, operation=service.OPERATION_EXECUTE, function="pay")
        if name == "PermissionDenied":
            wish.operation, wish.target_key = service.OPERATION_READ, (await client.create("sms")).key
        elif name == "QuotaExceeded":
            wish.usage["sms"] = 1
        elif name == "PolicyViolation":
            await client.update(made.key, isolation=session.Isolation(denied_functions=["pay"]))
        else:
            await client.pause(made.key)
        before = await client.get(made.key, peek=True)
        refused = await refusal(client.stub.AuthorizeExecution(wish))
        assert (refused.code, refused.reason) == NAMED[name][1:]
        assert (await client.get(made.key, peek=True)).etag == before.etag
        counted = await client.stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=made.key))
        assert (counted.authorized_executions, counted.refused_executions) == (0, 1)
        await client.delete(made.key, force=True)
