"""Stream sessions: active at once, ended once, and still open to words after that (behaviour.md 2, 3, 5 and 13)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.decide.registry import associate, describe, identify
from sessiond.core.decide.retention import forget
from sessiond.core.decide.streams import NewStream, Offsets, checked, end, new_session, partition_key, topics_of
from sessiond.core.decide.tick import TimerKind, deadline, tick, timers
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound
from sessiond.core.lifecycle import State
from sessiond.core.profiles import Profile
from sessiond.core.session import GivenTime, Session, finished
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from sessiond.core.update import apply
from tests.core.builders import NOW_MS, situation, started
from tests.core.strategies import any_struct

KEY = "6f1c0f0e-0000-4000-8000-000000000001"
START = Offsets({"car:0": 5, "car_essential:0": 7}, ("Stream1",))
LATER = Offsets({"car:0": 9, "car_essential:0": 9}, ("Stream1", "Stream2"))
WEEK_MS = 7 * 86_400_000


def at(now_ms: int = NOW_MS, profile: Profile | None = None) -> Situation:
    """Return a moment, with a profile of stream sessions."""
    settings = Settings(profiles={"stream": profile}) if profile else Settings()
    return Situation(now_ms, settings, {})


def stream(**wanted: object) -> Session:
    """Return a new session of the data source `car`."""
    return new_session(KEY, 3, NewStream(**{"data_source": "car", **wanted}), START, at())  # type: ignore[arg-type]


def ended(session: Session, now_ms: int = NOW_MS + 10, profile: Profile | None = None) -> Session:
    """Return a session after its end."""
    draft = Draft(session)
    end(draft, LATER, None, at(now_ms, profile))
    return draft.session()


def test_a_session_is_active_at_once() -> None:
    """It has all that its owner said, and the offsets at which its data begins."""
    offset, created = GivenTime(3600), GivenTime(1_700_000_000, 5)
    session = stream(
        kind="Race", identifier="Monza", version=4, utc_offset=offset, associates=("a", "b"), details={"lap": "1"},
        created=created,
    )  # fmt: skip
    assert (session.key, session.type, session.scope, session.head.state) == (KEY, "stream", KEY, State.ACTIVE)
    assert (session.head.created_at_ms, session.head.activated_at_ms) == (NOW_MS, NOW_MS)
    assert session.identity is not None
    assert session.stream is not None
    said = (session.identity.kind, session.identity.identifier, session.identity.version, session.identity.utc_offset)
    assert said == ("Race", "Monza", 4, offset)
    assert (session.identity.data_source, session.identity.number) == ("car", 3)
    assert (session.stream.start_offsets, session.stream.streams) == (START.by_partition, ("Stream1",))
    assert session.stream.created == created
    assert (session.details, session.associates) == ({"lap": "1"}, {"1": "a", "2": "b"})


def test_what_is_not_said_has_the_documented_default() -> None:
    """Without a type it is a `Session`, without a version it is the first; the UTC offset stays unsaid."""
    identity = stream().identity
    assert identity is not None
    assert (identity.kind, identity.version, identity.utc_offset, identity.identifier) == ("Session", 1, None, "")


def test_an_end_is_noted_with_its_offsets() -> None:
    """The session is over at once, with the offsets, the moment that was given, and until when it is kept."""
    draft = Draft(stream())
    end(draft, LATER, GivenTime(5), at(NOW_MS + 10))
    session = draft.session()
    assert (session.head.state, session.head.reason) == (State.CLOSED, "ENDED")
    assert (session.head.closing_at_ms, session.head.closed_at_ms) == (NOW_MS + 10, NOW_MS + 10)
    assert session.stream is not None
    assert (session.stream.end_offsets, session.stream.terminated) == (LATER.by_partition, GivenTime(5))
    assert session.head.forget_at_ms == NOW_MS + 10 + WEEK_MS


def test_the_first_end_wins() -> None:
    """Ending an ended session changes nothing, whatever it says."""
    draft = Draft(ended(stream()))
    end(draft, START, GivenTime(9), at(NOW_MS + 99))
    assert not draft.criteria()


def test_an_ended_session_is_kept_until_its_time() -> None:
    """It waits for its last moment, is there until then, and is forgotten when it comes, once."""
    session = ended(stream())
    until_ms = NOW_MS + 10 + WEEK_MS
    assert list(timers(session)) == [(TimerKind.RETENTION, "", until_ms)]
    assert deadline(session, NOW_MS) == until_ms
    draft = Draft(session)
    tick(draft, at(until_ms - 1))
    assert not draft.criteria()
    assert not finished(session)
    tick(draft, at(until_ms))
    assert finished(draft.session())
    again = Draft(draft.session())
    tick(again, at(until_ms))
    assert not again.criteria()
    assert deadline(again.session(), until_ms) is None


def test_a_session_can_be_kept_for_ever() -> None:
    """With no limit in its profile it never goes by itself."""
    session = ended(stream(), profile=Profile(retention_after_end_ms=0))
    assert deadline(session, NOW_MS) is None


def test_a_type_without_a_profile_behaves_as_others() -> None:
    """What nobody has said anything about has the defaults of a profile."""
    assert Settings(profiles={}).profile("stream") == Profile()


def test_a_session_that_is_not_over_is_not_forgotten() -> None:
    """Forgetting an active session changes nothing, and time does nothing to it."""
    draft = Draft(stream())
    forget(draft)
    tick(draft, at(NOW_MS + WEEK_MS))
    assert not draft.criteria()
    assert deadline(stream(), NOW_MS) is None


@pytest.mark.parametrize("over", [False, True])
def test_words_change_before_and_after_the_end(over: bool) -> None:
    """Name, details and associates may change at any time; details are merged, associates come after the last."""
    session = stream(details={"lap": "1", "tyre": "soft"}, associates=("a",))
    draft = Draft(ended(session) if over else session)
    identify(draft, "Monza")
    describe(draft, {"lap": "2", "wind": ""})
    associate(draft, "b")
    associate(draft, "b")
    associate(draft, "")
    assert draft.identity is not None
    assert draft.identity.identifier == "Monza"
    assert draft.details == {"lap": "2", "tyre": "soft", "wind": ""}
    assert list(draft.associates.values()) == ["a", "b", "b", ""]


def test_what_says_nothing_new_writes_nothing() -> None:
    """An empty name, the name it has, no details, or details that are there already, are no change."""
    draft = Draft(stream(identifier="Monza", details={"lap": "1"}))
    identify(draft, "")
    identify(draft, "Monza")
    describe(draft, {})
    describe(draft, {"lap": "1"})
    assert not draft.criteria()


def test_a_gateway_session_has_no_name() -> None:
    """Naming a session that has no owner of this kind changes nothing, and to clients of streams there is none."""
    draft = Draft(started(situation()).session)
    assert draft.is_gateway
    identify(draft, "Monza")
    assert not draft.criteria()
    with pytest.raises(NotFound):
        checked(draft)


def test_a_data_source_has_two_topics() -> None:
    """Offsets are named by topic and partition; every data source has a main topic and one for the essentials."""
    assert [partition_key(topic, 0) for topic in topics_of("car")] == ["car:0", "car_essential:0"]


def test_a_stream_session_passes() -> None:
    """A stream session is what clients of streams mean."""
    draft = Draft(stream())
    assert checked(draft) is draft
    assert not draft.is_gateway


DETAILS = st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=4)


@given(any_struct(NewStream), st.lists(st.one_of(DETAILS, st.text(max_size=3)), max_size=8))
def test_details_merge_and_associates_queue_up(wanted: NewStream, said: list[dict[str, str] | str]) -> None:
    """Whatever is said, details are those of all words in a row, associates all that came, in their order."""
    session = new_session(KEY, 1, wanted, START, at())
    details, associates = dict(wanted.details), list(wanted.associates)
    for words in said:
        draft = Draft(session)
        if isinstance(words, dict):
            describe(draft, words)
            details |= words
        else:
            associate(draft, words)
            associates.append(words)
        session = apply(session, draft.criteria())
        assert session == draft.session()
    assert (dict(session.details), list(session.associates.values())) == (details, associates)


@given(any_struct(NewStream), st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_only_the_first_of_many_ends_counts(wanted: NewStream, moments: list[int]) -> None:
    """However often a session is ended, it is as its first end left it."""
    session = new_session(KEY, 1, wanted, START, at())
    once = ended(session, moments[0])
    for moment in moments:
        session = ended(session, moment)
    assert session == once
