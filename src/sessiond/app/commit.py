"""Commit: read, decide, write with the revision that was read, and only then let out what was decided.

Between read and write nothing waits for a peer. If somebody else wrote first, it is read and decided again, a bounded
number of times.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import structlog
from msgspec import Struct

from sessiond.app.ports.store import Conflict, Create, Delete, Store, Stored, Update, Write
from sessiond.core.draft import Draft
from sessiond.core.effects import News
from sessiond.core.errors import Aborted, NotFound
from sessiond.core.session import Session, finished

Reply = TypeVar("Reply")
Decision = Callable[[Draft], Reply]

ATTEMPTS: Final = 8

log = structlog.get_logger(__name__)


class Outcome(Struct, frozen=True):
    """A change that is written: the session before (None if it is new) and after, and the news to spread."""

    before: Session | None
    after: Session
    news: tuple[News, ...] = ()


class Committer:
    """Makes decisions stick in a store, and tells its observers, in their order, about each one that did."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._observers: list[Callable[[Outcome], None]] = []

    def observe(self, observer: Callable[[Outcome], None]) -> None:
        """Call this after every write from now on; it must not block and not fail."""
        self._observers.append(observer)

    async def create(self, session: Session, news: Iterable[News] = ()) -> None:
        """Store a new session."""
        (written,) = await self._store.write([Create(session)])
        if isinstance(written, Conflict):
            raise Aborted("SESSION_EXISTS", f"there is a session {session.key} already")
        self._tell(Outcome(None, session, tuple(news)))

    async def commit(self, key: str, decide: Decision[Reply]) -> Reply:
        """Decide about one session and write it; an error raised by the decision changes nothing."""
        for _ in range(ATTEMPTS):
            stored = await self._store.get(key)
            if stored is None:
                raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
            draft = Draft(stored.session)
            reply = decide(draft)
            write = _write_of(draft, stored)
            if write is None:
                self._tell_news(stored, draft)
                return reply
            (written,) = await self._store.write([write])
            if not isinstance(written, Conflict):
                self._tell(Outcome(stored.session, draft.session(), tuple(draft.news)))
                return reply
        raise Aborted("SESSION_BUSY", f"session {key} was changed by others {ATTEMPTS} times in a row")

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
        changed: list[tuple[Write, Stored, Draft, Reply]] = []
        for key, decide in waiting.items():
            stored = await self._store.get(key)
            if stored is None:
                continue
            draft = Draft(stored.session)
            try:
                reply = decide(draft)
            except Exception:
                log.exception("decision_failed", session=key)
                continue
            write = _write_of(draft, stored)
            if write is None:
                replies[key] = reply
                self._tell_news(stored, draft)
            else:
                changed.append((write, stored, draft, reply))
        answers = await self._store.write([write for write, *_ in changed])
        again: dict[str, Decision[Reply]] = {}
        for (_, stored, draft, reply), written in zip(changed, answers, strict=True):
            if isinstance(written, Conflict):
                again[draft.key] = waiting[draft.key]
            else:
                replies[draft.key] = reply
                self._tell(Outcome(stored.session, draft.session(), tuple(draft.news)))
        return again

    def _tell_news(self, stored: Stored, draft: Draft) -> None:
        if draft.news:
            self._tell(Outcome(stored.session, stored.session, tuple(draft.news)))

    def _tell(self, outcome: Outcome) -> None:
        for observer in self._observers:
            observer(outcome)


def _write_of(draft: Draft, stored: Stored) -> Write | None:
    """Return the write of a decision: a session for which nothing is left to be done is removed."""
    criteria = draft.criteria()
    if not criteria:
        return None
    if finished(draft.session()):
        return Delete(draft.key, stored.revision)
    return Update(draft.key, stored.revision, criteria)
