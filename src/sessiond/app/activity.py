"""Activity: when native sessions were last used, known in memory at once and written only now and then.

A use that comes within `STEP_MS` of the one that is written with the session costs no write. What is only in memory is
lost with the process; so the next one takes every session for used a step later than is written, and none is ever taken
for idle too early. Where other daemons serve the same sessions, that is always so: what they have in memory is unknown.
"""

from typing import Final

from msgspec import structs

from sessiond.app.commit import Outcome
from sessiond.core.draft import Draft
from sessiond.core.session import Record, Session

STEP_MS: Final = 10_000


class Activity:
    """Knows the uses that are not written; `alone` says that no other daemon serves the same sessions."""

    def __init__(self, *, alone: bool = True) -> None:
        self._unknown_ms = 0 if alone else STEP_MS
        self._used_at: dict[str, int] = {}

    def used_at_ms(self, session: Session | Draft) -> int:
        """Return when a session may have been used last, as far as that is not written; 0 if it is."""
        used_at_ms = self._used_at.get(session.key, 0)
        if self._unknown_ms and session.record is not None:
            return max(used_at_ms, session.record.used_at_ms + self._unknown_ms)
        return used_at_ms

    def use(self, key: str, record: Record, now_ms: int) -> bool:
        """Note that a session is used; return whether that is to be written."""
        if now_ms - record.used_at_ms >= STEP_MS:
            return True
        if now_ms > record.used_at_ms:
            self._used_at[key] = max(now_ms, self._used_at.get(key, 0))
        return False

    def up_to_date(self, session: Session) -> Session:
        """Return a session with its last use in it, written or not."""
        used_at_ms = self._used_at.get(session.key, 0)
        if session.record is None or used_at_ms <= session.record.used_at_ms:
            return session
        return structs.replace(session, record=structs.replace(session.record, used_at_ms=used_at_ms))

    def observe(self, outcome: Outcome) -> None:
        """Forget what is written by now."""
        after = outcome.after
        used_at_ms = self._used_at.get(after.key, 0)
        if used_at_ms and (after.record is None or after.head.closed_at_ms or after.record.used_at_ms >= used_at_ms):
            del self._used_at[after.key]

    def take_up(self, session: Session, now_ms: int) -> None:
        """Take a session of an earlier run for used as late as it may have been."""
        if session.record is not None and session.limits is not None and session.limits.idle_timeout_ms:
            self._used_at[session.key] = min(now_ms, session.record.used_at_ms + STEP_MS)
