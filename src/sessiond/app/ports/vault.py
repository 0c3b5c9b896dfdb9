"""The vault port: what is sensitive, sealed, so that nobody reads it who only sees a session, a store or a log."""

from typing import Protocol


class Vault(Protocol):
    """Who has the keys. A seal holds for one place only: it cannot be opened at another."""

    def seal(self, place: str, clear: bytes) -> str:
        """Return octets sealed, as text; raise FailedPrecondition where nothing may be kept that is sensitive."""
        ...

    def open(self, place: str, sealed: str) -> bytes:
        """Return what was sealed for this place; raise FailedPrecondition if it cannot be opened."""
        ...
