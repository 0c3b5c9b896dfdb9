"""A session for the time of a block: kept from expiring, ended at the end, and what happens if it is lost."""

import asyncio
from typing import Any

import pytest

from sessiond.client import SessionLost, errors
from sessiond.core.errors import FailedPrecondition, NotFound, Unavailable
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from tests.client.daemon import Answer, ScriptedDaemon, answers, made, refuses, scripted

AT_MS = 1_700_000_000_000


def session(ttl_ms: int | None, idle_ms: int = 0) -> session_pb2.Session:
    """Return a session that was used just now, and goes on for so long."""
    message = session_pb2.Session(key="k")
    message.create_time.FromMilliseconds(AT_MS)
    message.last_activity_time.FromMilliseconds(AT_MS)
    if ttl_ms is not None:
        message.expire_time.FromMilliseconds(AT_MS + ttl_ms)
    if idle_ms:
        message.idle_timeout.FromMilliseconds(idle_ms)
    return message


def created(ttl_ms: int | None, idle_ms: int = 0) -> Answer:
    """Return the answer to a creation."""
    return answers(session_service_pb2.CreateSessionResponse(session=session(ttl_ms, idle_ms)))


def touched(ttl_ms: int | None, idle_ms: int = 0) -> Answer:
    """Return the answer to a touch."""
    return answers(session_service_pb2.TouchSessionResponse(session=session(ttl_ms, idle_ms)))


ENDED = answers(session_service_pb2.EndSessionResponse())


async def asked(daemon: ScriptedDaemon, kind: type, count: int = 1) -> list[Any]:
    """Return the requests of a kind as soon as there are so many."""
    async with asyncio.timeout(10):
        while len(found := [one for one in daemon.asked if isinstance(one, kind)]) < count:
            daemon.heard.clear()
            await daemon.heard.wait()
    return found


@pytest.mark.parametrize(
    ("ttl_ms", "idle_ms", "asked_ms"), [(900, 0, 900), (None, 900, 0), (3_600_000, 900, 3_600_000)]
)
async def test_it_is_touched_in_time(ttl_ms: int | None, idle_ms: int, asked_ms: int) -> None:
    """Before its time or its idle limit is over it is touched, again and again, and ended with the block."""
    async with scripted() as (daemon, client):
        daemon.will(created(ttl_ms, idle_ms), touched(ttl_ms, idle_ms))
        async with client.session("ussd", msisdn="+15550100001") as one:
            assert one.key == "k"
            touches = await asked(daemon, session_service_pb2.TouchSessionRequest, 2)
            daemon.will(ENDED)
        await asked(daemon, session_service_pb2.EndSessionRequest)
        assert len({touch.request_id for touch in touches}) == 2
        assert {touch.ttl.ToMilliseconds() for touch in touches} == {asked_ms}


async def test_one_that_lasts_for_ever_is_not_touched() -> None:
    """There is nothing to put off; it is ended all the same, and why is said if the block failed."""
    async with scripted() as (daemon, client):
        daemon.will(created(None), ENDED)
        with pytest.raises(ZeroDivisionError):
            async with client.session("ussd"):
                raise ZeroDivisionError
        create, end = daemon.asked
        assert isinstance(create, session_service_pb2.CreateSessionRequest)
        assert (end.key, end.message) == ("k", "ZeroDivisionError")


async def test_a_lost_session_cancels_the_block() -> None:
    """If somebody ends it, the block does not go on as if nothing had happened."""
    async with scripted() as (daemon, client):
        daemon.will(created(900), refuses(FailedPrecondition("SESSION_ENDED", "it has ended")))
        with pytest.raises(SessionLost) as caught:
            async with client.session("ussd"):
                await asyncio.Event().wait()
        assert isinstance(caught.value.why, errors.SessionEnded)
        assert caught.value.key == "k"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_daemon_that_is_away_is_waited_for_as_long_as_the_session_lasts() -> None:
    """It is tried again and again; then the session is lost."""
    away = refuses(Unavailable("STORE_UNAVAILABLE", "away", retry_after_ms=10))
    async with scripted() as (daemon, client):
        daemon.will(created(300), away, touched(300), away)
        with pytest.raises(SessionLost) as caught:
            async with client.session("ussd"):
                await asyncio.Event().wait()
        assert isinstance(caught.value.why, errors.Unavailable | errors.DeadlineExceeded)
        assert len(await asked(daemon, session_service_pb2.TouchSessionRequest)) > 2


async def test_who_cancels_the_block_cancels_it() -> None:
    """A cancellation from outside goes through, and the session is ended before."""
    async with scripted() as (daemon, client):
        daemon.will(created(None), ENDED)
        begun = asyncio.Event()

        async def work() -> None:
            async with client.session("ussd"):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert daemon.asked[-1].message == "CancelledError"


@pytest.mark.parametrize("reason", ["SESSION_NOT_FOUND", "SESSION_EXPIRED"])
async def test_one_that_is_gone_at_the_end_is_well_gone(reason: str) -> None:
    """To end what has ended is nobody's failure; that it could not be ended is one."""
    async with scripted(timeout_s=0.2) as (daemon, client):
        daemon.will(made(), refuses(NotFound(reason, "gone")))
        async with client.session("ussd") as one:
            assert one.value.key == "k"
        daemon.will(made(), refuses(FailedPrecondition("TRANSITION_REFUSED", "no")))
        with pytest.raises(errors.FailedPrecondition):
            async with client.session("ussd"):
                pass


async def test_what_is_changed_is_known() -> None:
    """A change through the block shows in its value."""
    changed = session_service_pb2.UpdateSessionResponse(session=session_pb2.Session(key="k", identifier="x"))
    async with scripted() as (daemon, client):
        daemon.will(created(None), answers(changed), ENDED)
        async with client.session("ussd") as one:
            await one.update(identifier="x")
            assert one.value.identifier == "x"
