"""Resync: brings pipelined to know all flows again whenever it, or its switch, has restarted.

Its epoch says when: a report of an epoch that is not set up yet starts a setup. Sessions are created only while the
present epoch is set up. A newer epoch that comes during a setup is set up next; it is never lost.
"""

import asyncio
from typing import Final

import structlog
from msgspec import Struct

from sessiond.app.commit import Committer
from sessiond.app.ports.peers import DataPlanePeer, SetupResult
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.situation import Circumstances
from sessiond.core.decide.resync import counters_restarted
from sessiond.core.errors import PeerFailed

log = structlog.get_logger(__name__)

RETRY_AFTER_MS: Final = 5000


class _Target(Struct, frozen=True):
    """An epoch that pipelined has announced; whether its switch counts from zero since then."""

    epoch: int
    counters_restarted: bool


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
        self._target: _Target | None = None
        self._set_up: int | None = None
        self._bumped: int | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether pipelined has all flows."""
        return self._set_up is not None

    def is_set_up(self, epoch: int) -> bool:
        """Whether pipelined of this epoch has all flows."""
        return self._set_up == epoch

    def without_data_plane(self) -> None:
        """Be ready without a pipelined: it is configured away."""
        self._set_up = 0

    def announced(self, epoch: int, *, counters_restart: bool) -> None:
        """Take the epoch of a report; set pipelined up if it is a new one. A report without one (0) says nothing."""
        if not epoch or self._set_up == epoch or (self._target is not None and self._target.epoch == epoch):
            return
        self._target = _Target(epoch, counters_restart)
        self._set_up = None
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop setting up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Set up until the newest epoch is, or pipelined says that there is a newer one."""
        while (target := self._target) is not None:
            result = await self._attempt(target)
            if target is not self._target:
                continue
            if result is SetupResult.SUCCESS:
                log.info("data_plane_set_up", epoch=target.epoch)
                self._set_up, self._target = target.epoch, None
            elif result is SetupResult.OUTDATED_EPOCH:
                log.info("data_plane_epoch_outdated", epoch=target.epoch)
                self._target = None
            else:
                clock = self._circumstances.clock
                await clock.sleep_until(clock.now_ms() + RETRY_AFTER_MS)

    async def _attempt(self, target: _Target) -> SetupResult:
        try:
            if target.counters_restarted and self._bumped != target.epoch:
                await self._bump_versions()
                self._bumped = target.epoch
            sessions = [stored.session async for stored in self._store.load()]
            return await self._data_plane.set_up(target.epoch, sessions, self._circumstances.catalogue)
        except PeerFailed as error:
            self._telemetry.peer_failed("pipelined", error.status)
            log.warning("data_plane_setup_failed", epoch=target.epoch, status=error.status, text=error.text)
        except Exception:
            log.exception("data_plane_setup_failed", epoch=target.epoch)
        return SetupResult.FAILURE

    async def _bump_versions(self) -> None:
        keys = [stored.session.key async for stored in self._store.load()]
        await self._committer.commit_many(dict.fromkeys(keys, counters_restarted))
