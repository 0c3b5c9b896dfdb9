"""Keeper: of several daemons over one store, one looks after the sessions; what the others write is handed to it.

A daemon that becomes the keeper takes up all sessions, as after a restart: their timers, their reports in flight with
the same numbers, their effects. One that is not any more, or cannot know, stops at once. What follows a write and is
not part of it is the business of whoever wrote; if that daemon dies before it has handed it over, the keeper sees that
it is dead and takes up all sessions again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import structlog

from sessiond.app.commit import Outcome
from sessiond.app.ports.lease import Lease, Turn
from sessiond.app.ports.store import Store
from sessiond.app.resync import Resync
from sessiond.core.effects import ReportUsage
from sessiond.core.errors import Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Session

log = structlog.get_logger(__name__)

LOOK_S: Final = 0.05
"""How often it is looked what was handed over."""
RENEWALS: Final = 4
"""How often a lease is renewed before it would run out."""


class Kept(Protocol):
    """What only the keeper does."""

    def observe(self, outcome: Outcome) -> None:
        """Take what was written here."""

    def take_up(self, sessions: Sequence[Session]) -> None:
        """Take all sessions as they are, at the start of this daemon's turn."""

    def take_over(self, session: Session) -> None:
        """Take a session as another daemon has left it."""

    def begin(self) -> None:
        """Begin to work."""

    async def stop(self) -> None:
        """Stop working, and forget everything."""


class Keeper:
    """Knows whether this daemon is the keeper, and lets it be what it is."""

    def __init__(
        self,
        lease: Lease,
        store: Store,
        kept: Kept,
        resync: Resync,
        deadline: Callable[[Session], int | None],
    ) -> None:
        self.held = False
        self._lease = lease
        self._store = store
        self._kept = kept
        self._deadline = deadline
        self._resync = resync
        self._to_hand: dict[str, None] = {}
        self._took_up = False
        self._reports = 0
        self._deaths = -1
        self._valid_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def observe(self, outcome: Outcome) -> None:
        """Take what was written here, or note that the keeper is to be told."""
        if self.held:
            self._kept.observe(outcome)
        elif self._has_work(outcome):
            self._to_hand[outcome.after.key] = None

    def may(self) -> bool:
        """Whether this daemon is the keeper at this very moment."""
        return self.held and asyncio.get_running_loop().time() < self._valid_until

    async def start(self) -> None:
        """Join the daemons, and begin to keep if nobody does."""
        await self._renew()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Leave: another one takes over at once."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._end_turn()
        try:
            await self._hand_over()
            await self._lease.leave()
        except Unavailable as error:
            log.warning("lease_not_given_up", why=error.text)

    # -- the loop

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        renew_at = now() + self._lease.lease_s / RENEWALS
        while True:
            await asyncio.sleep(LOOK_S)
            if now() >= renew_at:
                renew_at = now() + self._lease.lease_s / RENEWALS
                await self._safely(self._renew)
            if self.held and not self.may():
                log.error("lease_lost", why="it was not renewed in time")
                await self._end_turn()
            await self._safely(self._take_handed if self.held else self._hand_over)

    async def _safely(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something; what fails is done again soon."""
        try:
            await work()
        except Unavailable as error:
            log.debug("keeper_waits_for_store", why=error.text)
        except Exception:
            log.exception("keeper_failed")

    async def _renew(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        reports = self._resync.reports
        wants, self._reports = reports != self._reports, reports  # who gets the usage is best the keeper
        turn = await self._lease.renew(wants=wants, data_plane=self._resync.set_up_here)
        self._resync.set_up_elsewhere = turn.data_plane
        self._valid_until = asked_at + self._lease.lease_s
        somebody_died = self._note_deaths(turn)
        if turn.held and (somebody_died or not (self.held and self._took_up)):
            await self._begin_turn()
        elif self.held and not turn.held:
            log.info("lease_given_up")
            await self._end_turn()

    def _note_deaths(self, turn: Turn) -> bool:
        died = turn.deaths > self._deaths >= 0
        self._deaths = turn.deaths
        if died:
            log.warning("daemon_died", deaths=turn.deaths)
        return died

    async def _begin_turn(self) -> None:
        """Take up all sessions; what is written here from now on is taken, too."""
        if not self.held:
            self.held = True
            self._kept.begin()
        self._took_up = False
        sessions = [stored.session async for stored in self._store.load()]
        self._kept.take_up(sessions)
        self._took_up = True
        log.info("lease_held", sessions=len(sessions))

    async def _end_turn(self) -> None:
        if self.held:
            self.held = False
            await self._kept.stop()

    # -- what one daemon leaves to another

    def _has_work(self, outcome: Outcome) -> bool:
        """Whether a write here leaves something to the keeper."""
        before, after = outcome.before, outcome.after
        if before is None or any(effect_id not in before.effects for effect_id in after.effects):
            return True
        if any(isinstance(news, ReportUsage) for news in outcome.news):
            return True
        if after.head.state is State.CLOSED and before.head.state is not State.CLOSED:
            return True
        return self._deadline(before) != self._deadline(after)

    async def _hand_over(self) -> None:
        keys = list(self._to_hand)
        if not keys:
            return
        self._to_hand.clear()
        try:
            await self._lease.hand_over(keys)
        except BaseException:
            self._to_hand.update(dict.fromkeys(keys))
            raise

    async def _take_handed(self) -> None:
        handed = await self._lease.handed()
        if not handed:
            return
        for stored in await asyncio.gather(*(self._store.get(key) for key, _ in handed)):
            if stored is not None:
                self._kept.take_over(stored.session)
        await self._lease.taken(handed)
