"""The commands that read and write sessions in Redis, and what their replies mean."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from msgspec import Struct

from sessiond.app.ports.store import Account, Stored
from sessiond.core.session import Session
from sessiond.store import codec
from sessiond.store import redis_scripts as scripts
from sessiond.store.codec import Patch
from sessiond.store.redis_keys import EPOCH, Shards, name_key, names_of, scope_name, slot_of, slot_of_scope
from sessiond.store.redis_link import Command

TIME_TO_LIVE_MS: Final = 30 * 86_400_000
"""When Redis forgets a session that no daemon has looked after: expiry is a decision of the daemon."""
COUNTED_AT_ONCE: Final = 250
"""Sessions whose usage is written by one command: so many that a command costs little, and holds nobody else up."""
RESERVED_MS: Final = 60_000
"""How long a session may take to be entered under its names."""
TOMBSTONE_MS: Final = 600_000
"""How long a repeat of an operation on a session that is gone is recognised."""

_OURS: Final = (b"revision", b"operations", b"number")
"""The fields of a hash that are not the session's."""


class Found(Struct, frozen=True):
    """A session as it was found, and how many there were in its scope when it was created."""

    stored: Stored
    number: int
    older: bool
    """Whether it is in an older format, which has to be written anew as a whole."""
    behind: bool
    """Whether usage is stored beside the parts that it changed."""


class Commands:
    """Makes commands for one daemon; its name, which nobody else has, and its own count make every operation unique."""

    def __init__(self, shards: Shards, daemon: str, deadline: Callable[[Session], int | None]) -> None:
        self.epoch = 0
        self._shards = shards
        self._daemon = daemon
        self._deadline = deadline
        self._operations = 0

    def claim(self, *, exclusive: bool) -> Command:
        """Take an epoch, or put the one we have back."""
        mode = "exclusive" if exclusive else "shared"
        return slot_of(EPOCH), scripts.CLAIM.run([EPOCH], mode, self.epoch)

    def epoch_now(self) -> Command:
        """Ask for the newest epoch."""
        return slot_of(EPOCH), ("HGET", EPOCH, "number")

    def take(self) -> list[Command]:
        """Take every shard over; the replies are the keys of all sessions."""
        return [
            (slot, scripts.TAKE.run([self._shards.owner(slot), self._shards.index(slot)], self.epoch))
            for slot in self._shards.slots()
        ]

    def members(self) -> list[Command]:
        """Ask for the keys of all sessions."""
        return [(slot, ("ZRANGE", self._shards.index(slot), 0, -1)) for slot in self._shards.slots()]

    def scope(self, scope: str) -> Command:
        """Ask for the keys of a scope, in the order of creation."""
        return slot_of_scope(scope), ("ZRANGE", scope_name(scope), 0, -1)

    def read(self, key: str) -> Command:
        """Ask for a session."""
        names = names_of(key)
        return names.slot, ("HGETALL", names.session)

    def keep(self, key: str) -> Command:
        """Let Redis not forget a session, or take one that it has forgotten off the lists."""
        names = names_of(key)
        keys = [names.session, names.scope, self._shards.index(names.slot)]
        return names.slot, scripts.KEEP.run(keys, key, TIME_TO_LIVE_MS)

    def create(self, session: Session) -> Command:
        """Store a new session."""
        return self._write("CREATE", session.key, 0, session, Patch(codec.encode(session), ()))

    def operation(self) -> str:
        """Return the name of an operation that was not there before."""
        self._operations += 1
        return f"{self._daemon}-{self._operations:x}"

    def reserve(self, key: str, operation: str, to_live_ms: int = RESERVED_MS) -> Command:
        """Reserve the key of a session that bears names, or give it back after 0 ms."""
        names = names_of(key)
        keys = [names.session, self._shards.owner(names.slot)]
        return names.slot, scripts.RESERVE.run(keys, self.epoch, operation, to_live_ms)

    def confirm(self, session: Session, operation: str) -> Command:
        """Store a new session where its key is still reserved."""
        return self._write("CONFIRM", session.key, 0, session, Patch(codec.encode(session), ()), operation)

    def enter(self, name: str, entry: str, *, claim: bool) -> Command:
        """Enter a session under a name; the reply is who has a claim already."""
        return slot_of_scope(name), scripts.ENTER.run([name_key(name)], entry, TIME_TO_LIVE_MS, int(claim))

    def entries(self, name: str) -> Command:
        """Ask who is entered under a name."""
        return slot_of_scope(name), ("ZRANGE", name_key(name), 0, -1)

    def keep_name(self, name: str) -> Command:
        """Let Redis not forget a name."""
        return slot_of_scope(name), ("PEXPIRE", name_key(name), TIME_TO_LIVE_MS)

    def strike_off(self, name: str, entries: Sequence[bytes]) -> Command:
        """Take who is gone off the list of a name."""
        return slot_of_scope(name), ("ZREM", name_key(name), *entries)

    def entered(self) -> Command:
        """Ask for the epoch in which all names were entered."""
        return slot_of(EPOCH), ("HGET", EPOCH, "entered")

    def all_entered(self) -> Command:
        """Say that all names are entered."""
        return slot_of(EPOCH), ("HSET", EPOCH, "entered", self.epoch)

    def change(self, after: Session, revision: int, patch: Patch) -> Command:
        """Change some fields of a session at this revision."""
        return self._write("CHANGE", after.key, revision, after, patch)

    def replace(self, after: Session, revision: int) -> Command:
        """Write a session at this revision anew as a whole."""
        return self._write("REPLACE", after.key, revision, after, Patch(codec.encode(after), ()))

    def restore(self, stored: Stored) -> Command:
        """Put a session back that the server has lost, or of which it has lost the last changes."""
        session = stored.session
        return self._write("RESTORE", session.key, stored.revision, session, Patch(codec.encode(session), ()))

    def delete(self, key: str, revision: int) -> Command:
        """Remove a session at this revision."""
        return self._write("DELETE", key, revision, None, Patch({}, ()))

    def count(self, accounts: Sequence[Account]) -> Iterator[tuple[Command, list[Account]]]:
        """Write what was counted on accounts, each at its revision; yield commands, each with those that it is about.

        The reply has a letter for each; O says that it is written.
        """
        groups: dict[int, list[Account]] = {}
        for account in accounts:
            groups.setdefault(self._shards.together(slot_of_scope(account.session.scope)), []).append(account)
        for group in groups.values():
            for start in range(0, len(group), COUNTED_AT_ONCE):
                some = group[start : start + COUNTED_AT_ONCE]
                yield self._count(some), some

    def _count(self, accounts: Sequence[Account]) -> Command:
        owners: dict[str, None] = {}
        sessions: list[str] = []
        args: list[Any] = []
        for account in accounts:
            names = names_of(account.session.key)
            owners[self._shards.owner(names.slot)] = None
            sessions.append(names.session)
            args += (account.revision, codec.counted(account.meter) if account.meter is not None else b"[]")
        return names.slot, scripts.COUNT.run([*owners, *sessions], self.epoch, len(owners), *args)

    def _write(
        self, verb: str, key: str, revision: int, after: Session | None, patch: Patch, operation: str = ""
    ) -> Command:
        names = names_of(key)
        keys = [
            names.session,
            names.scope,
            self._shards.index(names.slot),
            self._shards.owner(names.slot),
            names.gone,
        ]
        deadline_ms = self._deadline(after) if after is not None else None
        deadline = "inf" if deadline_ms is None else deadline_ms
        to_live_ms = TOMBSTONE_MS if after is None else TIME_TO_LIVE_MS
        fields = (len(patch.drop), *patch.drop, *chain.from_iterable(patch.put.items()))
        args = (verb, self.epoch, operation or self.operation(), revision, key, deadline, to_live_ms, *fields)
        return names.slot, scripts.WRITE.run(keys, *args)


def found(reply: list[bytes]) -> Found | None:
    """Return the session that the reply to a `read` holds, or None if there is none."""
    fields = fields_in(reply)
    if b"revision" not in fields:
        return None
    revision, _, number = (fields.pop(name, b"0") for name in _OURS)
    return Found(
        Stored(codec.decode(fields), int(revision)), int(float(number)), codec.is_older(fields), codec.has_meter(fields)
    )


def fields_in(reply: list[bytes]) -> dict[bytes, bytes]:
    """Return the fields that the reply to a `read` holds; there may be nothing but a reservation."""
    pairs = iter(reply)
    return dict(zip(pairs, pairs, strict=True))


def reserved_in(reply: list[bytes]) -> bytes:
    """Return the operation that has reserved the key that a `read` asked for; empty if none has, or it is stored."""
    fields = fields_in(reply)
    return b"" if b"revision" in fields else fields.get(b"reserved", b"")


def keys_in(replies: list[Any]) -> list[str]:
    """Return the keys that the replies to `take`, `members` or `scope` hold."""
    return [key.decode() for reply in replies for key in reply]
