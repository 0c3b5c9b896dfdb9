"""Changes: what happened follows from a session before and after a write."""

from typing import Any

import pytest
from msgspec.structs import replace

from sessiond.core.access import Quota
from sessiond.core.changes import HIDDEN, SILENT, Change, Kind, kinds, shown, told, with_parts
from sessiond.core.keys import SessionSecret
from sessiond.core.lifecycle import State
from sessiond.core.session import Head, Session
from sessiond.core.update import Change as PartChange
from sessiond.core.update import Operation, Put, Remove, UpdateCriteria

NOW_MS = 1_700_000_000_000


def session(state: State = State.ACTIVE, reason: str = "", **parts: Any) -> Session:
    """Return a session in a state."""
    head = Head(state=state, created_at_ms=1, reason=reason)
    return replace(Session(key="sms-1", type="sms", scope="sms-1", head=head), **parts)


def happened(before: Session | None, after: Session, *, removed: bool = False) -> list[Kind]:
    """Return what happened between two states of a session."""
    return list(kinds(Change(at_ms=NOW_MS, before=before, after=after, revision=1, removed=removed)))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, State.REQUESTED, [Kind.CREATED]),
        (None, State.CREATED, [Kind.CREATED]),
        (None, State.ACTIVE, [Kind.CREATED, Kind.ACTIVATED]),
        (State.CREATING, State.CREATED, [Kind.UPDATED]),
        (State.CREATED, State.ACTIVATING, [Kind.UPDATED]),
        (State.CREATED, State.ACTIVE, [Kind.ACTIVATED]),
        (State.ACTIVE, State.PAUSED, [Kind.PAUSED]),
        (State.PAUSED, State.ACTIVE, [Kind.RESUMED]),
        (State.ACTIVE, State.CLOSING, [Kind.CLOSING]),
        (State.CLOSING, State.CLOSED, [Kind.CLOSED]),
    ],
)
def test_a_new_state_says_what_happened(before: State | None, after: State, expected: list[Kind]) -> None:
    """Each step of the lifecycle has its kind; a new session that is in use at once has two."""
    assert happened(None if before is None else session(before), session(after)) == expected


def test_an_end_has_its_reason() -> None:
    """A session whose time is over expires before it is closed; one that goes at once is deleted after that."""
    assert happened(session(), session(State.CLOSED, "EXPIRED")) == [Kind.EXPIRED, Kind.CLOSED]
    assert happened(session(), session(State.CLOSED, "ENDED"), removed=True) == [Kind.CLOSED, Kind.DELETED]
    assert happened(session(State.CLOSED), session(State.CLOSED), removed=True) == [Kind.DELETED]


def test_what_else_changes_is_an_update() -> None:
    """Something that is shown is different now; nothing that is shown is no kind at all."""
    assert happened(session(), session(details={"a": 1})) == [Kind.UPDATED]
    assert happened(session(), session()) == []
    forgotten = replace(session(State.CLOSED), head=replace(session(State.CLOSED).head, forgotten=True))
    assert happened(session(State.CLOSED), forgotten, removed=True) == [Kind.DELETED]


def test_a_new_key_is_a_kind_of_its_own() -> None:
    """A key that changed says so; one that was sealed anew is another secret, not another key."""
    first, again, second = (
        SessionSecret(version=version, sealed=text) for version, text in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert happened(session(secret=first), session(secret=second)) == [Kind.KEY_ROTATED]
    assert happened(session(secret=first), session(secret=again)) == [Kind.UPDATED]
    assert happened(session(), session(secret=first)) == [Kind.KEY_ROTATED]


def test_what_is_counted_is_not_told() -> None:
    """Nobody is told of a write that touches only what changes all the time."""
    silent = {(part, ""): PartChange({"n": 1}) for part in SILENT}
    assert told(UpdateCriteria(silent)) == ()
    assert told(UpdateCriteria({**silent, ("head", ""): Put(session().head)})) == (("head", ""),)


@pytest.mark.parametrize("operation", [Put(Quota(5)), PartChange(set={"limit": 5}), Remove()])
def test_a_new_limit_is_told(operation: Operation) -> None:
    """What is used of a quota is counted, and its limit is changed."""
    assert told(UpdateCriteria({("quotas", "sms"): operation})) == (("quotas", "sms"),)


def test_what_is_hidden_is_not_shown() -> None:
    """What is shown has none of the hidden parts, and all others as they are."""
    hidden: dict[str, Any] = {part: {"x": 1} for part in HIDDEN & set(Session.__struct_fields__)}
    whole = session(details={"a": 1}, **hidden)
    assert shown(whole) == session(details={"a": 1})


def test_parts_of_another() -> None:
    """A session with some parts of another is the same in all others."""
    assert with_parts(session(), session(State.PAUSED), []) == session()
    assert with_parts(session(details={"a": 1}), session(State.PAUSED), [("head", "")]) == session(
        State.PAUSED, details={"a": 1}
    )
