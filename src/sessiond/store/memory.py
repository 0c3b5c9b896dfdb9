"""The store of a daemon that forgets: sessions in a dictionary. What it does, every other store does the same."""

from collections.abc import AsyncIterator, Sequence

from sessiond.app.ports.store import Conflict, Create, Delete, Deleted, Stored, Update, Write, Written
from sessiond.core.update import apply


class MemoryStore:
    """Implements `app.ports.store.Store` for the life of a process."""

    def __init__(self) -> None:
        self._sessions: dict[str, Stored] = {}
        self._scopes: dict[str, dict[str, None]] = {}

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        return self._sessions.get(key)

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        return [self._sessions[key] for key in self._scopes.get(scope, ())]

    async def write(self, writes: Sequence[Write]) -> list[Written]:
        """Carry out writes; return one answer each."""
        return [self._write(write) for write in writes]

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        for stored in list(self._sessions.values()):
            yield stored

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def _write(self, write: Write) -> Written:
        match write:
            case Create():
                return self._create(write)
            case Update():
                return self._update(write)
            case Delete():
                return self._delete(write)

    def _create(self, write: Create) -> Written:
        session = write.session
        if session.key in self._sessions:
            return Conflict()
        self._scopes.setdefault(session.scope, {})[session.key] = None
        return self._put(Stored(session, 1))

    def _update(self, write: Update) -> Written:
        stored = self._sessions.get(write.key)
        if stored is None or stored.revision != write.revision:
            return Conflict()
        return self._put(Stored(apply(stored.session, write.criteria), stored.revision + 1))

    def _delete(self, write: Delete) -> Written:
        stored = self._sessions.get(write.key)
        if stored is None or stored.revision != write.revision:
            return Conflict()
        del self._sessions[write.key]
        keys = self._scopes[stored.session.scope]
        del keys[write.key]
        if not keys:
            del self._scopes[stored.session.scope]
        return Deleted()

    def _put(self, stored: Stored) -> Stored:
        self._sessions[stored.session.key] = stored
        return stored
