"""Changes of native sessions: what is said anew, and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.decide.change import Wanted, change
from sessiond.core.decide.data import MOST_DEPTH, check_details, merge
from sessiond.core.decide.registry import tie
from sessiond.core.draft import Draft
from sessiond.core.errors import InvalidArgument, ResourceExhausted, SessionError
from sessiond.core.session import GivenTime, Limits, Options, Session
from tests.core.builders import NOW_MS
from tests.core.decide.native_sessions import KEY, USSD, after, at, native, profile

JSON = st.recursive(
    st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-1, 1), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)
NAMES = st.sampled_from("abc")


def changed(session: Session, now_ms: int = NOW_MS + 10, **wanted: Any) -> Session:
    """Return a session after a change."""
    return after(session, lambda draft: change(draft, Wanted(**wanted), USSD, at(now_ms)))


def limits(session: Session) -> Limits:
    """Return when time ends a session."""
    assert session.limits is not None
    return session.limits


def refused(session: Session, **wanted: Any) -> SessionError:
    """Return how a change is refused."""
    with pytest.raises(SessionError) as caught:
        change(Draft(session), Wanted(**wanted), USSD, at(NOW_MS + 10))
    return caught.value


def test_what_is_not_said_stays() -> None:
    """A change that says nothing, or what is there already, changes nothing."""
    session = native(identifier="a", details={"a": 1}, idle_timeout_ms=5, sensitive_details=("a",))
    assert changed(session) is session
    same = {"type": "ussd", "msisdn": "", "subscriber": ""}
    said: dict[str, Any] = {
        "identifier": "a",
        "details": {"a": 1},
        "idle_timeout_ms": 5,
        "sensitive_details": ("a",),
        "same": same,
    }
    assert changed(session, **said) is session


def test_names_and_options() -> None:
    """What is said takes the place of what was there."""
    offset, options = GivenTime(3600), Options(auto_expire=False, execution_logging=True)
    session = changed(
        native(sensitive_details=("pin",), leave_inactive=True),
        identifier="b", version=4, utc_offset=offset, options=options,
    )  # fmt: skip
    assert session.identity is not None
    assert (session.identity.identifier, session.identity.version, session.identity.utc_offset) == ("b", 4, offset)
    assert session.options == Options(
        auto_expire=False, execution_logging=True, sensitive_details=("pin",), leave_inactive=True
    )
    assert changed(session, sensitive_details=()).options == Options(
        auto_expire=False, execution_logging=True, leave_inactive=True
    )


@pytest.mark.parametrize(
    "same",
    [
        {"type": "sms"},
        {"namespace": "b"},
        {"msisdn": "+1"},
        {"subscriber": "IMSI1"},
        {"parent_key": "p"},
    ],
)
def test_what_is_fixed_stays(same: dict[str, str]) -> None:
    """Another value of what cannot be changed is refused by its field."""
    error = refused(native(), same=same)
    assert (error.reason, error.field) == ("FIELD_IMMUTABLE", f"session.{next(iter(same))}")


def test_what_is_fixed_can_be_said_again() -> None:
    """The namespace of a session for which nobody named one has a name too."""
    session = native()
    assert changed(session, same={"type": "ussd", "namespace": "default"}) == session


@pytest.mark.parametrize(
    ("wanted", "expire_at_ms"),
    [
        ({"ttl_ms": 7}, NOW_MS + 17),
        ({"expire_at_ms": NOW_MS + 11}, NOW_MS + 11),
        ({"expire_at_ms": 0}, NOW_MS + 100),
        ({"ttl_ms": 500}, NOW_MS + 100),
        ({"max_duration_ms": 60}, NOW_MS + 60),
        ({"max_duration_ms": 60, "ttl_ms": 20}, NOW_MS + 30),
    ],
)
def test_times_are_held_to_the_maximum_duration(wanted: dict[str, Any], expire_at_ms: int) -> None:
    """Whatever is said, a session does not outlast its maximum duration."""
    session = native(max_duration_ms=100, ttl_ms=80)
    assert limits(changed(session, **wanted)).expire_at_ms == expire_at_ms


def test_a_session_without_end() -> None:
    """Without a maximum duration a session need not expire, and one can be set."""
    session = changed(native(), expire_at_ms=0, idle_timeout_ms=7)
    assert limits(session) == Limits(idle_timeout_ms=7)
    assert limits(changed(session, max_duration_ms=50)).expire_at_ms == NOW_MS + 50


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"max_duration_ms": 101}, "session.max_duration"),
        ({"max_duration_ms": 0}, "session.max_duration"),
        ({"expire_at_ms": NOW_MS + 10}, "session.expire_time"),
        ({"expire_at_ms": 0, "ttl_ms": 5}, "session.ttl"),
    ],
)
def test_times_that_contradict(wanted: dict[str, Any], field: str) -> None:
    """The maximum duration is never raised, and nothing expires in the past."""
    error = refused(native(max_duration_ms=100), **wanted)
    assert (type(error), error.reason, error.field) == (InvalidArgument, "INVALID_CONFIGURATION", field)


@given(
    st.dictionaries(NAMES, JSON, max_size=3),
    st.dictionaries(NAMES, st.one_of(JSON, st.none()), max_size=3),
    st.booleans(),
)
def test_details_merge_shallowly(before: dict[str, Any], said: dict[str, Any], only: bool) -> None:
    """An entry takes the place of that of its name, None takes it away, and the others stay unless they are to go."""
    session = changed(native(details=before), details=said, only_these_details=only)
    kept = {} if only else before
    assert session.details == {name: value for name, value in {**kept, **said}.items() if value is not None}


def test_a_number_is_no_truth() -> None:
    """True and 1 are equal to Python, and not the same to anybody else."""
    session = changed(native(details={"a": 1}), details={"a": True})
    assert session.details["a"] is True


def test_details_have_a_size() -> None:
    """All entries together count, as JSON; a change that fits takes nothing in."""
    draft = Draft(native(details={"a": "x" * 10}))
    with pytest.raises(ResourceExhausted) as caught:
        merge(draft, {"b": "y" * 10}, profile(most_data_octets=25))
    assert (caught.value.reason, caught.value.field) == ("QUOTA_EXCEEDED", "session.details")
    check_details({"a": "x" * 10, "b": "y" * 10}, profile(most_data_octets=0))


@pytest.mark.parametrize(("name", "reason"), [("", "FIELD_TOO_LONG"), ("n" * 129, "FIELD_TOO_LONG")])
def test_names_of_details_have_a_length(name: str, reason: str) -> None:
    """A name is 1 to 128 characters."""
    with pytest.raises(InvalidArgument) as caught:
        check_details({name: 1}, USSD)
    assert caught.value.reason == reason


def test_values_do_not_lie_too_deep() -> None:
    """What lies within each other beyond measure is refused before anything trips over it."""
    deep: Any = 1
    for level in range(MOST_DEPTH + 1):
        deep = [deep] if level % 2 else {"a": deep}
    with pytest.raises(InvalidArgument) as caught:
        check_details({"d": deep}, USSD)
    assert (caught.value.reason, caught.value.field) == ("FIELD_INVALID", "session.details.d")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_those_of_json(number: float) -> None:
    """What JSON cannot say would be lost."""
    for value in (number, [number], {"a": {"b": number}}):
        with pytest.raises(InvalidArgument) as caught:
            check_details({"d": value}, USSD)
        assert (caught.value.reason, caught.value.field) == ("FIELD_INVALID", "session.details.d")
    check_details({"d": [1.5, {"a": None}, "x", True]}, USSD)


def test_associates() -> None:
    """They are kept in their order, twice is once, and there is a limit."""
    session = native()
    for key in ("b", "a", "b"):
        session = after(session, lambda draft, key=key: tie(draft, key, profile(most_associates=2)))  # type: ignore[misc]
    assert list(session.associates.values()) == ["b", "a"]
    with pytest.raises(ResourceExhausted) as full:
        tie(Draft(session), "c", profile(most_associates=2))
    assert full.value.reason == "QUOTA_EXCEEDED"
    with pytest.raises(InvalidArgument) as itself:
        tie(Draft(session), KEY, USSD)
    assert itself.value.reason == "ASSOCIATE_IS_SELF"
    assert len(after(session, lambda draft: tie(draft, "c", profile(most_associates=0))).associates) == 3
