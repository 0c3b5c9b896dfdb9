"""Read a YAML document into msgspec structs and report every problem with its line, not only the first.

The node tree of PyYAML is walked beside the type: it has the line of every key and shows keys given twice, both of
which a decoded dict has lost. A field may carry `Meta(description=..., extra={...})`: the description says in words
what is expected; `accepts` is a further check of the value, `also` a second spelling of the key, `path` marks the name
of a file that is relative to the folder of the document, `secret` a value that is never shown.
"""

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

S = TypeVar("S", bound=msgspec.Struct)

_WORDS: Mapping[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_UNREADABLE = (yaml.YAMLError, ValueError, OverflowError, RecursionError)


class Problem(msgspec.Struct, frozen=True):
    """One thing wrong, or worth a note, in a file: where it is, what it is, and what was probably meant."""

    file: str
    line: int | None
    key: str
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        """Return `file:line: key: message; did you mean ...?`."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"{self.key}: {self.message}" if self.key else self.message
        return f"{where}: {what}" + (f"; did you mean {self.suggestion}?" if self.suggestion else "")


class Reader:
    """Reads one document; collects the problems, the line of every key, and the keys that cannot be trusted."""

    def __init__(self, file: Path) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}
        self.broken: set[str] = set()
        self._file = file
        self._known: list[str] = []

    def read(self, text: str, cls: type[S]) -> S:
        """Return the document as `cls`; what could not be read has its default."""
        self._known = list(_paths(cls))
        root = self._compose(text)
        return cls() if root is None else self._struct(root, cls, "")

    def problem(self, line: int | None, key: str, message: str, suggestion: str | None = None) -> None:
        """Remember a problem; what depends on this key need not be checked any more."""
        self.broken.add(key)
        self.problems.append(Problem(str(self._file), line, key, message, suggestion))

    def trusts(self, keys: Iterable[str]) -> bool:
        """Whether none of the keys, nor a section around one, has a problem."""
        return not any(f"{key}.".startswith(f"{bad}.") for key in keys for bad in self.broken)

    def line(self, keys: Iterable[str]) -> int | None:
        """Return the line of the first of the keys that the document has."""
        return next((self.lines[key] for key in keys if key in self.lines), None)

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            return yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            self.problem(mark.line + 1 if mark else None, "", f"not YAML: {what}")
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.problem(line, "", f"not YAML: the character number {error.character} is not allowed")
        except RecursionError:
            self.problem(None, "", "not YAML that can be read: nested too deeply")
        return None

    def _struct(self, node: yaml.Node, cls: type[S], path: str) -> S:
        fields = _spellings(cls)
        values: dict[str, Any] = {}
        for key, key_node, value_node in self._entries(node, path):
            if (field := fields.get(key)) is None:
                self._unknown(_line(key_node), path, key, list(fields))
                continue
            self._field(values, field, _join(path, key), key_node, value_node)
        return cls(**values)

    def _field(
        self, values: dict[str, Any], field: msgspec.structs.FieldInfo, path: str, key: yaml.Node, node: yaml.Node
    ) -> None:
        self.lines[path] = _line(key)
        value = self._value(node, field.type, path)
        if value is msgspec.UNSET:
            return
        if field.name in values and values[field.name] != value:
            self.problem(_line(key), path, f"{value} here, but {values[field.name]} under its other spelling")
        values[field.name] = value

    def _entries(self, node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        if _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode):
            self.problem(_line(node), path, f"expected keys with values, found {_shown(node)}")
            return
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(_line(key_node), path, f"a key must be text, found {_shown(key_node)}")
            elif (key := key_node.value) in first:
                message = f"given twice, first in line {first[key]}"
                self.problem(_line(key_node), _join(path, key), message)
            else:
                first[key] = _line(key_node)
                yield key, key_node, value_node

    def _unknown(self, line: int, path: str, key: str, names: list[str]) -> None:
        near = difflib.get_close_matches(key, names, n=1)
        meant = _join(path, near[0]) if near else self._elsewhere(key)
        if meant:
            self.broken.add(meant)
        self.problem(line, _join(path, key), "unknown key", meant)

    def _elsewhere(self, key: str) -> str | None:
        return next((known for known in self._known if known.rpartition(".")[2] == key), None)

    def _value(self, node: yaml.Node, hint: object, path: str) -> object:
        inner, nullable = _without_none(hint)
        if nullable and _is_null(node):
            return None
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return self._struct(node, inner, path)
        if typing.get_origin(inner) is dict:
            value_hint = typing.get_args(inner)[1]
            return {
                key: self._value(value_node, value_hint, _join(path, key))
                for key, _, value_node in self._entries(node, path)
            }
        return self._leaf(node, inner, path)

    def _leaf(self, node: yaml.Node, hint: object, path: str) -> object:
        extra = _extra(hint)
        try:
            value = msgspec.convert(_constructed(node), hint)
            accepts: Callable[[Any], bool] = extra.get("accepts", lambda _: True)
            if accepts(value):
                return self._relative(value) if "path" in extra else value
        except (msgspec.ValidationError, *_UNREADABLE):
            pass
        found = "" if extra.get("secret") else f", found {_shown(node)}"
        self.problem(_line(node), path, f"expected {_expected(hint)}{found}", _near_choice(node, hint))
        return msgspec.UNSET

    def _relative(self, name: str) -> str:
        return str(self._file.parent / name)


def _paths(cls: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(cls):
        name = _join(path, field.encode_name)
        yield name
        inner, _ = _without_none(field.type)
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from _paths(inner, name)


def _spellings(cls: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    also = {_extra(field.type).get("also"): field for field in fields.values()}
    return fields | {name: field for name, field in also.items() if name}


def _without_none(hint: object) -> tuple[object, bool]:
    if typing.get_origin(hint) not in {typing.Union, types.UnionType}:
        return hint, False
    members = [member for member in typing.get_args(hint) if member is not types.NoneType]
    return members[0], True


def _metas(hint: object) -> list[msgspec.Meta]:
    return [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]


def _extra(hint: object) -> dict[str, Any]:
    inner, _ = _without_none(hint)
    return {name: value for meta in _metas(inner) for name, value in (meta.extra or {}).items()}


def _expected(hint: object) -> str:
    for meta in _metas(hint):
        if meta.description:
            return meta.description
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(typing.get_args(hint))
    return _WORDS.get(hint, "a list of other values")


def _near_choice(node: yaml.Node, hint: object) -> str | None:
    if typing.get_origin(hint) is not Literal or not isinstance(node, yaml.ScalarNode):
        return None
    return next(iter(difflib.get_close_matches(node.value.upper(), typing.get_args(hint), n=1)), None)


def _constructed(node: yaml.Node) -> object:
    return yaml.SafeLoader("").construct_object(node, deep=True)


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        if _is_null(node):
            return "nothing"
        return f'the text "{node.value}"' if node.tag == "tag:yaml.org,2002:str" else str(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys with values"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
