"""The one filter language: which sessions are meant, in words that lists, watchers, statistics and operators share.

A subset of AIP-160: comparisons of the fields of `core.fields` (`=`, `!=`, `<`, `<=`, `>`, `>=`, and `:` for "has"),
joined with AND, OR, NOT and parentheses. As there, OR binds more tightly than AND. A `*` in a text stands for anything.

    filter     = [ anded ]
    anded      = ored { "AND" ored }
    ored       = negated { "OR" negated }
    negated    = [ "NOT" | "-" ] simple
    simple     = "(" anded ")" | path operator value
    path       = name { "." ( name | quoted ) }
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from sessiond.core.comparisons import Literal, Predicate, Unfit, comparison
from sessiond.core.errors import InvalidArgument
from sessiond.core.fields import field_of
from sessiond.core.session import Session

LONGEST: Final = 4096
"""Characters of a filter."""
DEEPEST: Final = 20
"""Parentheses and NOTs within one another."""
MOST: Final = 100
"""Comparisons of a filter."""

_SPACE: Final = re.compile(r"\s*")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_OPERATOR: Final = re.compile(r"<=|>=|!=|[=<>:]")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"' + r"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_BARE: Final = re.compile(r"[^\s()\"'\\]+")
_PIECE: Final = re.compile(r"\\(.)|(\*)|([^\\*]+)", re.DOTALL)
_KEYWORDS: Final = frozenset({"AND", "OR", "NOT"})


class Comparison(Struct, frozen=True, gc=False):
    """A field held against a value."""

    path: tuple[str, ...]
    operator: str
    literal: Literal

    def __str__(self) -> str:
        first, *others = self.path
        names = [name if _NAME.fullmatch(name) else str(Literal((name,), quoted=True)) for name in others]
        return f"{'.'.join([first, *names])} {self.operator} {self.literal}"


class Not(Struct, frozen=True, gc=False):
    """What something is not."""

    inner: "Expression"

    def __str__(self) -> str:
        return f"NOT {_within(self.inner, And, Or, Not)}"


class And(Struct, frozen=True, gc=False):
    """All of several."""

    all: tuple["Expression", ...]

    def __str__(self) -> str:
        return " AND ".join(_within(part, And) for part in self.all)


class Or(Struct, frozen=True, gc=False):
    """One of several at least."""

    any: tuple["Expression", ...]

    def __str__(self) -> str:
        return " OR ".join(_within(part, And, Or) for part in self.any)


Expression: TypeAlias = Comparison | Not | And | Or


def _within(expression: Expression, *apart: type[Expression]) -> str:
    """Return an expression as a part of another one, which keeps these kinds of it in parentheses."""
    return f"({expression})" if isinstance(expression, apart) else str(expression)


class Filter:
    """A predicate over sessions; two of them are equal if they were written alike but for spaces and parentheses."""

    __slots__ = ("_predicate", "expression", "text")

    def __init__(self, expression: Expression | None, predicate: Predicate) -> None:
        self.expression = expression
        """What it says; None: everything."""
        self.text = "" if expression is None else str(expression)
        """What it says, in the one form that `parse` gives back as it is."""
        self._predicate = predicate

    def __call__(self, session: Session) -> bool:
        """Whether a session is meant."""
        return self._predicate(session)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def pinned(self, name: str) -> str | None:
        """Return the one text that a field must have for a session to be meant, None if there is no such one."""
        wanted = self.expression.all if isinstance(self.expression, And) else (self.expression,)
        for part in wanted:
            is_equal = isinstance(part, Comparison) and part.path == (name,) and part.operator == "="
            if is_equal and isinstance(part, Comparison) and len(part.literal.parts) == 1:
                return part.literal.parts[0]
        return None


def parse(text: str) -> Filter:
    """Return what a text means; nothing means everything. Raise InvalidArgument FILTER_INVALID, with the position."""
    if len(text) > LONGEST:
        raise _invalid(f"the filter has {len(text)} characters, more than {LONGEST}")
    try:
        return _Parser(text).filter()
    except _Wrong as wrong:
        raise _invalid(f"at character {wrong.at + 1}: {wrong.text}") from None


class _Wrong(Exception):
    """Something is wrong with a filter at a position, counted from 0."""

    def __init__(self, at: int, text: str) -> None:
        super().__init__(text)
        self.at = at
        self.text = text


def _invalid(text: str) -> InvalidArgument:
    return InvalidArgument("FILTER_INVALID", text, field="filter")


class _Parsed(NamedTuple):
    """An expression, and what decides it."""

    expression: Expression
    predicate: Predicate


class _Parser:
    """Reads a text from left to right; `_at` is where the next character is that nothing has taken yet."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._comparisons = 0

    def filter(self) -> Filter:
        """Return all that there is."""
        self._skip()
        if self._at == len(self._text):
            return Filter(None, _everything)
        parsed = self._anded()
        if self._at < len(self._text):
            raise self._unexpected("AND or OR")
        return Filter(*parsed)

    def _anded(self) -> _Parsed:
        parts = self._joined("AND", self._ored)
        if len(parts) == 1:
            return parts[0]
        return _Parsed(And(tuple(part.expression for part in parts)), _all([part.predicate for part in parts]))

    def _ored(self) -> _Parsed:
        parts = self._joined("OR", self._negated)
        if len(parts) == 1:
            return parts[0]
        return _Parsed(Or(tuple(part.expression for part in parts)), _any([part.predicate for part in parts]))

    def _joined(self, keyword: str, read: Callable[[], _Parsed]) -> list[_Parsed]:
        parts = [read()]
        while self._took(keyword):
            parts.append(read())
        return parts

    def _negated(self) -> _Parsed:
        if not (self._took("NOT") or self._took_sign("-")):
            return self._simple()
        self._deeper()
        expression, predicate = self._simple()
        self._depth -= 1
        return _Parsed(Not(expression), lambda session: not predicate(session))

    def _simple(self) -> _Parsed:
        if not self._took_sign("("):
            return self._comparison()
        self._deeper()
        parsed = self._anded()
        if not self._took_sign(")"):
            raise self._unexpected("AND, OR or )")
        self._depth -= 1
        return parsed

    def _comparison(self) -> _Parsed:
        self._comparisons += 1
        if self._comparisons > MOST:
            raise _Wrong(self._at, f"there are more than {MOST} comparisons")
        start = self._at
        path = self._path()
        field = field_of(path)
        if field is None:
            raise _Wrong(start, f"a session has no field {'.'.join(path)[:80]}")
        operator = self._take(_OPERATOR, "one of = != < <= > >= :")
        at = self._at
        literal = self._literal()
        try:
            predicate = comparison(field, operator, literal)
        except Unfit as unfit:
            raise _Wrong(at if unfit.literal else start, f"{'.'.join(path)[:80]} {unfit}") from None
        return _Parsed(Comparison(path, operator, literal), predicate)

    def _path(self) -> tuple[str, ...]:
        match = _WORD.match(self._text, self._at)
        if match is None or match[0] in _KEYWORDS:
            raise self._unexpected("a field")
        names = [match[0]]
        self._at = match.end()
        while self._text.startswith(".", self._at):
            self._at += 1
            names.append(self._entry())
        self._skip()
        return tuple(names)

    def _entry(self) -> str:
        """Return what follows a dot."""
        if self._text[self._at : self._at + 1] in {'"', "'"}:
            return self._quoted(skip=False).text
        return self._take(_NAME, "a name", skip=False)

    def _literal(self) -> Literal:
        if self._text[self._at : self._at + 1] in {'"', "'"}:
            return self._quoted()
        return Literal(tuple(self._take(_BARE, "a value").split("*")), quoted=False)

    def _quoted(self, *, skip: bool = True) -> Literal:
        at = self._at
        match = _QUOTED.match(self._text, at)
        if match is None:
            raise _Wrong(at, "this quotation mark has no counterpart")
        self._at = match.end()
        if skip:
            self._skip()
        parts = [""]
        for piece in _PIECE.finditer(match[1] if match[1] is not None else match[2]):
            escaped, star, plain = piece.groups()
            if star:
                parts.append("")
            else:
                parts[-1] += escaped or plain
        return Literal(tuple(parts), quoted=True)

    def _took(self, keyword: str) -> bool:
        """Whether a keyword was next; it is taken then."""
        match = _WORD.match(self._text, self._at)
        if match is None or match[0] != keyword:
            return False
        self._at = match.end()
        self._skip()
        return True

    def _took_sign(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += 1
        self._skip()
        return True

    def _take(self, pattern: re.Pattern[str], what: str, *, skip: bool = True) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._unexpected(what)
        self._at = match.end()
        if skip:
            self._skip()
        return match[0]

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Wrong(self._at, f"more than {DEEPEST} levels of parentheses and NOT")

    def _unexpected(self, wanted: str) -> _Wrong:
        rest = self._text[self._at : self._at + 20]
        return _Wrong(self._at, f"{wanted} is expected" + (f", not {rest!r}" if rest else " at the end"))


def _everything(session: Session) -> bool:  # noqa: ARG001, whatever the session is
    return True


def _all(predicates: list[Predicate]) -> Predicate:
    first, *others = predicates
    rest = others[0] if len(others) == 1 else _all(others)
    return lambda session: first(session) and rest(session)


def _any(predicates: list[Predicate]) -> Predicate:
    first, *others = predicates
    rest = others[0] if len(others) == 1 else _any(others)
    return lambda session: first(session) or rest(session)
