"""Commit: read, decide, write with the revision that was read, and only then let out what was decided.

Between read and write nothing waits for a peer. If somebody else wrote first, it is read and decided again, a bounded
number of times.

A write of which nobody knows whether it happened (the store was away, or the caller has gone) is remembered: as soon as
the store says that it did, what was decided is let out.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

import structlog
from msgspec import Struct

from sessiond.app.locks import KeyedLocks
from sessiond.app.ports.clock import Clock
from sessiond.app.ports.store import (
    Account,
    Conflict,
    Count,
    Counted,
    Create,
    Delete,
    Store,
    Stored,
    Update,
    Write,
    Written,
)
from sessiond.core.draft import Draft
from sessiond.core.effects import News
from sessiond.core.errors import Aborted, AlreadyExists, Fenced, NotFound, Unavailable
from sessiond.core.fields import Origin, origin_of
from sessiond.core.session import Session, finished

Reply = TypeVar("Reply")
Decision = Callable[[Draft], Reply]

ATTEMPTS: Final = 8
SETTLE_PAUSE_MS: Final = 500
"""How long a store that is away is left alone before it is asked again what became of a write."""

log = structlog.get_logger(__name__)


class Outcome(Struct, frozen=True, gc=False):
    """A change that is written: the session before (None if it is new) and after, and the news to spread."""

    before: Session | None
    after: Session
    news: tuple[News, ...] = ()


class Moved(Struct, frozen=True, gc=False):
    """Octets up and down that were counted for a session without a decision about it."""

    session: Session
    tx: int
    rx: int


Observer: TypeAlias = Callable[[Outcome], None]
EVERY_ORIGIN: Final = tuple(Origin)


class Audience:
    """Those who are told of changes, each of those of sessions that were made through some surfaces, in their order."""

    def __init__(self) -> None:
        self._observers: dict[Origin, list[Observer]] = {origin: [] for origin in Origin}

    def add(self, observer: Observer, origins: Iterable[Origin] = EVERY_ORIGIN) -> None:
        """Tell an observer from now on; it must not block and not fail."""
        for origin in origins:
            self._observers[origin].append(observer)

    def tell(self, outcome: Outcome) -> None:
        """Tell everybody of a change who wants to hear of it."""
        for observer in self._observers[origin_of(outcome.after)]:
            observer(outcome)


class _Doubt(Struct, frozen=True, gc=False):
    """A write that may have happened."""

    write: Write
    outcome: Outcome

    def happened(self, stored: Stored | None) -> bool:
        """Whether it did, by what the store has after it is settled."""
        if isinstance(self.write, Delete):
            return stored is None
        revision = 1 if isinstance(self.write, Create) else self.write.revision + 1
        if stored is None or stored.revision != revision:
            return stored is not None and stored.revision > revision
        return stored.session == self.outcome.after


_Change: TypeAlias = tuple[Write, Outcome]


class Committer:
    """Makes decisions stick in a store, and tells its observers, in their order, about each one that did."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._audience = Audience()
        self.observe = self._audience.add
        """Tell an observer of every write of ours from now on."""
        self._tell = self._audience.tell
        self._traffic: list[Callable[[Sequence[Moved]], None]] = []
        self._losers = KeyedLocks()
        """Those who met a conflict try again one after the other, so that any number of them gets its turn."""
        self._doubts: dict[str, list[_Doubt]] = {}
        self._settling: asyncio.Task[None] | None = None

    def observe_traffic(self, observer: Callable[[Sequence[Moved]], None]) -> None:
        """Call this with what is counted without a decision, from now on; it must not block and not fail."""
        self._traffic.append(observer)

    async def close(self) -> None:
        """Leave what is in doubt to the next start, which takes up what it finds."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)

    async def create(self, session: Session, news: Iterable[News] = (), among: frozenset[str] | None = None) -> None:
        """Store a new session, if its scope has no others than those among which it is to be.

        What is in doubt about others of its scope is found out and told before.
        """
        if self._doubts:
            for key in [key for key, doubts in self._doubts.items() if doubts[0].outcome.after.scope == session.scope]:
                await self._read(key)
        (written,) = await self._write([(Create(session, among), Outcome(None, session, tuple(news)))])
        if isinstance(written, Conflict):
            if written.holder:
                raise AlreadyExists("NAME_TAKEN", f"session {written.holder} has what {session.key} is to be found by")
            raise AlreadyExists("SESSION_EXISTS", f"there is a session {session.key} already")

    async def commit(self, key: str, decide: Decision[Reply]) -> Reply:
        """Decide about one session and write it; an error raised by the decision changes nothing."""
        written, reply = await self._attempt(key, decide)
        if written:
            return reply
        async with self._losers.hold(key):
            for _ in range(ATTEMPTS - 1):
                written, reply = await self._attempt(key, decide)
                if written:
                    return reply
        raise Aborted("SESSION_BUSY", f"session {key} was changed by others {ATTEMPTS} times in a row")

    async def _attempt(self, key: str, decide: Decision[Reply]) -> tuple[bool, Reply]:
        """Read, decide and write once; return whether nobody was faster, and the reply."""
        stored = await self._read(key)
        if stored is None:
            raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
        draft = Draft(stored.session)
        reply = decide(draft)
        change = _change_of(draft, stored)
        if change is None:
            self._tell_news(stored, draft)
            return True, reply
        (written,) = await self._write([change])
        return not isinstance(written, Conflict), reply

    async def count(self, accounts: Sequence[Account]) -> Sequence[str]:
        """Write what was counted on accounts; return the keys of those that somebody else has changed meanwhile."""
        moved = [Moved(account.session, *account.meter.told()) for account in accounts if account.meter is not None]
        for observer in self._traffic:
            observer(moved)
        (counted,) = await self._store.write([Count(accounts)])
        return counted.conflicts if isinstance(counted, Counted) else ()

    async def commit_many(self, decisions: Mapping[str, Decision[Reply]]) -> dict[str, Reply]:
        """Decide about many sessions and write them together; return the replies by key.

        Sessions that are gone are passed over. A decision that fails is logged and holds nobody else back.
        """
        replies: dict[str, Reply] = {}
        waiting = dict(decisions)
        for _ in range(ATTEMPTS):
            if not waiting:
                break
            waiting = await self._round(waiting, replies)
        for key in waiting:
            log.error("commit_given_up", session=key, attempts=ATTEMPTS)
        return replies

    async def _round(
        self, waiting: Mapping[str, Decision[Reply]], replies: dict[str, Reply]
    ) -> dict[str, Decision[Reply]]:
        """Read, decide and write once for each; return those that met a conflict."""
        changed: list[_Change] = []
        decided: list[tuple[str, Reply]] = []
        for key, decide in waiting.items():
            stored = await self._read(key)
            if stored is None:
                continue
            draft = Draft(stored.session)
            try:
                reply = decide(draft)
            except Exception:
                log.exception("decision_failed", session=key)
                continue
            change = _change_of(draft, stored)
            if change is None:
                replies[key] = reply
                self._tell_news(stored, draft)
            else:
                changed.append(change)
                decided.append((key, reply))
        again: dict[str, Decision[Reply]] = {}
        for (key, reply), written in zip(decided, await self._write(changed), strict=True):
            if isinstance(written, Conflict):
                again[key] = waiting[key]
            else:
                replies[key] = reply
        return again

    async def _read(self, key: str) -> Stored | None:
        """Return a session, after telling of writes that turn out to have happened."""
        stored = await self._store.get(key)
        for doubt in self._doubts.pop(key, ()):
            if doubt.happened(stored):
                self._tell(doubt.outcome)
        return stored

    async def _write(self, changes: Sequence[_Change]) -> list[Written | Counted]:
        """Write, and tell of what was written."""
        if not changes:
            return []
        try:
            answers = await self._store.write([write for write, _ in changes])
        except BaseException:
            self._doubt(changes)
            raise
        for (_, outcome), written in zip(changes, answers, strict=True):
            if not isinstance(written, Conflict):
                self._tell(outcome)
        return answers

    def _doubt(self, changes: Sequence[_Change]) -> None:
        """Remember writes that may have happened, and find out."""
        for write, outcome in changes:
            self._doubts.setdefault(outcome.after.key, []).append(_Doubt(write, outcome))
        if self._settling is None or self._settling.done():
            self._settling = asyncio.get_running_loop().create_task(self._settle())

    async def _settle(self) -> None:
        """Ask the store what became of the writes in doubt, until it has said so of all of them."""
        while self._doubts:
            try:
                await self._read(next(iter(self._doubts)))
            except Unavailable:
                await self._clock.sleep_until(self._clock.now_ms() + SETTLE_PAUSE_MS)
            except Fenced:
                return  # nobody of ours waits for what became of them
            except Exception:
                log.exception("writes_not_settled", sessions=len(self._doubts))
                return

    def _tell_news(self, stored: Stored, draft: Draft) -> None:
        if draft.news:
            self._tell(Outcome(stored.session, stored.session, tuple(draft.news)))


def _change_of(draft: Draft, stored: Stored) -> _Change | None:
    """Return the write of a decision, and what comes of it; a session for which nothing is left to do is removed."""
    criteria = draft.criteria()
    if not criteria:
        return None
    after = draft.session()
    outcome = Outcome(stored.session, after, tuple(draft.news))
    if finished(after):
        return Delete(draft.key, stored.revision, criteria), outcome
    return Update(draft.key, stored.revision, criteria, after), outcome
