"""Quotas of sessions that act for others, over the wire: one budget for all (requirements L4 to L6)."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.harness import refusal
from tests.blackbox.native import Client, NativeDaemon, sessions

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
Code = grpc.StatusCode


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    async with sessions(tmp_path_factory.mktemp("pooled"), store={"url": url}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


async def made(client: Client, parent_key: str = "", **limits: int) -> str:
    """Return a session with these quotas, which may act for another."""
    quotas = {resource: session.Quota(limit=limit) for resource, limit in limits.items()}
    return (await client.create("execution", parent_key=parent_key, quotas=quotas)).key


async def execute(client: Client, key: str, request_id: str = "", **usage: int) -> dict[str, int]:
    """Execute something; return what is left."""
    wish = service.AuthorizeExecutionRequest(
        key=key, operation=service.OPERATION_EXECUTE, usage=usage, request_id=request_id
    )
    return dict((await client.stub.AuthorizeExecution(wish)).remaining_quotas)


async def record(client: Client, key: str, octets: int, request_id: str = "") -> None:
    """Record traffic."""
    traffic = session.Traffic(bytes_sent=octets)
    await client.stub.RecordTraffic(service.RecordTrafficRequest(key=key, traffic=traffic, request_id=request_id))


async def used(client: Client, key: str) -> dict[str, int]:
    """Return what is used of each quota."""
    return {name: quota.used for name, quota in (await client.get(key, peek=True)).quotas.items() if quota.used}


class TestL5:
    """A quota holds for a session and all that act for it together."""

    async def test_many_children_have_no_more_than_their_parent(self, client: Client) -> None:
        """Whoever uses it, it is used; what is left is what the line of sessions has left."""
        top = await made(client, executions=4)
        one, other = await made(client, top), await made(client, top, executions=3)
        assert await execute(client, one) == {"executions": 3}
        assert await execute(client, top) == {"executions": 2}
        assert await execute(client, other) == {"executions": 1}
        assert await execute(client, await made(client, one)) == {"executions": 0}
        for key in (one, other, top):
            refused = await refusal(execute(client, key))
            assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
            assert refused.fields == ("usage.executions",)
        assert [await used(client, key) for key in (top, one, other)] == [
            {"executions": 4},
            {"executions": 2},
            {"executions": 1},
        ]

    async def test_a_lower_limit_holds_below_it_too(self, client: Client) -> None:
        """At once, also of a resource that had no limit when the others were made."""
        top = await made(client, executions=10)
        below = await made(client, await made(client, top))
        await execute(client, below)
        await client.update(top, quotas={"executions": session.Quota(limit=2), "sms": session.Quota(limit=1)})
        assert await execute(client, below, sms=1) == {"executions": 0, "sms": 0}
        assert (await refusal(execute(client, below))).fields == ("usage.executions",)

    async def test_what_is_refused_uses_nothing_of_anybody(self, client: Client) -> None:
        """Neither if the session itself may not, nor if one of those above has not enough left."""
        top = await made(client, executions=9, sms=1)
        middle = await made(client, top, executions=9, sms=1)
        below = await made(client, middle, executions=9)
        await execute(client, top, sms=1)
        before = await client.get(middle, peek=True)
        refused = await refusal(execute(client, below, sms=1))
        assert (refused.reason, refused.fields) == ("QUOTA_EXCEEDED", ("usage.sms",))
        await client.update(below, isolation=session.Isolation(denied_functions=["*"]))
        assert (await refusal(execute(client, below))).reason == "POLICY_VIOLATION"
        assert await used(client, top) == {"executions": 1, "sms": 1}
        assert (await used(client, middle), await used(client, below)) == ({}, {})
        assert (await client.get(middle, peek=True)).etag == before.etag
        counted = await client.stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=below))
        assert (counted.authorized_executions, counted.refused_executions) == (0, 2)

    async def test_the_same_request_is_counted_once(self, client: Client) -> None:
        """In every session that it counts in."""
        top = await made(client, executions=5, bytes=9)
        below = await made(client, top)
        for _ in range(3):
            assert await execute(client, below, "one") == {"executions": 4, "bytes": 9}
        for _ in range(3):
            await record(client, below, 2, "two")
        both = [execute(client, below, "three") for _ in range(2)]
        await asyncio.gather(*both)
        assert await used(client, top) == {"executions": 2, "bytes": 2} == await used(client, below)

    async def test_children_that_race_get_what_there_is(self, daemon: NativeDaemon) -> None:
        """Two children of two clients, who want the last units at once, get as many as there are."""
        clients = [daemon.client() for _ in range(2)]
        top = await made(clients[0], executions=10)
        children = [await made(clients[0], top) for _ in range(2)]
        asked = [execute(clients[number % 2], children[number % 2]) for number in range(16)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
        assert {error.code() for error in refused} == {Code.RESOURCE_EXHAUSTED}
        assert (len(answers) - len(refused), await used(clients[0], top)) == (10, {"executions": 10})
        assert sum([(await used(clients[0], key))["executions"] for key in children]) == 10

    async def test_traffic_counts_above_too(self, client: Client) -> None:
        """Beyond a quota as well: it has been. What is not counted below is not counted above."""
        top = await made(client, bytes=10)
        one, other = await made(client, top), await made(client, top)
        await record(client, one, 6)
        refused = await refusal(record(client, other, 5))
        assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert [await used(client, key) for key in (top, one, other)] == [{"bytes": 11}, {"bytes": 6}, {"bytes": 5}]
        await client.end(other)
        assert (await refusal(record(client, other, 1))).reason == "SESSION_ENDED"
        assert await used(client, top) == {"bytes": 11}

    async def test_a_session_that_is_over_counts_nothing(self, client: Client) -> None:
        """What comes after its end from those below it is theirs."""
        top = await made(client, bytes=10)
        below = await made(client, top)
        await client.end(top)
        await record(client, below, 6)
        assert (await used(client, top), await used(client, below)) == ({}, {"bytes": 6})
