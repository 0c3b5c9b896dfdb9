"""Canaries: what must never be read in a log. Whatever any daemon of these tests says is searched for them."""

import base64
from itertools import count
from typing import Final

_PREFIX: Final = "CANARY"
_numbers = count(1)
_noted: set[str] = set()


def canary(name: str) -> str:
    """Return a text that no log may show."""
    return f"{_PREFIX}-{name}-{next(_numbers):04d}"


def note(octets: bytes) -> bytes:
    """Return octets that no log may show from now on, in any of the ways to write them."""
    _noted.update(
        (
            octets.hex(),
            base64.b64encode(octets).decode().rstrip("="),
            base64.urlsafe_b64encode(octets).decode().rstrip("="),
            repr(octets)[2:-1],
        )
    )
    return octets


def found_in(text: str) -> list[str]:
    """Return the canaries that a text shows."""
    return [secret for secret in (_PREFIX, *_noted) if secret in text]
