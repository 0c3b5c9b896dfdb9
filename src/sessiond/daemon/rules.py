"""Static rules from a file: read at the start, and again whenever the file has changed."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
import yaml

from sessiond.app.situation import Circumstances
from sessiond.core.errors import InvalidArgument
from sessiond.core.rules import Catalogue
from sessiond.daemon.config import ConfigError
from sessiond.daemon.yaml_reader import Problem
from sessiond.translate.rules import catalogue_from_json

log = structlog.get_logger(__name__)

_RULE: Final = re.compile(r"rules\[(?P<index>\d+)\]")


class RulesFile:
    """A policy file, `{"rules": [PolicyRule as proto JSON, ...]}`."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        self._stamp: tuple[int, int, int] | None = None

    def read(self) -> Catalogue:
        """Return the rules of the file; raise ConfigError with all that is wrong with it. No file: no rules."""
        if self._path is None:
            return {}
        try:
            self._stamp = self._present_stamp()
            return catalogue_from_json(self._path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError([self._problem(f"cannot be read: {error.strerror}")]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([self._problem("not UTF-8 text")]) from error
        except InvalidArgument as error:
            lines = _lines_of_rules(self._path)
            raise ConfigError([self._of_rule(text, lines) for text in error.text.splitlines()]) from error

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

    def _present_stamp(self) -> tuple[int, int, int] | None:
        """Return what tells one state of the file from another; None if it is not there."""
        try:
            status = self._path.stat() if self._path else None
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None

    def _problem(self, text: str) -> Problem:
        return Problem(str(self._path), None, "", text)

    def _of_rule(self, text: str, lines: Sequence[int]) -> Problem:
        """Return a problem with the line its rule, `rules[<index>]`, begins in."""
        found = _RULE.match(text)
        index = int(found["index"]) if found else len(lines)
        return Problem(str(self._path), lines[index] if index < len(lines) else None, "", text)


def _lines_of_rules(path: Path) -> list[int]:
    """Return the line in which each rule begins; JSON is YAML, whose parser knows."""
    try:
        root = yaml.compose(path.read_text("utf-8"))
    except (yaml.YAMLError, OSError):
        return []
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "rules" and isinstance(value, yaml.SequenceNode):
            return [rule.start_mark.line + 1 for rule in value.value]
    return []
