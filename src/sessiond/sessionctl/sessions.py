"""Sessions as rows and facts: what a person wants to know of one at a glance."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.client import Session
from sessiond.pb.sessiond.v1 import session_pb2
from sessiond.sessionctl.output import Row, as_data

Column = tuple[str, Callable[[Session, float], str]]
"""The head of a column, and what it says of a session at a time (unix seconds)."""
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def now_s() -> float:
    """Return the unix time."""
    return time.time()  # noqa: TID251 - a command is no daemon: it shows how long ago something was


def state_of(session: Session) -> str:
    """Return the state of a session, without prefix."""
    return session_pb2.SessionState.Name(session.state).removeprefix("SESSION_STATE_")


def reason_of(session: Session) -> str:
    """Return why a session ended, nothing if it has not."""
    if not session.end_reason:
        return ""
    return session_pb2.EndReason.Name(session.end_reason).removeprefix("END_REASON_")


def origin_of(session: Session) -> str:
    """Return the surface a session was made through, in lower case."""
    return session_pb2.SessionOrigin.Name(session.origin).removeprefix("SESSION_ORIGIN_").lower()


def who(session: Session) -> str:
    """Return whose session it is: the first that it has of subscriber, number, source, peer and name."""
    return session.subscriber or session.msisdn or session.data_source or session.peer.address or session.identifier


def span(span_s: float) -> str:
    """Return a span of time in one or two units: 45s, 12m, 3h20m, 8d."""
    left = max(0, round(span_s))
    for at, (unit_s, unit) in enumerate(_UNITS):
        if left >= unit_s:
            rest = _UNITS[at + 1 : at + 2]
            second = left % unit_s // rest[0][0] if rest and left < 10 * unit_s else 0
            return f"{left // unit_s}{unit}" + (f"{second}{rest[0][1]}" if second else "")
    return "0s"


def moment(time: Timestamp) -> str:
    """Return a time as RFC 3339 has it, to the millisecond; nothing if it is not set."""
    return time.ToJsonString() if time.seconds or time.nanos else ""


def octets(count: int) -> str:
    """Return a volume in one unit."""
    size, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1000 and unit != "TB":
        size, unit = size / 1000, next(units)
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _ago(session: Session, at_s: float) -> str:
    return span(at_s - session.create_time.ToMilliseconds() / 1000)


def _left(session: Session, at_s: float) -> str:
    if session.HasField("end_time") or not session.HasField("expire_time"):
        return reason_of(session)
    return f"in {span(session.expire_time.ToMilliseconds() / 1000 - at_s)}"


COLUMNS: Final[tuple[Column, ...]] = (
    ("KEY", lambda session, _: session.key),
    ("TYPE", lambda session, _: session.type),
    ("STATE", lambda session, _: state_of(session)),
    ("WHO", lambda session, _: who(session)),
    ("AGE", _ago),
    ("ENDS", _left),
)
WIDE: Final[tuple[Column, ...]] = (
    *COLUMNS[:4],
    ("ORIGIN", lambda session, _: origin_of(session)),
    ("NAMESPACE", lambda session, _: session.namespace),
    ("NAME", lambda session, _: session.identifier),
    ("CREATED", lambda session, _: moment(session.create_time)),
    ("LAST USED", lambda session, _: moment(session.last_activity_time)),
    ("EXPIRES", lambda session, _: moment(session.expire_time)),
    ("ENDED", lambda session, _: moment(session.end_time)),
    ("REASON", lambda session, _: reason_of(session)),
    ("SENT", lambda session, _: octets(session.traffic.bytes_sent)),
    ("RECEIVED", lambda session, _: octets(session.traffic.bytes_received)),
)


def row(session: Session, columns: tuple[Column, ...], at_s: float) -> Row:
    """Return what columns say of a session."""
    return [read(session, at_s) for _, read in columns]


def facts(session: Session) -> Iterator[tuple[str, str]]:
    """Yield every field of a session that is set, parts field by field."""
    yield from _facts("", as_data(session))


def _facts(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and prefix != "details":
        for name, inner in value.items():
            yield from _facts(f"{prefix}.{name}" if prefix else name, inner)
    elif isinstance(value, str):
        yield prefix, _short(prefix, value)
    else:
        yield prefix, json.dumps(value, ensure_ascii=False, sort_keys=True)


def _short(name: str, value: str) -> str:
    """Return the value of an enum without its prefix."""
    prefixes = {"state": "SESSION_STATE_", "end_reason": "END_REASON_", "origin": "SESSION_ORIGIN_"}
    return value.removeprefix(prefixes.get(name, ""))
