"""Draft: what a session would be, and the change that leads there, are always the same thing."""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core import update
from sessiond.core.draft import Draft
from sessiond.core.effects import CreateBearer, DeleteBearer, ReportUsage, TerminateSession
from sessiond.core.errors import FailedPrecondition
from sessiond.core.lifecycle import Event, State
from sessiond.core.session import Session
from sessiond.core.update import Change, Put, Remove
from tests.core.builders import KEY, NOW_MS, grant, situation, started
from tests.core.strategies import KEYED, PATHS, gateway_sessions, operations

Step: TypeAlias = Callable[[Draft], None]


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Return something that a decision may do to a draft."""
    part, key = draw(PATHS)
    operation = draw(operations(part))
    match operation:
        case Change():
            return lambda draft: draft.change(part, key, operation)
        case Put():
            return lambda draft: draft.put(part, key, operation.value)
        case Remove():
            return lambda draft: draft.remove(part, key)


def _save(draft: Draft) -> None:
    draft.save(CreateBearer(rules=("a",)), TerminateSession())


@given(gateway_sessions(), st.lists(st.one_of(steps(), st.just(_save)), max_size=8))
def test_criteria_lead_to_the_session(start: Session, done: list[Step]) -> None:
    """Whatever a decision does, applying its criteria to the start gives the session it saw."""
    draft = Draft(start)
    for step in done:
        step(draft)
        assert update.apply(start, draft.criteria()) == draft.session()


@given(gateway_sessions(), gateway_sessions())
def test_becoming_another_value_is_a_change(start: Session, other: Session) -> None:
    """A quota that becomes another value is changed where it differs, and not at all if it does not."""
    draft = Draft(start)
    for part in ("credits", "monitors"):
        for key in getattr(start, part).keys() & getattr(other, part).keys():
            draft.become(part, key, getattr(other, part)[key])
            assert getattr(draft, part)[key] == getattr(other, part)[key]
    assert update.apply(start, draft.criteria()) == draft.session()
    assert bool(draft.criteria()) == (draft.session() != start)


def test_a_draft_begins_as_the_session() -> None:
    """Before anything is decided nothing has changed, and the session is the very same."""
    life = started(situation(), credits_=[grant()])
    draft = Draft(life.session)
    assert draft.session() is life.session
    assert not draft.criteria()
    parts: list[Any] = [draft.key, draft.head, draft.context, draft.gateway, draft.rules, draft.credits]
    assert parts == [KEY, *(getattr(life.session, name) for name in ("head", "context", "gateway", "rules", "credits"))]
    assert (draft.monitors, draft.effects, draft.news) == ({}, {}, [])


def test_an_empty_change_is_no_change() -> None:
    """A decision that finds nothing to do writes nothing."""
    draft = Draft(started(situation()).session)
    draft.change("gateway", "", Change())
    assert not draft.criteria()


@pytest.mark.parametrize("part", KEYED)
def test_the_start_is_never_touched(part: str) -> None:
    """Deciding leaves the session that was read as it was, also when the decision is thrown away."""
    start = started(situation(), credits_=[grant()]).session
    before = msgspec.json.encode(start)
    draft = Draft(start)
    draft.put(part, "new", "anything")
    draft.remove(part, "1")
    assert msgspec.json.encode(start) == before


def test_saved_effects_are_numbered() -> None:
    """Each saved effect has a key of its own, in the order in which they were made, and keys are not used again."""
    draft = Draft(started(situation()).session)
    made = draft.gateway.effects_made
    draft.save(CreateBearer(rules=("a",)), DeleteBearer(bearer_ids=(6,)))
    first, second = sorted(draft.effects)
    assert [draft.effects[first], draft.effects[second]] == [CreateBearer(rules=("a",)), DeleteBearer(bearer_ids=(6,))]
    draft.remove("effects", first)
    draft.remove("effects", second)
    draft.save(TerminateSession())
    assert min(draft.effects) > second > first
    assert draft.gateway.effects_made == made + 3


def test_news_comes_in_order() -> None:
    """News is kept in the order in which it was told."""
    draft = Draft(started(situation()).session)
    draft.tell(ReportUsage())
    draft.tell(ReportUsage(), ReportUsage())
    assert draft.news == [ReportUsage()] * 3
    assert not draft.criteria()


def test_a_step_notes_the_moment() -> None:
    """The time of activation, release and end is noted when it comes, with the reason."""
    draft = Draft(started(situation()).session)
    assert draft.head.activated_at_ms == NOW_MS
    draft.step(Event.RELEASE, NOW_MS + 1, "ENDED")
    draft.step(Event.COMPLETE, NOW_MS + 2)
    assert (draft.head.state, draft.head.reason) == (State.CLOSED, "ENDED")
    assert (draft.head.closing_at_ms, draft.head.closed_at_ms) == (NOW_MS + 1, NOW_MS + 2)


def test_a_moment_is_noted_once() -> None:
    """A session that is resumed was activated when it was activated first."""
    draft = Draft(started(situation()).session)
    draft.step(Event.PAUSE, NOW_MS + 1)
    draft.step(Event.RESUME, NOW_MS + 2)
    assert (draft.head.state, draft.head.activated_at_ms) == (State.ACTIVE, NOW_MS)


def test_a_refused_step_changes_nothing() -> None:
    """What the lifecycle does not know leaves the draft as it was."""
    draft = Draft(started(situation()).session)
    with pytest.raises(FailedPrecondition):
        draft.step(Event.COMPLETE, NOW_MS)
    assert not draft.criteria()
