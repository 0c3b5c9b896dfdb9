"""Calls: what is sent again and with which id, when that ends, and what errors come to."""

import asyncio

import grpc
import pytest

from sessiond.client import errors
from sessiond.client.link import LONGEST_PAUSE_S, backoff_s, pause_before_repeating
from sessiond.core.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from tests.client.daemon import answers, hangs, made, refuses, scripted

AWAY = Unavailable("STORE_UNAVAILABLE", "the store is away", retry_after_ms=20)


async def test_a_request_is_sent_again_with_its_id() -> None:
    """While the daemon asks for patience, the same request comes again; the id of another call is another."""
    async with scripted(token="secret") as (daemon, client):  # noqa: S106 - it is told to nobody
        daemon.will(refuses(AWAY), refuses(AWAY), made("a"), made("b"))
        assert (await client.create("ussd", msisdn="+15550100001")).key == "a"
        assert (await client.create("ussd", msisdn="+15550100001")).key == "b"
        first, second, third, other = daemon.asked
        assert first == second == third
        assert first.request_id
        assert other.request_id not in {"", first.request_id}
        assert all(metadata["authorization"] == "Bearer secret" for metadata in daemon.metadata)


async def test_a_request_waits_for_the_daemon() -> None:
    """A daemon that is not there yet is waited for."""
    async with scripted() as (daemon, client):
        await daemon.stop()
        daemon.will(made())
        call = asyncio.create_task(client.create("ussd"))
        await asyncio.sleep(0)
        await daemon.start()
        assert (await call).key == "k"


async def test_an_answer_that_is_lost_is_asked_for_again() -> None:
    """The daemon goes in the middle of a call: the same request comes to its successor."""
    async with scripted() as (daemon, client):
        daemon.will(hangs, made())
        call = asyncio.create_task(client.create("ussd"))
        await daemon.heard.wait()
        await daemon.stop()
        await daemon.start()
        assert (await call).key == "k"
        assert daemon.asked[0] == daemon.asked[-1]


async def test_time_is_limited() -> None:
    """Who would have to wait longer than the call may take is told at once."""
    async with scripted(timeout_s=0.3) as (daemon, client):
        daemon.will(refuses(Unavailable("DRAINING", "not now", retry_after_ms=60_000)))
        with pytest.raises(errors.Unavailable) as caught:
            await client.create("ussd")
        assert (caught.value.reason, caught.value.retry_after_s, len(daemon.asked)) == ("DRAINING", 60.0, 1)
        daemon.will(hangs)
        with pytest.raises(errors.DeadlineExceeded):
            await client.get("k")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("SESSION_NOT_FOUND", "no"), errors.SessionNotFound),
        (NotFound("SESSION_EXPIRED", "no"), errors.SessionExpired),
        (FailedPrecondition("SESSION_NOT_ACTIVE", "no"), errors.SessionNotActive),
        (FailedPrecondition("TRANSITION_REFUSED", "no"), errors.FailedPrecondition),
        (Aborted("ETAG_MISMATCH", "no"), errors.EtagMismatch),
        (ResourceExhausted("QUOTA_EXCEEDED", "no"), errors.QuotaExceeded),
        (InvalidArgument("FIELD_INVALID", "no", field="session.msisdn"), errors.InvalidArgument),
    ],
)
async def test_errors_have_names(error: Exception, kind: type[errors.SessiondError]) -> None:
    """What cannot be mended by trying again is raised at once, by its name, with all that the daemon said."""
    async with scripted() as (daemon, client):
        daemon.will(refuses(error))  # type: ignore[arg-type]
        with pytest.raises(kind) as caught:
            await client.update("k", identifier="x")
        assert type(caught.value) is kind
        assert len(daemon.asked) == 1
        assert caught.value.text == "no"
        assert caught.value.violations == ((("session.msisdn", "no"),) if isinstance(error, InvalidArgument) else ())


async def test_a_conflict_that_is_nobodys_decision_is_tried_again() -> None:
    """Where the daemon says that the same request may be sent again, it is."""
    async with scripted() as (daemon, client):
        daemon.will(refuses(Aborted("SESSION_BUSY", "busy")), made())
        assert (await client.create("ussd")).key == "k"


def test_a_pause_grows_and_has_an_end() -> None:
    """From attempt to attempt it doubles, up to two seconds; the daemon can ask for more."""
    assert all(0 < backoff_s(attempt) <= LONGEST_PAUSE_S for attempt in range(100))
    error = errors.Unavailable(grpc.StatusCode.UNAVAILABLE, "away", retry_after_s=30.0)
    assert pause_before_repeating(error, 0) == 30.0
    assert pause_before_repeating(errors.NotFound(grpc.StatusCode.NOT_FOUND, "no"), 0) is None


async def test_a_list_goes_on_from_page_to_page() -> None:
    """Pages are asked for as they are needed, and no more than what is wanted."""
    page = session_service_pb2.ListSessionsResponse(
        sessions=[session_pb2.Session(key="a"), session_pb2.Session(key="b")],
        next_page_token="2",  # noqa: S106 - a place in a list
    )
    last = session_service_pb2.ListSessionsResponse(sessions=[session_pb2.Session(key="c")])
    async with scripted() as (daemon, client):
        daemon.will(answers(page), answers(last))
        keys = [one.key async for one in client.list("state = ACTIVE", order_by="key", fields=["key"])]
        assert keys == ["a", "b", "c"]
        assert [request.page_token for request in daemon.asked] == ["", "2"]
        assert daemon.asked[0].filter == "state = ACTIVE"
        daemon.will(answers(page))
        assert len([one async for one in client.list(limit=2)]) == 2
        assert daemon.asked[-1].page_size == 2


async def test_only_what_is_given_is_changed() -> None:
    """The mask of an update names the fields that are given, those to be removed too."""
    async with scripted() as (daemon, client):
        daemon.will(answers(session_service_pb2.UpdateSessionResponse()))
        await client.update("k", etag="7", identifier="", ttl_s=1.5, details={"a": 1}, remove_details=["b"])
        (asked,) = daemon.asked
        assert set(asked.update_mask.paths) == {"identifier", "ttl", "details", "details.b"}
        assert (asked.session.key, asked.session.etag, asked.session.ttl.ToMilliseconds()) == ("k", "7", 1500)
