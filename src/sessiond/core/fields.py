"""The fields of a session as its owners know them: under the names of `sessiond.v1.Session`, each read from the value.

Filters compare them and lists are ordered by them. Times are unix milliseconds, 0 while there is none; spans are
milliseconds, None while there is none; names are those of the enums, without prefix.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct, structs

from sessiond.core.access import Isolation, Permissions
from sessiond.core.callers import namespace_of
from sessiond.core.ends import EndReason, end_of
from sessiond.core.lifecycle import State
from sessiond.core.secrecy import MASK, sensitive
from sessiond.core.session import Context, GivenTime, Identity, Limits, Peer, Record, Session
from sessiond.core.traffic import Traffic


class Kind(StrEnum):
    """What a field is, which says what it can be compared with."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "true or false"
    TIME = "time"
    SPAN = "duration"
    NAME = "name"
    LIST = "list"
    MAP = "map"
    VALUE = "JSON value"
    PART = "part"


class Origin(StrEnum):
    """The surface a session was made through."""

    NATIVE = "NATIVE"
    GATEWAY = "GATEWAY"
    STREAM_API = "STREAM_API"


class _Settings(Struct, frozen=True, gc=False, kw_only=True):
    """The options that clients know; only native sessions have any."""

    auto_expire: bool = False
    execution_logging: bool = False
    performance_monitoring: bool = False


class Field(Struct, frozen=True, gc=False):
    """One field: what it is, how it is read, and for a NAME the names there are."""

    kind: Kind
    read: Callable[[Session], Any]
    names: tuple[str, ...] = ()


def origin_of(session: Session) -> Origin:
    """Return the surface a session was made through."""
    if session.gateway is not None:
        return Origin.GATEWAY
    return Origin.STREAM_API if session.stream is not None else Origin.NATIVE


def traffic_of(session: Session) -> Traffic:
    """Return what went through a session: what its owner recorded or, through a gateway, what its rules let through."""
    if not session.rules:
        return session.traffic or _SILENCE
    rules = session.rules.values()
    return Traffic(bytes_sent=sum(rule.moved_tx for rule in rules), bytes_received=sum(rule.moved_rx for rule in rules))


_SILENCE: Final = Traffic()
_NOBODY: Final = Identity(version=0)
_NOWHERE: Final = Context(subscriber="")
PENDING: Final = frozenset({State.REQUESTED, State.CREATING})
"""The states of a session that may still be withdrawn: whoever must agree has not answered yet."""
_KINDS: Final[dict[Any, Kind]] = {
    bool: Kind.FLAG,
    int: Kind.NUMBER,
    str: Kind.TEXT,
    bytes: Kind.TEXT,
    tuple[str, ...]: Kind.LIST,
}


def _identity(session: Session) -> Identity:
    return session.identity or _NOBODY


def _context(session: Session) -> Context:
    return session.context or _NOWHERE


def _span_ms(given: GivenTime | None) -> int | None:
    return given.seconds * 1000 + given.nanos // 1_000_000 if given else None


def _text(read: Callable[[Session], str]) -> Field:
    return Field(Kind.TEXT, read)


def _number(read: Callable[[Session], int]) -> Field:
    return Field(Kind.NUMBER, read)


def _time(path: str) -> Field:
    return Field(Kind.TIME, attrgetter(path))


def _limit(read: Callable[[Limits], int], kind: Kind) -> Field:
    absent = 0 if kind is Kind.TIME else None
    return Field(kind, lambda session: (session.limits and read(session.limits)) or absent)


def _record(read: Callable[[Record], int]) -> Field:
    return Field(Kind.TIME, lambda session: read(session.record) if session.record else 0)


def _part(name: str, part: type[Struct], read: Callable[[Session], Any]) -> dict[str, Field]:
    """Return all fields of a part; without the part they have the values of a new one."""
    fields = structs.fields(part)
    nothing = part()
    return {
        f"{name}.{field.name}": Field(_KINDS[field.type], partial(_of, read, field.name, nothing)) for field in fields
    }


def _of(read: Callable[[Session], Any], name: str, nothing: Any, session: Session) -> Any:
    value = getattr(read(session) or nothing, name)
    return value.hex() if isinstance(value, bytes) else value


FIELDS: Final[dict[str, Field]] = {
    "key": _text(lambda session: session.key),
    "type": _text(lambda session: session.type),
    "origin": Field(Kind.NAME, origin_of, tuple(Origin)),
    "namespace": _text(namespace_of),
    "data_source": _text(lambda session: _identity(session).data_source),
    "subscriber": _text(lambda session: _context(session).subscriber),
    "msisdn": _text(lambda session: session.context.msisdn if session.context else _identity(session).msisdn),
    "identifier": _text(lambda session: _identity(session).identifier),
    "version": _number(lambda session: max(0, _identity(session).version)),
    "utc_offset": Field(Kind.SPAN, lambda session: _span_ms(_identity(session).utc_offset)),
    "details": Field(Kind.MAP, lambda session: session.details),
    "associate_keys": Field(Kind.LIST, lambda session: tuple(session.associates.values())),
    "state": Field(Kind.NAME, lambda session: session.head.state, tuple(State)),
    "end_reason": Field(Kind.NAME, lambda session: end_of(session.head.reason)[0], tuple(EndReason)),
    "end_message": _text(lambda session: session.head.message or end_of(session.head.reason)[1]),
    "create_time": _time("head.created_at_ms"),
    "activate_time": _time("head.activated_at_ms"),
    "end_time": _time("head.closed_at_ms"),
    "pending": Field(Kind.FLAG, lambda session: session.head.state in PENDING),
    "update_time": _record(lambda record: record.updated_at_ms),
    "last_activity_time": _record(lambda record: record.used_at_ms),
    "expire_time": _limit(lambda limits: limits.expire_at_ms, Kind.TIME),
    "max_duration": _limit(lambda limits: limits.max_duration_ms, Kind.SPAN),
    "idle_timeout": _limit(lambda limits: limits.idle_timeout_ms, Kind.SPAN),
    **_part("permissions", Permissions, lambda session: session.access and session.access.permissions),
    **_part("isolation", Isolation, lambda session: session.access and session.access.isolation),
    "quotas": Field(Kind.MAP, lambda session: session.quotas),
    **_part("settings", _Settings, lambda session: session.options),
    **_part("traffic", Traffic, traffic_of),
    "parent_key": _text(lambda session: _identity(session).parent),
    "key_version": _number(lambda session: session.secret.version if session.secret else 0),
    "key_rotation_time": Field(Kind.TIME, lambda session: session.secret.rotate_at_ms if session.secret else 0),
    "peer": Field(Kind.PART, lambda session: session.peer),
    **_part("peer", Peer, lambda session: session.peer),
    "sensitive_details": Field(Kind.LIST, sensitive),
    "gateway": Field(Kind.PART, lambda session: session.context),
    "gateway.apn": _text(lambda session: _context(session).apn),
    "gateway.radio_access": _text(lambda session: f"TGPP_{session.context.rat}" if session.context else ""),
    "gateway.ipv4_address": _text(lambda session: _context(session).ue_ipv4),
    "gateway.ipv6_address": _text(lambda session: _context(session).ue_ipv6),
    "gateway.bearer_id": _number(lambda session: lte.bearer_id if (lte := _context(session).lte) else 0),
    "gateway.enb_teid": _number(lambda session: _context(session).teids.enb),
    "gateway.agw_teid": _number(lambda session: _context(session).teids.agw),
    "gateway.imei": _text(lambda session: lte.imei if (lte := _context(session).lte) else ""),
    "gateway.mac_address": _text(lambda session: wlan.mac_addr if (wlan := _context(session).wlan) else ""),
    "gateway.plmn_id": _text(lambda session: lte.plmn_id if (lte := _context(session).lte) else ""),
}
"""Every field that has a name of its own; the entries of maps have theirs beneath that of the map."""


def field_of(path: tuple[str, ...]) -> Field | None:
    """Return the field of a path, None if there is none; `details.a.b` is an entry within an entry of the details."""
    match path:
        case ("details", _, *_):
            return Field(Kind.VALUE, partial(_entry, path[1:]))
        case ("quotas", resource, ("limit" | "used") as name):
            return Field(Kind.NUMBER, lambda session: getattr(session.quotas.get(resource), name, None))
        case _:
            return FIELDS.get(".".join(path))


def _entry(path: tuple[str, ...], session: Session) -> Any:
    """Return what the details have at a path, None if there is nothing; what is nobody else's business is masked."""
    if path[0] in sensitive(session) and path[0] in session.details:
        return MASK
    value: Any = session.details
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
