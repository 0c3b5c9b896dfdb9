"""Populations: how many sessions a namespace has, whatever becomes of them."""

import pytest
from msgspec import structs

from sessiond.app.commit import Outcome
from sessiond.app.populations import Populations
from sessiond.app.situation import Circumstances
from sessiond.core.decide.native import NewSession, new_session
from sessiond.core.errors import ResourceExhausted
from sessiond.core.lifecycle import State
from sessiond.core.profiles import Profile
from sessiond.core.session import Session
from sessiond.core.settings import Settings
from sessiond.testing.clock import HandClock
from tests.core.builders import situation


@pytest.fixture
def populations() -> Populations:
    """Return the counts of a daemon that gives one namespace room for two."""
    return Populations(Circumstances(HandClock(), Settings(sessions_of_namespaces={"small": 2}), {}))


def made(namespace: str = "small", state: State = State.ACTIVE) -> Session:
    """Return a session of a namespace."""
    session = new_session("k", NewSession(type="ussd", namespace=namespace), Profile(), None, situation())
    return structs.replace(session, head=structs.replace(session.head, state=state))


def is_full(populations: Populations, namespace: str = "small") -> bool:
    """Whether there is no room for one more."""
    try:
        with populations.room(namespace):
            return False
    except ResourceExhausted:
        return True


def test_those_that_have_ended_make_room(populations: Populations) -> None:
    """A session counts from its first write until it ends or is forgotten."""
    populations.observe(Outcome(None, made()))
    populations.take_up(made())
    populations.take_up(made(state=State.CLOSED))
    assert is_full(populations)
    populations.observe(Outcome(made(), made(state=State.PAUSED)))
    assert is_full(populations)
    populations.observe(Outcome(made(), made(state=State.CLOSING)))
    assert not is_full(populations)
    populations.observe(Outcome(made(state=State.CLOSING), made(state=State.CLOSED)))
    populations.observe(Outcome(None, made()))
    assert is_full(populations)
    forgotten = structs.replace(made(), head=structs.replace(made().head, forgotten=True))
    populations.observe(Outcome(made(), forgotten))
    assert not is_full(populations)


def test_those_on_their_way_count(populations: Populations) -> None:
    """Two that are being made leave no room for a third, until one of them fails."""
    with populations.room("small"):
        with populations.room("small"):
            assert is_full(populations)
        assert not is_full(populations)
    assert not is_full(populations)


def test_others_have_no_limit(populations: Populations) -> None:
    """A namespace of which nothing is said has room."""
    for _ in range(5):
        populations.take_up(made("large"))
    assert not is_full(populations, "large")
