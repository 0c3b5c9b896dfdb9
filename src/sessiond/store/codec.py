"""Codec: a session as the fields of a Redis hash, one JSON text per part, for people with redis-cli too.

    format                    the number of this format
    key, type, scope          who it is, as plain text
    head, context, gateway    the single parts
    rule:<id>, credit:<key>, monitor:<key>, effect:<id>
    meter                     usage that was counted after those parts were written: cumulative octets up and down for
                              each rule and IP version, and when (unix s)

Every part is written with all of its fields, defaults too, so that a later default changes nothing that is stored. A
format that has been released is read for ever: when a part changes its form, `FORMAT` counts up and `UPGRADES` says how
fields of the number before become fields of the new one. Fields of a newer format, or that make no sense, are refused.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from sessiond.core.decide.meter import Counted, Meter, folded
from sessiond.core.errors import FailedPrecondition
from sessiond.core.session import Session
from sessiond.core.update import SINGLE_PARTS, Path

Fields: TypeAlias = dict[bytes, bytes]

FORMAT: Final = 1
UPGRADES: Final[dict[int, Callable[[Fields], Fields]]] = {}
"""By number: how fields of that format become fields of the next one."""

_APART: Final = ("format", "meter")
"""The fields that are no part of a session."""
PLACES: Final = 4096
"""How many names of fields are remembered: sessions have mostly the same ones."""
_HINTS: Final = get_type_hints(Session)
_SINGLE: Final = tuple(name for name in _HINTS if name in SINGLE_PARTS)
_KEYED: Final = {name: name.removesuffix("s") for name, hint in _HINTS.items() if get_origin(hint) is Mapping}
"""The keyed parts, and what the names of their fields begin with."""
_IDENTITY: Final = tuple(name for name in _HINTS if name not in _SINGLE and name not in _KEYED)
_PART_OF: Final = {prefix: name for name, prefix in _KEYED.items()}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    **{name: msgspec.json.Decoder(_HINTS[name]) for name in _SINGLE},
    **{name: msgspec.json.Decoder(get_args(_HINTS[name])[1]) for name in _KEYED},
}
_METER: Final = b"meter"
_METERED: Final = ("rules", "credits", "monitors")
"""The parts that what is counted on a meter changes."""
_COUNTED: Final = msgspec.json.Decoder(tuple[Counted, ...])
_encode: Final = msgspec.json.Encoder().encode


class Patch(Struct, frozen=True):
    """What a change does to the fields of a hash: some are set, some are deleted."""

    put: Fields
    drop: tuple[bytes, ...]


NO_PATCH: Final = Patch({}, ())


class Note(Struct, frozen=True):
    """What a change is told with: which write by which daemon and when, and the parts that are not in the session.

    Of a session that goes, those are what its last state differs in; of any other, what was there before.
    """

    verb: str
    by: str
    at_ms: int
    put: dict[str, msgspec.Raw] = {}
    drop: tuple[str, ...] = ()


_NOTE: Final = msgspec.json.Decoder(Note)


def note(verb: str, by: str, at_ms: int, other: Patch) -> bytes:
    """Return a note as JSON."""
    put = {field.decode(): msgspec.Raw(text) for field, text in other.put.items()}
    return _encode(Note(verb, by, at_ms, put, tuple(field.decode() for field in other.drop)))


def decode_note(text: bytes) -> Note:
    """Return a note; raise FailedPrecondition if it is none."""
    try:
        return _NOTE.decode(text)
    except msgspec.MsgspecError as error:
        raise FailedPrecondition("STORED_CHANGE_UNREADABLE", f"a change cannot be read: {error}") from error


def patched(session: Session, patch: Note) -> Session:
    """Return a session with the parts of a note in place of its own."""
    parts: dict[str, Any] = {}
    for field, text in patch.put.items():
        prefix, colon, key = field.partition(":")
        if colon:
            _keyed(parts, session, prefix)[key] = _DECODERS[_PART_OF[prefix]].decode(text)
        else:
            parts[field] = _DECODERS[field].decode(text)
    for field in patch.drop:
        prefix, colon, key = field.partition(":")
        if colon:
            _keyed(parts, session, prefix).pop(key, None)
        else:
            parts[field] = None
    return msgspec.structs.replace(session, **parts)


def _keyed(parts: dict[str, Any], session: Session, prefix: str) -> dict[str, Any]:
    """Return a keyed part that is being changed."""
    name = _PART_OF[prefix]
    if name not in parts:
        parts[name] = dict(getattr(session, name))
    part: dict[str, Any] = parts[name]
    return part


def encode(session: Session) -> Fields:
    """Return all fields of a session."""
    fields = {b"format": b"%d" % FORMAT, **{name.encode(): getattr(session, name).encode() for name in _IDENTITY}}
    for name in _SINGLE:
        if (value := getattr(session, name)) is not None:
            fields[name.encode()] = _encode(value)
    for name in _KEYED:
        for key, value in getattr(session, name).items():
            fields[_field((name, key))] = _encode(value)
    return fields


def patch(session: Session, parts: Iterable[Path], *, behind: bool = False) -> Patch:
    """Return what makes some parts of the fields those of a session; each part is written whole, or dropped.

    `behind`: usage is stored beside the parts that it changed; they are written too, and take its place.
    """
    put: Fields = {}
    drop: list[bytes] = [_METER] if behind else []
    paths = dict.fromkeys(parts)
    if behind:
        paths.update(((name, key), None) for name in _METERED for key in getattr(session, name))
    for path in paths:
        name, key = path
        value = getattr(session, name) if name in _SINGLE else getattr(session, name).get(key)
        if value is None:
            drop.append(_field(path))
        else:
            put[_field(path)] = _encode(value)
    return Patch(put, tuple(drop))


def counted(meter: Meter) -> bytes:
    """Return the text of the field that holds what was counted on a meter."""
    return _encode(list(meter.counted()))


def has_meter(fields: Mapping[bytes, bytes]) -> bool:
    """Whether usage is stored beside the parts that it changed."""
    return _METER in fields


def is_older(fields: Mapping[bytes, bytes]) -> bool:
    """Whether the fields are of an older format, so that they can only be written anew as a whole."""
    return _number(fields) < FORMAT


def decode(fields: Mapping[bytes, bytes]) -> Session:
    """Return the session that the fields are; keyed parts come in the order of their keys."""
    number = _number(fields)
    if number > FORMAT:
        text = f"session {_name(fields)} is stored in format {number}; this version reads formats up to {FORMAT}"
        raise FailedPrecondition("STORED_FORMAT_NEWER", text)
    for older in range(number, FORMAT):
        fields = UPGRADES[older](dict(fields))
    return _session(fields)


def _session(fields: Mapping[bytes, bytes]) -> Session:
    values: dict[str, Any] = {}
    for field in sorted(sorted(fields), key=len):  # so that numbers count: effects are carried out as they were made
        try:
            name, key, read = _place(field)
            if key is None:
                values[name] = read(fields[field])
            elif name in values:
                values[name][key] = read(fields[field])
            else:
                values[name] = {key: read(fields[field])}
        except (KeyError, ValueError) as error:  # msgspec's errors and those of UTF-8 are ValueErrors
            raise _unreadable(fields, f"field {field!r}: {error!r}") from error
    for name in _APART:
        values.pop(name, None)
    try:
        session = Session(**values)
        return folded(session, _COUNTED.decode(fields[_METER])) if _METER in fields else session
    except (KeyError, ValueError, TypeError) as error:
        raise _unreadable(fields, repr(error)) from error


@lru_cache(PLACES)
def _place(field: bytes) -> tuple[str, str | None, Callable[[bytes], Any]]:
    """Return what a field is: its part, its key if the part has several, and how its text is read."""
    prefix, colon, key = field.decode().partition(":")
    if colon:
        name = _PART_OF[prefix]
        return name, key, _DECODERS[name].decode
    if prefix in _SINGLE:
        return prefix, None, _DECODERS[prefix].decode
    if prefix in _IDENTITY or prefix in _APART:
        return prefix, None, bytes.decode
    raise KeyError(prefix)


def _field(path: Path) -> bytes:
    name, key = path
    return name.encode() if name in _SINGLE else f"{_KEYED[name]}:{key}".encode()


def _number(fields: Mapping[bytes, bytes]) -> int:
    try:
        return int(fields[b"format"])
    except (KeyError, ValueError) as error:
        raise _unreadable(fields, "its format is not said") from error


def _unreadable(fields: Mapping[bytes, bytes], why: str) -> FailedPrecondition:
    return FailedPrecondition("STORED_SESSION_UNREADABLE", f"session {_name(fields)} cannot be read: {why}")


def _name(fields: Mapping[bytes, bytes]) -> str:
    return fields.get(b"key", b"?").decode(errors="replace")
