"""Populations: how many sessions each namespace has that have not ended, and whether there is room for one more."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from sessiond.app.commit import Outcome
from sessiond.app.situation import Circumstances
from sessiond.core.callers import namespace_of
from sessiond.core.errors import ResourceExhausted
from sessiond.core.lifecycle import State
from sessiond.core.session import Session

ANY_ROOM: Final = nullcontext()


class Populations:
    """Counts the sessions that this daemon has seen begin and end; those on their way count too."""

    def __init__(self, circumstances: Circumstances) -> None:
        self._circumstances = circumstances
        self._there: Counter[str] = Counter()

    def take_up(self, session: Session) -> None:
        """Count a session of an earlier run."""
        if _counts(session):
            self._there[namespace_of(session)] += 1

    def observe(self, outcome: Outcome) -> None:
        """Count a session that is new, or that has ended."""
        if outcome.before is not None and outcome.before.head is outcome.after.head:
            return
        was = outcome.before is not None and _counts(outcome.before)
        if was != _counts(outcome.after):
            self._there[namespace_of(outcome.after)] += -1 if was else 1

    def room(self, namespace: str) -> AbstractContextManager[None]:
        """Keep room for one more session while it is made; raise ResourceExhausted if there is none."""
        limit = self._circumstances.settings.sessions_of_namespaces.get(namespace)
        return ANY_ROOM if limit is None else self._kept(namespace, limit)

    @contextmanager
    def _kept(self, namespace: str, limit: int) -> Iterator[None]:
        if self._there[namespace] >= limit:
            text = f"namespace {namespace} has {limit} sessions, which is all it may have"
            raise ResourceExhausted("QUOTA_EXCEEDED", text, field="session.namespace")
        self._there[namespace] += 1
        try:
            yield
        finally:
            self._there[namespace] -= 1


def _counts(session: Session) -> bool:
    return session.head.state not in {State.CLOSING, State.CLOSED} and not session.head.forgotten
