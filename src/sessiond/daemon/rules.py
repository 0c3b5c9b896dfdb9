"""Static rules: from a file, which is read again when it has changed, and from policydb's Redis, asked every time."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import structlog
import yaml

from sessiond.app.situation import Circumstances
from sessiond.core.errors import InvalidArgument, Unavailable
from sessiond.core.rules import Catalogue
from sessiond.daemon.config import ConfigError, Policies, line_of
from sessiond.daemon.yaml_reader import Problem
from sessiond.translate.rules import catalogue_from_json

log = structlog.get_logger(__name__)

KEY: Final = "policies.file"
"""The key that names the file."""
REDIS_KEY: Final = "policies.redis_url"
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

    def changed(self) -> bool:
        """Whether the file is another one than was read."""
        return self._path is not None and self._present_stamp() != self._stamp

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


class Source(Protocol):
    """Where rules come from beside the file."""

    async def read(self) -> Catalogue:
        """Return all rules by id, the same mapping if nothing has changed; raise Unavailable if nobody knows."""
        ...

    async def close(self) -> None:
        """Let go of what reading needs."""
        ...


class StaticRules:
    """All static rules: those of the file, and those of the other source, which win where both have an id."""

    def __init__(self, file: RulesFile, source: Source | None = None) -> None:
        self._file = file
        self._source = source
        self._from_file: Catalogue = {}
        self._from_source: Catalogue = {}
        self._away = False

    async def read(self) -> Catalogue:
        """Return the rules; raise ConfigError if the file is wrong. A source that is away has what it had before."""
        self._from_file = self._file.read()
        await self._ask_source()
        return self._all()

    async def refresh(self, circumstances: Circumstances) -> None:
        """Take the rules that have changed; those that cannot be read leave those of before in force."""
        from_file = self._refresh_file()
        from_source = await self._ask_source()
        if from_file or from_source:
            circumstances.catalogue = self._all()
            log.info("rules_loaded", rules=len(circumstances.catalogue))

    async def close(self) -> None:
        """Let go of what reading needs."""
        if self._source is not None:
            await self._source.close()

    def _all(self) -> Catalogue:
        return {**self._from_file, **self._from_source}

    def _refresh_file(self) -> bool:
        """Read the file if it has changed; return whether its rules are to be taken."""
        if not self._file.changed():
            return False
        try:
            self._from_file = self._file.read()
        except ConfigError as error:
            log.error("rules_file_refused", problems=[str(problem) for problem in error.problems])
            return False
        return True

    async def _ask_source(self) -> bool:
        """Ask the source; return whether its rules have changed. That it is away is logged when it begins and ends."""
        if self._source is None:
            return False
        try:
            found = await self._source.read()
        except Unavailable as error:
            if not self._away:
                log.warning("rules_unavailable", text=error.text, kept=len(self._from_source))
            self._away = True
            return False
        if self._away:
            log.info("rules_available_again", rules=len(found))
        self._away, before, self._from_source = False, self._from_source, found
        return found is not before


def static_rules(policies: Policies, named_in: Path) -> StaticRules:
    """Return the static rules that a configuration names; raise ConfigError if Redis cannot be used at all."""
    file = RulesFile(policies.file, named_in)
    if policies.redis_url is None:
        return StaticRules(file)
    try:
        # The client of Redis is an extra that a daemon without Redis does not need.
        from sessiond.store.redis_rules import RedisRules  # noqa: PLC0415

        return StaticRules(file, RedisRules(policies.redis_url))
    except ImportError as error:
        raise _redis_problem(named_in, "needs the package redis: install sessiond[redis]") from error
    except (ValueError, TypeError) as error:
        raise _redis_problem(named_in, f"cannot be used: {error}") from error


def _redis_problem(named_in: Path, text: str) -> ConfigError:
    return ConfigError([Problem(str(named_in), line_of(named_in, REDIS_KEY), REDIS_KEY, text)])


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
