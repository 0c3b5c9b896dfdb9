"""Everything that can be refused, sorted by who must act; each error has a reason that never changes."""

from collections.abc import Iterable
from typing import TypeAlias

Violation: TypeAlias = tuple[str, str]
"""The path of a field, and what is wrong with it."""


class SessionError(Exception):
    """Base of all errors; `reason` is stable and part of the API, the text is for people."""

    def __init__(self, reason: str, text: str, *, field: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text
        self.field = field
        self.violations: tuple[Violation, ...] = ((field, text),) if field else ()
        self.retry_after_ms = retry_after_ms


class InvalidArgument(SessionError):
    """The caller sent something that can never be right; `field` is the path of the offending field.

    Where several are wrong, `violations` has them all.
    """

    def __init__(
        self, reason: str, text: str, *, field: str = "", retry_after_ms: int = 0, violations: Iterable[Violation] = ()
    ) -> None:
        super().__init__(reason, text, field=field, retry_after_ms=retry_after_ms)
        self.violations = (*self.violations, *violations)


class FailedPrecondition(SessionError):
    """The caller must change the state of things before it tries again."""


class NotFound(SessionError):
    """What the caller names does not exist."""


class AlreadyExists(SessionError):
    """What the caller wants to make is there already."""


class Aborted(SessionError):
    """The caller may try the whole operation again: something else changed the session first."""


class Unavailable(SessionError):
    """Nobody is at fault: try again after `retry_after_ms`."""


class Fenced(SessionError):
    """Another daemon has taken over the sessions: this one must not act any more."""


class PermissionDenied(SessionError):
    """The caller, or the session it speaks of, may not do this; asking again changes nothing."""


class Unauthenticated(SessionError):
    """Nobody knows who the caller is, and it has to say so."""


class ResourceExhausted(SessionError):
    """The caller wants more than it may have, or takes too slowly what it asked for."""


class OutOfRange(SessionError):
    """The caller wants to go on where nothing is kept any more: it must begin anew."""


class PeerFailed(SessionError):
    """A peer refused or did not answer; `status` is its gRPC status name, passed on unchanged."""

    def __init__(self, status: str, text: str, *, answered: bool, reached: bool = True) -> None:
        super().__init__(f"PEER_{status}", text)
        self.status = status
        self.answered = answered
        """True if it is certain that the peer did not carry out the request."""
        self.reached = reached
        """False if it is certain that the peer did not even get the request."""
