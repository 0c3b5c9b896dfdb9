"""Retention: of the sessions of a data source that are over, only the newest are kept.

How long each is kept is a deadline of its own (`core.decide.tick`); here only their number is looked after.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

import structlog

from sessiond.app.commit import Committer, Outcome
from sessiond.app.situation import Circumstances
from sessiond.core.decide.retention import forget
from sessiond.core.errors import Fenced, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Session, finished

log = structlog.get_logger(__name__)

BATCH: Final = 500
RETRY_AFTER_MS: Final = 1000


class Retention:
    """Knows the ended sessions of each type and data source, oldest end first, and lets those beyond the limit go."""

    def __init__(self, committer: Committer, circumstances: Circumstances) -> None:
        self._committer = committer
        self._circumstances = circumstances
        self._ended: dict[tuple[str, str], dict[str, None]] = {}
        self._too_many: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None

    def observe(self, outcome: Outcome) -> None:
        """Take a session that has ended, or is gone."""
        before, after = outcome.before, outcome.after
        if finished(after):
            self._drop(after)
        elif after.head.state is State.CLOSED and (before is None or before.head.state is not State.CLOSED):
            self._take(after)

    def take_up(self, sessions: Iterable[Session]) -> None:
        """Take the sessions that the store remembers."""
        for session in sorted(sessions, key=lambda session: session.head.closed_at_ms):
            if session.head.state is State.CLOSED:
                self._take(session)

    async def drain(self) -> None:
        """Return when all that are too many are gone."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Stop; what is too many goes after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._ended.clear()
        self._too_many.clear()

    def _take(self, session: Session) -> None:
        if session.identity is None:
            return
        ended = self._ended.setdefault(_place(session), {})
        ended[session.key] = None
        limit = self._circumstances.settings.profile(session.type).retention_newest
        while limit and len(ended) > limit:
            key = next(iter(ended))
            del ended[key]
            self._too_many.append(key)
        if self._too_many and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _drop(self, session: Session) -> None:
        place = _place(session)
        ended = self._ended.get(place, {})
        ended.pop(session.key, None)
        if not ended:
            self._ended.pop(place, None)

    async def _run(self) -> None:
        """Forget what is too many; what fails is tried again."""
        try:
            while self._too_many:
                keys = [self._too_many[at] for at in range(min(BATCH, len(self._too_many)))]
                if await self._forgotten(keys):
                    for _ in keys:
                        self._too_many.popleft()
                else:
                    clock = self._circumstances.clock
                    await clock.sleep_until(clock.now_ms() + RETRY_AFTER_MS)
        finally:
            self._task = None

    async def _forgotten(self, keys: list[str]) -> bool:
        try:
            await self._committer.commit_many(dict.fromkeys(keys, forget))
        except Fenced:
            return False
        except Unavailable as error:
            log.warning("retention_waits_for_store", sessions=len(keys), text=error.text)
            return False
        except Exception:
            log.exception("retention_failed", sessions=len(keys))
            return False
        return True


def _place(session: Session) -> tuple[str, str]:
    return session.type, session.identity.data_source if session.identity else ""
