"""The store port: sessions by key, each with a revision that every write compares and counts up.

Contract; `sessiond.testing.store_contract` has a test for each clause:

1. `get` returns what the last successful write left, with its revision; None if there is nothing.
2. `find` returns all sessions of a scope in the order of their creation.
3. A write that creates succeeds only if the key is free; the first revision is 1.
4. A write that changes or removes succeeds only if the revision is the one it names; the revision counts up by 1.
5. A write that does not succeed changes nothing, and the answer says `Conflict`.
6. Writes of one call are independent: one conflict does not hold the others back; answers come in order. A call
   names a session at most once.
7. A change is applied as `core.update.apply` applies it.
8. `load` yields every session exactly once.
9. Who cannot be answered in time gets `Unavailable`: that nobody knows, never that there is nothing.
10. What became of a write that was `Unavailable`, or whose caller has gone, is settled: from then on `get` and `find`
    return what is true after it, or are `Unavailable` themselves.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from sessiond.core.session import Session
from sessiond.core.update import UpdateCriteria


class Stored(Struct, frozen=True):
    """A session as the store has it."""

    session: Session
    revision: int


class Create(Struct, frozen=True):
    """Store a new session."""

    session: Session


class Update(Struct, frozen=True):
    """Change a session that is still at this revision."""

    key: str
    revision: int
    criteria: UpdateCriteria


class Delete(Struct, frozen=True):
    """Remove a session that is still at this revision."""

    key: str
    revision: int


class Deleted(Struct, frozen=True):
    """The answer to a Delete that succeeded."""


class Conflict(Struct, frozen=True):
    """The answer to a write that found another revision than it names, or none."""


Write: TypeAlias = Create | Update | Delete
Written: TypeAlias = Stored | Deleted | Conflict


class Store(Protocol):
    """Where sessions are kept."""

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        ...

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        ...

    async def write(self, writes: Sequence[Write]) -> list[Written]:
        """Carry out writes; return one answer each."""
        ...

    def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        ...

    async def close(self) -> None:
        """Let go of what the store holds."""
        ...
