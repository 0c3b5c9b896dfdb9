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
11. What is counted on the meter of an account is in the session that `get`, `find` and `load` return. `Count` writes it
    for many sessions at once; for each of them it is a write like any other, and the answer names those in conflict.
12. `named` returns the sessions that bear a name of `core.names`, by `core.names.age`.
13. A claim of `core.names` has one bearer: a creation that would give it a second one is a `Conflict` that says who
    has it. A change that would give a session another name is a ValueError.

How one write of one session can keep a claim, which any session may have that lies anywhere: memory, and Redis with one
owner, decide before they write, from the sessions they know and the writes under way. Daemons that share a Redis, where
a claim may lie in another slot than its session, go three steps: they reserve the key of the session, for a while and
unseen; enter the session under its names, which says who was there before; and create the session where the reservation
still is. Who finds before him somebody who bears the claim, or has his key reserved still, withdraws. So a claim is
entered only by who can be found, and is free as soon as who has it is over, gone, or did not come to create his session
in time. No clock and no order of messages is trusted, only that one slot does one thing after the other.
19. A write that creates among the sessions that were found in a scope succeeds only if the scope has no other by now.
20. `changes` tells of every write that creates or removes a session or changes what somebody wants to hear of
    (`core.changes`), whoever wrote it, as soon as the write is answered; of no other write, and of a session in the
    order of its revisions.
21. `changes(position)` goes on right after that position: no gap, no repetition, whoever asks and however often.
22. A position that is not kept any more, or never was one of this store, is `OutOfRange`.
23. `changes(position, from_oldest=True)` passes over what is not kept any more: it begins with the oldest change that
    is kept, after the position if there is one.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from sessiond.core.changes import Change
from sessiond.core.decide.meter import Meter
from sessiond.core.session import Session
from sessiond.core.update import NOTHING, UpdateCriteria


class Stored(Struct, frozen=True, gc=False):
    """A session as the store has it."""

    session: Session
    revision: int


class Create(Struct, frozen=True):
    """Store a new session; `among`, if it is given, are the only other sessions that its scope may have."""

    session: Session
    among: frozenset[str] | None = None


class Update(Struct, frozen=True, gc=False):
    """Change a session that is still at this revision."""

    key: str
    revision: int
    criteria: UpdateCriteria
    after: Session | None = None
    """What comes of it, from one who has worked it out already."""


class Delete(Struct, frozen=True):
    """Remove a session that is still at this revision; the criteria lead to its last state."""

    key: str
    revision: int
    criteria: UpdateCriteria = NOTHING


class Account(Struct, eq=False):
    """A session as it is held in memory; while it has a meter, usage may be counted on that in between two writes."""

    session: Session
    revision: int
    meter: Meter | None = None
    behind: bool = False
    """Whether the stored parts may be older than the session: what was counted since is stored beside them."""


class Count(Struct, frozen=True, gc=False):
    """Write what was counted on meters."""

    accounts: Sequence[Account]


class Counted(Struct, frozen=True, gc=False):
    """The answer to a Count, with the keys of the sessions for which nothing was written."""

    conflicts: tuple[str, ...] = ()


class Deleted(Struct, frozen=True, gc=False):
    """The answer to a Delete that succeeded."""


class Conflict(Struct, frozen=True):
    """The answer to a write that found another revision than it names, or none, or a claim that is taken."""

    holder: str = ""
    """The key of the session that has the claim; empty if it was the revision."""


class Told(Struct, frozen=True):
    """A change, where it stands among all changes, and whether it was written through this very store."""

    position: str
    change: Change
    own: bool


class Changes(Struct, frozen=True):
    """Some changes in their order, and where to go on after them; `more`: there may be others already."""

    told: Sequence[Told]
    position: str
    more: bool = False


Write: TypeAlias = Create | Update | Delete
Written: TypeAlias = Stored | Deleted | Conflict


def key_of(write: Write) -> str:
    """Return the key of the session that a write is about."""
    return write.session.key if isinstance(write, Create) else write.key


class Store(Protocol):
    """Where sessions are kept."""

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        ...

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        ...

    def accounts(self, scope: str) -> Sequence[Account] | None:
        """Return the sessions of a scope to count on, at once; None if that takes asking, or a write is under way."""
        ...

    async def named(self, name: str) -> list[Stored]:
        """Return the sessions that bear a name."""
        ...

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes; return one answer each."""
        ...

    def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        ...

    async def changes(self, position: str = "", *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position; without one, none and the newest position, or the oldest."""
        ...

    async def close(self) -> None:
        """Let go of what the store holds."""
        ...
