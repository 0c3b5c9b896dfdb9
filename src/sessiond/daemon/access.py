"""What the files say that the configuration names: the tokens of callers, and the keys for what is sensitive."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from sessiond.core.callers import EVERYBODY, Caller
from sessiond.daemon.config import CallerKeys, Config, ConfigError, Encryption, is_closed, line_of
from sessiond.daemon.vault import Key, KeyVault, keys_in, own_key
from sessiond.daemon.yaml_reader import Problem
from sessiond.northbound.identity import Callers, Gate, digest

Mark = TypeVar("Mark", bytes, str)

SHORTEST_TOKEN: Final = 16
"""Characters; what is shorter can be guessed."""


class Read(Struct, frozen=True):
    """What the files say."""

    callers: Callers | None
    keys: list[Key]


class Doors:
    """The gate and the vault of a daemon; what the files say is in force as soon as it is read again."""

    def __init__(self, config: Config, path: Path, number: Callable[[int], int]) -> None:
        self.gate = Gate()
        self.vault = KeyVault((), number)
        self._path = path
        self._own = [own_key(number)] if config.store.in_memory else []
        self.use(self.read(config))

    def read(self, config: Config) -> Read:
        """Return what the files say; raise ConfigError for what cannot be used.

        Where sessions are kept in memory, there is always a key, which goes with the process as they do.
        """
        return Read(callers_of(config, self._path), [*keys_of(config.encryption, self._path), *self._own])

    def use(self, read: Read) -> None:
        """Let this be in force."""
        self.gate.callers = read.callers
        self.vault.use(read.keys)


def callers_of(config: Config, path: Path) -> Callers | None:
    """Return everybody who is known, or None if nobody is asked; raise ConfigError for tokens that cannot be used."""
    closed = is_closed(config)
    if not closed and not config.access.callers:
        return None
    by_token: dict[bytes, Caller] = {}
    by_name: dict[str, Caller] = {}
    for name, keys in config.access.callers.items():
        caller = Caller(name, keys.namespaces, keys.readable_namespaces, keys.operator)
        for identity in keys.identities:
            _note(by_name, identity, caller, _problem(path, f"access.callers.{name}.identities"))
        for token in _tokens(name, keys, path):
            _note(by_token, digest(token), caller, _problem(path, f"access.callers.{name}.token_file"))
    return Callers(by_token, by_name, None if closed else EVERYBODY)


def keys_of(encryption: Encryption, path: Path) -> list[Key]:
    """Return the keys for what is sensitive; raise ConfigError for those that cannot be used."""
    if file := encryption.keys_file:
        return _keys("encryption.keys_file", path, lambda: Path(file).read_text("utf-8"))
    if variable := encryption.keys_environment:
        return _keys("encryption.keys_environment", path, lambda: os.environ.get(variable, ""))
    return []


def _keys(name: str, path: Path, read: Callable[[], str]) -> list[Key]:
    problem = _problem(path, name)
    try:
        keys = keys_in(read().replace(",", "\n"))
    except OSError as error:
        raise problem(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # those of UTF-8 are ValueErrors too, and might show what is there
        raise problem("is not text" if isinstance(error, UnicodeError) else str(error)) from None
    if not keys:
        raise problem("has no key")
    return keys


def _tokens(name: str, keys: CallerKeys, path: Path) -> list[str]:
    """Return the tokens of a caller, one per line, so that a new one can be given out before the old one goes."""
    if keys.token_file is None:
        return []
    problem = _problem(path, f"access.callers.{name}.token_file")
    try:
        tokens = Path(keys.token_file).read_text("utf-8").split()
    except OSError as error:
        raise problem(f"{keys.token_file} cannot be read: {error.strerror}") from error
    except UnicodeError:
        raise problem(f"{keys.token_file} is not text") from None
    if not tokens or min(map(len, tokens)) < SHORTEST_TOKEN:
        raise problem(f"{keys.token_file} must have tokens of at least {SHORTEST_TOKEN} characters, one per line")
    return tokens


def _note(known: dict[Mark, Caller], mark: Mark, caller: Caller, problem: Callable[[str], ConfigError]) -> None:
    if (other := known.setdefault(mark, caller)) is not caller:
        raise problem(f"the same as of {other.name}")


def _problem(path: Path, key: str) -> Callable[[str], ConfigError]:
    return lambda text: ConfigError([Problem(str(path), line_of(path, key), key, text)])
