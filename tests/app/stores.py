"""A memory store that can be slow, away, or shared with somebody who writes first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from sessiond.app.ports.store import Create, Delete, Stored, Update, Write, Written
from sessiond.core.errors import Unavailable
from sessiond.core.session import Session
from sessiond.core.update import UpdateCriteria
from sessiond.store.memory import MemoryStore


class TroubledStore:
    """Implements `app.ports.store.Store` over a memory store, and makes the trouble that a test orders."""

    def __init__(self, turns: int = 0) -> None:
        self.writes: list[Sequence[Write]] = []
        self.reads: list[str] = []
        self.turns = turns
        """How often others get their turn before a call is answered."""
        self.backwards = False
        """Whether `load` yields the newest session first."""
        self._memory = MemoryStore()
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

    async def write(self, writes: Sequence[Write]) -> list[Written]:
        """Carry out writes, after a rival's."""
        await self._trouble("write")
        if writes and self._rivals:
            await self._write_first(*self._rivals.pop(0))
        if writes:
            self.writes.append(writes)
        answers = await self._memory.write(writes)
        await self._trouble("answer")
        return answers

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        await self._trouble("load")
        everything = [stored async for stored in self._memory.load()]
        for stored in reversed(everything) if self.backwards else everything:
            yield stored

    async def close(self) -> None:
        """Do nothing."""

    async def put(self, *sessions: Session) -> None:
        """Store sessions without anybody noticing."""
        await self._memory.write([Create(session) for session in sessions])

    async def lose(self, key: str) -> None:
        """Forget a session without anybody noticing."""
        stored = await self._memory.get(key)
        if stored is not None:
            await self._memory.write([Delete(key, stored.revision)])

    async def _write_first(self, key: str, change: UpdateCriteria) -> None:
        stored = await self._memory.get(key)
        if stored is not None:
            await self._memory.write([Update(key, stored.revision, change)])

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
