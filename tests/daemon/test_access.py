"""Who may call, by the configuration and the files it names."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from sessiond.core.callers import EVERYBODY, Caller
from sessiond.daemon.access import Doors, callers_of, keys_of
from sessiond.daemon.clock import SystemClock
from sessiond.daemon.config import Config, ConfigError, is_closed, load
from sessiond.northbound.identity import digest

TOKEN = "a-token-of-billing"  # noqa: S105
ONE, TWO = (f"{name}:{base64.b64encode(octet * 32).decode()}" for name, octet in (("one", b"\1"), ("two", b"\2")))


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Give a folder with the files that configurations here name."""
    (tmp_path / "billing.tokens").write_text(f"{TOKEN}\nanother-token-of-billing\n")
    (tmp_path / "short.tokens").write_text("short\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "keys").write_text(f"{ONE}\n{TWO}\n")
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "octets").write_bytes(b"\xff\xfe")
    return tmp_path


def read(folder: Path, **keys: Any) -> tuple[Config, Path]:
    """Return a configuration, and the file it is in."""
    path = folder / "sessiond.yml"
    path.write_text(yaml.safe_dump(keys))
    return load(path), path


def callers(tokens: str = "", **caller: Any) -> dict[str, Any]:
    """Return the section for one caller, whose tokens are in a file."""
    return {"access": {"callers": {"billing": {**caller, **({"token_file": tokens} if tokens else {})}}}}


def problems(folder: Path, **keys: Any) -> str:
    """Return what is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        Doors(*read(folder, **keys), SystemClock().number)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "closed"),
    [
        ({}, False),
        ({"server": {"listen": "0.0.0.0:1", "insecure": True}}, False),
        ({"server": {"listen": "0.0.0.0:1", "tls": {"cert": "ca.pem", "key": "ca.pem"}}}, True),
        ({"server": {"listen": "0.0.0.0:1", "tls": dict.fromkeys(("cert", "key", "client_ca"), "ca.pem")}}, False),
        (callers("billing.tokens"), True),
        ({"access": {"open": False}}, True),
        ({"access": {"open": True, "callers": {"billing": {"token_file": "billing.tokens"}}}}, False),
    ],
)
def test_open_or_closed(folder: Path, keys: dict[str, Any], closed: bool) -> None:
    """Open by default where others are kept out by other means, until a caller is named; or as is said."""
    assert is_closed(read(folder, **keys)[0]) is closed


def test_nobody_is_asked_by_default(folder: Path) -> None:
    """Then no call costs anything more."""
    assert callers_of(*read(folder)) is None


def test_closed_without_callers_is_told(folder: Path) -> None:
    """Nobody can use the API then, which is allowed and worth a note."""
    config, path = read(folder, access={"open": False})
    known = callers_of(config, path)
    assert known is not None
    assert known.stranger is None
    assert "nobody can use sessiond.v1" in str(config.notes[0])


def test_tokens_are_read(folder: Path) -> None:
    """Each line of the file is a token of the caller; that they travel in clear is worth a note."""
    wanted = callers("billing.tokens", namespaces=["billing", "pay-*"], readable_namespaces=["*"])
    config, path = read(folder, **wanted)
    known = callers_of(config, path)
    assert known is not None
    billing = Caller("billing", ("billing", "pay-*"), ("*",), operator=False)
    assert known.by_token == {digest(TOKEN): billing, digest("another-token-of-billing"): billing}
    assert "tokens are shown" in str(config.notes[0])


def test_open_with_callers(folder: Path) -> None:
    """Strangers are everybody then."""
    config, path = read(folder, access={"open": True, **callers("billing.tokens")["access"]})
    known = callers_of(config, path)
    assert known is not None
    assert known.stranger is EVERYBODY


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (callers(namespaces=["billing"]), "nobody can be this caller"),
        (callers(identities=["CN=x"]), "without server.tls.client_ca"),
        (callers("nowhere"), "cannot be read"),
        (callers("short.tokens"), "at least 16 characters"),
        (callers("empty"), "at least 16 characters"),
        (callers("octets"), "is not text"),
        (callers("billing.tokens", namespaces=["a b"]), "a list of namespaces"),
        (callers("billing.tokens", namespaces=["a*b"]), "a list of namespaces"),
        (callers("billing.tokens", colour="red"), "unknown key"),
        ({"access": {"namespaces": {"a*": {"sessions": 1}}}}, "is no namespace"),
        ({"access": {"namespaces": {"a": {"sessions": -1}}}}, "a whole number"),
        ({"access": {"open": "yes please"}}, "true or false"),
        ({"encryption": {"keys_file": "nowhere"}}, "cannot be read"),
        ({"encryption": {"keys_file": "empty"}}, "has no key"),
        ({"encryption": {"keys_file": "octets"}}, "is not text"),
        ({"encryption": {"keys_file": "billing.tokens"}}, "line 1: expected"),
        ({"encryption": {"keys_environment": "NOBODY_HAS_SET_THIS"}}, "has no key"),
        ({"encryption": {"keys_environment": "a b"}}, "environment variable"),
        ({"encryption": {"keys_environment": "A", "keys_file": "keys"}}, "beside encryption.keys_file"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(folder: Path, keys: dict[str, Any], said: str) -> None:
    """The key is named, and nothing that is secret is shown."""
    found = problems(folder, **keys)
    assert said in found
    assert "sessiond.yml:" in found
    assert TOKEN not in found


def test_a_token_is_of_one_caller(folder: Path) -> None:
    """Two callers with the same token cannot be told apart."""
    both = {name: {"token_file": "billing.tokens"} for name in ("billing", "other")}
    assert "the same as of billing" in problems(folder, access={"callers": both})


def test_keys_come_from_a_file_or_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they are written."""
    config, path = read(folder, encryption={"keys_file": "keys"})
    assert [key.id for key in keys_of(config.encryption, path)] == ["one", "two"]
    monkeypatch.setenv("SESSIOND_TEST_KEYS", f"{TWO},{ONE}")
    config, path = read(folder, encryption={"keys_environment": "SESSIOND_TEST_KEYS"})
    assert [key.id for key in keys_of(config.encryption, path)] == ["two", "one"]
    assert keys_of(Config().encryption, path) == []


def test_memory_needs_no_key(folder: Path) -> None:
    """A daemon that forgets has a key that goes with it, also after its files are read again."""
    config, path = read(folder)
    doors = Doors(config, path, SystemClock().number)
    sealed = doors.vault.seal("k", b"clear")
    doors.use(doors.read(read(folder, encryption={"keys_file": "keys"})[0]))
    assert doors.vault.open("k", sealed) == b"clear"
    assert doors.vault.seal("k", b"clear").startswith("sealed:one:")


def test_a_store_that_keeps_needs_a_key(folder: Path) -> None:
    """There nothing is sealed without one."""
    doors = Doors(*read(folder, store={"url": "redis://127.0.0.1:1/0"}), SystemClock().number)
    with pytest.raises(Exception, match=r"encryption\.keys_file"):
        doors.vault.seal("k", b"clear")
