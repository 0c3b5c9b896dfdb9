"""Feed: the last changes as Redis has them, for those who watch; every write adds its own entry.

A position is the id of an entry. That the entry is still there shows that everything after it is, too.

In a cluster each slot has a feed, because a write can only reach what lies in its slot. There the log puts the entries
of all feeds in one order, and positions are of the log. It is written after the write: by whoever wrote or, if that
daemon died before it came to it, by the next one that goes over all feeds.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

import structlog

from sessiond.app.ports.store import Changes
from sessiond.core.errors import Unavailable
from sessiond.store.redis_commands import Commands, told_in
from sessiond.store.redis_link import Link
from sessiond.store.ring import PAGE, gone

log = structlog.get_logger(__name__)

SLOTS_AT_ONCE: Final = 200
AGAIN_S: Final = 0.5
"""How long a store that is away is left alone before the log is written."""
_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


class Feed(Protocol):
    """Where changes are read."""

    async def after(self, position: str = "", *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position; without one, none and the newest position, or the oldest."""
        ...

    def written(self, slots: Sequence[int]) -> None:
        """Take note that there may be something new in the feeds of some slots."""
        ...

    def look_over(self) -> None:
        """Take note that a daemon has died: there may be something in any feed that it has not put in order."""
        ...

    async def close(self) -> None:
        """Stop what is under way."""
        ...


class FeedOfOne:
    """The feed of a single node: one stream."""

    def __init__(self, link: Link, commands: Commands) -> None:
        self._link = link
        self._commands = commands

    async def after(self, position: str = "", *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position; without one, none and the newest position, or the oldest."""
        if not position:
            newest = await _newest(self._link, self._commands)
            if not from_oldest:
                return Changes((), newest)
        entries = await _entries(self._link, self._commands, position, from_oldest=from_oldest)
        told = [told_in(fields, _text(id_), self._commands.daemon) for id_, fields in entries if b"note" in fields]
        return Changes(told, _text(entries[-1][0]) if entries else position, more=len(entries) == PAGE)

    def written(self, slots: Sequence[int]) -> None:
        """Do nothing: what is written is in the feed."""

    def look_over(self) -> None:
        """Do nothing: what is written is in the feed."""

    async def close(self) -> None:
        """Do nothing: nothing is under way."""


class FeedOfCluster:
    """The feeds of a cluster, in the order of the log."""

    def __init__(self, link: Link, commands: Commands) -> None:
        self._link = link
        self._commands = commands
        self._grown: dict[int, None] = {}
        self._logging: asyncio.Task[None] | None = None

    async def after(self, position: str = "", *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position; without one, none and the newest position, or the oldest."""
        if not position:
            newest = await _newest(self._link, self._commands)
            if not from_oldest:
                return Changes((), newest)
        entries = await _entries(self._link, self._commands, position, from_oldest=from_oldest)
        logged = [(_text(id_), int(fields[1]), _text(fields[3])) for id_, fields in entries if b"slot" in fields]
        found = await self._link.ask_all([self._commands.feed_entry(slot, id_) for _, slot, id_ in logged])
        if not (all(found) or from_oldest):
            raise gone(position)
        told = [
            told_in(there[0][1], place, self._commands.daemon)
            for (place, _, _), there in zip(logged, found, strict=True)
            if there
        ]
        return Changes(told, _text(entries[-1][0]) if entries else position, more=len(entries) == PAGE)

    def written(self, slots: Sequence[int]) -> None:
        """Bring what is new in the feeds of some slots into the log."""
        self._grown.update(dict.fromkeys(slots))
        if self._logging is None or self._logging.done():
            self._logging = asyncio.get_running_loop().create_task(self._log())

    def look_over(self) -> None:
        """Bring into the log what a daemon has left that died."""
        self.written(self._link.shards.slots())

    async def close(self) -> None:
        """Stop; what is not in the log by now is brought there by the next start."""
        if self._logging is not None:
            self._logging.cancel()
            await asyncio.gather(self._logging, return_exceptions=True)

    async def _log(self) -> None:
        """Bring into the log what is not there, until nothing is left."""
        while self._grown:
            slots = list(self._grown)[:SLOTS_AT_ONCE]
            for slot in slots:
                del self._grown[slot]
            try:
                await self._log_some(slots)
            except Unavailable as error:
                log.debug("feed_not_logged", slots=len(slots), why=error.text)
                self._grown.update(dict.fromkeys(slots))
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("feed_not_logged", slots=len(slots))

    async def _log_some(self, slots: Sequence[int]) -> None:
        (ends,) = await self._link.ask_all([self._commands.logged(slots)])
        commands = [
            self._commands.feed_after(slot, _text(end) if end else "0-0", PAGE)
            for slot, end in zip(slots, ends, strict=True)
        ]
        found = await self._link.ask_all(commands)
        new = [(slot, _text(id_)) for slot, entries in zip(slots, found, strict=True) for id_, _ in entries]
        for start in range(0, len(new), SLOTS_AT_ONCE):
            await self._link.ask_all([self._commands.log(new[start : start + SLOTS_AT_ONCE])])
        self._grown.update(
            dict.fromkeys(slot for slot, entries in zip(slots, found, strict=True) if len(entries) == PAGE)
        )


def feed_of(link: Link, commands: Commands) -> Feed:
    """Return the feed of what the link leads to."""
    return FeedOfCluster(link, commands) if link.shards.per_slot else FeedOfOne(link, commands)


async def _entries(link: Link, commands: Commands, position: str, *, from_oldest: bool) -> list[Any]:
    """Return what comes after a position, which must be there itself unless one begins with the oldest that is."""
    if position and not _ID.fullmatch(position):
        raise gone(position)
    found: list[Any]
    (found,) = await link.ask_all([commands.feed(position or "-", PAGE + 1)])
    if found and _text(found[0][0]) == position:
        return found[1:]
    if not from_oldest:
        raise gone(position)
    return found[:PAGE]


async def _newest(link: Link, commands: Commands) -> str:
    """Return the id of the last entry; a feed without one gets one that tells nothing."""
    (found,) = await link.ask_all([commands.feed_end()])
    if found:
        return _text(found[0][0])
    (begun,) = await link.ask_all([commands.begin_feed()])
    return _text(begun)


def _text(octets: bytes) -> str:
    return octets.decode()
