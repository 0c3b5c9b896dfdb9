"""Activity: when native sessions were last used, known in memory at once and written only now and then.

A use that comes within `STEP_MS` of the one that is written with the session costs no write. What is only in memory is
lost with the process; so the next one takes every session for used a step later than is written, and none is ever taken
for idle too early.
"""

from typing import Final

from msgspec import structs

from sessiond.app.commit import Outcome
from sessiond.core.session import Record, Session

STEP_MS: Final = 10_000


class Activity:
    """Knows the uses that are not written."""

    def __init__(self) -> None:
        self._used_at: dict[str, int] = {}

    def used_at_ms(self, key: str) -> int:
        """Return when a session was last used as far as that is not written; 0 if it is."""
        return self._used_at.get(key, 0)

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
        key, record = outcome.after.key, outcome.after.record
        if key in self._used_at and (record is None or _is_over(outcome) or record.used_at_ms >= self._used_at[key]):
            del self._used_at[key]

    def take_up(self, session: Session, now_ms: int) -> None:
        """Take a session of an earlier run for used as late as it may have been."""
        if session.record is not None and session.limits is not None and session.limits.idle_timeout_ms:
            self._used_at[session.key] = min(now_ms, session.record.used_at_ms + STEP_MS)


def _is_over(outcome: Outcome) -> bool:
    return bool(outcome.after.head.closed_at_ms)
