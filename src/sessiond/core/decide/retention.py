"""Retention: how long a session that is over can still be looked at."""

from sessiond.core.draft import Draft
from sessiond.core.profiles import Profile


def keep_for_now(draft: Draft, profile: Profile, now_ms: int) -> None:
    """Note until when a session is kept that has just ended."""
    if profile.retention_after_end_ms:
        draft.set("head", forget_at_ms=now_ms + profile.retention_after_end_ms)


def forget(draft: Draft) -> None:
    """Let a session go that is over; one that is not, stays."""
    if draft.head.closed_at_ms and not draft.head.forgotten:
        draft.set("head", forgotten=True)
