"""A vault without keys, for tests: nobody reads at a glance what it seals, and anybody could open it."""

import base64

from sessiond.core.errors import FailedPrecondition


class GlassVault:
    """Implements `app.ports.vault.Vault`; a seal holds for its place only, as that of every vault."""

    def seal(self, place: str, clear: bytes) -> str:
        """Return octets as text that does not look like them."""
        return f"sealed:glass:{base64.urlsafe_b64encode(place.encode() + b'|' + clear).decode()}"

    def open(self, place: str, sealed: str) -> bytes:
        """Return what was sealed for this place."""
        octets = base64.urlsafe_b64decode(sealed.removeprefix("sealed:glass:"))
        before, _, clear = octets.partition(b"|")
        if before != place.encode():
            raise FailedPrecondition("SEALED_VALUE_UNREADABLE", f"this was not sealed for {place}")
        return clear
