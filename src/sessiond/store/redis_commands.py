"""The commands that read and write sessions in Redis, and what their replies mean."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

from msgspec import Struct

from sessiond.app.ports.store import Account, Stored, Told
from sessiond.core.changes import Change, told
from sessiond.core.session import Session
from sessiond.core.update import UpdateCriteria
from sessiond.store import codec
from sessiond.store import redis_scripts as scripts
from sessiond.store.codec import NO_PATCH, Patch
from sessiond.store.redis_keys import (
    EPOCH,
    FEED,
    FEED_ENDS,
    FEED_LOG,
    Shards,
    name_key,
    names_of,
    scope_name,
    slot_of,
    slot_of_log,
    slot_of_scope,
)
from sessiond.store.redis_link import Command
from sessiond.store.ring import KEPT

Item = TypeVar("Item")

TIME_TO_LIVE_MS: Final = 30 * 86_400_000
"""When Redis forgets a session that no daemon has looked after: expiry is a decision of the daemon."""
COUNTED_AT_ONCE: Final = 250
"""Sessions whose usage is written by one command: so many that a command costs little, and holds nobody else up."""
CHANGED_AT_ONCE: Final = 50
"""Sessions that one command changes."""
RESERVED_MS: Final = 60_000
"""How long a session may take to be entered under its names."""
TOMBSTONE_MS: Final = 600_000
"""How long a repeat of an operation on a session that is gone is recognised."""

KEPT_OF_SLOT: Final = 64
"""How many changes are kept of each slot of a cluster: what its log has of one slot, as a rule."""

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


class Quiet(Struct, frozen=True, gc=False):
    """A change that nobody is told of, with what is there after it; `behind` is as with `change`."""

    after: Stored
    criteria: UpdateCriteria
    behind: bool

    @property
    def session(self) -> Session:
        """The session as it will be."""
        return self.after.session


class Commands:
    """Makes commands for one daemon; its name, which nobody else has, and its own count make every operation unique."""

    def __init__(
        self, shards: Shards, daemon: str, deadline: Callable[[Session], int | None], now_ms: Callable[[], int]
    ) -> None:
        self.epoch = 0
        self._now_ms = now_ms
        self._shards = shards
        self.daemon = daemon
        self._feed = FEED_LOG if shards.per_slot else FEED
        self._feed_slot = slot_of_log() if shards.per_slot else 0
        self._kept = KEPT_OF_SLOT if shards.per_slot else KEPT
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
        """Take every shard over; the replies are the keys of its sessions, and how many changes its feed has."""
        shards = self._shards
        return [
            (slot, scripts.TAKE.run([shards.owner(slot), shards.index(slot), shards.feed(slot)], self.epoch))
            for slot in shards.slots()
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

    def feed(self, position: str, count: int) -> Command:
        """Ask for what the feed, or the log of all feeds, has from a position on, with the entry at the position."""
        return self._feed_slot, ("XRANGE", self._feed, position, "+", "COUNT", count)

    def feed_end(self) -> Command:
        """Ask for the last entry of the feed, or of the log."""
        return self._feed_slot, ("XREVRANGE", self._feed, "+", "-", "COUNT", 1)

    def begin_feed(self) -> Command:
        """Put an entry into the feed, or into the log, that tells nothing; the reply is its id."""
        return self._feed_slot, ("XADD", self._feed, "*", "begin", self.daemon)

    def feed_entry(self, slot: int, position: str) -> Command:
        """Ask for one entry of the feed of a slot."""
        return slot, ("XRANGE", self._shards.feed(slot), position, position)

    def feed_after(self, slot: int, position: str, count: int) -> Command:
        """Ask for what the feed of a slot has after a position."""
        return slot, ("XRANGE", self._shards.feed(slot), f"({position}", "+", "COUNT", count)

    def logged(self, slots: Sequence[int]) -> Command:
        """Ask up to where the feeds of some slots are in the log."""
        return slot_of_log(), ("HMGET", FEED_ENDS, *slots)

    def log(self, entries: Sequence[tuple[int, str]]) -> Command:
        """Bring entries of feeds, each a slot and an id, into the log."""
        return slot_of_log(), scripts.LOG.run([FEED_LOG, FEED_ENDS], KEPT, *chain.from_iterable(entries))

    def keep(self, key: str) -> Command:
        """Let Redis not forget a session, or take one that it has forgotten off the lists."""
        names = names_of(key)
        keys = [names.session, names.scope, self._shards.index(names.slot)]
        return names.slot, scripts.KEEP.run(keys, key, TIME_TO_LIVE_MS)

    def create(self, session: Session, among: frozenset[str] | None) -> Command:
        """Store a new session, if its scope has only those among which it is to be."""
        return self._create("CREATE", session, among)

    def _create(self, verb: str, session: Session, among: frozenset[str] | None, operation: str = "") -> Command:
        scope = () if among is None else tuple(key.encode() for key in {*among, session.key})
        fields, note = Patch(codec.encode(session), scope), self._note("CREATE", NO_PATCH)
        return self._write(verb, session.key, 0, session, fields, note, operation)

    def operation(self) -> str:
        """Return the name of an operation that was not there before."""
        self._operations += 1
        return f"{self.daemon}-{self._operations:x}"

    def reserve(self, key: str, operation: str, to_live_ms: int = RESERVED_MS) -> Command:
        """Reserve the key of a session that bears names, or give it back after 0 ms."""
        names = names_of(key)
        keys = [names.session, self._shards.owner(names.slot)]
        return names.slot, scripts.RESERVE.run(keys, self.epoch, operation, to_live_ms)

    def confirm(self, session: Session, among: frozenset[str] | None, operation: str) -> Command:
        """Store a new session where its key is still reserved, if its scope has only those among which it is to be."""
        return self._create("CONFIRM", session, among, operation)

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

    def change(self, before: Stored, after: Session, criteria: UpdateCriteria, *, anew: bool, behind: bool) -> Command:
        """Change some fields of a session, or write it anew as a whole; who watches can tell what was before.

        `behind`: usage is stored beside the parts that it changed.
        """
        verb = "REPLACE" if anew else "CHANGE"
        patch = Patch(codec.encode(after), ()) if anew else codec.patch(after, criteria.parts, behind=behind)
        paths = told(criteria)
        note = self._note(verb, codec.patch(before.session, paths)) if paths else b""
        return self._write(verb, after.key, before.revision, after, patch, note)

    def restore(self, stored: Stored) -> Command:
        """Put a session back that the server has lost, or of which it has lost the last changes."""
        session = stored.session
        return self._write("RESTORE", session.key, stored.revision, session, Patch(codec.encode(session), ()))

    def delete(self, key: str, revision: int, last: Session, criteria: UpdateCriteria) -> Command:
        """Remove a session at this revision; who watches is told its last state."""
        note = self._note("DELETE", codec.patch(last, told(criteria)))
        return self._write("DELETE", key, revision, None, NO_PATCH, note)

    def count(self, accounts: Sequence[Account]) -> Iterator[tuple[Command, list[Account]]]:
        """Write what was counted on accounts, each at its revision; yield commands, each with those that it is about.

        The reply has a letter for each; O says that it is written.
        """
        for some in self.grouped(accounts, lambda account: account.session.scope, COUNTED_AT_ONCE):
            yield self._count(some), some

    def grouped(
        self, items: Iterable[Item], scope: Callable[[Item], str], at_once: int = CHANGED_AT_ONCE
    ) -> Iterator[list[Item]]:
        """Yield items in groups that one command can be about, by their scopes."""
        groups: dict[int, list[Item]] = {}
        for item in items:
            place = self._shards.together(slot_of_scope(scope(item))) if self._shards.per_slot else 0
            groups.setdefault(place, []).append(item)
        for group in groups.values():
            for start in range(0, len(group), at_once):
                yield group[start : start + at_once]

    def change_many(self, changes: Sequence[Quiet]) -> Command:
        """Change some fields of several sessions, each at its revision; the reply is like that to `count`."""
        owners: dict[str, None] = {}
        keys: list[str] = []
        args: list[Any] = []
        for change in changes:
            session = change.session
            names = names_of(session.key)
            owners[self._shards.owner(names.slot)] = None
            keys += (names.session, names.gone, self._shards.index(names.slot))
            patch = codec.patch(session, change.criteria.parts, behind=change.behind)
            numbers = (change.after.revision - 1, self._index_score(session), len(patch.drop), 2 * len(patch.put))
            args += (session.key, *numbers, *patch.drop, *chain.from_iterable(patch.put.items()))
        operation = self.operation()
        return names.slot, scripts.CHANGE_MANY.run([*owners, *keys], self.epoch, len(owners), operation, *args)

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

    def _index_score(self, session: Session) -> int | str:
        deadline_ms = self._deadline(session)
        return "inf" if deadline_ms is None else deadline_ms

    def _note(self, verb: str, patch: Patch) -> bytes:
        return codec.note(verb, self.daemon, self._now_ms(), patch)

    def _write(
        self,
        verb: str,
        key: str,
        revision: int,
        after: Session | None,
        patch: Patch,
        note: bytes = b"",
        operation: str = "",
    ) -> Command:
        names = names_of(key)
        keys = [
            names.session,
            names.scope,
            self._shards.index(names.slot),
            self._shards.owner(names.slot),
            names.gone,
            self._shards.feed(names.slot),
        ]
        deadline = "inf" if after is None else self._index_score(after)
        to_live_ms = TOMBSTONE_MS if after is None else TIME_TO_LIVE_MS
        fields = (len(patch.drop), *patch.drop, *chain.from_iterable(patch.put.items()))
        told = (note, self._kept)
        args = (verb, self.epoch, operation or self.operation(), revision, key, deadline, to_live_ms, *told, *fields)
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


def told_in(entry: Sequence[Any], position: str, daemon: str) -> Told:
    """Return the change that an entry of the feed holds; the daemon is the one that asks."""
    pairs = iter(entry)
    fields = dict(zip(pairs, pairs, strict=True))
    note = codec.decode_note(fields.pop(b"note"))
    revision = int(fields.pop(b"revision"))
    there = codec.decode(fields)
    removed = note.verb == "DELETE"
    before, after = (there, codec.patched(there, note)) if removed else (codec.patched(there, note), there)
    change = Change(
        at_ms=note.at_ms,
        before=None if note.verb == "CREATE" else before,
        after=after,
        revision=revision + removed,
        removed=removed,
    )
    return Told(position, change, own=note.by == daemon)


def keys_in(replies: list[Any]) -> list[str]:
    """Return the keys that the replies to `members` or `scope` hold."""
    return [key.decode() for reply in replies for key in reply]
