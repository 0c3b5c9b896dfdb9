"""Time and native sessions: never early, exact to the millisecond, for the reason that came first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sessiond.core.decide import lapse
from sessiond.core.decide import native as decide
from sessiond.core.decide.change import Wanted, change
from sessiond.core.decide.retention import forget
from sessiond.core.decide.tick import TimerKind, deadline, tick, timers
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, NotFound
from sessiond.core.etag import etag_of
from sessiond.core.lifecycle import State
from sessiond.core.session import Options, Session, finished
from tests.core.builders import NOW_MS, situation, started
from tests.core.decide.native_sessions import after, at, native, profile

SPAN = st.integers(1, 100)


def ticked(session: Session, now_ms: int, used_at_ms: int = 0) -> Session:
    """Return a session after what time does to it."""
    return after(session, lambda draft: tick(draft, at(now_ms), used_at_ms))


@pytest.mark.parametrize(
    ("wanted", "fields", "reason"),
    [
        ({"ttl_ms": 50}, {}, "EXPIRED"),
        ({"ttl_ms": 0, "idle_timeout_ms": 50}, {}, "IDLE"),
        ({"ttl_ms": 50, "idle_timeout_ms": 50}, {}, "EXPIRED"),
        ({"ttl_ms": 60, "idle_timeout_ms": 50}, {}, "IDLE"),
        ({}, {"confirm_within_ms": 50}, "TIMED_OUT"),
        ({"ttl_ms": 0}, {"confirm_within_ms": 50}, "TIMED_OUT"),
        ({"ttl_ms": 50}, {"confirm_within_ms": 60}, "TIMED_OUT"),
    ],
)
def test_a_session_lapses_at_its_very_millisecond(wanted: dict[str, Any], fields: dict[str, Any], reason: str) -> None:
    """Not before, and for the reason that comes first; its deadline says so in advance."""
    session = native(kind=profile(**fields), **wanted)
    assert deadline(session, NOW_MS) == NOW_MS + 50
    assert ticked(session, NOW_MS + 49) is session
    ended = ticked(session, NOW_MS + 50)
    assert (ended.head.state, ended.head.reason) == (State.CLOSED, reason)
    assert etag_of(ended) != etag_of(session)
    assert ended.record is not None
    assert ended.record.updated_at_ms == NOW_MS + 50
    assert deadline(ended, NOW_MS + 50) == ended.head.forget_at_ms
    assert ticked(ended, NOW_MS + 51) is ended


@given(idle=SPAN, used=SPAN, now=SPAN)
def test_use_puts_off_the_idle_end(idle: int, used: int, now: int) -> None:
    """A session is idle so long after its last use, whether that is written or not."""
    session = native(ttl_ms=0, idle_timeout_ms=idle)
    assert deadline(session, NOW_MS, NOW_MS + used) == NOW_MS + used + idle
    ended = ticked(session, NOW_MS + now, NOW_MS + used)
    assert (ended.head.state is State.CLOSED) == (now >= used + idle)


@pytest.mark.parametrize("state", [State.CREATED, State.ACTIVE, State.PAUSED])
def test_every_open_state_expires(state: State) -> None:
    """A paused session keeps expiring, and one that nobody activated expires as well."""
    session = native(ttl_ms=5)
    session = structs.replace(session, head=structs.replace(session.head, state=state))
    assert ticked(session, NOW_MS + 5).head.reason == "EXPIRED"


def test_without_auto_expire_it_is_not_found_and_not_ended() -> None:
    """Its time is over for those who ask; nothing happens by itself."""
    session = native(ttl_ms=5, idle_timeout_ms=5, options=Options(auto_expire=False))
    assert deadline(session, NOW_MS) is None
    assert ticked(session, NOW_MS + 5) is session
    assert not lapse.expired(session, NOW_MS + 4)
    with pytest.raises(NotFound) as caught:
        lapse.check_found(session, NOW_MS + 5)
    assert caught.value.reason == "SESSION_EXPIRED"


def test_an_expired_session_stays_expired() -> None:
    """Whether the timer has come to it or not, it is the same to those who ask; an ended one can be seen."""
    session = native(ttl_ms=5)
    lapse.check_found(session, NOW_MS + 4)
    for seen in (session, ticked(session, NOW_MS + 5)):
        with pytest.raises(NotFound):
            lapse.check_found(seen, NOW_MS + 5)
    ended = after(session, lambda draft: decide.end(draft, "", 0, at(NOW_MS + 1)))
    lapse.check_found(ended, NOW_MS + 9)


def test_a_forgotten_session_is_not_found() -> None:
    """What is removed is gone, though a peer may have to hear of it still."""
    gone = after(
        native(),
        lambda draft: decide.end(draft, "", 0, at(NOW_MS + 1)),
        forget,
    )
    assert finished(gone)
    with pytest.raises(NotFound) as caught:
        lapse.check_found(gone, NOW_MS + 2)
    assert caught.value.reason == "SESSION_NOT_FOUND"


def test_what_comes_too_late_is_told_so() -> None:
    """A pending session that nobody activated in time is withdrawn."""
    withdrawn = ticked(native(kind=profile(confirm_within_ms=5)), NOW_MS + 5)
    with pytest.raises(FailedPrecondition) as caught:
        decide.check_in_time(Draft(withdrawn))
    assert caught.value.reason == "ACTIVATION_FAILED"


def test_sessions_of_other_surfaces_do_not_lapse() -> None:
    """They have timers of their own, and no expire time."""
    gateway = started(situation()).session
    assert list(lapse.lapses(gateway, 0)) == []
    assert not lapse.expired(gateway, NOW_MS * 2)
    assert lapse.lapsed(gateway, 0, NOW_MS * 2) == ""


def test_a_state_that_may_last() -> None:
    """A session that is ACTIVATING without a time to give up waits for ever."""
    session = native(leave_inactive=True)
    session = structs.replace(session, head=structs.replace(session.head, state=State.ACTIVATING))
    assert list(timers(session)) == []
    assert list(timers(native(ttl_ms=5))) == [(TimerKind.EXPIRY, "", NOW_MS + 5)]


def test_a_time_to_live_that_is_shortened_while_pending() -> None:
    """Whoever has not agreed by then is too late: it is withdrawn, and from then on the same to everybody."""
    session = native(kind=profile(confirm_within_ms=50))
    shorter = after(session, lambda draft: change(draft, Wanted(ttl_ms=5), profile(), at()))
    assert deadline(shorter, NOW_MS) == NOW_MS + 5
    ended = ticked(shorter, NOW_MS + 5)
    assert (ended.head.state, ended.head.reason) == (State.CLOSED, "TIMED_OUT")
    lapse.check_found(ended, NOW_MS + 5)
