"""The names of sessions that several daemons share: lists in Redis, verified whenever somebody reads them.

A session is entered before it is created and never taken off while it is there, so that a list has every session that
bears its name, and may have some that do not any more; who reads it takes them off.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from sessiond.app.ports.store import Stored
from sessiond.core import names
from sessiond.core.errors import FailedPrecondition, Unavailable
from sessiond.core.session import Session
from sessiond.store.redis_commands import Commands, found, reserved_in
from sessiond.store.redis_link import Command

log = structlog.get_logger(__name__)

AT_ONCE: Final = 100
"""Commands in one go."""


class SharedNames:
    """Enters sessions under their names, and finds those that bear one."""

    def __init__(self, commands: Commands, ask_all: Callable[[Sequence[Command]], Awaitable[list[Any]]]) -> None:
        self._commands = commands
        self._ask_all = ask_all

    async def enter(self, session: Session, operation: str) -> str:
        """Enter a session whose key this operation has reserved; return who has a claim of it, if anybody has.

        Then the reservation is given back.
        """
        entry = f"{operation} {session.key}"
        await self._ask_all([self._commands.enter(name, entry, claim=False) for name in names.lists(session)])
        for name in names.claims(session):
            (earlier,) = await self._ask_all([self._commands.enter(name, entry, claim=True)])
            if holder := await self._holder(name, earlier):
                with suppress(Unavailable):
                    await self._ask_all([self._commands.reserve(session.key, operation, to_live_ms=0)])
                return holder
        return ""

    async def bearers(self, name: str) -> list[Stored]:
        """Return the sessions that bear a name, by age; who is gone is taken off."""
        (entries,) = await self._ask_all([self._commands.entries(name)])
        present: dict[str, Stored] = {}
        gone: list[bytes] = []
        for entry, reply in await self._read(entries):
            one = found(reply)
            if one is not None and name in names.names(one.stored.session):
                present[one.stored.session.key] = one.stored
            elif one is not None or reserved_in(reply) != _operation(entry):
                gone.append(entry)
        await self._strike_off(name, gone)
        return sorted(present.values(), key=lambda stored: names.age(stored.session))

    async def enter_all(self, keys: Sequence[str], operation: str) -> None:
        """Enter sessions that are there; their claims have been looked after by who was their only owner.

        One that cannot be read is passed over: whoever asks for it is told.
        """
        for start in range(0, len(keys), AT_ONCE):
            replies = await self._ask_all([self._commands.read(key) for key in keys[start : start + AT_ONCE]])
            await self._ask_all(
                [
                    self._commands.enter(name, f"{operation} {session.key}", claim=False)
                    for session in map(_readable, replies)
                    if session is not None
                    for name in names.names(session)
                ]
            )

    async def _holder(self, name: str, entries: Sequence[bytes]) -> str:
        """Return the first of these who bears a claim or is about to; those that do not are taken off."""
        gone: list[bytes] = []
        for entry, reply in await self._read(entries):
            one = found(reply)
            bears = one is not None and name in names.claims(one.stored.session)
            if bears or reserved_in(reply) == _operation(entry):
                return _key(entry)
            gone.append(entry)
        await self._strike_off(name, gone)
        return ""

    async def _read(self, entries: Sequence[bytes]) -> list[tuple[bytes, list[bytes]]]:
        """Return each entry with what is stored under its key."""
        replies: list[tuple[bytes, list[bytes]]] = []
        for start in range(0, len(entries), AT_ONCE):
            page = entries[start : start + AT_ONCE]
            answers = await self._ask_all([self._commands.read(_key(entry)) for entry in page])
            replies += zip(page, answers, strict=True)
        return replies

    async def _strike_off(self, name: str, entries: Sequence[bytes]) -> None:
        if entries:
            await self._ask_all([self._commands.strike_off(name, entries)])


def _readable(reply: list[bytes]) -> Session | None:
    try:
        one = found(reply)
    except FailedPrecondition as error:
        log.error("session_without_names", text=error.text)
        return None
    return one.stored.session if one is not None else None


def _operation(entry: bytes) -> bytes:
    return entry.partition(b" ")[0]


def _key(entry: bytes) -> str:
    return entry.partition(b" ")[2].decode()
