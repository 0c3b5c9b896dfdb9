"""What fields of sessions mean: single values of messages as values of the core; refused by path if they are none."""

import re
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct as StructMessage
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.access import Isolation, Permissions
from sessiond.core.decide.data import LONGEST_NAME as LONGEST_DETAIL
from sessiond.core.errors import InvalidArgument
from sessiond.core.session import GivenTime, Options, Peer
from sessiond.pb.sessiond.v1 import session_pb2

LONGEST_KEY: Final = 128
LONGEST_NAME: Final = 256
"""Characters of an identifier, a data source, a message."""
MOST_CAPABILITIES: Final = 64
MOST_SENSITIVE: Final = 256
LONGEST_SPAN_MS: Final = 315_360_000_000
"""Ten years."""
LAST_TIME_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""
_MSISDN: Final = re.compile(r"\+[1-9][0-9]{1,14}")


def checked_key(key: str, field: str = "key") -> str:
    """Return the key of a session: 1 to 128 characters that can be seen."""
    if not key:
        raise InvalidArgument("SESSION_KEY_MISSING", "the key of the session is empty", field=field)
    if len(key) > LONGEST_KEY:
        raise InvalidArgument("FIELD_TOO_LONG", f"a key has at most {LONGEST_KEY} characters", field=field)
    if not key.isprintable() or " " in key:
        raise InvalidArgument("FIELD_INVALID", "a key has characters that can be seen, and no blanks", field=field)
    return key


def text_of(text: str, field: str, longest: int = LONGEST_NAME) -> str:
    """Return a text that is not too long."""
    if len(text) > longest:
        raise InvalidArgument("FIELD_TOO_LONG", f"it has at most {longest} characters", field=field)
    return text


def span_ms(span: Duration, field: str) -> int:
    """Return a span of time in milliseconds; it is 0 to ten years."""
    milliseconds = span.seconds * 1000 + span.nanos // 1_000_000
    if span.seconds < 0 or span.nanos < 0 or milliseconds > LONGEST_SPAN_MS:
        raise InvalidArgument("DURATION_OUT_OF_RANGE", "it is at least 0 s and at most ten years", field=field)
    return milliseconds


def moment_ms(time: Timestamp, field: str) -> int:
    """Return a time as unix milliseconds; it is after 1970."""
    milliseconds = time.seconds * 1000 + time.nanos // 1_000_000
    if not 0 < milliseconds <= LAST_TIME_MS or not 0 <= time.nanos < 1_000_000_000:
        raise InvalidArgument("TIME_INVALID", "it is after 1970 and before the year 10000", field=field)
    return milliseconds


def details_of(details: StructMessage) -> dict[str, Any]:
    """Return free data as values of JSON; null is None."""
    return {name: value_of(value) for name, value in details.fields.items()}


def value_of(value: Value) -> Any:
    """Return one value of JSON; null is None."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return details_of(value.struct_value)
        case "list_value":
            return [value_of(inner) for inner in value.list_value.values]
        case _:
            return None


def sensitive_of(names: Sequence[str], field: str) -> tuple[str, ...]:
    """Return the names of sensitive details, each once."""
    found = tuple(dict.fromkeys(names))
    if len(found) > MOST_SENSITIVE:
        raise InvalidArgument("INVALID_CONFIGURATION", f"at most {MOST_SENSITIVE} names", field=field)
    for name in found:
        if not 0 < len(name) <= LONGEST_DETAIL:
            text = f"the name of an entry has 1 to {LONGEST_DETAIL} characters"
            raise InvalidArgument("FIELD_TOO_LONG", text, field=field)
    return found


def msisdn_of(text: str, field: str) -> str:
    """Return a phone number."""
    if not _MSISDN.fullmatch(text):
        why = f"{text[:40]!r} is no phone number: a plus and up to 15 digits, as in +15550100001 (E.164)"
        raise InvalidArgument("FIELD_INVALID", why, field=field)
    return text


def offset_of(value: Duration, field: str) -> GivenTime:
    """Return how far local time is ahead of UTC: less than a day."""
    if abs(value.seconds) >= 86_400 or abs(value.nanos) > 999_999_999 or value.seconds * value.nanos < 0:
        raise InvalidArgument("DURATION_OUT_OF_RANGE", "it is less than a day", field=field)
    return GivenTime(value.seconds, value.nanos)


def lasting_ms(value: Duration, field: str) -> int:
    """Return a span of time that is longer than nothing."""
    milliseconds = span_ms(value, field)
    if not milliseconds:
        raise InvalidArgument("DURATION_OUT_OF_RANGE", "it is at least a millisecond", field=field)
    return milliseconds


def permissions_of(value: session_pb2.Permissions) -> Permissions:
    """Return what a session may do."""
    return Permissions(
        execute_functions=value.execute_functions,
        compose_functions=value.compose_functions,
        read_across_sessions=value.read_across_sessions,
        write_across_sessions=value.write_across_sessions,
    )


def isolation_of(value: session_pb2.Isolation) -> Isolation:
    """Return what a session may reach."""
    return Isolation(
        readable_namespaces=tuple(value.readable_namespaces),
        writable_namespaces=tuple(value.writable_namespaces),
        allowed_functions=tuple(value.allowed_functions),
        denied_functions=tuple(value.denied_functions),
        barrier=value.barrier,
    )


def options_of(value: session_pb2.Settings) -> Options:
    """Return how a session is run."""
    return Options(
        auto_expire=value.auto_expire,
        execution_logging=value.execution_logging,
        performance_monitoring=value.performance_monitoring,
    )


def peer_of(value: session_pb2.Peer) -> Peer:
    """Return the other node of a session."""
    if len(value.capabilities) > MOST_CAPABILITIES:
        text = f"at most {MOST_CAPABILITIES} capabilities"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field="session.peer.capabilities")
    return Peer(
        node_id=value.node_id,
        capabilities=tuple(text_of(name, "session.peer.capabilities", 128) for name in value.capabilities),
        address=text_of(value.address, "session.peer.address"),
        transport=text_of(value.transport, "session.peer.transport", 32),
    )
