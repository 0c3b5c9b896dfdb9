"""Values for laws: any value of a core type, and changes of any part of a session."""

from collections.abc import Mapping
from enum import EnumType
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Struct, structs

from sessiond.core.access import Access, Quota
from sessiond.core.charging import ChargingCredit
from sessiond.core.credit import COUNTERS
from sessiond.core.effects import CreateBearer, SavedEffect
from sessiond.core.keys import SessionSecret
from sessiond.core.monitors import Monitor
from sessiond.core.rules import Rule
from sessiond.core.session import (
    Context,
    Gateway,
    Head,
    Identity,
    Limits,
    Options,
    Peer,
    Record,
    Remembered,
    Session,
    Stream,
)
from sessiond.core.traffic import Executions, Traffic
from sessiond.core.update import Change, Operation, Path, Put, Remove, UpdateCriteria

KEYS: Final = ("1", "2", "3/7")
"""The keys of keyed parts: few, so that changes meet."""
NUMBERS: Final = st.integers(-(2**40), 2**40)
COUNTERS_OF: Final[dict[str, frozenset[str]]] = {
    "head": frozenset(),
    "context": frozenset(),
    "gateway": frozenset({"request_number", "effects_made"}),
    "identity": frozenset(),
    "stream": frozenset(),
    "limits": frozenset(),
    "record": frozenset({"changes"}),
    "options": frozenset(),
    "access": frozenset(),
    "traffic": frozenset(Traffic.__struct_fields__),
    "peer": frozenset(),
    "executions": frozenset({"authorized", "refused"}),
    "secret": frozenset(),
    "details": frozenset(),
    "associates": frozenset(),
    "rules": frozenset({"version", "moved_tx", "moved_rx", "dropped_tx", "dropped_rx"}),
    "credits": COUNTERS,
    "monitors": COUNTERS,
    "effects": frozenset(),
    "quotas": frozenset({"used"}),
    "requests": frozenset(),
}
TYPE_OF: Final[dict[str, type[Struct]]] = {
    "head": Head,
    "context": Context,
    "gateway": Gateway,
    "identity": Identity,
    "stream": Stream,
    "limits": Limits,
    "record": Record,
    "options": Options,
    "access": Access,
    "traffic": Traffic,
    "peer": Peer,
    "executions": Executions,
    "secret": SessionSecret,
    "rules": Rule,
    "credits": ChargingCredit,
    "monitors": Monitor,
    "effects": CreateBearer,
    "quotas": Quota,
    "requests": Remembered,
}
SINGLE: Final = (
    "head", "context", "gateway", "identity", "stream", "limits", "record", "options", "access", "traffic", "peer",
    "executions", "secret",
)  # fmt: skip
PLAIN: Final = ("details", "associates")
"""The keyed parts whose values have no fields that could change by themselves."""
KEYED: Final = ("rules", "credits", "monitors", "effects", "quotas", "requests", *PLAIN)

_LEAVES: Final[dict[Any, SearchStrategy[Any]]] = {
    int: NUMBERS,
    str: st.text(max_size=6),
    bytes: st.binary(max_size=6),
    bool: st.booleans(),
    NoneType: st.none(),
    Any: st.recursive(
        st.one_of(st.text(max_size=6), NUMBERS, st.booleans()),
        lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
        max_leaves=3,
    ),
}


def any_of(kind: Any) -> SearchStrategy[Any]:
    """Return any value of a type that core values are made of."""
    if kind in _LEAVES:
        return _LEAVES[kind]
    if get_origin(kind) in {Union, UnionType}:
        return st.one_of([any_of(one) for one in get_args(kind)])
    if get_origin(kind) is tuple:
        return st.lists(any_of(get_args(kind)[0]), max_size=2).map(tuple)
    if isinstance(kind, EnumType):
        return st.sampled_from(list(kind))
    if isinstance(kind, type) and issubclass(kind, Struct):
        return any_struct(kind)
    if get_origin(kind) is Mapping:
        return st.dictionaries(st.sampled_from(KEYS), any_of(get_args(kind)[1]), max_size=2)
    raise TypeError(f"no values of {kind} are known")


def any_struct(kind: type[Struct]) -> SearchStrategy[Any]:
    """Return any value of a struct; most fields that may keep their default do, so that values stay small."""
    return st.deferred(lambda: _struct(kind))


@cache
def _struct(kind: type[Struct]) -> SearchStrategy[Any]:
    values = fields_of(kind)
    needed = {field.name: values[field.name] for field in structs.fields(kind) if field.required}
    others = sorted(values.keys() - needed.keys())
    return some_of({name: values[name] for name in others}, needed).map(lambda fields: kind(**fields))


def some_of(
    fields: Mapping[str, SearchStrategy[Any]], needed: Mapping[str, SearchStrategy[Any]]
) -> SearchStrategy[dict[str, Any]]:
    """Return values of up to three of these fields, and of all that are needed."""
    if not fields:
        return st.fixed_dictionaries(dict(needed))
    chosen = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({**needed, **{name: fields[name] for name in names}}))


def fields_of(kind: type[Struct]) -> dict[str, SearchStrategy[Any]]:
    """Return any value of each field of a struct."""
    hints = get_type_hints(kind)
    return {name: any_of(hints[name]) for name in kind.__struct_fields__}


SESSIONS: Final[SearchStrategy[Session]] = any_struct(Session)
"""Any session, with every part."""


def additions(part: str) -> SearchStrategy[Change]:
    """Return changes that only add."""
    return st.dictionaries(st.sampled_from(sorted(COUNTERS_OF[part])), NUMBERS, max_size=4).map(Change)


def changes(part: str) -> SearchStrategy[Change]:
    """Return changes of a part: counters are added, other fields set."""
    kind = SavedEffect if part == "effects" else TYPE_OF[part]  # whatever effect is there, it has these fields
    settable = {name: field for name, field in fields_of(kind).items() if name not in COUNTERS_OF[part]}
    fields = some_of(settable, {})
    if not COUNTERS_OF[part]:
        return fields.map(lambda values: Change(set=values))
    added = st.dictionaries(st.sampled_from(sorted(COUNTERS_OF[part])), NUMBERS, max_size=3)
    return st.tuples(added, fields).map(lambda both: Change(*both))


def operations(part: str) -> SearchStrategy[Operation]:
    """Return anything that can happen to a part; the parts that every gateway session has are never removed."""
    if part in PLAIN:
        return st.one_of(any_of(get_args(get_type_hints(Session)[part])[1]).map(Put), st.just(Remove()))
    possible: list[SearchStrategy[Operation]] = [changes(part), any_struct(TYPE_OF[part]).map(Put)]
    if part in KEYED:
        possible.append(st.just(Remove()))
    return st.one_of(possible)


PATHS: Final[SearchStrategy[Path]] = st.one_of(
    st.tuples(st.sampled_from(SINGLE), st.just("")),
    st.tuples(st.sampled_from(KEYED), st.sampled_from(KEYS)),
)


@st.composite
def criteria(draw: st.DrawFn) -> UpdateCriteria:
    """Return any change of a session."""
    paths = draw(st.lists(PATHS, max_size=4, unique=True))
    return UpdateCriteria({path: draw(operations(path[0])) for path in paths})


@st.composite
def only_adding(draw: st.DrawFn) -> UpdateCriteria:
    """Return a change of a session that adds to counters and does nothing else."""
    counting = PATHS.filter(lambda path: bool(COUNTERS_OF[path[0]]))
    paths = draw(st.lists(counting, max_size=4, unique=True))
    return UpdateCriteria({path: draw(additions(path[0])) for path in paths})


@cache
def gateway_sessions() -> SearchStrategy[Session]:
    """Return any gateway session: the parts that every one has are there, those of all others sometimes."""
    values = fields_of(Session)
    needed = {
        **{
            name: values[name]
            for name in ("key", "type", "scope", "head", "rules", "credits", "monitors", "identity", "stream", *PLAIN)
        },
        "context": any_struct(Context),
        "gateway": any_struct(Gateway),
    }
    return st.fixed_dictionaries({**needed, "effects": values["effects"]}).map(lambda fields: Session(**fields))
