"""Wiring: the only place that knows which store, peers and surfaces are in use. Built here, closed in reverse."""

import asyncio
import ssl
from collections.abc import Awaitable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from sessiond.app.assembly import Application
from sessiond.app.cleanup import Cleanup
from sessiond.app.ports.lease import Lease
from sessiond.app.ports.peers import Peers
from sessiond.app.ports.store import Store
from sessiond.app.resync import Readiness, Resync
from sessiond.app.situation import Circumstances
from sessiond.core.errors import Fenced, InvalidArgument
from sessiond.core.fields import Origin
from sessiond.core.session import Session
from sessiond.daemon.access import Doors
from sessiond.daemon.addresses import split_address
from sessiond.daemon.clock import SystemClock
from sessiond.daemon.config import Config, ConfigError, line_of
from sessiond.daemon.loading import loading
from sessiond.daemon.measured import MeasuredStore
from sessiond.daemon.metrics import Metrics, MetricsServer
from sessiond.daemon.operator import Operator, Works
from sessiond.daemon.peers import connect
from sessiond.daemon.rules import static_rules
from sessiond.daemon.settings import settings_of
from sessiond.daemon.stores import open_store
from sessiond.daemon.streams import offsets_of
from sessiond.daemon.tally import Tally
from sessiond.daemon.traffic import TrafficOfAll, TrafficOfEach
from sessiond.daemon.yaml_reader import Problem
from sessiond.northbound.gateway import services as gateway
from sessiond.northbound.native import services as native
from sessiond.northbound.server import Server, Tls
from sessiond.northbound.stream_api import services as stream_api

log = structlog.get_logger(__name__)

DRAIN_S: Final = 2.5
"""How long calls under way may go on after SIGTERM."""
LAST_DELIVERIES_S: Final = 1.0
"""How long what is decided may still be carried to the peers after that."""
TAKEN_OVER: Final = 3
"""The exit status of a daemon that another one has taken over from: to start it again would turn that round."""


class Daemon:
    """Everything that runs."""

    def __init__(self, config: Config, path: Path) -> None:
        self.address = ""
        self.metrics_address: str | None = None
        self.exit_status = 0
        self._config = config
        self._path = path
        self._stack = AsyncExitStack()
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._tally = Tally()
        self._traffic = TrafficOfEach() if config.metrics.per_subscriber else TrafficOfAll()
        self._rules = static_rules(config.policies, path)
        self._doors = Doors(config, path, self._clock.number)
        self._circumstances = Circumstances(self._clock, settings_of(config), {})
        self.operator = Operator(
            config, path, self._clock, self._circumstances, self._rules, self._metrics, self._tally, self._doors
        )
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Build everything from the store outwards; when this returns, every listener accepts calls."""
        config = self._config
        self._stack.push_async_callback(self._rules.close)
        self._stack.push_async_callback(self.operator.verbosity.close)
        self._circumstances.catalogue = await self._rules.read()
        self._serve_metrics()
        with loading():
            opened = await open_store(config, self._path, self._clock, self._stack)
            store = MeasuredStore(opened.store, self._metrics.store_written)
            peers = connect(config, self._stack)
            application = await self._application(store, peers, opened.lease)
        self.operator.works = Works(application, peers, store)
        self._run(self._refresh_rules())
        self._run(self._watch_for_successor(opened.taken_over, application))
        if config.store.in_memory:
            self._run(Cleanup(store, peers.policy, peers.directory, self._clock).run())
        else:
            self._run(application.reconciliation.run())
        self._stack.push_async_callback(_last_deliveries, application)
        await self._listen(application)
        self.operator.is_ready(ready=True)

    async def close(self) -> None:
        """Close everything, last built first, also when building stopped half-way."""
        self.operator.is_ready(ready=False)
        await self._stack.aclose()

    def give_way(self) -> None:
        """Shut down because another daemon has taken over, and say so with the exit status."""
        log.error("taken_over", exit_status=TAKEN_OVER)
        self.exit_status = TAKEN_OVER
        self.operator.stop()

    def reload_soon(self) -> None:
        """Read configuration and rules again, as with SIGHUP."""
        self._run(self._reload())

    async def _reload(self) -> None:
        with suppress(InvalidArgument):  # has been logged
            await self.operator.reload()

    def _serve_metrics(self) -> None:
        self._metrics.gauge("sessions", "Sessions by state.", "state", self._tally.states)
        self._metrics.gauge("effects_pending", "Effects that a peer must still hear of.", "peer", self._tally.pending)
        self._metrics.registry.register(self._traffic)
        if self._config.metrics.listen is None:
            return
        host, port = split_address(self._config.metrics.listen)
        try:
            server = MetricsServer(self._metrics.registry, host, port)
        except OSError as error:
            raise self._cannot_listen("metrics.listen", self._config.metrics.listen, error) from error
        self._stack.callback(server.close)
        self.metrics_address = f"{self._config.metrics.listen.rpartition(':')[0]}:{server.port}"

    async def _application(self, store: Store, peers: Peers, lease: Lease | None) -> Application:
        application = Application(
            store,
            peers,
            self._circumstances,
            self._metrics,
            self._doors.vault,
            remove_unknown_flows=self._config.cleanup_all_dangling_flows,
            offsets=offsets_of(self._config.stream_api, self._path, self._stack),
            notification_queue=self._config.stream_api.notification_queue,
            lease=lease,
            watch_window=self._config.watch.window,
            heartbeat_s=self._config.watch.heartbeat_s,
        )
        self._stack.push_async_callback(application.close)
        application.committer.observe_traffic(self._traffic.observe_traffic)
        application.hear(self._tally.observe)
        application.committer.observe(self._traffic.observe, [Origin.GATEWAY])
        if self._config.peers.pipelined is None:
            application.resync.without_data_plane()
        else:
            self._metrics.gauge(
                "data_plane_setup", "1 for how far pipelined is set up.", "state", partial(_setup, application.resync)
            )
        self._metrics.gauge(
            "reconciliation_unanswered",
            "1 for a peer that must still answer.",
            "peer",
            application.reconciliation.unanswered,
        )
        self._metrics.streams(application.streams.counts, application.streams.subscribers)
        await application.start(self._take_up)
        return application

    async def _listen(self, application: Application) -> None:
        config = self._config.server
        offered = [
            *gateway.services(
                application.manager,
                application.usage,
                self._circumstances,
                self.operator,
                carrier_wifi=self._config.support_carrier_wifi,
            ),
            stream_api.service(application.streams, enabled=self._config.stream_api.integrate_session_management),
            *native.services(application, self._circumstances, self.operator),
        ]
        names = [name for name, _ in offered]
        watch = self._metrics.rpc_answered
        server = Server(
            [add for _, add in offered], names, reflect=config.reflection, watch=watch, gate=self._doors.gate
        )
        try:
            port = await server.listen(config.listen, self._tls())
        except OSError as error:
            raise self._cannot_listen("server.listen", config.listen, error) from error
        self._stack.push_async_callback(server.close, DRAIN_S)
        await server.serving()
        self.address = f"{config.listen.rpartition(':')[0]}:{port}"

    def _tls(self) -> Tls | None:
        """Return certificate and key, if there are any; gRPC would not say what is wrong with them."""
        tls = self._config.server.tls
        if not (tls.cert and tls.key):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = "server.tls.cert"
        try:
            context.load_cert_chain(tls.cert, tls.key, password=str)  # never ask at the terminal
            key = "server.tls.client_ca"
            context.load_verify_locations(tls.client_ca or tls.cert)
            return Tls.read(tls.cert, tls.key, tls.client_ca)
        except OSError as error:
            text = f"cannot be used: {error.args[-1]}"
            raise ConfigError([Problem(str(self._path), line_of(self._path, key), key, text)]) from error

    def _cannot_listen(self, key: str, address: str, error: OSError) -> ConfigError:
        text = f"cannot listen on {address}: {error.strerror or 'it is in use, or not an address of this machine'}"
        return ConfigError([Problem(str(self._path), line_of(self._path, key), key, text)])

    async def _refresh_rules(self) -> None:
        while True:
            await asyncio.sleep(self.operator.config.rule_update_interval_sec)
            await self._rules.refresh(self._circumstances)

    async def _watch_for_successor(self, taken_over: asyncio.Event, application: Application) -> None:
        """Stop at once when another daemon has taken over the sessions: what is left to be done is done there."""
        await taken_over.wait()
        self.give_way()
        await application.close()

    def _run(self, work: Awaitable[None]) -> None:
        """Run something beside everything else, until the daemon closes."""
        task = asyncio.ensure_future(_logged(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        self._stack.push_async_callback(partial(_cancelled, task))

    def _take_up(self, session: Session) -> None:
        """Count a session of an earlier run."""
        self._tally.take_up(session)
        self._traffic.take_up(session)


async def _last_deliveries(application: Application) -> None:
    """Let what is decided reach the peers, for a moment."""
    try:
        async with asyncio.timeout(LAST_DELIVERIES_S):
            await application.drain()
    except TimeoutError:
        log.warning("stopped_with_deliveries_left")


async def _logged(work: Awaitable[None]) -> None:
    try:
        await work
    except Fenced:
        return  # who has taken over does it
    except Exception:
        log.exception("background_work_failed")


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _setup(resync: Resync) -> dict[str, int]:
    return {state: int(state is resync.readiness) for state in Readiness}
