"""The one table that turns the reason of an error into a gRPC status with its details (AIP-193)."""

from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from msgspec import Struct

from sessiond.core.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    Fenced,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PeerFailed,
    PermissionDenied,
    ResourceExhausted,
    SessionError,
    Unauthenticated,
    Unavailable,
)

DOMAIN: Final = "sessiond"
MOST_VIOLATIONS: Final = 20
LONGEST_TEXT: Final = 200
"""Details travel as metadata, of which gRPC takes 8 KiB."""
DETAILS_KEY: Final = "grpc-status-details-bin"

CODES: Final[dict[type[SessionError], grpc.StatusCode]] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Aborted: grpc.StatusCode.ABORTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Fenced: grpc.StatusCode.UNAVAILABLE,  # the one who took over serves
    PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
}


class Answer(Struct, frozen=True):
    """How an RPC ends: status, text, and trailing metadata that holds the details."""

    code: grpc.StatusCode
    text: str
    metadata: tuple[tuple[str, bytes], ...]


def answer_of(error: SessionError) -> Answer:
    """Return how an RPC ends that raised this error."""
    code = grpc.StatusCode[error.status] if isinstance(error, PeerFailed) else CODES[type(error)]
    status = Status(code=code.value[0], message=error.text, details=[_packed(detail) for detail in _details(error)])
    return Answer(code, error.text, ((DETAILS_KEY, status.SerializeToString()),))


def _details(error: SessionError) -> list[Message]:
    details: list[Message] = [ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.violations:
        violations = error.violations[:MOST_VIOLATIONS]
        shown = [BadRequest.FieldViolation(field=field, description=text[:LONGEST_TEXT]) for field, text in violations]
        details.append(BadRequest(field_violations=shown))
    if error.retry_after_ms:
        delay = Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(RetryInfo(retry_delay=delay))
    return details


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
