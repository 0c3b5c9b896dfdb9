"""The log says which native sessions were made and removed (requirement W9), many in a line."""

from collections.abc import MutableMapping
from typing import Any

from msgspec import structs

from sessiond.app.commit import Outcome
from sessiond.app.journal import MOST, Journal
from sessiond.core.lifecycle import State
from sessiond.core.session import Session
from tests.core.builders import situation, started
from tests.core.decide.native_sessions import native


def removed(session: Session) -> Session:
    """Return a session whose record goes."""
    head = structs.replace(session.head, state=State.CLOSED, forgotten=True)
    return structs.replace(session, head=head)


async def test_what_comes_together_is_one_line(logged: list[MutableMapping[str, Any]]) -> None:
    """A line has the keys of all that were made, or removed; what is left is said at the end."""
    journal = Journal()
    some = [native(f"s-{number}") for number in range(MOST + 1)]
    for session in some:
        journal.observe(Outcome(None, session))
    journal.observe(Outcome(some[0], removed(some[0])))
    journal.close()
    journal.close()
    lines = [(line["event"], line["sessions"]) for line in logged]
    assert lines == [
        ("sessions_created", [session.key for session in some[:MOST]]),
        ("sessions_created", [some[-1].key]),
        ("sessions_deleted", ["s-0"]),
    ]


async def test_other_sessions_and_changes_are_not_told(logged: list[MutableMapping[str, Any]]) -> None:
    """Gateway sessions have events of their own, and a change is neither a beginning nor an end."""
    journal = Journal()
    journal.observe(Outcome(None, started(situation()).session))
    journal.observe(Outcome(native(), native()))
    journal.close()
    assert logged == []
