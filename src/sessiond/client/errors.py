"""What can go wrong with a call, as exceptions: by the status it ended with and, where it has a name, by its reason."""

from collections.abc import Iterator
from typing import Final

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

DOMAIN: Final = "sessiond"
_DETAILS: Final = "grpc-status-details-bin"


class SessiondError(Exception):
    """A call that did not succeed; `reason` is stable (docs: errors) and empty if it was not sessiond that refused."""

    def __init__(
        self,
        code: grpc.StatusCode,
        text: str,
        reason: str = "",
        violations: tuple[tuple[str, str], ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{text} ({reason or code.name})")
        self.code = code
        self.text = text
        self.reason = reason
        self.violations = violations
        """The paths of the fields that are wrong, and what is wrong with each."""
        self.retry_after_s = retry_after_s
        """When it may go better; None: nobody knows."""


class InvalidArgument(SessiondError):
    """The request can never be right; `violations` say which fields are to blame."""


class InvalidConfiguration(InvalidArgument):
    """The request contradicts itself, or the profile of the session."""


class NotFound(SessiondError):
    """There is no such thing."""


class SessionNotFound(NotFound):
    """There is no such session."""


class SessionExpired(NotFound):
    """There was such a session; its time is over."""


class AlreadyExists(SessiondError):
    """There is such a session already."""


class FailedPrecondition(SessiondError):
    """Not in this state: something must change first."""


class SessionNotActive(FailedPrecondition):
    """The session is not in use."""


class SessionEnded(FailedPrecondition):
    """The session has ended, and cannot be changed any more."""


class CreationFailed(FailedPrecondition):
    """The session was not agreed to."""


class ActivationFailed(FailedPrecondition):
    """The session could not be brought into use."""


class Refused(SessiondError):
    """The caller or the session may not do this."""


class PermissionDenied(Refused):
    """A permission is missing."""


class PolicyViolation(Refused):
    """Isolation forbids it."""


class Unauthenticated(Refused):
    """sessiond does not know who is calling: a token or a certificate is missing, or not a good one."""


class ResourceExhausted(SessiondError):
    """More than there may be."""


class QuotaExceeded(ResourceExhausted):
    """A quota of the session is used up."""


class Aborted(SessiondError):
    """Somebody else was faster: read again, decide again."""


class EtagMismatch(Aborted):
    """The session has changed since it was read."""


class OutOfRange(SessiondError):
    """What is asked for is not kept any more."""


class ResumeTokenExpired(OutOfRange):
    """What happened since then is not known any more: take a snapshot."""


class Unavailable(SessiondError):
    """Nobody is at fault: sessiond or its store cannot be reached now."""


class DeadlineExceeded(SessiondError):
    """There was no answer in time; whether the change was made is not known."""


BY_REASON: Final[dict[str, type[SessiondError]]] = {
    "SESSION_NOT_FOUND": SessionNotFound,
    "SESSION_EXPIRED": SessionExpired,
    "SESSION_NOT_ACTIVE": SessionNotActive,
    "SESSION_ENDED": SessionEnded,
    "CREATION_FAILED": CreationFailed,
    "ACTIVATION_FAILED": ActivationFailed,
    "INVALID_CONFIGURATION": InvalidConfiguration,
    "PERMISSION_DENIED": PermissionDenied,
    "POLICY_VIOLATION": PolicyViolation,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "ETAG_MISMATCH": EtagMismatch,
    "RESUME_TOKEN_EXPIRED": ResumeTokenExpired,
}
BY_CODE: Final[dict[grpc.StatusCode, type[SessiondError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def error_of(failed: aio.AioRpcError) -> SessiondError:
    """Return what a failed call comes to."""
    reason = ""
    violations: tuple[tuple[str, str], ...] = ()
    retry_after_s: float | None = None
    for detail in _details(failed):
        if isinstance(detail, ErrorInfo) and detail.domain == DOMAIN:
            reason = detail.reason
        elif isinstance(detail, BadRequest):
            violations = tuple((violation.field, violation.description) for violation in detail.field_violations)
        elif isinstance(detail, RetryInfo):
            retry_after_s = detail.retry_delay.ToNanoseconds() / 1e9
    code = failed.code()
    kind = BY_REASON.get(reason) or BY_CODE.get(code, SessiondError)
    return kind(code, failed.details() or code.name, reason, violations, retry_after_s)


def _details(failed: aio.AioRpcError) -> Iterator[ErrorInfo | BadRequest | RetryInfo]:
    """Yield the details of a status (google.rpc.Status) that are known here."""
    packed = [value for key, value in failed.trailing_metadata() or () if key == _DETAILS]
    for detail in Status.FromString(packed[0]).details if packed else ():
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            message = kind()
            if detail.Unpack(message):
                yield message
