"""Ring: the last changes, in memory, each with a number that counts up."""

from collections import deque
from typing import Final

from sessiond.app.ports.store import Changes, Told
from sessiond.core.changes import Change
from sessiond.core.errors import OutOfRange

KEPT: Final = 10_000
"""How many changes are kept, if nobody says otherwise."""
PAGE: Final = 200
"""How many changes are told in one go."""


class Ring:
    """Keeps as many changes as it may; a position is the name of the ring and the number of a change."""

    def __init__(self, name: str, kept: int) -> None:
        self._name = name
        self._changes: deque[Change] = deque(maxlen=kept)
        self._last = 0

    def add(self, change: Change) -> None:
        """Keep a change; the oldest may go for it."""
        self._changes.append(change)
        self._last += 1

    def after(self, position: str, *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position; without one, none and the newest position, or the oldest."""
        oldest = self._last - len(self._changes)
        number = self._number(position) if position else oldest if from_oldest else self._last
        if from_oldest:
            number = max(number, oldest)
        left = self._last - number
        if not 0 <= left <= len(self._changes):
            raise gone(position)
        first = len(self._changes) - left
        told = [
            Told(self._position(number + 1 + index), self._changes[first + index], own=True)
            for index in range(min(left, PAGE))
        ]
        return Changes(told, self._position(number + len(told)), more=left > len(told))

    def _position(self, number: int) -> str:
        return f"{self._name}-{number}"

    def _number(self, position: str) -> int:
        name, _, number = position.rpartition("-")
        if name != self._name or not number.isdecimal():
            raise gone(position)
        return int(number)


def gone(position: str) -> OutOfRange:
    """Return what those are told who want to go on where nothing is kept any more."""
    text = f"what happened after {position[:80]!r} is not kept any more: begin anew, with a snapshot"
    return OutOfRange("RESUME_TOKEN_EXPIRED", text)
