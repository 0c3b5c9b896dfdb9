"""The lease port: which one of several daemons looks after the sessions, and what the others let it know.

Any daemon serves any session. What time brings about, what is saved for peers and what is reported is done by the one
that holds the lease: its keeper. The lease runs out with the daemon that holds it; then another one has it.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

Handed = tuple[str, str]
"""A session that another daemon has left something to be done for, and the mark by which it is struck off."""


class Turn(Struct, frozen=True):
    """How things are, as of the last renewal."""

    held: bool
    """Whether this daemon is the keeper until the lease runs out."""
    deaths: int
    """How many daemons have stopped renewing, ever."""
    data_plane: bool
    """Whether any daemon has pipelined set up."""


class Lease(Protocol):
    """The lease, as one daemon sees it."""

    lease_s: float
    """How long it is valid after a renewal."""

    async def renew(self, *, wants: bool, data_plane: bool) -> Turn:
        """Stay among the daemons; take or keep the lease, or give it to one that wants it because it has the usage."""
        ...

    async def leave(self) -> None:
        """Be none of the daemons any more; give the lease up."""
        ...

    async def hand_over(self, keys: Iterable[str]) -> None:
        """Let the keeper know of sessions that were written here and have something to be done."""
        ...

    async def handed(self) -> Sequence[Handed]:
        """Return some of the sessions that were handed over."""
        ...

    async def taken(self, handed: Iterable[Handed]) -> None:
        """Strike off what is being looked after, unless it was handed over again."""
        ...
