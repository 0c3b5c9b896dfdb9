"""Watching: one line of events, however often the connection is lost."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from sessiond.client import Watch, errors
from sessiond.core.errors import InvalidArgument, ResourceExhausted, Unavailable
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from tests.client.daemon import Answer, hangs, refuses, scripted

Response = session_service_pb2.WatchSessionsResponse
EXISTS, CREATED = session_service_pb2.SESSION_EVENT_KIND_EXISTS, session_service_pb2.SESSION_EVENT_KIND_CREATED


def event(key: str, token: str, kind: Any = CREATED, etag: str = "1") -> Response:
    """Return a message of something that happened."""
    session = session_pb2.Session(key=key, etag=etag)
    return Response(resume_token=token, event=session_service_pb2.SessionEvent(kinds=[kind], session=session))


def exists(key: str, etag: str = "1") -> Response:
    """Return a message of a snapshot."""
    return event(key, "", EXISTS, etag)


def complete(token: str) -> Response:
    """Return the message that ends a snapshot."""
    return Response(resume_token=token, snapshot_complete=session_service_pb2.SnapshotComplete())


def tells(*messages: Response, then: Answer = hangs) -> Answer:
    """Return the answer that is a stream of messages, and what comes of it then."""

    async def answer(request: Any, context: Any) -> None:
        for message in messages:
            await context.write(message)
        await then(request, context)

    return answer


async def ends(*_: Any) -> None:
    """End the stream as if there were nothing more to say."""


BEGUN = Response(resume_token="t0")  # noqa: S106 - a place in a stream
AWAY = refuses(Unavailable("SHUTTING_DOWN", "away", retry_after_ms=10))
SLOW = refuses(ResourceExhausted("WATCHER_TOO_SLOW", "too slow"))


async def told(watch: Watch, count: int) -> list[tuple[str, str]]:
    """Return the next events, by kind and key."""
    async with asyncio.timeout(10):
        return [(one.kind, one.session.key) for one in [await anext(watch) for _ in range(count)]]


@pytest.mark.parametrize("lost", [AWAY, SLOW, ends])
async def test_it_goes_on_where_it_was(lost: Answer) -> None:
    """After a lost connection the next one begins with the token of the last message, a heartbeat's too."""
    heartbeat = Response(resume_token="t2", heartbeat=session_service_pb2.Heartbeat())  # noqa: S106
    async with scripted() as (daemon, client):
        daemon.will(
            tells(BEGUN, event("a", "t1"), heartbeat, then=lost), AWAY, tells(BEGUN, event("b", "t3"), event("c", "t4"))
        )
        async with client.watch("type = ussd", kinds=["CREATED"]) as watch:
            assert watch.token == "t0"  # noqa: S105
            assert await told(watch, 3) == [("CREATED", "a"), ("CREATED", "b"), ("CREATED", "c")]
            assert watch.token == "t4"  # noqa: S105
        assert [request.resume_token for request in daemon.asked] == ["", "t2", "t2"]
        assert {request.filter for request in daemon.asked} == {"type = ussd"}
        assert all(request.kinds == [CREATED] for request in daemon.asked)


async def test_a_daemon_that_is_gone_is_waited_for() -> None:
    """Its successor at the same address is asked to go on."""
    async with scripted(timeout_s=0.1) as (daemon, client):
        daemon.will(tells(BEGUN, event("a", "t1")), tells(event("b", "t2")))
        async with client.watch() as watch:
            assert await told(watch, 1) == [("CREATED", "a")]
            await daemon.stop()
            await daemon.start()
            assert await told(watch, 1) == [("CREATED", "b")]
        assert daemon.asked[-1].resume_token == "t1"  # noqa: S105


async def test_silence_is_a_lost_connection() -> None:
    """A daemon that has not said for long that it is alive is asked anew."""
    async with scripted() as (daemon, client):
        daemon.will(tells(BEGUN), tells(event("a", "t1")))
        async with client.watch(silence_s=0.05) as watch:
            assert await told(watch, 1) == [("CREATED", "a")]


async def test_a_snapshot_that_begins_again_repeats_nothing() -> None:
    """What was told and is still so is not told again; what has changed is, and what is gone is told as gone."""
    async with scripted() as (daemon, client):
        first = tells(exists("same"), exists("changed"), exists("gone"), then=AWAY)
        second = tells(exists("same"), exists("changed", "2"), exists("new"), complete("t1"), event("a", "t2"))
        daemon.will(first, second)
        async with client.watch(snapshot=True) as watch:
            before = await told(watch, 3)
            after = await told(watch, 5)
        assert before == [("EXISTS", "same"), ("EXISTS", "changed"), ("EXISTS", "gone")]
        assert after == [
            ("EXISTS", "changed"),
            ("EXISTS", "new"),
            ("DELETED", "gone"),
            ("SNAPSHOT_COMPLETE", ""),
            ("CREATED", "a"),
        ]
        assert [request.snapshot for request in daemon.asked] == [True, True]


async def test_what_happens_within_a_snapshot_is_not_repeated() -> None:
    """A session that was told as changed, or as gone, before the snapshot began again is not told so once more."""
    updated, deleted = (session_service_pb2.SESSION_EVENT_KIND_UPDATED, session_service_pb2.SESSION_EVENT_KIND_DELETED)
    async with scripted() as (daemon, client):
        changes = event("changed", "", updated, "2"), event("gone", "", deleted), event("new", "")
        first = tells(exists("changed"), exists("gone"), *changes, then=AWAY)
        daemon.will(first, tells(exists("changed", "2"), exists("new"), complete("t1")))
        async with client.watch(snapshot=True) as watch:
            before = await told(watch, 5)
            after = await told(watch, 1)
    assert before[2:] == [("UPDATED", "changed"), ("DELETED", "gone"), ("CREATED", "new")]
    assert after == [("SNAPSHOT_COMPLETE", "")]


async def test_a_snapshot_is_taken_once() -> None:
    """After it, a lost connection goes on with the token."""
    async with scripted() as (daemon, client):
        daemon.will(tells(exists("a"), complete("t1"), then=AWAY), tells(event("b", "t2")))
        async with client.watch(snapshot=True, fields=["state"]) as watch:
            assert [kind for kind, _ in await told(watch, 3)] == ["EXISTS", "SNAPSHOT_COMPLETE", "CREATED"]
        assert [(request.snapshot, request.resume_token) for request in daemon.asked] == [(True, ""), (False, "t1")]
        assert set(daemon.asked[0].read_mask.paths) == {"state", "key", "etag"}


ERRORS: Sequence[tuple[Answer, type[errors.SessiondError]]] = [
    (refuses(InvalidArgument("FILTER_INVALID", "no", field="filter")), errors.InvalidArgument),
    (AWAY, errors.Unavailable),
]


@pytest.mark.parametrize(("answer", "kind"), ERRORS)
async def test_what_does_not_begin_fails(answer: Answer, kind: type[errors.SessiondError]) -> None:
    """A request that is wrong, and a daemon that is not there within the time of a call."""
    async with scripted(timeout_s=0.2) as (daemon, client):
        daemon.will(answer)
        with pytest.raises(kind):
            async with client.watch("nonsense"):
                raise AssertionError("it began")


async def test_a_history_that_is_interrupted_goes_on() -> None:
    """It is asked for as long as it is not complete, from where it was; that it is complete is told once."""
    done = Response(resume_token="t2", history_complete=session_service_pb2.HistoryComplete())  # noqa: S106
    begun = Response(heartbeat=session_service_pb2.Heartbeat())
    async with scripted() as (daemon, client):
        first, second = tells(begun, then=AWAY), tells(begun, event("a", "t1"), then=AWAY)
        daemon.will(first, second, tells(done, then=AWAY), tells(event("b", "t3")))
        async with client.watch(history=True) as watch:
            assert await told(watch, 3) == [("CREATED", "a"), ("HISTORY_COMPLETE", ""), ("CREATED", "b")]
        asked = [(request.history, request.resume_token) for request in daemon.asked]
        assert asked == [(True, ""), (True, ""), (True, "t1"), (False, "t2")]


async def test_it_can_go_on_from_a_token() -> None:
    """A token that was kept elsewhere is where the first connection begins."""
    async with scripted() as (daemon, client):
        daemon.will(tells(event("a", "t8")))
        async with client.watch(token="t7", snapshot=True) as watch:  # noqa: S106
            assert await told(watch, 1) == [("CREATED", "a")]
        assert (daemon.asked[0].resume_token, daemon.asked[0].snapshot) == ("t7", False)


async def test_what_happens_at_once_is_told_in_order() -> None:
    """A change that did several things is as many events; only the last one says where to go on."""
    activated = session_service_pb2.SESSION_EVENT_KIND_ACTIVATED
    both = event("a", "t8")
    both.event.kinds.append(activated)
    async with scripted() as (daemon, client):
        daemon.will(tells(both))
        async with client.watch() as watch:
            found = [await anext(watch) for _ in range(2)]
    assert [(one.kind, one.token) for one in found] == [("CREATED", ""), ("ACTIVATED", "t8")]


async def test_a_place_is_behind_what_was_handed_out() -> None:
    """As long as another event of the same change is to come, the place is before them all."""
    both = event("a", "t8")
    both.event.kinds.append(session_service_pb2.SESSION_EVENT_KIND_ACTIVATED)
    async with scripted() as (daemon, client):
        daemon.will(tells(BEGUN, both))
        async with client.watch() as watch:
            places = [watch.token]
            for _ in range(2):
                await anext(watch)
                places.append(watch.token)
    assert places == ["t0", "t0", "t8"]


async def test_only_the_kinds_that_are_wanted_are_told() -> None:
    """Of a change that did several things, those are told that were asked for; the last of them has the place."""
    both = event("a", "t8")
    both.event.kinds.append(session_service_pb2.SESSION_EVENT_KIND_ACTIVATED)
    async with scripted() as (daemon, client):
        daemon.will(tells(BEGUN, both, event("b", "t9")))
        async with client.watch(kinds=["CREATED"]) as watch:
            found = [await anext(watch) for _ in range(2)]
    assert [(one.session.key, one.kind, one.token) for one in found] == [("a", "CREATED", "t8"), ("b", "CREATED", "t9")]
