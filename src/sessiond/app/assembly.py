"""Assembly: the parts of the application, put together over one store and one set of peers."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from sessiond.app.activity import Activity
from sessiond.app.commit import EVERY_ORIGIN, Committer, Observer
from sessiond.app.deadlines import Deadlines
from sessiond.app.delivery import Delivery
from sessiond.app.draining import Draining
from sessiond.app.executions import Executions
from sessiond.app.feed import HEARTBEAT_S, WINDOW, Feed
from sessiond.app.follower import Follower
from sessiond.app.gateway import GatewayManager
from sessiond.app.journal import Journal
from sessiond.app.keeper import Keeper
from sessiond.app.listing import Listing
from sessiond.app.notifications import QUEUE
from sessiond.app.offsets import ConfiguredOffsets
from sessiond.app.ports.lease import Lease
from sessiond.app.ports.offsets import StreamOffsets
from sessiond.app.ports.peers import Peers
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.ports.vault import Vault
from sessiond.app.reconciliation import Reconciliation
from sessiond.app.reporting import Reporting
from sessiond.app.resync import Resync
from sessiond.app.retention import Retention
from sessiond.app.sessions import SessionManager
from sessiond.app.situation import Circumstances
from sessiond.app.streams import StreamManager
from sessiond.app.usage import Usage
from sessiond.app.welcome import Welcome
from sessiond.app.work import Work
from sessiond.core.decide.tick import deadline
from sessiond.core.fields import Origin
from sessiond.core.names import age
from sessiond.core.session import Session


class Application:
    """Everything between the surfaces and the store: built at once, started, and closed in reverse.

    Whoever wants to hear of changes before all others observes `committer` before `start`. With a `lease`, other
    daemons write to this store, too.
    """

    def __init__(
        self,
        store: Store,
        peers: Peers,
        circumstances: Circumstances,
        telemetry: Telemetry,
        vault: Vault,
        *,
        remove_unknown_flows: bool = True,
        offsets: StreamOffsets | None = None,
        notification_queue: int = QUEUE,
        lease: Lease | None = None,
        watch_window: int = WINDOW,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._store = store
        self.committer = Committer(store, circumstances.clock)
        self.resync = Resync(self.committer, store, peers.data_plane, circumstances, telemetry)
        circumstances.counting_since_ms = self.resync.counting_since_ms
        self.delivery = Delivery(self.committer, store, peers, circumstances, telemetry)
        welcome = Welcome()
        self.manager = GatewayManager(
            self.committer,
            store,
            peers.policy,
            self.resync,
            circumstances,
            welcome,
            self.delivery.log_event,
            shared=lease is not None,
        )
        self.activity = Activity(alone=lease is None)
        self.deadlines = Deadlines(circumstances.clock, self._tick, self.activity.used_at_ms)
        self.usage = Usage(
            self.committer,
            store,
            peers.data_plane,
            self.resync,
            circumstances,
            telemetry,
            remove_unknown_flows=remove_unknown_flows,
        )
        self.reporting = Reporting(self.committer, store, peers.policy, circumstances, telemetry)
        self.streams = StreamManager(
            self.committer, store, circumstances, offsets or ConfiguredOffsets({}), notification_queue
        )
        self.listing = Listing(store, self.activity, circumstances.clock, complete=lease is None)
        self.reconciliation = Reconciliation(
            self.committer, store, peers.attachments, peers.wifi, circumstances, telemetry
        )
        self.sessions = SessionManager(
            self.committer, store, circumstances, welcome, self.streams, self.activity, vault
        )
        self.executions = Executions(self.sessions, self.committer, store, circumstances)
        self.draining = Draining(self.committer, store, self.listing, self.sessions, circumstances, welcome)
        self.journal = Journal()
        self._clock = circumstances.clock
        self.retention = Retention(self.committer, circumstances)
        self.feed = Feed(store, shared=lease is not None, window=watch_window, heartbeat_s=heartbeat_s)
        self._work = Work(self.deadlines, self.usage, self.reporting, self.delivery, self.retention)
        self._keeper: Keeper | None = None
        self._follower: Follower | None = None
        if lease is not None:
            self._share(lease, circumstances)

    def _share(self, lease: Lease, circumstances: Circumstances) -> None:
        """Do the work only while this daemon is the keeper, and hear of what the others write."""

        def next_deadline_ms(session: Session) -> int | None:
            return deadline(session, circumstances.clock.now_ms())

        self._keeper = Keeper(lease, self._store, self._work, self.resync, next_deadline_ms)
        self.delivery.may = self.reporting.may = self._keeper.may
        self._follower = Follower(self.feed)

    def hear(self, observer: Observer, origins: Iterable[Origin] = EVERY_ORIGIN) -> None:
        """Tell an observer of every write of this daemon from now on, and of the changes that other daemons make."""
        self.committer.observe(observer, origins)
        if self._follower is not None:
            self._follower.observe(observer, origins)

    async def start(self, found: Callable[[Session], None] | None = None) -> None:
        """Take up what the store remembers, telling `found` of each session; from now on time does its work too."""
        work = self._keeper or self._work
        for observer, origins in (
            (self.activity.observe, [Origin.NATIVE]),
            (work.observe, EVERY_ORIGIN),
            (self.usage.observe, [Origin.GATEWAY]),
            (self.delivery.spread, [Origin.GATEWAY]),
            (self.journal.observe, [Origin.NATIVE]),
            (self.listing.observe, EVERY_ORIGIN),
            (self.reconciliation.observe, [Origin.GATEWAY]),
            (self.feed.observe, EVERY_ORIGIN),
        ):
            self.committer.observe(observer, origins)
        self.hear(self.streams.observe, [Origin.STREAM_API])
        self.hear(self.sessions.observe)
        if self._keeper is not None and self._follower is not None:
            await self._follower.start(lambda session: self._list(session, found))
            await self._keeper.start()
        else:
            sessions = sorted([stored.session async for stored in self._store.load()], key=age)
            for session in sessions:
                self._list(session, found)
            self._work.take_up(sessions)
            self._work.begin()

    @property
    def watchers(self) -> int:
        """How many clients are told what happens to sessions, through whichever surface."""
        return sum(self.streams.subscribers().values()) + self.feed.watchers - (self._follower is not None)

    async def drain(self) -> None:
        """Return when nothing is on its way to a peer any more."""
        await asyncio.gather(self.delivery.drain(), self.reporting.drain())

    async def close(self) -> None:
        """Stop; what is saved and not yet carried out is taken up by the next start."""
        if self._follower is not None and self._keeper is not None:
            await self._follower.close()
            await self._keeper.close()
        await self._work.stop()
        self.journal.close()
        for part in (self.feed, self.usage, self.resync, self.committer):
            await part.close()

    async def _tick(self, keys: Sequence[str]) -> None:
        """Do what has come due; a session that was used meanwhile comes due later."""
        for session in await self.sessions.tick(keys):
            self.deadlines.arm(session)

    def _list(self, session: Session, found: Callable[[Session], None] | None) -> None:
        """Take a session that is there into what counts and lists sessions."""
        if found is not None:
            found(session)
        self.activity.take_up(session, self._clock.now_ms())
        self.streams.take_up(session)
        self.listing.take_up(session)
        self.reconciliation.take_up(session)
        self.sessions.populations.take_up(session)
