"""The fields of a session as its owners know them: under the names of `sessiond.v1.Session`, each read from the value.

Filters compare them and lists are ordered by them. Times are unix milliseconds, 0 while there is none; spans are
milliseconds, None while there is none; names are those of the enums, without prefix.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from sessiond.core.ends import EndReason, end_of
from sessiond.core.lifecycle import State
from sessiond.core.session import Context, GivenTime, Identity, Session


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


class Field(Struct, frozen=True):
    """One field: what it is, how it is read, and for a NAME the names there are."""

    kind: Kind
    read: Callable[[Session], Any]
    names: tuple[str, ...] = ()


def origin_of(session: Session) -> Origin:
    """Return the surface a session was made through."""
    if session.gateway is not None:
        return Origin.GATEWAY
    return Origin.STREAM_API if session.stream is not None else Origin.NATIVE


_NOBODY: Final = Identity(version=0)
_NOWHERE: Final = Context(subscriber="")


def _identity(session: Session) -> Identity:
    return session.identity or _NOBODY


def _context(session: Session) -> Context:
    return session.context or _NOWHERE


def _span_ms(given: GivenTime | None) -> int | None:
    return given.seconds * 1000 + given.nanos // 1_000_000 if given else None


def _moved(session: Session, leg: str) -> int:
    """Return the octets that all rules of a gateway session have let through on one leg."""
    return sum(getattr(rule, leg) for rule in session.rules.values())


def _text(read: Callable[[Session], str]) -> Field:
    return Field(Kind.TEXT, read)


def _number(read: Callable[[Session], int]) -> Field:
    return Field(Kind.NUMBER, read)


def _time(path: str) -> Field:
    return Field(Kind.TIME, attrgetter(path))


FIELDS: Final[dict[str, Field]] = {
    "key": _text(lambda session: session.key),
    "type": _text(lambda session: session.type),
    "origin": Field(Kind.NAME, origin_of, tuple(Origin)),
    "data_source": _text(lambda session: _identity(session).data_source),
    "subscriber": _text(lambda session: _context(session).subscriber),
    "msisdn": _text(lambda session: _context(session).msisdn),
    "identifier": _text(lambda session: _identity(session).identifier),
    "version": _number(lambda session: max(0, _identity(session).version)),
    "utc_offset": Field(Kind.SPAN, lambda session: _span_ms(_identity(session).utc_offset)),
    "details": Field(Kind.MAP, lambda session: session.details),
    "associate_keys": Field(Kind.LIST, lambda session: tuple(session.associates.values())),
    "state": Field(Kind.NAME, lambda session: session.head.state, tuple(State)),
    "end_reason": Field(Kind.NAME, lambda session: end_of(session.head.reason)[0], tuple(EndReason)),
    "end_message": _text(lambda session: end_of(session.head.reason)[1]),
    "create_time": _time("head.created_at_ms"),
    "activate_time": _time("head.activated_at_ms"),
    "end_time": _time("head.closed_at_ms"),
    "traffic.bytes_sent": _number(lambda session: _moved(session, "moved_tx")),
    "traffic.bytes_received": _number(lambda session: _moved(session, "moved_rx")),
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
    if path[0] == "details" and len(path) > 1:
        return Field(Kind.VALUE, lambda session: _entry(session.details, path[1:]))
    return FIELDS.get(".".join(path))


def _entry(value: Any, path: tuple[str, ...]) -> Any:
    """Return what lies beneath a JSON value at a path, None if there is nothing."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
