"""How a run is shown while it goes: as lines of text, or as a table that is drawn anew (`screen.py`)."""

from contextlib import AbstractContextManager
from typing import Protocol, Self

from sessiond.simulator.gateway import Gateway
from sessiond.simulator.view import progress


class Display(AbstractContextManager["Display"], Protocol):
    """Shows a run between entering and leaving it."""

    interval_s: float

    def note(self, text: str) -> None:
        """Show a line about something that happened."""
        ...

    def draw(self, second: int, gateway: Gateway) -> None:
        """Show how things stand."""
        ...


class Lines:
    """A line per second, for logs and pipes."""

    interval_s = 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def note(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)  # noqa: T201 - this is its purpose

    def draw(self, second: int, gateway: Gateway) -> None:
        """Print how far the run is."""
        self.note(progress(second, gateway))
