"""Changes: what those who watch sessions are told of a write, and of which writes they are told at all.

A change is a session before and after one write; what happened follows from the two. What a session counts all the
time is no news: a write that touches nothing else is not told of.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec import Struct

from sessiond.core.ends import EndReason
from sessiond.core.lifecycle import State
from sessiond.core.session import Session
from sessiond.core.update import Change as PartChange
from sessiond.core.update import Operation, Path, UpdateCriteria

SILENT: Final = frozenset({
    "gateway", "rules", "credits", "monitors", "effects", "record", "traffic", "quotas", "requests", "executions",
})  # fmt: skip
"""The parts that change while a session is used, and that nobody is told of by themselves."""
HIDDEN: Final = frozenset({"credits", "monitors", "effects", "requests"})
"""The silent parts that a change does not show: they are large, or nobody else's business."""

_NOTHING_HIDDEN: Final[dict[str, dict[str, Any]]] = {part: {} for part in HIDDEN & set(Session.__struct_fields__)}


class Kind(StrEnum):
    """What can happen to a session."""

    CREATED = "CREATED"
    ACTIVATED = "ACTIVATED"
    PAUSED = "PAUSED"
    RESUMED = "RESUMED"
    UPDATED = "UPDATED"
    KEY_ROTATED = "KEY_ROTATED"
    CLOSING = "CLOSING"
    EXPIRED = "EXPIRED"
    CLOSED = "CLOSED"
    DELETED = "DELETED"


class Change(Struct, frozen=True, kw_only=True):
    """One write: the session before it (None if it is new) and after it, both without their hidden parts."""

    at_ms: int
    before: Session | None
    after: Session
    """Of a session that was removed, its last state."""
    revision: int
    removed: bool = False


def told(criteria: UpdateCriteria) -> tuple[Path, ...]:
    """Return the paths of a change that somebody wants to hear of."""
    return tuple(path for path, operation in criteria.parts.items() if not _is_silent(path, operation))


def _is_silent(path: Path, operation: Operation) -> bool:
    """Whether something changes all the time: what is used of a quota does, and its limit does not."""
    if path[0] == "quotas" and (not isinstance(operation, PartChange) or operation.set):
        return False
    return path[0] in SILENT


def shown(session: Session) -> Session:
    """Return a session without what is hidden."""
    return msgspec.structs.replace(session, **_NOTHING_HIDDEN)


def with_parts(session: Session, of: Session, paths: Iterable[Path]) -> Session:
    """Return a session with some parts as another one has them."""
    parts = {part: getattr(of, part) for part, _ in paths}
    return msgspec.structs.replace(session, **parts) if parts else session


def kinds(change: Change) -> tuple[Kind, ...]:
    """Return what happened, in this order; there may be several things at once."""
    happened: list[Kind] = []
    before, after = change.before, change.after
    if before is None:
        happened.append(Kind.CREATED)
    state = before.head.state if before is not None else None
    if after.head.state is not state:
        happened.extend(_became(state, after))
    elif before is not None and before != after and not change.removed:
        happened.append(Kind.KEY_ROTATED if _key_version(before) < _key_version(after) else Kind.UPDATED)
    if change.removed:
        happened.append(Kind.DELETED)
    return tuple(happened)


def _key_version(session: Session) -> int:
    return session.secret.version if session.secret is not None else 0


def _became(state: State | None, after: Session) -> Iterable[Kind]:
    """Yield what a new state means."""
    match after.head.state:
        case State.ACTIVE if state is State.PAUSED:
            yield Kind.RESUMED
        case State.ACTIVE:
            yield Kind.ACTIVATED
        case State.PAUSED:
            yield Kind.PAUSED
        case State.CLOSING:
            yield Kind.CLOSING
        case State.CLOSED:
            if after.head.reason == EndReason.EXPIRED:
                yield Kind.EXPIRED
            yield Kind.CLOSED
        case _ if state is not None:
            yield Kind.UPDATED
        case _:
            return
