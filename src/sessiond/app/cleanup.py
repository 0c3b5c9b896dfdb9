"""Clean-up after a start without a store: the policy side still knows the sessions of the last run, and is told so.

Directoryd remembers them: each of its records that names a session is stale, unless the session is one of ours again.
"""

import asyncio
from typing import Final

import structlog

from sessiond.app.ports.clock import Clock
from sessiond.app.ports.peers import DirectoryPeer, PolicyPeer
from sessiond.app.ports.store import Store
from sessiond.core.errors import PeerFailed
from sessiond.core.lifecycle import State

log = structlog.get_logger(__name__)

ROUNDS: Final = 3
PAUSE_MS: Final = 5000
AT_ONCE: Final = 32
"""How many sessions are being ended at the same time; a policy side that hangs takes its deadline for each."""


class Cleanup:
    """Ends the sessions of the last run at the policy side, a bounded number of times."""

    def __init__(self, store: Store, policy: PolicyPeer, directory: DirectoryPeer, clock: Clock) -> None:
        self._store = store
        self._policy = policy
        self._directory = directory
        self._clock = clock

    async def run(self) -> None:
        """Ask directoryd for what is left, and end it."""
        stale = await self._stale()
        for attempt in range(ROUNDS):
            if attempt:
                await self._pause()
            stale = await self._left(stale)
            if not stale:
                return
        log.error("stale_sessions_left", sessions=[session for _, session in stale])

    async def _left(self, stale: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """End some sessions at a time; return those that could not be ended."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def is_left(record: tuple[str, str]) -> bool:
            async with gate:
                return not await self._ended(*record)

        left = await asyncio.gather(*map(is_left, stale))
        return [record for record, is_so in zip(stale, left, strict=True) if is_so]

    async def _stale(self) -> list[tuple[str, str]]:
        for attempt in range(ROUNDS):
            if attempt:
                await self._pause()
            try:
                return await self._directory.sessions()
            except PeerFailed as error:
                log.warning("directory_unreachable", status=error.status, text=error.text)
        return []

    async def _ended(self, subscriber: str, session: str) -> bool:
        """End one session of the last run; its record goes too, if the subscriber has no session by now."""
        if await self._store.get(session) is not None:
            return True
        try:
            await self._policy.terminate_stale(subscriber, session)
            if not await self._store.find(subscriber):
                await self._directory.delete(subscriber)
                await self._write_again(subscriber)
        except PeerFailed as error:
            log.warning("stale_session_not_ended", session=session, status=error.status, text=error.text)
            return False
        log.info("stale_session_ended", session=session)
        return True

    async def _write_again(self, subscriber: str) -> None:
        """Put the record back of a subscriber who attached while it was being deleted."""
        for stored in await self._store.find(subscriber):
            if stored.session.head.state is State.ACTIVE:
                await self._directory.write(stored.session)

    async def _pause(self) -> None:
        await self._clock.sleep_until(self._clock.now_ms() + PAUSE_MS)
