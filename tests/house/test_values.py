"""The values that a session is made of are left out of the search for cycles: there are dozens for each session."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from msgspec import Struct

from sessiond.core.session import Session


def test_the_values_of_a_session_are_not_searched_for_cycles() -> None:
    """A frozen value cannot come to refer to itself; those of 100,000 sessions take long to search (`gc=False`)."""
    assert {kind.__name__ for kind in values_in(Session, set()) if kind.__struct_config__.gc} == set()


def values_in(kind: Any, known: set[Any]) -> Iterator[type[Struct]]:
    """Yield the types that a type is made of."""
    if kind in known:
        return
    known.add(kind)
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
        for part in get_type_hints(kind).values():
            yield from values_in(part, known)
    for part in get_args(kind):
        yield from values_in(part, known)
