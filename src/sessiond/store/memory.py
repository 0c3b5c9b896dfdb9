"""The store of a daemon that forgets: sessions in memory. What it does, every other store does the same."""

from collections.abc import AsyncIterator, Sequence

from sessiond.app.ports.store import (
    Account,
    Conflict,
    Count,
    Counted,
    Create,
    Delete,
    Deleted,
    Stored,
    Update,
    Write,
    Written,
)
from sessiond.core.names import check_change
from sessiond.core.update import apply
from sessiond.store.working_set import WorkingSet, saved


class MemoryStore:
    """Implements `app.ports.store.Store` for the life of a process."""

    def __init__(self) -> None:
        self._sessions = WorkingSet()

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        return self._sessions.get(key)

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        return self._sessions.find(scope)

    def accounts(self, scope: str) -> Sequence[Account]:
        """Return the sessions of a scope to count on."""
        return self._sessions.accounts(scope)

    async def named(self, name: str) -> list[Stored]:
        """Return the sessions that bear a name."""
        return self._sessions.named(name)

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes; return one answer each."""
        return [self._count(write) if isinstance(write, Count) else self._write(write) for write in writes]

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        for stored in self._sessions:
            yield stored

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def put(self, stored: Stored) -> None:
        """Take a session as another store had it."""
        self._sessions.put(stored)

    def _count(self, count: Count) -> Counted:
        return Counted(tuple(account.session.key for account in count.accounts if not self._counted(account)))

    def _write(self, write: Write) -> Written:
        match write:
            case Create(session):
                holder = self._sessions.holder(session)
                if holder or self._sessions.get(session.key) is not None:
                    return Conflict(holder)
                return self._put(Stored(session, 1))
            case Update(key, revision, criteria, after):
                if (stored := self._at(key, revision)) is None:
                    return Conflict()
                after = after or apply(stored.session, criteria)
                check_change(stored.session, after)
                return self._put(Stored(after, revision + 1))
            case Delete(key, revision):
                if self._at(key, revision) is None:
                    return Conflict()
                self._sessions.drop(key)
                return Deleted()

    def _counted(self, account: Account) -> bool:
        """Take what was counted on an account, if it is still there."""
        if account.meter is None:
            return False
        saved(account)
        return True

    def _at(self, key: str, revision: int) -> Stored | None:
        """Return a session if it is at this revision."""
        stored = self._sessions.get(key)
        return stored if stored is not None and stored.revision == revision else None

    def _put(self, stored: Stored) -> Stored:
        self.put(stored)
        return stored
