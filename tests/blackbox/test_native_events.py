"""Whatever happens to a native session is an event (requirement L7; expiry: W4), and mere use of it is none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.native import NativeDaemon, reason_of, said, sessions
from tests.blackbox.watching import kinds, watching

pytestmark = pytest.mark.blackbox


@pytest.fixture(params=["memory", "valkey"])
async def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NativeDaemon]:
    """Give a daemon."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    profiles = {"approval": {"confirm_within_s": 600}}
    async with sessions(tmp_path, store={"url": url}, profiles=profiles) as running:
        yield running


async def test_l7_the_events_of_a_life(daemon: NativeDaemon) -> None:
    """Created, activated, paused, resumed, updated, closed with its reason, and removed, each in its turn."""
    client = daemon.client()
    async with watching(daemon.process.address) as watcher:
        key = (await client.made(said("sms"), leave_inactive=True)).session.key
        await client.activate(key)
        await client.pause(key)
        await client.resume(key)
        await client.get(key)
        await client.touch(key)
        await client.update(key, details={"a": 1})
        await client.associate(key, "other")
        await client.end(key, message="done")
        await client.end(key)
        await client.delete(key)
        events = [await watcher.event() for _ in range(8)]
    assert [event.session.key for event in events] == [key] * 8
    told = [kinds(event) for event in events]
    assert told == ["CREATED", "ACTIVATED", "PAUSED", "RESUMED", "UPDATED", "UPDATED", "CLOSED", "DELETED"]
    assert (reason_of(events[6].session), events[6].session.end_message) == ("CLIENT", "done")


async def test_l7_a_new_limit_is_an_event(daemon: NativeDaemon) -> None:
    """A quota that is lowered is; what is used of it is not."""
    client = daemon.client()
    async with watching(daemon.process.address) as watcher:
        key = (await client.create("execution", quotas={"executions": session.Quota(limit=5)})).key
        wanted = service.AuthorizeExecutionRequest(key=key, operation=service.OPERATION_EXECUTE, function="f")
        await client.stub.AuthorizeExecution(wanted)
        await client.update(key, quotas={"executions": session.Quota(limit=3)})
        await client.end(key)
        events = [await watcher.event() for _ in range(3)]
    assert [kinds(event) for event in events] == ["CREATED ACTIVATED", "UPDATED", "CLOSED"]
    assert list(events[1].changed_fields.paths) == ["quotas"]
    assert events[1].session.quotas["executions"] == session.Quota(limit=3, used=1)


async def test_l7_a_session_that_is_active_at_once(daemon: NativeDaemon) -> None:
    """It is created and activated in one."""
    client = daemon.client()
    async with watching(daemon.process.address) as watcher:
        made = await client.create()
        event = await watcher.event()
    assert (event.session.key, kinds(event)) == (made.key, "CREATED ACTIVATED")


async def test_l7_a_session_that_is_confirmed_or_withdrawn(daemon: NativeDaemon) -> None:
    """Who watches sees a pending session before it is agreed to, and what became of it."""
    client = daemon.client()
    async with watching(daemon.process.address) as watcher:
        agreed = (await client.made(said("approval"), return_immediately=True)).session.key
        refused = (await client.made(said("approval"), return_immediately=True)).session.key
        await client.activate(agreed)
        await client.end(refused)
        events = [await watcher.event() for _ in range(4)]
    assert [(event.session.key, kinds(event), event.session.pending) for event in events] == [
        (agreed, "CREATED", True),
        (refused, "CREATED", True),
        (agreed, "ACTIVATED", False),
        (refused, "CLOSED", False),
    ]
    assert reason_of(events[3].session) == "CANCELLED"


@pytest.mark.parametrize(
    ("field", "reason", "what"), [("ttl", "EXPIRED", "EXPIRED CLOSED"), ("idle_timeout", "IDLE", "CLOSED")]
)
async def test_w4_time_is_an_event(daemon: NativeDaemon, field: str, reason: str, what: str) -> None:
    """Nobody needs to come: a session that expires or is idle ends by itself, for that reason."""
    client = daemon.client()
    async with watching(daemon.process.address) as watcher:
        made = await client.create("peer", **{field: Duration(nanos=100_000_000)})
        events = [await watcher.event() for _ in range(2)]
    assert [(event.session.key, kinds(event)) for event in events] == [
        (made.key, "CREATED ACTIVATED"),
        (made.key, what),
    ]
    assert reason_of(events[1].session) == reason
    assert events[1].session.end_time.ToMilliseconds() >= made.create_time.ToMilliseconds() + 100
