"""The lifecycle: every state against every event, and what holds for the table as a whole."""

from itertools import product
from typing import Final

import pytest

from sessiond.core import lifecycle
from sessiond.core.errors import FailedPrecondition
from sessiond.core.lifecycle import TABLE, Event, State

ARROWS: Final = """
    REQUESTED   CREATE    CREATING
    REQUESTED   CANCEL    CLOSED
    REQUESTED   TIMEOUT   CLOSED
    CREATING    CONFIRM   CREATED
    CREATING    FAIL      CLOSED
    CREATING    TIMEOUT   CLOSED
    CREATING    RELEASE   CLOSING
    CREATED     ACTIVATE  ACTIVATING
    CREATED     ACTIVATED ACTIVE
    CREATED     EXPIRE    CLOSED
    CREATED     RELEASE   CLOSING
    ACTIVATING  ACTIVATED ACTIVE
    ACTIVATING  FAIL      CLOSED
    ACTIVATING  TIMEOUT   CLOSED
    ACTIVATING  RELEASE   CLOSING
    ACTIVE      PAUSE     PAUSED
    ACTIVE      EXPIRE    CLOSED
    ACTIVE      RELEASE   CLOSING
    PAUSED      RESUME    ACTIVE
    PAUSED      EXPIRE    CLOSED
    PAUSED      RELEASE   CLOSING
    CLOSING     COMPLETE  CLOSED
"""
"""Requirement L1, written down a second time: state, event, state after it."""

EXPECTED: Final = {
    (State(before), Event(event)): State(after)
    for before, event, after in (line.split() for line in ARROWS.split("\n") if line)
}
EVERYTHING: Final = list(product(State, Event))


@pytest.mark.parametrize(("state", "event"), EVERYTHING)
def test_every_state_meets_every_event(state: State, event: Event) -> None:
    """An event leads where the requirement says; every other one is refused, by the names of both."""
    expected = EXPECTED.get((state, event))
    assert lifecycle.allowed(state, event) == (expected is not None)
    if expected is not None:
        assert lifecycle.step(state, event) is expected
        return
    with pytest.raises(FailedPrecondition) as refusal:
        lifecycle.step(state, event)
    assert refusal.value.reason == "TRANSITION_REFUSED"
    assert refusal.value.text == f"a session that is {state} cannot {event.lower()}"


def test_the_table_knows_every_state() -> None:
    """No state is missing, and no state is led to that the table does not know."""
    assert set(TABLE) == set(State)
    assert {after for row in TABLE.values() for after in row.values()} <= set(State)


def test_every_state_can_be_reached() -> None:
    """A session that is requested can come to be in any state."""
    reached, new = set[State](), {State.REQUESTED}
    while new:
        reached |= new
        new = {after for state in new for after in TABLE[state].values()} - reached
    assert reached == set(State)


def test_the_end_is_the_only_end() -> None:
    """Every state but CLOSED has a way on, and nothing leads back to life from CLOSING or CLOSED."""
    assert [state for state, row in TABLE.items() if not row] == [State.CLOSED]
    assert set(TABLE[State.CLOSING].values()) == {State.CLOSED}


def test_whatever_can_carry_traffic_can_be_released() -> None:
    """Every state in which usage can come ends by way of CLOSING, where the final usage is awaited."""
    assert {state for state in State if lifecycle.allowed(state, Event.RELEASE)} == {
        State.CREATING,
        State.CREATED,
        State.ACTIVATING,
        State.ACTIVE,
        State.PAUSED,
    }
