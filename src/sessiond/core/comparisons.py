"""Comparisons: a field of a session held against a literal, made into a function that is fast to ask.

What is not there is never equal, smaller or greater; `!=` is always the opposite of `=`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from sessiond.core.fields import Field, Kind
from sessiond.core.session import Session

Predicate: TypeAlias = Callable[[Session], bool]
Test: TypeAlias = Callable[[Any], bool]
"""Whether a value of a field is one that is meant."""

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNITS_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
_SPAN: Final = re.compile(rf"({_NUMBER.pattern})({'|'.join(_UNITS_MS)})")
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_MONTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ESCAPED: Final = re.compile(r'[\\"*]')
_ABSENT: Final[tuple[Any, ...]] = (None, "", 0, (), {}, "UNSPECIFIED")


class Unfit(Exception):
    """A field cannot be compared like this; `literal` is true if it is the value that does not fit."""

    def __init__(self, text: str, *, literal: bool = True) -> None:
        super().__init__(text)
        self.literal = literal


class Literal(Struct, frozen=True, gc=False):
    """A value as it was written; between its parts anything may stand."""

    parts: tuple[str, ...]
    quoted: bool

    def __str__(self) -> str:
        if not self.quoted:
            return self.text
        return '"' + "*".join(_ESCAPED.sub(r"\\\g<0>", part) for part in self.parts) + '"'

    @property
    def text(self) -> str:
        """The value, in which a star may be one that stands for anything."""
        return "*".join(self.parts)

    @property
    def is_anything(self) -> bool:
        """Whether it is a star alone, which asks whether there is a value at all."""
        return self.parts == ("", "") and not self.quoted


def comparison(field: Field, comparator: str, literal: Literal) -> Predicate:
    """Return what decides about sessions; raise Unfit if the field cannot be held against this."""
    read = field.read
    if comparator == ":" and literal.is_anything:
        return _presence(field)
    negated = comparator == "!="
    test = _TESTS[field.kind](field, "=" if negated else comparator, literal)
    if negated:
        return lambda session: not test(read(session))
    return lambda session: test(read(session))


def time_ms(text: str) -> float | None:
    """Return the unix milliseconds of a time (RFC 3339), None if the text is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[number]) for number in range(1, 7))
    offset_hour, offset_minute = int(match[9] or 0), int(match[10] or 0)
    if not (_is_day(year, month, day) and max(hour, offset_hour) < 24 and max(minute, second, offset_minute) < 60):
        return None
    offset_min = (offset_hour * 60 + offset_minute) * (-1 if match[8] == "-" else 1)
    seconds = _days(year, month, day) * 86_400 + hour * 3600 + (minute - offset_min) * 60 + second
    return seconds * 1000 + int(match[7].ljust(9, "0")) / 1_000_000 if match[7] else seconds * 1000


def glob(parts: tuple[str, ...]) -> Callable[[str], bool]:
    """Return what decides whether a text consists of these parts, with anything between them."""
    if len(parts) == 1:
        (whole,) = parts
        return lambda text: text == whole
    first, *middle, last = parts
    shortest = len(first) + len(last)

    def matches(text: str) -> bool:
        if len(text) < shortest or not (text.startswith(first) and text.endswith(last)):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


def _is_day(year: int, month: int, day: int) -> bool:
    if not (year and 1 <= month <= 12):
        return False
    leap_day = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= _MONTHS[month - 1] + leap_day


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a day of the Gregorian calendar, whose year here begins with March."""
    year -= month < 3
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + day_of_year - 719_468


def _presence(field: Field) -> Predicate:
    """Return what decides whether a field has a value; JSON values are there even if they are 0 or empty."""
    read = field.read
    if field.kind is Kind.VALUE:
        return lambda session: read(session) is not None
    return lambda session: read(session) not in _ABSENT


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)


def span_ms(text: str) -> float | None:
    """Return the milliseconds of a duration, such as 90s, 1.5h or 250ms; None if the text is none."""
    match = _SPAN.fullmatch(text)
    number = _number(match[1]) if match else None
    return None if match is None or number is None else number * _UNITS_MS[match[3]]


def _text(_: Field, comparator: str, literal: Literal) -> Test:
    return _textual(comparator, literal)


def _textual(comparator: str, literal: Literal) -> Test:
    if comparator == ":":
        return glob(("", *literal.parts, ""))
    if comparator == "=":
        return glob(literal.parts)
    if len(literal.parts) > 1:
        raise Unfit(f"cannot be compared with {comparator} to a text that has a *")
    return _ordered(comparator, literal.parts[0])


def _ordered(comparator: str, bound: Any) -> Test:
    """Return what holds a value that is always there against a bound; `:` is `=`."""
    if comparator in "=:":
        return lambda value: bool(value == bound)
    order = _ORDERS[comparator]
    return lambda value: order(value, bound)


def _if_there(test: Test) -> Test:
    return lambda value: value is not None and test(value)


def _counted(_: Field, comparator: str, literal: Literal) -> Test:
    bound = _number(literal.text)
    if bound is None:
        raise Unfit(f"is a number, such as 42; {literal} is none")
    return _if_there(_ordered(comparator, bound))


def _timed(_: Field, comparator: str, literal: Literal) -> Test:
    bound = time_ms(literal.text)
    if bound is None:
        raise Unfit(f'is a time, such as "2026-01-31T12:00:00Z"; {literal} is none')
    test = _ordered(comparator, bound)
    return lambda value: bool(value) and test(value)


def _spanned(_: Field, comparator: str, literal: Literal) -> Test:
    bound = span_ms(literal.text)
    if bound is None:
        raise Unfit(f"is a duration, such as 90s or 1.5h; {literal} is none")
    return _if_there(_ordered(comparator, bound))


def _flagged(field: Field, comparator: str, literal: Literal) -> Test:
    if literal.text not in {"true", "false"}:
        raise Unfit(f"is true or false; {literal} is neither")
    _check_equal(field, comparator)
    wanted = literal.text == "true"
    return lambda value: bool(value) is wanted


def _named(field: Field, comparator: str, literal: Literal) -> Test:
    if literal.text not in field.names:
        raise Unfit(f"is one of {', '.join(field.names)}; {literal} is not")
    _check_equal(field, comparator)
    wanted = literal.text
    return lambda value: bool(value == wanted)


def _check_equal(field: Field, comparator: str) -> None:
    if comparator in _ORDERS:
        raise Unfit(f"is a {field.kind}: it is compared with = or !=", literal=False)


def _listed(field: Field, comparator: str, literal: Literal) -> Test:
    """Return what looks for a literal among the elements of a list, or the names of a map."""
    if comparator != ":":
        raise Unfit(f"is a {field.kind}: it is asked with : what it has", literal=False)
    fits = glob(literal.parts)
    return lambda values: any(map(fits, values))


def _partial(_: Field, _comparator: str, _literal: Literal) -> Test:
    raise Unfit("is a part with fields of its own: only whether it is there can be asked, with :*", literal=False)


def _valued(_: Field, comparator: str, literal: Literal) -> Test:
    """Return what holds a JSON value against a literal; a list or an object is asked with `:` what it has."""
    simple = _simply_valued(comparator, literal)
    element = _simply_valued("=", literal)

    def test(value: Any) -> bool:
        if isinstance(value, Iterable) and not isinstance(value, str):
            return comparator == ":" and any(map(element, value))
        return simple(value)

    return test


def _simply_valued(comparator: str, literal: Literal) -> Test:
    """Return what holds a text, a number or a truth value against a literal; in quotes, that is a text and no other."""
    as_text = _textual(comparator, literal)
    meant = None if literal.quoted else _meant(literal.text)
    as_number = _ordered(comparator, meant)

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return as_text(value)
        if isinstance(value, bool) or isinstance(meant, bool):
            return value is meant and comparator not in _ORDERS
        return isinstance(value, (int, float)) and meant is not None and as_number(value)

    return test


def _meant(text: str) -> float | bool | None:
    """Return what a JSON value must be that was written without quotes, if it can be anything but a text."""
    if text in {"true", "false"}:
        return text == "true"
    return _number(text)


_TESTS: Final[Mapping[Kind, Callable[[Field, str, Literal], Test]]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _counted,
    Kind.FLAG: _flagged,
    Kind.TIME: _timed,
    Kind.SPAN: _spanned,
    Kind.NAME: _named,
    Kind.LIST: _listed,
    Kind.MAP: _listed,
    Kind.VALUE: _valued,
    Kind.PART: _partial,
}
