"""Who makes the call that is being served: noted by the surface, asked by whatever shows or changes a session.

It belongs to the task of the call; where nobody has noted it, such as in the daemon's own tasks, it is everybody.
"""

from collections.abc import Callable
from contextvars import ContextVar

from sessiond.core import callers
from sessiond.core.callers import EVERYBODY, Caller, namespace_of
from sessiond.core.draft import Draft
from sessiond.core.session import Session

_CALLER: ContextVar[Caller] = ContextVar("caller", default=EVERYBODY)


def caller() -> Caller:
    """Return who makes this call."""
    return _CALLER.get()


def set_caller(found: Caller) -> None:
    """Note who makes this call, for as long as its task lasts."""
    _CALLER.set(found)


def check_reading(session: Session | Draft) -> None:
    """Raise NotFound for a session that the caller may not see."""
    if (found := _CALLER.get()) is not EVERYBODY:
        callers.check_reading(found, session.key, namespace_of(session))


def check_writing(session: Session | Draft) -> None:
    """Raise NotFound or PermissionDenied for a session that the caller may not change."""
    if (found := _CALLER.get()) is not EVERYBODY:
        callers.check_writing(found, session.key, namespace_of(session))


def may_read(session: Session) -> bool:
    """Whether the caller may see a session."""
    return (found := _CALLER.get()) is EVERYBODY or found.may_read(namespace_of(session))


def may_write(session: Session) -> bool:
    """Whether a session is the caller's, so that it may see what is sensitive in it."""
    return (found := _CALLER.get()) is EVERYBODY or found.may_write(namespace_of(session))


def visible(meant: Callable[[Session], bool]) -> Callable[[Session], bool]:
    """Return which of the sessions that are meant the caller may see; it says so wherever it is asked."""
    found = _CALLER.get()
    if found is EVERYBODY:
        return meant
    return lambda session: found.may_read(namespace_of(session)) and meant(session)
