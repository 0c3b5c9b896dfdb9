"""UpdateCriteria: every change to a session as a value, with the laws that make stores and histories agree.

A session is made of parts: single ones (`head`, `context`, `gateway`, ...) and keyed ones (`rules`, `credits`, ...). A
change names a part and says what happens to it: counters are added, fields are set, or the whole value is put or
removed. Laws:

* apply(s, nothing) = s
* apply(apply(s, a), b) = apply(s, merge(a, b))
* changes that only add commute, and so do changes to different parts
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import Struct, structs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessiond.core.session import Session

SINGLE_PARTS: Final = frozenset({
    "head", "context", "gateway", "identity", "stream", "limits", "record", "options", "access", "traffic", "peer",
    "executions", "secret",
})  # fmt: skip
"""The parts of a session that are one value; every other part is a mapping by key."""


class Change(Struct, frozen=True, gc=False):
    """Fields of one part: counters to add, other fields to set; a field is always one or the other."""

    add: Mapping[str, int] = {}
    set: Mapping[str, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.add or self.set)


class Put(Struct, frozen=True, gc=False):
    """A part that is there as a whole, whatever was there before."""

    value: Any


class Remove(Struct, frozen=True, gc=False):
    """A part that is gone."""


Operation: TypeAlias = Change | Put | Remove
Path: TypeAlias = tuple[str, str]
"""(part, key); the key of a single part is empty."""


class UpdateCriteria(Struct, frozen=True, gc=False):
    """What a decision changes in one session, by part."""

    parts: Mapping[Path, Operation] = {}

    def __bool__(self) -> bool:
        return bool(self.parts)


NOTHING: Final = UpdateCriteria()


def applied(value: Any, operation: Operation) -> Any:
    """Return one part after an operation; None is an absent part, which a Change leaves absent."""
    if not isinstance(operation, Change):
        return operation.value if isinstance(operation, Put) else None
    if value is None or not operation:
        return value
    if not operation.add:
        return structs.replace(value, **operation.set)
    fields = dict(operation.set)
    for name, delta in operation.add.items():
        fields[name] = getattr(value, name) + delta
    return structs.replace(value, **fields)


def apply(session: Session, criteria: UpdateCriteria) -> Session:
    """Return the session after a change."""
    parts: dict[str, Any] = {}
    for (part, key), operation in criteria.parts.items():
        if part in SINGLE_PARTS:
            parts[part] = applied(getattr(session, part), operation)
            continue
        if part not in parts:
            parts[part] = dict(getattr(session, part))
        value = applied(parts[part].get(key), operation)
        if value is None:
            parts[part].pop(key, None)
        else:
            parts[part][key] = value
    return msgspec.structs.replace(session, **parts) if parts else session


def difference(before: Struct, after: Struct, counters: frozenset[str]) -> Change:
    """Return the change that turns one value into another of the same type: counters as deltas, the rest as set."""
    add: dict[str, int] = {}
    fields: dict[str, Any] = {}
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old is new or old == new:
            continue
        if name in counters:
            add[name] = new - old
        else:
            fields[name] = new
    return Change(add, fields)


def combined(first: Operation, second: Operation) -> Operation:
    """Return the one operation that does what two do, one after the other."""
    match first, second:
        case Put(), Change():
            return Put(applied(first.value, second))
        case Remove(), Change():
            return first
        case Change(), Change():
            sums = dict(first.add)
            for name, delta in second.add.items():
                sums[name] = sums.get(name, 0) + delta
            fields = {**first.set, **second.set}
            if both := sums.keys() & fields.keys():
                raise ValueError(f"added to and set: {sorted(both)}")
            return Change(sums, fields)
        case _:
            return second


def merge(first: UpdateCriteria, second: UpdateCriteria) -> UpdateCriteria:
    """Return the change that does what two changes do, one after the other."""
    parts = dict(first.parts)
    for path, operation in second.parts.items():
        parts[path] = combined(parts[path], operation) if path in parts else operation
    return UpdateCriteria(parts)
