"""The store of a daemon that forgets: sessions in memory. What it does, every other store does the same."""

from collections.abc import AsyncIterator, Callable, Sequence

from sessiond.app.ports.store import (
    Account,
    Changes,
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
from sessiond.core.changes import Change, shown, told, with_parts
from sessiond.core.names import check_change
from sessiond.core.session import Session
from sessiond.core.update import NOTHING, UpdateCriteria, apply
from sessiond.store.ring import KEPT, Ring
from sessiond.store.working_set import WorkingSet, saved


class MemoryStore:
    """Implements `app.ports.store.Store` for the life of a process; `now_ms` says when something happens.

    The name tells the positions of its changes from those of another process.
    """

    def __init__(self, now_ms: Callable[[], int] = lambda: 0, name: str = "memory", kept: int = KEPT) -> None:
        self._sessions = WorkingSet()
        self._now_ms = now_ms
        self._changes = Ring(name, kept)

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

    async def changes(self, position: str = "", *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position; without one, none and the newest position, or the oldest."""
        return self._changes.after(position, from_oldest=from_oldest)

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def put(self, stored: Stored) -> None:
        """Take a session as another store had it."""
        self._sessions.put(stored)

    def _count(self, count: Count) -> Counted:
        return Counted(tuple(account.session.key for account in count.accounts if not self._counted(account)))

    def _write(self, write: Write) -> Written:
        match write:
            case Create(session, among):
                others = {account.session.key for account in self._sessions.accounts(session.scope)}
                holder = self._sessions.holder(session)
                if holder or session.key in others or (among is not None and others - among):
                    return Conflict(holder)
                self._tell(None, session, 1)
                return self._put(Stored(session, 1))
            case Update(key, revision, criteria, after):
                if (stored := self._at(key, revision)) is None:
                    return Conflict()
                after = after or apply(stored.session, criteria)
                check_change(stored.session, after)
                self._tell(stored.session, after, revision + 1, criteria)
                return self._put(Stored(after, revision + 1))
            case Delete(key, revision, criteria):
                if (stored := self._at(key, revision)) is None:
                    return Conflict()
                after = apply(stored.session, criteria)
                self._tell(stored.session, after, revision + 1, criteria, removed=True)
                self._sessions.drop(key)
                return Deleted()

    def _counted(self, account: Account) -> bool:
        """Take what was counted on an account, if it is still there."""
        if account.meter is None:
            return False
        saved(account)
        return True

    def _tell(
        self,
        before: Session | None,
        after: Session,
        revision: int,
        criteria: UpdateCriteria = NOTHING,
        *,
        removed: bool = False,
    ) -> None:
        """Keep a change, if anybody wants to hear of it."""
        if before is not None:
            paths = told(criteria)
            if removed:
                after = with_parts(before, after, paths)
            elif paths:
                before = with_parts(after, before, paths)
            else:
                return
        self._changes.add(
            Change(
                at_ms=self._now_ms(),
                before=None if before is None else shown(before),
                after=shown(after),
                revision=revision,
                removed=removed,
            )
        )

    def _at(self, key: str, revision: int) -> Stored | None:
        """Return a session if it is at this revision."""
        stored = self._sessions.get(key)
        return stored if stored is not None and stored.revision == revision else None

    def _put(self, stored: Stored) -> Stored:
        self.put(stored)
        return stored
