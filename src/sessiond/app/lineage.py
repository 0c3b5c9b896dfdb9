"""Lineage: where a session stands among those it acts for."""

from sessiond.app.ports.store import Store
from sessiond.core.access import MOST_ABOVE, Access, Place
from sessiond.core.callers import namespace_of
from sessiond.core.decide.executions import check_active
from sessiond.core.decide.lapse import expired
from sessiond.core.errors import FailedPrecondition
from sessiond.core.session import Session


class Lineage:
    """Finds the sessions above a session."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def acting(self, session: Session, now_ms: int) -> Place:
        """Return where a session stands that acts; every session that it acts for must be active."""
        return place_of(session, await self.active_above(session, now_ms))

    async def active_above(self, session: Session, now_ms: int) -> list[Session]:
        """Return the sessions that a session acts for, the nearest first; refuse it if one is not active."""
        above: list[Session] = []
        below = session
        while (key := _parent(below)) and len(above) < MOST_ABOVE:
            parent = await self._parent_of(below)
            if parent is None or expired(parent, now_ms):
                raise FailedPrecondition("SESSION_NOT_ACTIVE", f"session {key}, which {session.key} acts for, is over")
            check_active(key, parent.head.state)
            above.append(parent)
            below = parent
        return above

    async def above(self, session: Session) -> list[Session]:
        """Return the sessions that a session acts for, the nearest first, as far as they are kept."""
        above: list[Session] = []
        below = session
        while len(above) < MOST_ABOVE and (parent := await self._parent_of(below)) is not None:
            above.append(parent)
            below = parent
        return above

    async def reached(self, session: Session) -> Place:
        """Return where a session stands that others want to reach; what is above it counts as long as it is kept."""
        return place_of(session, await self.above(session))

    async def _parent_of(self, session: Session) -> Session | None:
        """Return the session that one acts for, if it is kept; another one that has its key by now is not it."""
        if not (key := _parent(session)) or (stored := await self._store.get(key)) is None:
            return None
        created_at_ms = session.identity.parent_created_at_ms if session.identity is not None else 0
        return stored.session if created_at_ms in {0, stored.session.head.created_at_ms} else None


def place_of(session: Session, above: list[Session]) -> Place:
    """Return where a session stands beneath others."""
    return Place(*_of(session), tuple(Place(*_of(other)) for other in above))


def _parent(session: Session) -> str:
    return session.identity.parent if session.identity is not None else ""


def _of(session: Session) -> tuple[str, str, Access]:
    return session.key, namespace_of(session), session.access or Access()
