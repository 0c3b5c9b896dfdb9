"""The one lifecycle of every session: a table of states and events; what is not in it is refused by name."""

from enum import StrEnum
from typing import Final

from sessiond.core.errors import FailedPrecondition


class State(StrEnum):
    """Where a session is in its life (requirement L1)."""

    REQUESTED = "REQUESTED"
    CREATING = "CREATING"
    CREATED = "CREATED"
    ACTIVATING = "ACTIVATING"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"


class Event(StrEnum):
    """What can happen to a session's life."""

    CREATE = "CREATE"
    CONFIRM = "CONFIRM"
    ACTIVATE = "ACTIVATE"
    ACTIVATED = "ACTIVATED"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    RELEASE = "RELEASE"
    FAIL = "FAIL"
    CANCEL = "CANCEL"
    TIMEOUT = "TIMEOUT"
    EXPIRE = "EXPIRE"
    COMPLETE = "COMPLETE"


TABLE: Final[dict[State, dict[Event, State]]] = {
    State.REQUESTED: {
        Event.CREATE: State.CREATING,
        Event.CANCEL: State.CLOSED,
        Event.TIMEOUT: State.CLOSED,
    },
    State.CREATING: {
        Event.CONFIRM: State.CREATED,
        Event.FAIL: State.CLOSED,
        Event.TIMEOUT: State.CLOSED,
        Event.RELEASE: State.CLOSING,
    },
    State.CREATED: {
        Event.ACTIVATE: State.ACTIVATING,
        Event.ACTIVATED: State.ACTIVE,
        Event.EXPIRE: State.CLOSED,
        Event.RELEASE: State.CLOSING,
    },
    State.ACTIVATING: {
        Event.ACTIVATED: State.ACTIVE,
        Event.FAIL: State.CLOSED,
        Event.TIMEOUT: State.CLOSED,
        Event.RELEASE: State.CLOSING,
    },
    State.ACTIVE: {
        Event.PAUSE: State.PAUSED,
        Event.EXPIRE: State.CLOSED,
        Event.RELEASE: State.CLOSING,
    },
    State.PAUSED: {
        Event.RESUME: State.ACTIVE,
        Event.EXPIRE: State.CLOSED,
        Event.RELEASE: State.CLOSING,
    },
    State.CLOSING: {Event.COMPLETE: State.CLOSED},
    State.CLOSED: {},
}


def allowed(state: State, event: Event) -> bool:
    """Whether the table knows this event in this state."""
    return event in TABLE[state]


def step(state: State, event: Event) -> State:
    """Return the state after an event; refuse what the table does not know."""
    after = TABLE[state].get(event)
    if after is None:
        raise FailedPrecondition("TRANSITION_REFUSED", f"a session that is {state} cannot {event.lower()}")
    return after
