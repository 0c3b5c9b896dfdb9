"""The vault: AES-256-GCM (NIST SP 800-38D) with keys of the operator, the first of which seals and all of which open.

    sealed:<key id>:<base64url of nonce and ciphertext>

The place of a value, its session and its name, is authenticated with it. A daemon that keeps its sessions in memory
needs no keys: it makes one that goes with it.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from sessiond.core.errors import FailedPrecondition

KEY_OCTETS: Final = 32
NONCE_OCTETS: Final = 12
_LINE: Final = re.compile(r"(?P<id>[A-Za-z0-9_-]{1,32})[:\s]\s*(?P<key>[A-Za-z0-9+/_-]+=*)")
_SEALED: Final = re.compile(r"sealed:(?P<id>[A-Za-z0-9_-]{1,32}):(?P<octets>[A-Za-z0-9_-]+=*)")


class Key(Struct, frozen=True):
    """A key with the id that is stored with what it sealed."""

    id: str
    octets: bytes

    def __repr__(self) -> str:
        return f"Key({self.id}, ***)"


def keys_in(text: str) -> list[Key]:
    """Return the keys in a text: one per line, `<id>:<base64 of 32 octets>`; `#` begins a comment.

    Raise ValueError, which names the line and shows nothing of it.
    """
    keys: dict[str, Key] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        key = _key(said, number)
        if key.id in keys:
            raise ValueError(f"line {number}: the id {key.id} is there twice")
        keys[key.id] = key
    return list(keys.values())


def _key(said: str, number: int) -> Key:
    match = _LINE.fullmatch(said)
    if match is None:
        raise ValueError(f"line {number}: expected <id>:<base64 of {KEY_OCTETS} bytes>")
    try:
        octets = base64.b64decode(match["key"].replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"line {number}: key {match['id']} is not base64") from error
    if len(octets) != KEY_OCTETS:
        raise ValueError(f"line {number}: key {match['id']} has {len(octets)} bytes, not {KEY_OCTETS}")
    return Key(match["id"], octets)


class KeyVault:
    """Implements `app.ports.vault.Vault`; without keys it seals nothing."""

    def __init__(self, keys: Sequence[Key], number: Callable[[int], int]) -> None:
        self._number = number
        self._keys: Mapping[str, Key] = {}
        self._first: Key | None = None
        self.use(keys)

    def use(self, keys: Sequence[Key]) -> None:
        """Seal with the first of these keys from now on, and open with all of them."""
        self._keys = {key.id: key for key in keys}
        self._first = keys[0] if keys else None

    def seal(self, place: str, clear: bytes) -> str:
        """Return octets sealed, as text."""
        # Loaded when it is needed: most sessions have nothing that is sensitive.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        key = self._first
        if key is None:
            text = "what is sensitive is kept only where encryption.keys_file or keys_environment gives a key"
            raise FailedPrecondition("ENCRYPTION_NOT_CONFIGURED", text)
        nonce = self._number(2 ** (8 * NONCE_OCTETS)).to_bytes(NONCE_OCTETS, "big")
        octets = nonce + AESGCM(key.octets).encrypt(nonce, clear, _authenticated(place))
        return f"sealed:{key.id}:{base64.urlsafe_b64encode(octets).decode()}"

    def open(self, place: str, sealed: str) -> bytes:
        """Return what was sealed for this place."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        match = _SEALED.fullmatch(sealed)
        key = self._keys.get(match["id"]) if match else None
        if match is None or key is None:
            raise _unreadable(place, f"key {match['id']} is not there" if match else "it is not sealed")
        octets = base64.urlsafe_b64decode(match["octets"])
        try:
            return AESGCM(key.octets).decrypt(octets[:NONCE_OCTETS], octets[NONCE_OCTETS:], _authenticated(place))
        except (InvalidTag, ValueError) as error:
            raise _unreadable(place, f"it was not sealed there with key {key.id}") from error


def own_key(number: Callable[[int], int]) -> Key:
    """Return a key that nobody else has, and that goes with the process."""
    return Key("process", number(2 ** (8 * KEY_OCTETS)).to_bytes(KEY_OCTETS, "big"))


def _authenticated(place: str) -> bytes:
    return b"sessiond/1 " + place.encode()


def _unreadable(place: str, why: str) -> FailedPrecondition:
    return FailedPrecondition("SEALED_VALUE_UNREADABLE", f"what is sealed as {place} cannot be opened: {why}")
