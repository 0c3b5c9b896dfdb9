"""What is printed: tables for people, JSON for programs; nothing that a client wrote can move the cursor."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

Row = Sequence[str]
NONE: Final = "-"
MASK: Final = "***"
_COLOURS: Final = {
    **dict.fromkeys(("ACTIVE", "CREATED", "ACTIVATED", "RESUMED", "CONNECTED"), "32"),
    **dict.fromkeys(("REQUESTED", "CREATING", "ACTIVATING", "PAUSED", "CLOSING", "UPDATED"), "33"),
    **dict.fromkeys(("CLOSED", "EXPIRED", "DELETED", "FAILING"), "31"),
}


def as_data(message: Message) -> Any:
    """Return a message as proto JSON, its fields under the names that filters know; what is sensitive has a mask."""
    return _masked(MessageToDict(message, preserving_proto_field_name=True))


def _masked(value: Any) -> Any:
    """Return proto JSON whose sessions show no sensitive detail: a screen is read by many.

    Numbers in details are doubles on the wire; one that was given as 4 is shown as 4.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_masked(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    masked = {name: _masked(inner) for name, inner in value.items()}
    for name in masked.get("sensitive_details", ()):
        if name in masked.get("details", {}):
            masked["details"][name] = MASK
    return masked


def print_json(value: Any) -> None:
    """Print JSON for people and programs alike."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_line(value: Any) -> None:
    """Print JSON on a line of its own, at once."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_table(head: Row, rows: Iterable[Row]) -> None:
    """Print rows in columns, states in their colours."""
    for line in table(head, rows, coloured):
        print(line)


def table(head: Row, rows: Iterable[Row], dressed: Callable[[str], str] = str) -> Iterator[str]:
    """Yield the lines of a table, whose columns are as wide as they must be."""
    cells = [list(head), *([printable(cell) or NONE for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        *first, last = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join([*map(dressed, first), dressed(last.rstrip())])


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; what is empty is left out."""
    there = [(name, printable(value)) for name, value in facts if value]
    width = max((len(name) for name, _ in there), default=0)
    for name, value in there:
        print(f"{name.ljust(width)}  {coloured(value)}")


def printable(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def coloured(cell: str) -> str:
    """Return a cell in the colour of what it says, on a terminal that wants colours (no-color.org)."""
    colour = _COLOURS.get(cell.strip())
    return f"\x1b[{colour}m{cell}\x1b[0m" if colour and wants_colour() else cell


def wants_colour() -> bool:
    """Whether standard output is a terminal that shows colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
