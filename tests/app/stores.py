"""A memory store that can be slow, away, or shared with somebody who writes first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from sessiond.app.ports.store import Account, Changes, Count, Counted, Create, Delete, Stored, Update, Write, Written
from sessiond.core.errors import Unavailable
from sessiond.core.session import Session
from sessiond.core.update import UpdateCriteria
from sessiond.store.memory import MemoryStore


class TroubledStore:
    """Implements `app.ports.store.Store` over a memory store, and makes the trouble that a test orders."""

    def __init__(self, turns: int = 0) -> None:
        self.writes: list[Sequence[Write | Count]] = []
        self.reads: list[str] = []
        self.turns = turns
        """How often others get their turn before a call is answered."""
        self.backwards = False
        """Whether `load` yields the newest session first."""
        self._memory = MemoryStore()
        self._written: dict[str, Stored] = {}
        self._fate: dict[str, deque[bool]] = {}
        self._held: dict[str, tuple[int, asyncio.Event]] = {}
        self._rivals: list[tuple[str, UpdateCriteria]] = []

    def fail(self, operation: str, times: int = 1, *, after: int = 0) -> None:
        """Be away for some calls of an operation, after some that pass; "answer" loses what a write has answered."""
        self._fate.setdefault(operation, deque()).extend([False] * after + [True] * times)

    def recover(self) -> None:
        """Be there again, whatever was ordered."""
        self._fate.clear()

    def hold(self, operation: str, after: int = 0) -> asyncio.Event:
        """Let a call of an operation, after some that pass, wait until the event is set."""
        event = asyncio.Event()
        self._held[operation] = (after, event)
        return event

    def rival(self, key: str, *changes: UpdateCriteria) -> None:
        """Let somebody else change a session right before each of the next writes."""
        self._rivals.extend((key, change) for change in changes)

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        await self._trouble("get")
        self.reads.append(key)
        return await self._memory.get(key)

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        await self._trouble("find")
        return await self._memory.find(scope)

    def accounts(self, scope: str) -> Sequence[Account] | None:
        """Return the sessions of a scope to count on; in between, others have their turn with `write`."""
        return self._memory.accounts(scope)

    async def named(self, name: str) -> list[Stored]:
        """Return the sessions that bear a name."""
        await self._trouble("named")
        return await self._memory.named(name)

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes, after a rival's."""
        await self._trouble("write")
        if writes and self._rivals:
            await self._write_first(*self._rivals.pop(0))
        if writes:
            self.writes.append(writes)
        answers = await self._memory.write(writes)
        await self._note(writes)
        await self._trouble("answer")
        return answers

    def die(self) -> None:
        """Forget what was counted and never written, as a store does whose daemon dies."""
        self._memory = MemoryStore()
        for stored in self._written.values():
            self._memory.put(stored)

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        await self._trouble("load")
        everything = [stored async for stored in self._memory.load()]
        for stored in reversed(everything) if self.backwards else everything:
            yield stored

    async def changes(self, position: str = "", *, from_oldest: bool = False) -> Changes:
        """Return some of the changes after a position."""
        await self._trouble("changes")
        return await self._memory.changes(position, from_oldest=from_oldest)

    async def close(self) -> None:
        """Do nothing."""

    async def put(self, *sessions: Session) -> None:
        """Store sessions without anybody noticing."""
        writes = [Create(session) for session in sessions]
        await self._memory.write(writes)
        await self._note(writes)

    async def lose(self, key: str) -> None:
        """Forget a session without anybody noticing."""
        stored = await self._memory.get(key)
        if stored is not None:
            await self._memory.write([Delete(key, stored.revision)])
            del self._written[key]

    async def _write_first(self, key: str, change: UpdateCriteria) -> None:
        stored = await self._memory.get(key)
        if stored is not None:
            write = Update(key, stored.revision, change)
            await self._memory.write([write])
            await self._note([write])

    async def _note(self, writes: Sequence[Write | Count]) -> None:
        """Remember what is there after writes."""
        counted = [account.session for write in writes if isinstance(write, Count) for account in write.accounts]
        created = [write.session for write in writes if isinstance(write, Create)]
        others = [write.key for write in writes if isinstance(write, (Update, Delete))]
        for key in [*(session.key for session in (*counted, *created)), *others]:
            stored = await self._memory.get(key)
            if stored is not None:
                self._written[key] = stored
            else:
                self._written.pop(key, None)

    async def _trouble(self, operation: str) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if operation in self._held:
            passing, event = self._held.pop(operation)
            if passing:
                self._held[operation] = (passing - 1, event)
            else:
                await event.wait()
        fate = self._fate.get(operation)
        if fate and fate.popleft():
            raise Unavailable("STORE_UNAVAILABLE", "the store is away", retry_after_ms=1000)
