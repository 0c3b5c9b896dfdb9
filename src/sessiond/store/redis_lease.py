"""The lease of daemons that share a Redis; its clock is the one of the server."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final

from sessiond.app.ports.lease import Handed, Turn
from sessiond.store import redis_scripts as scripts
from sessiond.store.redis_keys import DAEMONS, FACTS, LEASE, WISH, WORK, WORK_COUNT, slot_of
from sessiond.store.redis_link import Link

PAGE: Final = 200
"""Sessions that are handed over in one go."""
_SLOT: Final = slot_of("keeper")


class RedisLease:
    """Implements `app.ports.lease.Lease` for one daemon, whose name nobody else has."""

    def __init__(self, link: Link, daemon: str, lease_s: float, died: Callable[[], None]) -> None:
        """`died` is called when another daemon has died."""
        self._died = died
        self._deaths: int | None = None
        self.lease_s = lease_s
        self._link = link
        self._daemon = daemon

    async def renew(self, *, wants: bool, data_plane: bool) -> Turn:
        """Stay among the daemons; take or keep the lease, or give it to one that wants it because it has the usage."""
        held, deaths, set_up = await self._renew(wants=wants, data_plane=data_plane, leaves=False)
        if self._deaths not in {None, deaths}:
            self._died()
        self._deaths = deaths
        return Turn(bool(held), deaths, bool(set_up))

    async def leave(self) -> None:
        """Be none of the daemons any more; give the lease up."""
        await self._renew(wants=False, data_plane=False, leaves=True)

    async def hand_over(self, keys: Iterable[str]) -> None:
        """Let the keeper know of sessions that were written here and have something to be done."""
        await self._ask(scripts.HAND.run([WORK, WORK_COUNT], "HAND", *keys))

    async def handed(self) -> Sequence[Handed]:
        """Return some of the sessions that were handed over."""
        found = await self._ask(("ZRANGE", WORK, 0, PAGE - 1, "WITHSCORES"))
        texts = iter([octets.decode() for octets in found])
        return list(zip(texts, texts, strict=True))

    async def taken(self, handed: Iterable[Handed]) -> None:
        """Strike off what is being looked after, unless it was handed over again."""
        await self._ask(scripts.HAND.run([WORK, WORK_COUNT], "TAKE", *chain.from_iterable(handed)))

    async def _renew(self, *, wants: bool, data_plane: bool, leaves: bool) -> Any:
        told = (int(self.lease_s * 1000), int(wants), int(data_plane), int(leaves))
        return await self._ask(scripts.LEASE.run([LEASE, DAEMONS, FACTS, WISH], self._daemon, *told))

    async def _ask(self, args: tuple[Any, ...]) -> Any:
        return await self._link.ask(_SLOT, *args)
