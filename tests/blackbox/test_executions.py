"""What sessions may do, over the wire, requirement by requirement: L4, L5 and L6."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.harness import Refusal, refusal
from tests.blackbox.native import Client, NativeDaemon, sessions

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
Code = grpc.StatusCode
ALL = session.Permissions(
    execute_functions=True, compose_functions=True, read_across_sessions=True, write_across_sessions=True
)
EXECUTE, COMPOSE, READ, WRITE = (
    service.OPERATION_EXECUTE,
    service.OPERATION_COMPOSE,
    service.OPERATION_READ,
    service.OPERATION_WRITE,
)
OPERATIONS = {
    "execute_functions": EXECUTE,
    "compose_functions": COMPOSE,
    "read_across_sessions": READ,
    "write_across_sessions": WRITE,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    config = {
        "store": {"url": url},
        "access": {"namespaces": {"small": {"sessions": 2}}},
        "profiles": {"robot": {"quotas": {"executions": 2}, "permissions": ["execute_functions"]}},
    }
    async with sessions(tmp_path_factory.mktemp("executions"), **config) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


async def authorize(
    client: Client, key: str, operation: service.Operation.ValueType = EXECUTE, **fields: Any
) -> service.AuthorizeExecutionResponse:
    """Ask whether a session may do something."""
    request = service.AuthorizeExecutionRequest(key=key, operation=operation, **fields)
    return await client.stub.AuthorizeExecution(request)


async def statistics(client: Client, key: str) -> service.GetSessionStatisticsResponse:
    """Return what a session has done."""
    return await client.stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=key))


def quotas(**limits: int) -> Mapping[str, session.Quota]:
    """Return quotas as a client says them."""
    return {resource: session.Quota(limit=limit) for resource, limit in limits.items()}


def forbidden(refused: Refusal, reason: str = "PERMISSION_DENIED") -> bool:
    """Whether somebody may not do this."""
    return (refused.code, refused.reason) == (Code.PERMISSION_DENIED, reason)


class TestL4:
    """Permissions: execute and compose functions, read and write across sessions."""

    async def test_across_sessions_is_off_by_default(self, client: Client) -> None:
        """A session of a workflow may do nothing by itself, one for executions may execute and compose."""
        assert (await client.create("ussd")).permissions == session.Permissions()
        assert (await client.create("execution")).permissions == session.Permissions(
            execute_functions=True, compose_functions=True
        )

    @pytest.mark.parametrize("permission", OPERATIONS)
    async def test_each_operation_needs_its_permission(self, client: Client, permission: str) -> None:
        """With it the operation is authorised, without it PERMISSION_DENIED."""
        other = (await client.create("execution")).key
        operation = OPERATIONS[permission]
        target = {"target_key": other} if operation in {READ, WRITE} else {"function": "pay"}
        may = await client.create("execution", permissions=session.Permissions(**{permission: True}))
        assert (await authorize(client, may.key, operation, **target)).permissions == may.permissions
        lacks = session.Permissions()
        lacks.CopyFrom(ALL)
        setattr(lacks, permission, False)
        key = (await client.create("execution", permissions=lacks)).key
        refused = await refusal(authorize(client, key, operation, **target))
        assert forbidden(refused)
        assert permission in refused.text

    async def test_what_is_its_own_needs_none(self, client: Client) -> None:
        """A session reads and changes what belongs to itself."""
        key = (await client.create("ussd")).key
        await authorize(client, key, READ)
        await authorize(client, key, WRITE, target_key=key)

    async def test_a_session_is_only_narrowed(self, client: Client) -> None:
        """What a change turns off is off, and nothing comes back."""
        key = (await client.create("execution", permissions=ALL)).key
        narrowed = await client.update(key, permissions=session.Permissions(execute_functions=True))
        assert narrowed.permissions == session.Permissions(execute_functions=True)
        assert forbidden(await refusal(authorize(client, key, COMPOSE)))
        refused = await refusal(client.update(key, permissions=ALL))
        assert forbidden(refused)
        assert refused.fields == ("session.permissions.compose_functions",)
        none = await client.update(key, "permissions")
        assert none.permissions == session.Permissions()

    async def test_who_acts_for_another_has_no_more(self, client: Client) -> None:
        """A session made for another gets what both have; more is refused; narrowing goes all the way down."""
        mine = session.Permissions(execute_functions=True, read_across_sessions=True)
        top = await client.create("execution", permissions=mine, quotas=quotas(executions=10))
        child = await client.create("execution", parent_key=top.key)
        assert child.permissions == session.Permissions(execute_functions=True)
        assert child.parent_key == top.key
        assert child.quotas["executions"].limit == 10
        refused = await refusal(client.create("execution", parent_key=top.key, permissions=ALL))
        assert forbidden(refused)
        assert refused.fields == ("session.permissions.compose_functions",)
        refused = await refusal(client.create("execution", parent_key=top.key, quotas=quotas(executions=11)))
        assert (forbidden(refused), refused.fields) == (True, ("session.quotas.executions",))
        below = await client.create("execution", parent_key=child.key)
        await authorize(client, below.key)
        await client.update(top.key, "permissions")
        assert forbidden(await refusal(authorize(client, below.key)))
        refused = await refusal(client.update(below.key, "parent_key", parent_key=""))
        assert refused.reason == "FIELD_IMMUTABLE"

    async def test_a_line_of_sessions_has_an_end(self, client: Client) -> None:
        """At most eight stand above one."""
        key = (await client.create("execution")).key
        for _ in range(8):
            key = (await client.create("execution", parent_key=key)).key
        await authorize(client, key)
        refused = await refusal(client.create("execution", parent_key=key))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "TOO_DEEP")

    async def test_who_acts_for_another_ends_with_it(self, client: Client) -> None:
        """When the other is not active, nothing is done in its name."""
        top = await client.create("execution")
        child = await client.create("execution", parent_key=top.key)
        await client.pause(top.key)
        assert (await refusal(authorize(client, child.key))).reason == "SESSION_NOT_ACTIVE"
        await client.resume(top.key)
        await authorize(client, child.key)
        await client.end(top.key)
        assert (await refusal(authorize(client, child.key))).reason == "SESSION_NOT_ACTIVE"
        assert (await refusal(client.create("execution", parent_key=top.key))).reason == "SESSION_NOT_ACTIVE"
        assert (await refusal(client.create("execution", parent_key="nobody"))).reason == "SESSION_NOT_FOUND"


class TestL5:
    """Isolation: namespaces, barriers, quotas and policies."""

    async def test_functions(self, client: Client) -> None:
        """Only those that are allowed, and never those that are denied."""
        isolation = session.Isolation(allowed_functions=["pay.*", "ask"], denied_functions=["pay.out"])
        key = (await client.create("execution", isolation=isolation)).key
        for function in ("pay.in", "ask"):
            await authorize(client, key, function=function)
        for function in ("pay.out", "asking", "other", ""):
            assert forbidden(await refusal(authorize(client, key, function=function)), "POLICY_VIOLATION")
        wider = session.Isolation(allowed_functions=["pay.*", "ask*"], denied_functions=["pay.out"])
        refused = await refusal(client.update(key, isolation=wider))
        assert (forbidden(refused), refused.fields) == (True, ("session.isolation.allowed_functions",))

    async def test_namespaces(self, client: Client) -> None:
        """Another namespace is reached only as it is named, for reading and for writing apart."""
        theirs = (await client.create("execution", namespace="theirs")).key
        near = (await client.create("execution", namespace="mine")).key
        isolation = session.Isolation(readable_namespaces=["theirs"])
        key = (await client.create("execution", namespace="mine", permissions=ALL, isolation=isolation)).key
        await authorize(client, key, READ, target_key=theirs)
        await authorize(client, key, WRITE, target_key=near)
        refused = await refusal(authorize(client, key, WRITE, target_key=theirs))
        assert forbidden(refused, "POLICY_VIOLATION")
        narrowed = await client.update(key, "isolation")
        assert narrowed.isolation == session.Isolation()
        assert forbidden(await refusal(authorize(client, key, READ, target_key=theirs)), "POLICY_VIOLATION")
        assert (await refusal(authorize(client, key, READ, target_key="nobody"))).reason == "SESSION_NOT_FOUND"

    async def test_another_session_with_the_key_of_a_parent(self, client: Client) -> None:
        """Who acts for a session that is gone does not act for one that has its key since, whoever made that."""
        parent = await client.create("execution", key="parent-that-goes", quotas=quotas(executions=3))
        child = (await client.create("execution", parent_key=parent.key)).key
        await client.delete(parent.key, force=True)
        await client.create("execution", key=parent.key, namespace="others", quotas=quotas(executions=3))
        refused = await refusal(authorize(client, child))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "SESSION_NOT_ACTIVE")
        await client.stub.RecordTraffic(service.RecordTrafficRequest(key=child, traffic=session.Traffic(bytes_sent=1)))
        assert (await client.get(parent.key)).quotas["executions"].used == 0
        await client.delete(parent.key, force=True)

    async def test_barrier(self, client: Client) -> None:
        """Nobody reaches what lies behind a barrier, and nothing wider is tied to it; it stays once it is there."""
        walled = await client.create("execution", isolation=session.Isolation(barrier=True))
        inside = await client.create("execution", parent_key=walled.key)
        outside = (await client.create("execution", permissions=ALL)).key
        for target in (walled.key, inside.key):
            refused = await refusal(authorize(client, outside, READ, target_key=target))
            assert forbidden(refused, "POLICY_VIOLATION")
        assert forbidden(await refusal(client.associate(walled.key, outside)), "POLICY_VIOLATION")
        wall = session.Isolation(barrier=True)
        refused = await refusal(client.create("execution", isolation=wall, associate_keys=[inside.key, outside]))
        assert forbidden(refused, "POLICY_VIOLATION")
        assert list((await client.associate(walled.key, inside.key)).associate_keys) == [inside.key]
        assert forbidden(await refusal(client.update(walled.key, "isolation")))

    async def test_quotas_are_used_up(self, client: Client) -> None:
        """To the last unit, whichever the resource; then QUOTA_EXCEEDED, and nothing more is used."""
        key = (await client.create("execution", quotas=quotas(executions=3, sms=5))).key
        assert dict((await authorize(client, key, usage={"sms": 3})).remaining_quotas) == {"executions": 2, "sms": 2}
        refused = await refusal(authorize(client, key, usage={"sms": 3}))
        assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert refused.fields == ("usage.sms",)
        await authorize(client, key, usage={"sms": 2, "sheep": 99})
        await authorize(client, key)
        assert (await refusal(authorize(client, key))).fields == ("usage.executions",)
        seen = await client.get(key)
        assert {name: (quota.limit, quota.used) for name, quota in seen.quotas.items()} == {
            "executions": (3, 3),
            "sms": (5, 5),
        }

    async def test_quotas_are_only_lowered(self, client: Client) -> None:
        """A lower limit holds at once; a higher one, and none, are refused."""
        key = (await client.create("robot")).key
        assert (await client.get(key)).quotas["executions"].limit == 2
        await client.update(key, quotas=quotas(executions=0, bytes=9))
        assert (await refusal(authorize(client, key))).reason == "QUOTA_EXCEEDED"
        for more in (quotas(executions=1, bytes=9), quotas(bytes=9)):
            refused = await refusal(client.update(key, quotas=more))
            assert (forbidden(refused), refused.fields) == (True, ("session.quotas.executions",))

    async def test_a_namespace_has_room_for_so_many(self, client: Client) -> None:
        """Those that have ended make room; the same request is answered as before although there is none."""
        first, second = [await client.create("ussd", namespace="small") for _ in range(2)]
        refused = await refusal(client.create("ussd", namespace="small"))
        assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert refused.fields == ("session.namespace",)
        await client.end(first.key)
        request = {"request_id": "third"}
        third = await client.made(session.Session(type="ussd", namespace="small"), **request)
        again = await client.made(session.Session(type="ussd", namespace="small"), **request)
        assert third.session.key == again.session.key
        assert (await refusal(client.create("ussd", namespace="small"))).reason == "QUOTA_EXCEEDED"
        for key in (second.key, third.session.key):
            await client.delete(key, force=True)
        await client.delete((await client.create("ussd", namespace="small")).key, force=True)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"namespace": "a b"}, "session.namespace"),
            ({"isolation": session.Isolation(allowed_functions=["a*b"])}, "session.isolation.allowed_functions"),
            ({"isolation": session.Isolation(readable_namespaces=["*"])}, "session.isolation.readable_namespaces"),
            ({"quotas": {"": session.Quota(limit=1)}}, "session.quotas"),
            ({"quotas": {"bytes": session.Quota(limit=2**64 - 1)}}, "session.quotas.bytes"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, client: Client, fields: dict[str, Any], field: str) -> None:
        """By the path of its field."""
        refused = await refusal(client.create("execution", **fields))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
        assert refused.fields == (field,)


class TestL6:
    """Authorising an execution."""

    async def test_the_answer(self, client: Client) -> None:
        """It has the session, what it may do, how long it lasts, and what is left."""
        made = await client.create("execution", quotas=quotas(executions=7), permissions=ALL)
        answer = await authorize(client, made.key, function="pay")
        assert (answer.key, answer.permissions, dict(answer.remaining_quotas)) == (made.key, ALL, {"executions": 6})
        assert 0 < answer.remaining_time.ToMilliseconds() <= 3_600_000
        endless = await client.create("peer", permissions=ALL)
        assert not (await authorize(client, endless.key)).HasField("remaining_time")

    async def test_the_answer_for_one_that_acts_for_another(self, client: Client) -> None:
        """It may do what all of its line may, and as long as the first of them lasts."""
        top = await client.create("execution", permissions=ALL, ttl=Duration(seconds=100))
        middle = await client.create("execution", parent_key=top.key)
        below = await client.create("execution", parent_key=middle.key)
        assert below.permissions.compose_functions
        await client.update(top.key, permissions=session.Permissions(execute_functions=True))
        answer = await authorize(client, below.key)
        assert answer.permissions == session.Permissions(execute_functions=True)
        assert 0 < answer.remaining_time.ToMilliseconds() <= 100_000

    async def test_what_is_checked_first(self, client: Client) -> None:
        """The state, then permission, then policy, then quota."""
        isolation = session.Isolation(denied_functions=["*"])
        key = (await client.create("ussd", isolation=isolation, quotas=quotas(executions=0))).key
        await client.pause(key)
        assert (await refusal(authorize(client, key))).reason == "SESSION_NOT_ACTIVE"
        await client.resume(key)
        assert (await refusal(authorize(client, key))).reason == "PERMISSION_DENIED"
        may = (await client.create("execution", isolation=isolation, quotas=quotas(executions=0), permissions=ALL)).key
        assert (await refusal(authorize(client, may))).reason == "POLICY_VIOLATION"
        full = (await client.create("execution", quotas=quotas(executions=0))).key
        assert (await refusal(authorize(client, full))).reason == "QUOTA_EXCEEDED"
        await client.end(full)
        refused = await refusal(authorize(client, full))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "SESSION_NOT_ACTIVE")

    async def test_counts(self, client: Client) -> None:
        """What was authorised and what was refused is counted, by function too if performance is monitored."""
        settings = session.Settings(auto_expire=True, performance_monitoring=True, execution_logging=True)
        key = (await client.create("execution", settings=settings, quotas=quotas(executions=3))).key
        assert not (await statistics(client, key)).HasField("last_execution_time")
        for function in ("a", "b", "a"):
            await authorize(client, key, function=function)
        for _ in range(2):
            await refusal(authorize(client, key, function="a"))
        counted = await statistics(client, key)
        assert (counted.authorized_executions, counted.refused_executions) == (3, 2)
        assert dict(counted.executions_by_function) == {"a": 2, "b": 1}
        assert counted.quotas["executions"].used == 3
        assert counted.HasField("last_execution_time")

    async def test_mere_use_is_no_change(self, client: Client) -> None:
        """The etag stays, so that who changes the session is not held up by who uses it."""
        made = await client.create("execution")
        await authorize(client, made.key)
        assert (await client.get(made.key)).etag == made.etag

    async def test_the_same_request_is_counted_once(self, client: Client) -> None:
        """Repeated it is answered, and uses nothing; with other content it is refused; a refusal may be asked again."""
        key = (await client.create("execution", quotas=quotas(executions=2))).key
        for _ in range(3):
            answer = await authorize(client, key, function="a", request_id="one")
            assert dict(answer.remaining_quotas) == {"executions": 1}
        refused = await refusal(authorize(client, key, function="b", request_id="one"))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
        for _ in range(2):
            denied = authorize(client, key, usage={"executions": 2}, request_id="two")
            assert (await refusal(denied)).reason == "QUOTA_EXCEEDED"

    async def test_executions_are_logged_if_wanted(self, daemon: NativeDaemon, client: Client) -> None:
        """Each that is authorised or refused is a line."""
        settings = session.Settings(auto_expire=True, execution_logging=True)
        key = (await client.create("robot", settings=settings)).key
        await authorize(client, key, function="pay")
        await refusal(authorize(client, key, COMPOSE, function="pay"))
        await daemon.process.logged("execution_authorized", session=key, operation="EXECUTE", function="pay")
        await daemon.process.logged("execution_refused", session=key, reason="PERMISSION_DENIED")

    async def test_many_at_once_use_no_more_than_there_is(self, daemon: NativeDaemon) -> None:
        """Two clients that race for the last units get as many as there are."""
        clients = [daemon.client() for _ in range(2)]
        key = (await clients[0].create("execution", quotas=quotas(executions=10))).key
        asked = [authorize(clients[number % 2], key) for number in range(16)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        granted = len(answers) - len(refused)
        assert {error.code() for error in refused} == {Code.RESOURCE_EXHAUSTED}
        assert granted == 10

    async def test_what_is_no_question(self, client: Client) -> None:
        """Without an operation, or for nobody, there is no answer."""
        key = (await client.create("execution")).key
        refused = await refusal(authorize(client, key, service.OPERATION_UNSPECIFIED))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "OPERATION_MISSING")
        assert refused.fields == ("operation",)
        assert (await refusal(authorize(client, "nobody"))).reason == "SESSION_NOT_FOUND"
