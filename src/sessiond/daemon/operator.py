"""What the operator sees of a running daemon, and what he may do to it."""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry

from sessiond.app.assembly import Application
from sessiond.app.ports.clock import Clock
from sessiond.app.ports.peers import Peers
from sessiond.app.situation import Circumstances
from sessiond.daemon import logs
from sessiond.daemon.access import Doors
from sessiond.daemon.config import Config, ConfigError, load
from sessiond.daemon.measured import MeasuredStore
from sessiond.daemon.metrics import Metrics
from sessiond.daemon.peers import conditions
from sessiond.daemon.reload import differences, refusal, taken_over
from sessiond.daemon.rules import RulesFile, StaticRules
from sessiond.daemon.settings import settings_of
from sessiond.daemon.status import store_status
from sessiond.daemon.tally import Tally
from sessiond.daemon.verbosity import Verbosity
from sessiond.northbound.operations import Reloaded, Status

log = structlog.get_logger(__name__)

DEVICE_ID_FILE: Final = Path("/etc/snowflake")


class Works(Struct, frozen=True):
    """What a daemon is made of, as far as its operator looks into it."""

    application: Application
    peers: Peers
    store: MeasuredStore


class Operator:
    """Implements `northbound.operations.Operations` for a daemon, whose `works` are known once they are built."""

    def __init__(
        self,
        config: Config,
        path: Path,
        clock: Clock,
        circumstances: Circumstances,
        rules: StaticRules,
        metrics: Metrics,
        tally: Tally,
        doors: Doors,
    ) -> None:
        self.config = config
        """What is in force: as it was read first, but for the keys that are taken over by a reload."""
        self.stopped = asyncio.Event()
        self.works: Works | None = None
        self.ready = False
        self.device_id = _device_id()
        self.verbosity = Verbosity(clock, config.log_level)
        self._path = path
        self._clock = clock
        self._circumstances = circumstances
        self._rules = rules
        self._metrics = metrics
        self._tally = tally
        self._doors = doors
        self._version = version("sessiond")
        self._started_at_ms = self._loaded_at_ms = clock.now_ms()

    @property
    def started_at_s(self) -> int:
        """When the daemon started, unix seconds."""
        return self._started_at_ms // 1000

    @property
    def registry(self) -> CollectorRegistry:
        """All metrics."""
        return self._metrics.registry

    def is_ready(self, *, ready: bool) -> None:
        """Note whether every listener accepts calls."""
        self.ready = ready
        self._metrics.is_ready(ready=ready)

    def status(self) -> Status:
        """Return how the daemon is."""
        if self.works is None:
            raise RuntimeError("the daemon is not built yet")
        application, pending = self.works.application, self._tally.pending()
        has_data_plane = self.config.peers.pipelined is not None
        return Status(
            version=self._version,
            started_at_ms=self._started_at_ms,
            ready=self.ready,
            draining=application.draining.welcome.refuses_new or self.stopped.is_set(),
            log_level=logs.level(),
            config_file=str(self._path),
            config_loaded_at_ms=self._loaded_at_ms,
            store=store_status(self.config.store, self.works.store),
            peers=list(conditions(self.config, self.works.peers, pending, self._clock.now_ms())),
            setup=application.resync.readiness if has_data_plane else None,
            states=self._tally.states(),
            pending=sum(pending.values()),
            watchers=application.watchers,
            next_timer_ms=application.deadlines.next_ms or 0,
        )

    def stop(self) -> None:
        """Shut down as with SIGTERM."""
        self.stopped.set()

    def set_log_level(self, level: str | None, duration_ms: int = 0) -> str:
        """Log from this level on (None: the configured one), for so long if it is not 0; return the level until now."""
        return self.verbosity.set(level, duration_ms)

    async def reload(self, *, validate_only: bool = False) -> Reloaded:
        """Read configuration and rules again, or only look; what cannot be read leaves what was before in force."""
        try:
            read = load(self._path)
            access = self._doors.read(read)
            if validate_only:
                RulesFile(read.policies.file, self._path).read()
                return differences(self.config, read)
            catalogue = await self._rules.read()
        except ConfigError as error:
            log.error("reload_refused", problems=[str(problem) for problem in error.problems])
            raise refusal(error) from error
        reloaded, self.config = differences(self.config, read), taken_over(self.config, read)
        self._loaded_at_ms = self._clock.now_ms()
        self._circumstances.settings = settings_of(self.config)
        self._circumstances.catalogue = catalogue
        self._doors.use(access)
        self.verbosity.configure(read.log_level)
        log.info("reloaded", rules=len(catalogue), changed=reloaded.changed, waiting_for_restart=reloaded.restart)
        return reloaded


def _device_id() -> str:
    try:
        return DEVICE_ID_FILE.read_text("utf-8").rstrip()
    except OSError:
        return ""
