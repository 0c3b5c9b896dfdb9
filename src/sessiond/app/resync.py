"""Resync: brings pipelined to know all flows again whenever it, or its switch, has restarted.

Its epoch says when: a report of an epoch that is not set up yet starts a setup. Sessions are created only while the
present epoch is set up. A newer epoch that comes during a setup is set up next; it is never lost.
"""

import asyncio
from enum import StrEnum
from typing import Final

import structlog

from sessiond.app.commit import Committer
from sessiond.app.ports.peers import DataPlanePeer, SetupResult
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.situation import Circumstances
from sessiond.core.decide.flows import overtaken, waits_for_data_plane
from sessiond.core.decide.resync import counters_restarted
from sessiond.core.errors import Fenced, PeerFailed, Unavailable
from sessiond.core.session import Session

log = structlog.get_logger(__name__)

RETRY_AFTER_MS: Final = 5000
RETRY_UNREACHED_MS: Final = 250
"""A pipelined that has just announced itself is there; only the connection is not yet."""


class Readiness(StrEnum):
    """How far pipelined is set up; NOT_READY is also what a setup that failed leaves, until it is tried again."""

    NOT_READY = "NOT_READY"
    SETTING_UP = "SETTING_UP"
    READY = "READY"


class Resync:
    """Knows whether pipelined is set up, and sets it up when it is not."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        data_plane: DataPlanePeer,
        circumstances: Circumstances,
        telemetry: Telemetry,
    ) -> None:
        self._committer = committer
        self._store = store
        self._data_plane = data_plane
        self._circumstances = circumstances
        self._telemetry = telemetry
        self._target: int | None = None
        """The epoch that is to be set up."""
        self._set_up: int | None = None
        self.set_up_with: frozenset[str] = frozenset()
        """The sessions there were when pipelined was set up; it may have made a table before and sent it after."""
        self._counting_since_ms: int | None = None
        self._to_bump: int | None = None
        """The epoch since which the switch counts from zero, and the versions of rules do not yet."""
        self._bumped: int | None = None
        self._bumping = asyncio.Lock()
        self._retry_after_ms = RETRY_AFTER_MS
        self._task: asyncio.Task[None] | None = None
        self._at_work = False
        self.reports = 0
        """How many reports have come here."""
        self.set_up_elsewhere = False
        """Whether another daemon over the same store has set pipelined up."""

    @property
    def readiness(self) -> Readiness:
        """How far pipelined is set up."""
        if self.ready:
            return Readiness.READY
        return Readiness.SETTING_UP if self._at_work else Readiness.NOT_READY

    @property
    def ready(self) -> bool:
        """Whether pipelined has all flows."""
        return self.set_up_here or self.set_up_elsewhere

    @property
    def set_up_here(self) -> bool:
        """Whether pipelined has all flows from this daemon."""
        return self._set_up is not None

    def counting_since_ms(self) -> int | None:
        """Return since when pipelined has been seen to have all flows and to be there to count them; None: it is not.

        One that was away and is back has another epoch to announce, which it has not done yet.
        """
        if (self._set_up is None and not self.set_up_elsewhere) or not self._data_plane.connected:
            self._counting_since_ms = None
        elif self._counting_since_ms is None:
            self._counting_since_ms = self._circumstances.clock.now_ms()
        return self._counting_since_ms

    def is_set_up(self, epoch: int) -> bool:
        """Whether pipelined of this epoch has all flows."""
        return self._set_up == epoch

    def without_data_plane(self) -> None:
        """Be ready without a pipelined: it is configured away."""
        self._set_up = 0

    async def announced(self, epoch: int, *, counters_restart: bool) -> None:
        """Take the epoch of a report; set pipelined up if it is a new one. A report without one (0) says nothing.

        When this returns, versions have counted up, so that nobody has to remember that the switch counts from zero.
        """
        self.reports += 1
        if not epoch or epoch in {self._set_up, self._target}:
            return
        if counters_restart and epoch != self._bumped:
            self._to_bump = epoch
        self._target, self._set_up, self._counting_since_ms = epoch, None, None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        await self._bump_versions()

    async def close(self) -> None:
        """Stop setting up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Set up until the newest epoch is, or pipelined says that there is a newer one."""
        while (target := self._target) is not None:
            self._at_work = True
            result = await self._attempt(target)
            self._at_work = False
            if target != self._target:
                continue
            if result is SetupResult.SUCCESS:
                log.info("data_plane_set_up", epoch=target)
                self._set_up, self._target = target, None
                self._counting_since_ms = self._circumstances.clock.now_ms()
            elif result is SetupResult.OUTDATED_EPOCH:
                log.info("data_plane_epoch_outdated", epoch=target)
                self._target = None
            else:
                clock = self._circumstances.clock
                await clock.sleep_until(clock.now_ms() + self._retry_after_ms)

    async def _attempt(self, target: int) -> SetupResult:
        try:
            return await self._tell_all(target)
        except PeerFailed as error:
            if not error.reached:
                self._retry_after_ms = RETRY_UNREACHED_MS
            self._telemetry.peer_failed("pipelined", error.status)
            log.warning("data_plane_setup_failed", epoch=target, status=error.status, text=error.text)
        except Unavailable as error:
            log.warning("data_plane_setup_waits_for_store", epoch=target, text=error.text)
        except Fenced:
            log.debug("data_plane_left_to_successor", epoch=target)
        except Exception:
            log.exception("data_plane_setup_failed", epoch=target)
        return SetupResult.FAILURE

    async def _tell_all(self, target: int) -> SetupResult:
        """Tell pipelined everything: flows as they are before it, wallets as they are after it."""
        await self._bump_versions()
        await self._overtake()
        sessions = await self._sessions()
        self._retry_after_ms = RETRY_AFTER_MS
        self.set_up_with = frozenset(session.key for session in sessions)
        result = await self._data_plane.set_up(target, sessions, self._circumstances.catalogue)
        if result is SetupResult.SUCCESS and any(_has_wallet(session) for session in sessions):
            await self._data_plane.set_up_quota_states(await self._sessions())
        return result

    async def _bump_versions(self) -> None:
        """Count versions up if that is still to be done, once for an epoch; another one may come meanwhile."""
        async with self._bumping:
            epoch = self._to_bump
            if epoch is None:
                return
            keys = [session.key for session in await self._sessions()]
            await self._committer.commit_many(dict.fromkeys(keys, counters_restarted))
            self._bumped = epoch
            if self._to_bump == epoch:
                self._to_bump = None

    async def _overtake(self) -> None:
        """Let nothing be told after a setup that was decided before it and has been decided otherwise since."""
        waiting = [session.key for session in await self._sessions() if waits_for_data_plane(session)]
        await self._committer.commit_many(dict.fromkeys(waiting, overtaken))

    async def _sessions(self) -> list[Session]:
        return [stored.session async for stored in self._store.load()]


def _has_wallet(session: Session) -> bool:
    return session.gateway is not None and session.gateway.quota_state is not None
