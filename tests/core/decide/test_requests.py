"""Requests: recognised when they come again, for as long as is promised, and etags that tell versions apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.decide import native as decide
from sessiond.core.decide.change import Wanted, change
from sessiond.core.decide.registry import describe
from sessiond.core.decide.requests import (
    ANY,
    MOST_REMEMBERED,
    REMEMBERED_MS,
    Request,
    Terms,
    carried_out,
    check_etag,
    remember,
    settle,
)
from sessiond.core.draft import Draft
from sessiond.core.errors import Aborted, InvalidArgument
from sessiond.core.etag import etag_of
from sessiond.core.ids import key_of_request, scope_of
from sessiond.core.session import Remembered, Session
from tests.core.builders import NOW_MS, situation, started
from tests.core.decide.native_sessions import USSD, after, at, native
from tests.core.decide.test_streams import stream

FIRST = Request("r-1", "digest")


def test_the_same_request_is_recognised() -> None:
    """It was carried out before; one of the same id and other content is refused."""
    assert not carried_out(None, FIRST)
    assert carried_out(Remembered("digest", NOW_MS), FIRST)
    with pytest.raises(InvalidArgument) as caught:
        carried_out(Remembered("another", NOW_MS), FIRST)
    assert (caught.value.reason, caught.value.field) == ("REQUEST_ID_REUSED", "request_id")


def test_requests_are_remembered_as_long_as_promised() -> None:
    """Those whose time is over go with the next one."""
    session = after(native(), lambda draft: remember(draft, FIRST, NOW_MS))
    session = after(session, lambda draft: remember(draft, Request("r-2", "d"), NOW_MS + REMEMBERED_MS - 1))
    assert set(session.requests) == {"r-1", "r-2"}
    session = after(session, lambda draft: remember(draft, Request("r-3", "d"), NOW_MS + REMEMBERED_MS))
    assert set(session.requests) == {"r-2", "r-3"}


def test_so_many_requests_are_remembered() -> None:
    """Beyond that the oldest goes first."""
    draft = Draft(native())
    for number in range(MOST_REMEMBERED + 2):
        remember(draft, Request(f"r-{number}", "d"), NOW_MS + number)
    assert len(draft.requests) == MOST_REMEMBERED
    assert not {"r-0", "r-1"} & set(draft.requests)


def etag(session: Session) -> str:
    """Return the etag after holding it against the rule that it is what a change can name."""
    check_etag(Draft(session), Terms(etag_of(session)))
    return etag_of(session)


def test_a_change_has_a_new_etag_and_mere_use_has_not() -> None:
    """What is settled counts up; a change that changes nothing does not."""
    session = native()
    used = after(session, lambda draft: draft.set("record", used_at_ms=NOW_MS + 5))
    assert etag(used) == etag(session)

    def rename(draft: Draft) -> None:
        change(draft, Wanted(identifier="b"), USSD, at())
        settle(draft, FIRST, NOW_MS + 7)

    renamed = after(session, rename)
    assert etag(renamed) != etag(session)
    assert renamed.record is not None
    assert (renamed.record.updated_at_ms, renamed.record.used_at_ms) == (NOW_MS + 7, NOW_MS + 7)
    assert renamed.requests == {"r-1": Remembered("digest", NOW_MS + 7)}
    assert after(session, lambda draft: settle(draft, None, NOW_MS + 7)) is session


def test_another_etag_is_refused() -> None:
    """Somebody was faster, which the loser is told."""
    check_etag(Draft(native()), ANY)
    with pytest.raises(Aborted) as caught:
        check_etag(Draft(native()), Terms("another"))
    assert caught.value.reason == "ETAG_MISMATCH"


def test_sessions_of_other_surfaces_have_etags() -> None:
    """They change with what is said of a session, and not with the usage of a gateway session."""
    song = stream()
    assert etag(song) == etag(stream())
    assert etag(after(song, lambda draft: describe(draft, {"lap": "2"}))) != etag(song)
    life = started(situation())
    before = etag(life.session)
    life.decide(lambda draft: settle(draft, FIRST, NOW_MS))
    assert etag(life.session) == before
    life.release("ENDED")
    assert etag(life.session) != before


def test_end_of_a_native_session_changes_its_etag() -> None:
    """Who decided before the end is told."""
    session = native()

    def end(draft: Draft) -> None:
        decide.end(draft, "", 0, at())
        settle(draft, None, NOW_MS)

    assert etag(after(session, end)) != etag(session)


@given(st.text(max_size=9), st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
def test_the_key_of_a_request_is_its_own(namespace: str, request_id: str, other: str, other_id: str) -> None:
    """The same request has the same key, another one another; it is a UUID to whoever looks, and no gateway's."""
    key = key_of_request(namespace, request_id)
    assert (key == key_of_request(other, other_id)) == ((namespace, request_id) == (other, other_id))
    assert scope_of(key) == key
    assert [len(part) for part in key.split("-")] == [8, 4, 4, 4, 12]
    assert key[14] == "4"
    assert key[19] in "89ab"
