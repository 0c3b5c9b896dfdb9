"""Reconciliation: after a restart, the access side says which of the sessions that the store remembers still stand.

LTE: who is attached is asked for. A session that two answers in a row do not know is ended in the usual way; one that
the access side itself speaks of meanwhile stands. Carrier wifi: the AAA server is told which sessions stand. A question
that is not answered says nothing: it is asked again, at growing intervals, and everything goes on until then.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

import structlog

from sessiond.app.commit import Committer, Outcome
from sessiond.app.ports.peers import AttachmentPeer, WifiPeer
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.situation import Circumstances
from sessiond.core.decide.attachment import Attachments, can_be_asked_about, not_attached
from sessiond.core.draft import Draft
from sessiond.core.effects import WriteDirectoryRecord
from sessiond.core.errors import PeerFailed, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Rat, Session

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

ANSWERS: Final = 2
"""How many answers must not know a session: an access side that is starting too may not know all at first."""
BETWEEN_ANSWERS_MS: Final = 2000
FIRST_PAUSE_MS: Final = 500
LAST_PAUSE_MS: Final = 30_000
BATCH: Final = 100
"""Sessions that are ended, or told of, in one go."""
STORE, WIFI = "store", "aaa"


class Reconciliation:
    """Brings the sessions of the last run in line with the access side, once."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        access: AttachmentPeer | None,
        wifi: WifiPeer,
        circumstances: Circumstances,
        telemetry: Telemetry,
    ) -> None:
        self._committer = committer
        self._store = store
        self._access = access
        self._wifi = wifi
        self._circumstances = circumstances
        self._telemetry = telemetry
        self._doubted: set[str] = set()
        """The sessions that the access side has not spoken of yet."""
        self._on_wifi: list[str] = []
        self._owed: dict[str, int] = {}

    def take_up(self, session: Session) -> None:
        """Take a session of an earlier run; what is created after this is no matter of it."""
        if can_be_asked_about(session):
            self._doubted.add(session.key)
        elif _is_on_wifi(session):
            self._on_wifi.append(session.key)

    def observe(self, outcome: Outcome) -> None:
        """Take a session off those in doubt whose device attaches again, or tells its tunnels."""
        key, before = outcome.after.key, outcome.before
        if key in self._doubted and before is not None:
            attached = any(isinstance(news, WriteDirectoryRecord) for news in outcome.news)
            if attached or outcome.after.context is not before.context:
                self._doubted.discard(key)

    def unanswered(self) -> dict[str, int]:
        """Return, by peer, whether it has still to answer (1) or has answered (0)."""
        return dict(self._owed)

    async def run(self) -> None:
        """Ask and tell, until both are done."""
        await asyncio.gather(self._ask_access(), self._tell_wifi())

    async def _ask_access(self) -> None:
        access, count = self._access, len(self._doubted)
        if access is None or not count:
            return
        log.info("reconciliation_began", peer=access.name, sessions=count)
        for answer in range(ANSWERS):
            if answer and self._doubted:
                await self._pause(BETWEEN_ANSWERS_MS)
            if self._doubted:
                attachments = await self._answered(access.name, access.attachments)
                await self._answered(STORE, partial(self._take, attachments))
        ended = await self._end_doubted()
        self._telemetry.reconciled("ended", ended)
        self._telemetry.reconciled("kept", count - ended)
        log.info("reconciliation_done", peer=access.name, kept=count - ended, ended=ended)

    async def _take(self, attachments: Attachments) -> None:
        """Let those stand that are attached, and others their turn in between."""
        async for keys in _batches(list(self._doubted)):
            for key in keys:
                stored = await self._store.get(key)
                if stored is None or attachments.has(stored.session):
                    self._doubted.discard(key)

    async def _end_doubted(self) -> int:
        """End the sessions that are still in doubt; return how many that were."""
        ended = 0
        async for keys in _batches(list(self._doubted)):
            replies = await self._answered(STORE, partial(self._committer.commit_many, dict.fromkeys(keys, self._end)))
            ended += sum(replies.values())
        self._doubted.clear()
        return ended

    def _end(self, draft: Draft) -> bool:
        """End a session, unless the access side has spoken of it since."""
        return draft.key in self._doubted and not_attached(draft, self._circumstances.now())

    async def _tell_wifi(self) -> None:
        """Tell the AAA server which sessions stand, as long as they do."""
        async for keys in _batches(self._on_wifi):
            await self._answered(WIFI, partial(self._tell_some, keys))
        if self._on_wifi:
            log.info("wifi_sessions_told", sessions=len(self._on_wifi))
        self._on_wifi.clear()

    async def _tell_some(self, keys: list[str]) -> None:
        found = [await self._store.get(key) for key in keys]
        await self._wifi.add_sessions([stored.session for stored in found if stored and _is_on_wifi(stored.session)])

    async def _answered(self, peer: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the answer of a peer, however often it must be asked."""
        self._owed[peer] = 1
        pause_ms = FIRST_PAUSE_MS
        while True:
            try:
                answer = await ask()
            except PeerFailed as error:
                self._telemetry.peer_failed(peer, error.status)
                log.warning("reconciliation_waits", peer=peer, status=error.status, text=error.text)
            except Unavailable as error:
                log.warning("reconciliation_waits", peer=peer, status=error.reason, text=error.text)
            else:
                self._owed[peer] = 0
                return answer
            await self._pause(pause_ms)
            pause_ms = min(2 * pause_ms, LAST_PAUSE_MS)

    async def _pause(self, pause_ms: int) -> None:
        clock = self._circumstances.clock
        await clock.sleep_until(clock.now_ms() + pause_ms)


async def _batches(keys: list[str]) -> AsyncIterator[list[str]]:
    """Yield some keys at a time, and let others their turn in between."""
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]
        await asyncio.sleep(0)


def _is_on_wifi(session: Session) -> bool:
    return session.head.state is State.ACTIVE and session.context is not None and session.context.rat is Rat.WLAN
