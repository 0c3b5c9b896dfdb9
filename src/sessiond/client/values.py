"""What a caller says of a session, as keyword arguments, and the messages that it comes to."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from sessiond.pb.sessiond.v1 import session_pb2


class SessionFields(TypedDict, total=False):
    """The fields of a session that a caller can give; spans of time are seconds."""

    key: str
    namespace: str
    data_source: str
    msisdn: str
    parent_key: str
    identifier: str
    version: int
    details: Mapping[str, Any]
    sensitive_details: Iterable[str]
    ttl_s: float
    max_duration_s: float
    idle_timeout_s: float
    utc_offset_s: float
    permissions: Iterable[str]
    """The names of those that are granted, such as `execute_functions`."""
    isolation: session_pb2.Isolation
    quotas: Mapping[str, int]
    """How much may be used, by resource."""
    settings: session_pb2.Settings
    peer: session_pb2.Peer


SPANS: Final = {
    "ttl_s": "ttl",
    "max_duration_s": "max_duration",
    "idle_timeout_s": "idle_timeout",
    "utc_offset_s": "utc_offset",
}


def session_of(fields: SessionFields) -> session_pb2.Session:
    """Return the message of a session."""
    session = session_pb2.Session()
    for name, value in fields.items():
        _set(session, name, value)
    return session


def paths_of(fields: SessionFields) -> list[str]:
    """Return the paths of the fields that are given."""
    return [SPANS.get(name, name) for name in fields if name != "key"]


def duration(span_s: float | None) -> Duration | None:
    """Return a span of time as a message; None stays None."""
    if span_s is None:
        return None
    span = Duration()
    span.FromNanoseconds(round(span_s * 1e9))
    return span


def _set(session: session_pb2.Session, name: str, value: Any) -> None:
    if name in SPANS:
        getattr(session, SPANS[name]).CopyFrom(duration(value))
    elif name == "details":
        session.details.update(value)
    elif name == "permissions":
        for permission in value:
            setattr(session.permissions, permission, True)
    elif name == "quotas":
        for resource, limit in value.items():
            session.quotas[resource].limit = limit
    elif isinstance(value, Message):
        getattr(session, name).CopyFrom(value)
    elif name == "sensitive_details":
        session.sensitive_details.extend(value)
    else:
        setattr(session, name, value)
