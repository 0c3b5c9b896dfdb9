"""The vault: what is sealed is opened with the right key at the right place, and nowhere else."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import FailedPrecondition
from sessiond.daemon.clock import SystemClock
from sessiond.daemon.vault import Key, KeyVault, keys_in, own_key

OLD, NEW = Key("2025", b"\x01" * 32), Key("2026", b"\x02" * 32)
NUMBER = SystemClock().number


def vault(*keys: Key) -> KeyVault:
    """Return a vault with these keys."""
    return KeyVault(keys, NUMBER)


def refused(call: Callable[[], object]) -> str:
    """Return the reason for which a call is refused."""
    with pytest.raises(FailedPrecondition) as caught:
        call()
    return caught.value.reason


@given(st.binary(max_size=200))
def test_what_is_sealed_is_opened(clear: bytes) -> None:
    """It comes out as it went in, and nobody sees it in between."""
    with_key = vault(NEW)
    sealed = with_key.seal("k/details/pin", clear)
    assert with_key.open("k/details/pin", sealed) == clear
    assert sealed.startswith("sealed:2026:")
    if len(clear) > 3:
        assert clear not in base64.urlsafe_b64decode(sealed.rpartition(":")[2])


def test_nothing_is_sealed_twice_alike() -> None:
    """Each seal has a nonce of its own, so that equal values do not look equal."""
    with_key = vault(NEW)
    assert with_key.seal("k", b"1234") != with_key.seal("k", b"1234")


def test_old_keys_open_what_they_sealed() -> None:
    """After a new key was put first, what was sealed before is still read, and what is sealed now needs the new one."""
    sealed = vault(OLD).seal("k", b"clear")
    both = vault(NEW, OLD)
    assert both.open("k", sealed) == b"clear"
    assert vault(NEW).open("k", both.seal("k", b"clear")) == b"clear"
    assert refused(lambda: vault(NEW).open("k", sealed)) == "SEALED_VALUE_UNREADABLE"


def test_a_seal_holds_for_its_place_only() -> None:
    """Who moves a sealed value to another name or session opens nothing."""
    with_key = vault(NEW)
    sealed = with_key.seal("k/details/pin", b"clear")
    assert refused(lambda: with_key.open("k/details/other", sealed)) == "SEALED_VALUE_UNREADABLE"


@pytest.mark.parametrize("sealed", ["", "clear", "sealed:2026:", "sealed:2026:AAAA", "sealed:2026:" + "A" * 64])
def test_what_was_never_sealed_is_not_opened(sealed: str) -> None:
    """Neither text that is none, nor one that somebody made up."""
    assert refused(lambda: vault(NEW).open("k", sealed)) == "SEALED_VALUE_UNREADABLE"


def test_without_a_key_nothing_is_sealed() -> None:
    """Nothing sensitive is taken that would have to be kept in clear."""
    assert refused(lambda: vault().seal("k", b"clear")) == "ENCRYPTION_NOT_CONFIGURED"


def test_keys_are_changed_while_running() -> None:
    """The next seal is made with the new one."""
    with_key = vault(OLD)
    with_key.use([NEW, OLD])
    assert with_key.seal("k", b"clear").startswith("sealed:2026:")


def test_keys_are_read() -> None:
    """One per line, with comments and blank lines, in base64 of either alphabet."""
    plain = base64.b64encode(b"\xfb" * 32).decode()
    urlsafe = base64.urlsafe_b64encode(b"\xfb" * 32).decode()
    assert keys_in(f"# first\n\nnew:{plain}  # since May\nold: {urlsafe}\n") == [
        Key("new", b"\xfb" * 32),
        Key("old", b"\xfb" * 32),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SECRETSECRETSECRET", "line 1: expected <id>:<base64 of 32 bytes>"),
        ("\na b:" + "A" * 44, "line 2: expected"),
        ("a:QUJD", "line 1: key a has 3 bytes, not 32"),
        ("a:QUJDR", "line 1: key a is not base64"),
        (f"a:{'A' * 43}=\na:{'A' * 43}=", "line 2: the id a is there twice"),
    ],
)
def test_keys_that_are_none(text: str, said: str) -> None:
    """The line is named, and nothing of the key is shown."""
    with pytest.raises(ValueError, match="line") as caught:
        keys_in(text)
    assert str(caught.value).startswith(said)
    assert not any(secret in str(caught.value) for secret in ("SECRETSECRET", "QUJD", "AAAA"))


def test_a_key_is_not_shown() -> None:
    """Printing it shows its id only."""
    assert repr(Key("a", b"secret")) == "Key(a, ***)"
    assert len({own_key(NUMBER).octets for _ in range(4)}) == 4
    assert len(own_key(NUMBER).octets) == 32
