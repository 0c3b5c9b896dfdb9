"""The whole application over a store of your choice, with scripted peers and a clock turned by hand.

    async with SimulatedGateway(MemoryStore(), catalogue={"video": PolicyRule(id="video", rating_group=1)}) as gateway:
        gateway.policy.script("create", PolicyAnswer(credits=..., installs=(RuleInstall("video"),)))
        key = await gateway.attach(context)
        await gateway.report(row(context, "video", version=1, tx=900))
        assert gateway.policy.updates
        await gateway.advance(5000)

Nothing happens but what a test brings about, and when a method returns, all that follows from it has happened. A store
that does real input and output is not waited for by `settle`: wait for what the peers are told, with `called`.
"""

from types import TracebackType
from typing import Final, Self

from sessiond.app.assembly import Application
from sessiond.app.ports.store import Store
from sessiond.app.situation import Circumstances
from sessiond.app.usage import TableRow
from sessiond.core.rules import Catalogue, Teids
from sessiond.core.session import Context, Session
from sessiond.core.settings import Settings
from sessiond.testing.clock import HandClock
from sessiond.testing.loop import settle
from sessiond.testing.peers import ScriptedPeers
from sessiond.testing.telemetry import CountingTelemetry
from sessiond.testing.vault import GlassVault

EPOCH: Final = 1
TEIDS: Final = Teids(enb=1, agw=2)


class SimulatedGateway:
    """An application at work, from `start` (or `async with`) to `close`; its data plane is set up if it is `ready`.

    Store, clock and peers outlive the application: `restart` is what they see of a daemon that died and came back.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings | None = None,
        catalogue: Catalogue | None = None,
        remove_unknown_flows: bool = True,
        ready: bool = True,
        clock: HandClock | None = None,
    ) -> None:
        self.store = store
        self.clock = clock or HandClock()
        self.telemetry = CountingTelemetry()
        self.peers = ScriptedPeers()
        self.policy = self.peers.policy
        self.data_plane = self.peers.data_plane
        self.access = self.peers.access
        self.wifi = self.peers.wifi
        self.directory = self.peers.directory
        self.events = self.peers.events
        self.circumstances = Circumstances(self.clock, settings or Settings(), catalogue or {})
        self._remove_unknown_flows = remove_unknown_flows
        self._ready = ready
        self.application = self._new()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the application; if it is to be `ready`, report an empty table, so that it sets the data plane up."""
        await self.application.start()
        if self._ready:
            await self.report()

    async def close(self) -> None:
        """Stop the application; everything else stays."""
        await self.application.close()

    async def restart(self) -> None:
        """Let the application die and come back; what was under way and not written is gone."""
        await self.close()
        self.application = self._new()
        await self.start()

    async def attach(self, context: Context, teids: Teids = TEIDS) -> str:
        """Create a session and put it in force on its tunnels, as an MME does; return its key."""
        key = await self.application.manager.create_session(context)
        await settle()
        bearer_id = context.lte.bearer_id if context.lte else 0
        await self.application.manager.update_tunnel_ids(context.subscriber, bearer_id, teids)
        await settle()
        return key

    async def detach(self, context: Context) -> None:
        """End the session of a UE and APN."""
        await self.application.manager.end_session(context.subscriber, context.apn)
        await settle()

    async def report(self, *rows: TableRow, epoch: int = EPOCH, counters_restart: bool = False) -> None:
        """Report a usage table."""
        await self.application.usage.report(rows, epoch, counters_restart=counters_restart)
        await settle()

    async def settle(self) -> None:
        """Let everything happen that can happen by itself."""
        await settle()

    async def advance(self, by_ms: int) -> None:
        """Turn the clock on, stopping at every moment for which somebody waits."""
        until_ms = self.clock.now_ms() + by_ms
        await settle()
        while (next_ms := self.clock.next_ms()) is not None and next_ms <= until_ms:
            self.clock.advance(next_ms - self.clock.now_ms())
            await settle()
        self.clock.advance(until_ms - self.clock.now_ms())
        await settle()

    async def find(self, key: str) -> Session | None:
        """Return a session, None if it is gone."""
        stored = await self.store.get(key)
        return stored.session if stored else None

    async def session(self, key: str) -> Session:
        """Return a session that must be there."""
        found = await self.find(key)
        if found is None:
            raise AssertionError(f"there is no session {key}")
        return found

    async def sessions(self) -> list[Session]:
        """Return all sessions."""
        return [stored.session async for stored in self.store.load()]

    def _new(self) -> Application:
        return Application(
            self.store,
            self.peers.connected(),
            self.circumstances,
            self.telemetry,
            GlassVault(),
            remove_unknown_flows=self._remove_unknown_flows,
        )


def row(
    context: Context, rule: str, version: int, tx: int = 0, rx: int = 0, *, ipv6: bool = False, teid: int = 0
) -> TableRow:
    """Return a row of a usage table: cumulative octets of one version of a rule, for a UE address."""
    return TableRow(
        context.subscriber,
        "" if ipv6 else context.ue_ipv4,
        context.ue_ipv6 if ipv6 else "",
        teid,
        rule,
        version,
        tx,
        rx,
    )
