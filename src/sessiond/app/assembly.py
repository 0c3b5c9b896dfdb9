"""Assembly: the parts of the application, put together over one store and one set of peers."""

import asyncio
from collections.abc import Callable, Sequence

from sessiond.app.activity import Activity
from sessiond.app.commit import Committer
from sessiond.app.deadlines import Deadlines
from sessiond.app.delivery import Delivery
from sessiond.app.draining import Draining
from sessiond.app.executions import Executions
from sessiond.app.gateway import GatewayManager
from sessiond.app.journal import Journal
from sessiond.app.listing import Listing
from sessiond.app.notifications import QUEUE
from sessiond.app.offsets import ConfiguredOffsets
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
from sessiond.core.names import age
from sessiond.core.session import Session


class Application:
    """Everything between the surfaces and the store: built at once, started, and closed in reverse.

    Whoever wants to hear of changes before all others observes `committer` before `start`. `alone` says that no other
    daemon writes to this store.
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
        alone: bool = True,
    ) -> None:
        self._store = store
        self.committer = Committer(store, circumstances.clock)
        self.resync = Resync(self.committer, store, peers.data_plane, circumstances, telemetry)
        circumstances.counting_since_ms = self.resync.counting_since_ms
        self.delivery = Delivery(self.committer, store, peers, circumstances, telemetry)
        welcome = Welcome()
        self.manager = GatewayManager(
            self.committer, store, peers.policy, self.resync, circumstances, welcome, self.delivery.log_event
        )
        self.activity = Activity()
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
        self.listing = Listing(store, self.activity, circumstances.clock, complete=alone)
        self.reconciliation = Reconciliation(
            self.committer, store, peers.attachments, peers.wifi, circumstances, telemetry
        )
        self.sessions = SessionManager(
            self.committer, store, circumstances, welcome, self.streams, self.activity, vault
        )
        self.executions = Executions(self.sessions, store, circumstances)
        self.draining = Draining(self.committer, store, self.listing, self.sessions, circumstances, welcome)
        self.journal = Journal()
        self._clock = circumstances.clock
        self.retention = Retention(self.committer, circumstances)
        self._time: asyncio.Task[None] | None = None

    async def start(self, found: Callable[[Session], None] | None = None) -> None:
        """Take up what the store remembers, telling `found` of each session; from now on time does its work too."""
        for part in (
            self.activity,
            self.deadlines,
            self.usage,
            self.reporting,
            self.delivery,
            self.streams,
            self.sessions,
            self.retention,
            self.journal,
            self.listing,
            self.reconciliation,
        ):
            self.committer.observe(part.observe)
        sessions = [stored.session async for stored in self._store.load()]
        for session in sorted(sessions, key=age):
            if found is not None:
                found(session)
            self._take_up(session)
        self.retention.take_up(sessions)
        self._time = asyncio.create_task(self.deadlines.run())

    async def drain(self) -> None:
        """Return when nothing is on its way to a peer any more."""
        await asyncio.gather(self.delivery.drain(), self.reporting.drain())

    async def close(self) -> None:
        """Stop; what is saved and not yet carried out is taken up by the next start."""
        if self._time is not None:
            self._time.cancel()
            await asyncio.gather(self._time, return_exceptions=True)
        self.journal.close()
        for part in (self.retention, self.reporting, self.usage, self.delivery, self.resync, self.committer):
            await part.close()

    async def _tick(self, keys: Sequence[str]) -> None:
        """Do what has come due; a session that was used meanwhile comes due later."""
        for session in await self.sessions.tick(keys):
            self.deadlines.arm(session)

    def _take_up(self, session: Session) -> None:
        """Go on with a session where the last run left it: its timers, its reports in flight, its effects."""
        self.activity.take_up(session, self._clock.now_ms())
        self.deadlines.arm(session)
        self.usage.arm(session)
        self.reporting.resume(session)
        self.delivery.resume(session)
        self.streams.take_up(session)
        self.listing.take_up(session)
        self.reconciliation.take_up(session)
        self.sessions.populations.take_up(session)
