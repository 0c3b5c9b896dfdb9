"""The clock port: the time, waiting, and numbers nobody can guess."""

from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Return the unix time in milliseconds."""
        ...

    async def sleep_until(self, at_ms: int) -> None:
        """Return when that time has come."""
        ...

    def number(self, bound: int) -> int:
        """Return a random number, at least 0 and below the bound."""
        ...

    def uuid(self) -> str:
        """Return a random UUID of version 4 (RFC 9562 clause 5.4), in lower case."""
        ...
