"""Time and native sessions: when one lapses, and what it is to those who ask for it from that very millisecond on."""

from collections.abc import Iterator
from typing import Final

from sessiond.core.decide.requests import note_change
from sessiond.core.decide.retention import keep_for_now
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound
from sessiond.core.lifecycle import Event, State
from sessiond.core.session import Limits, Record, Session
from sessiond.core.situation import Situation

EXPIRED: Final = "EXPIRED"
IDLE: Final = "IDLE"
TIMED_OUT: Final = "TIMED_OUT"

UNDECIDED: Final = frozenset({State.REQUESTED, State.CREATING, State.ACTIVATING})
"""The states that may not last."""
OPEN: Final = frozenset({State.CREATED, State.ACTIVE, State.PAUSED})
"""The states that a session is in until time or somebody ends it."""

Lapse = tuple[str, int]
"""Why a session ends by itself, and when (unix ms)."""


def lapses(session: Session | Draft, used_at_ms: int) -> Iterator[Lapse]:
    """Yield what time alone does to a native session that has not ended; it was last used then, if not later."""
    limits, state = session.limits, session.head.state
    if limits is None or session.record is None:
        return
    if state in UNDECIDED:
        if limits.decide_by_ms:
            yield TIMED_OUT, min(limits.decide_by_ms, limits.expire_at_ms or limits.decide_by_ms)
    elif state in OPEN and session.options is not None and session.options.auto_expire:
        if limits.expire_at_ms:
            yield EXPIRED, limits.expire_at_ms
        if limits.idle_timeout_ms:
            yield IDLE, idle_at_ms(limits, session.record, used_at_ms)


def idle_at_ms(limits: Limits, record: Record, used_at_ms: int) -> int:
    """Return when a session has not been used for too long, if nobody uses it any more."""
    return max(record.used_at_ms, used_at_ms) + limits.idle_timeout_ms


def lapsed(session: Session | Draft, used_at_ms: int, now_ms: int) -> str:
    """Return why the time of a session is over; nothing, if it is not."""
    reason, at_ms = min(lapses(session, used_at_ms), key=_when, default=("", 0))
    return reason if reason and at_ms <= now_ms else ""


def tick(draft: Draft, at: Situation, used_at_ms: int) -> None:
    """End a session whose time is over."""
    reason = lapsed(draft, used_at_ms, at.now_ms)
    if reason:
        event = Event.TIMEOUT if reason == TIMED_OUT else Event.EXPIRE
        close(draft, event, reason, at)
        note_change(draft, at.now_ms)


def close(draft: Draft, event: Event, reason: str, at: Situation) -> None:
    """End a native session by an event that leads to its end at once."""
    draft.step(event, at.now_ms, reason)
    keep_for_now(draft, at.settings.profile(draft.type), at.now_ms)


def expired(session: Session | Draft, now_ms: int) -> bool:
    """Whether the expire time of a session has passed while it was open, whether it was ended for that or not."""
    if session.head.reason == EXPIRED:
        return True
    limits = session.limits
    return limits is not None and 0 < limits.expire_at_ms <= now_ms and session.head.state not in _OVER


def check_found(session: Session | Draft, now_ms: int) -> None:
    """Raise NotFound for a session that nobody may see any more."""
    if session.head.forgotten:
        raise NotFound("SESSION_NOT_FOUND", f"there is no session {session.key}")
    if expired(session, now_ms):
        raise NotFound("SESSION_EXPIRED", f"session {session.key} has expired")


def _when(lapse: Lapse) -> int:
    return lapse[1]


_OVER: Final = frozenset({State.CLOSING, State.CLOSED})
