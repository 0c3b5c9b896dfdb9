"""Static rules from a file: read at the start, and again whenever the file has changed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog
import yaml

from sessiond.app.situation import Circumstances
from sessiond.core.errors import InvalidArgument
from sessiond.core.rules import Catalogue
from sessiond.daemon.config import ConfigError, line_of
from sessiond.daemon.yaml_reader import Problem
from sessiond.translate.rules import catalogue_from_json

log = structlog.get_logger(__name__)

KEY: Final = "policies.file"
"""The key that names the file."""
_RULE: Final = re.compile(r"rules\[(?P<index>\d+)\]( \(.*?\))?: (?P<key>\w+): ")
_PLACE_IN_JSON: Final = re.compile(r": line (?P<line>\d+) column \d+ ")


class RulesFile:
    """A policy file, `{"rules": [PolicyRule as proto JSON, ...]}`; `named_in` is the configuration that names it."""

    def __init__(self, path: str | None, named_in: Path) -> None:
        self._path = Path(path) if path else None
        self._named_in = named_in
        self._stamp: tuple[int, int, int] | None = None

    def read(self) -> Catalogue:
        """Return the rules of the file; raise ConfigError with all that is wrong with it. No file: no rules."""
        if self._path is None:
            return {}
        self._stamp = self._present_stamp()
        octets = self._octets(self._path)
        try:
            return catalogue_from_json(octets.decode())
        except UnicodeDecodeError as error:
            line = octets.count(b"\n", 0, error.start) + 1
            raise ConfigError([self._problem("not UTF-8 text", line)]) from error
        except RecursionError as error:
            raise ConfigError([self._problem("nested too deeply", 1)]) from error
        except InvalidArgument as error:
            lines = _Lines(octets.decode())
            raise ConfigError([self._problem(text, lines.of(text)) for text in error.text.splitlines()]) from error

    def refresh(self, circumstances: Circumstances) -> None:
        """Take the rules of the file if it has changed; rules that cannot be read leave those of before in force."""
        if self._path is None or self._present_stamp() == self._stamp:
            return
        try:
            circumstances.catalogue = self.read()
        except ConfigError as error:
            log.error("rules_file_refused", problems=[str(problem) for problem in error.problems])
        else:
            log.info("rules_loaded", rules=len(circumstances.catalogue))

    def _octets(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            line = line_of(self._named_in, KEY)
            text = f"{path} cannot be read: {error.strerror}"
            raise ConfigError([Problem(str(self._named_in), line, KEY, text)]) from error

    def _present_stamp(self) -> tuple[int, int, int] | None:
        """Return what tells one state of the file from another; None if it is not there."""
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None

    def _problem(self, text: str, line: int | None) -> Problem:
        return Problem(str(self._path), line, "", text)


class _Lines:
    """Where in a policy file something stands; JSON is YAML, whose parser knows."""

    def __init__(self, text: str) -> None:
        self._rules = list(_rules(text))

    def of(self, text: str) -> int:
        """Return the line that a problem is about: that of the key, of the rule, or the first one."""
        if (place := _PLACE_IN_JSON.search(text)) is not None:
            return int(place["line"])
        if (found := _RULE.match(text)) is None or int(found["index"]) >= len(self._rules):
            return 1
        rule = self._rules[int(found["index"])]
        keys = {key.value: key for key, _ in rule.value} if isinstance(rule, yaml.MappingNode) else {}
        return int(keys.get(found["key"], rule).start_mark.line) + 1


def _rules(text: str) -> Iterator[yaml.Node]:
    """Yield the rules as nodes; nothing if the text is no such document."""
    try:
        root = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "rules" and isinstance(value, yaml.SequenceNode):
            yield from value.value
