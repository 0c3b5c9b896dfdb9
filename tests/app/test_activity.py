"""Use of sessions: known at once, written now and then, and never forgotten in favour of an earlier end."""

from msgspec import structs

from sessiond.app.activity import STEP_MS, Activity
from sessiond.app.commit import Outcome
from sessiond.core.session import Record, Session
from tests.core.builders import NOW_MS, situation, started
from tests.core.decide.native_sessions import KEY, native


def used_at(session: Session) -> int:
    """Return when a session was last used, as it shows."""
    assert session.record is not None
    return session.record.used_at_ms


def written(session: Session, at_ms: int) -> Session:
    """Return a session with a use that is written."""
    return structs.replace(session, record=Record(used_at_ms=at_ms))


def record(session: Session) -> Record:
    """Return the record of a session."""
    assert session.record is not None
    return session.record


def test_a_use_within_a_step_is_only_remembered() -> None:
    """It shows at once, and costs no write; the first one after the step is to be written."""
    activity, session = Activity(), native()
    start_ms = used_at(session)
    assert not activity.use(KEY, record(session), start_ms + STEP_MS - 1)
    assert used_at(activity.up_to_date(session)) == start_ms + STEP_MS - 1
    assert activity.used_at_ms(session) == start_ms + STEP_MS - 1
    assert activity.use(KEY, record(session), start_ms + STEP_MS)


def test_a_clock_that_goes_back_takes_no_use_away() -> None:
    """The latest use counts."""
    activity, session = Activity(), native()
    start_ms = used_at(session)
    activity.use(KEY, record(session), start_ms + 50)
    activity.use(KEY, record(session), start_ms + 20)
    activity.use(KEY, record(session), start_ms - 20)
    assert activity.used_at_ms(session) == start_ms + 50


def test_what_is_written_is_not_remembered() -> None:
    """A write with a later use takes its place, one with an earlier use does not, and an end forgets it."""
    activity, session = Activity(), native()
    start_ms = used_at(session)
    activity.use(KEY, record(session), start_ms + 50)
    activity.observe(Outcome(session, written(session, start_ms + 49)))
    assert activity.used_at_ms(session) == start_ms + 50
    activity.observe(Outcome(session, written(session, start_ms + 50)))
    assert activity.used_at_ms(session) == 0
    activity.use(KEY, record(session), start_ms + 60)
    ended = structs.replace(session, head=structs.replace(session.head, closed_at_ms=start_ms + 55))
    activity.observe(Outcome(session, ended))
    assert activity.used_at_ms(session) == 0
    assert activity.up_to_date(session) is session


def test_a_session_of_an_earlier_run_may_have_been_used_until_a_step_later() -> None:
    """It is taken for used then, but not in the future; without an idle limit nothing depends on it."""
    activity = Activity()
    session = native(idle_timeout_ms=5)
    start_ms = used_at(session)
    activity.take_up(session, start_ms + STEP_MS + 9)
    assert activity.used_at_ms(session) == start_ms + STEP_MS
    activity.take_up(session, start_ms + 7)
    assert activity.used_at_ms(session) == start_ms + 7
    other = Activity()
    other.take_up(native(), NOW_MS)
    assert other.used_at_ms(native()) == 0


def test_other_daemons_may_know_of_later_uses() -> None:
    """Where sessions are shared, each may have been used until a step after what is written."""
    activity, session = Activity(alone=False), native()
    start_ms = used_at(session)
    assert activity.used_at_ms(session) == start_ms + STEP_MS
    activity.use(KEY, record(session), start_ms + 5)
    assert activity.used_at_ms(session) == start_ms + STEP_MS
    assert used_at(activity.up_to_date(session)) == start_ms + 5
    assert activity.used_at_ms(started(situation()).session) == 0
