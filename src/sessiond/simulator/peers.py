"""The peers of a sessiond in one process: which of them, at which addresses, and how they hang together."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sessiond.pb.aaa.protos.accounting_pb2_grpc import add_accountingServicer_to_server
from sessiond.pb.magma.lte.mobility_pb2_grpc import MobilityServiceStub, add_MobilityServiceServicer_to_server
from sessiond.pb.magma.lte.pipelined_pb2_grpc import add_PipelinedServicer_to_server
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.lte.session_proxy_pb2_grpc import add_CentralSessionControllerServicer_to_server
from sessiond.pb.magma.lte.spgw_pb2_grpc import add_SpgwServiceServicer_to_server
from sessiond.pb.magma.orc8r.directory_pb2_grpc import add_GatewayDirectoryServiceServicer_to_server
from sessiond.pb.magma.orc8r.event_pb2_grpc import add_EventServiceServicer_to_server
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2_grpc import add_AccessGatewayServicer_to_server
from sessiond.simulator import state_file, switch
from sessiond.simulator.aaa import Accounting
from sessiond.simulator.access import Bearers, Devices, Mme
from sessiond.simulator.attachments import AccessGateway
from sessiond.simulator.config import Listen, Rate, Simulation
from sessiond.simulator.data_plane import DataPlane
from sessiond.simulator.directory import Directory
from sessiond.simulator.events import EventLog
from sessiond.simulator.mobility import Mobility, attached_at
from sessiond.simulator.policy import PolicyController, PolicySide
from sessiond.simulator.wire import Register, channel, listen

NAMES: Final = Listen.__struct_fields__
"""All peers, under the names that sessiond.yml has for them."""


class Peers:
    """The simulated peers of one sessiond; `addresses` has those that were opened."""

    def __init__(self, simulation: Simulation, now_s: Callable[[], float]) -> None:
        self.addresses: dict[str, str] = {}
        self.policy = PolicySide(simulation)
        self.events = EventLog(simulation.events.keep)
        self.directory = Directory()
        self.devices = Devices(simulation.access)
        self._simulation = simulation
        self._rates = {rule.id: rule.traffic for rule in simulation.rules}
        self._now_s = now_s
        self._closing = AsyncExitStack()
        self._to_sessiond = channel(simulation.sessiond)
        self._closing.push_async_callback(self._to_sessiond.close)
        sessiond = LocalSessionManagerStub(self._to_sessiond)
        self.mme = Mme(self.devices, sessiond, simulation.access)
        self.aaa = Accounting(sessiond)
        self._reporting: asyncio.Task[None] | None = None

    async def open(self, names: Collection[str] = NAMES) -> None:
        """Have these peers listen; pipelined comes last and begins to report."""
        for name, register in self._services().items():
            if name in names:
                await self._listen(name, register)
        if "pipelined" in names:
            await self._open_data_plane()

    async def failed(self) -> None:
        """Wait until something breaks, which is raised."""
        if self._reporting is None:
            await asyncio.Event().wait()
        else:
            await asyncio.wait({self._reporting})
            self._reporting.result()

    async def close(self) -> None:
        """Close everything, in reverse order."""
        await self._closing.aclose()

    def _services(self) -> Mapping[str, Register]:
        bearers = Bearers(self.devices, LocalSessionManagerStub(self._to_sessiond))
        return {
            "session_proxy": lambda s: add_CentralSessionControllerServicer_to_server(PolicyController(self.policy), s),
            "spgw": lambda s: add_SpgwServiceServicer_to_server(bearers, s),
            "mobilityd": lambda s: add_MobilityServiceServicer_to_server(Mobility(self.devices), s),
            "mme": lambda s: add_AccessGatewayServicer_to_server(AccessGateway(self.devices), s),
            "directoryd": lambda s: add_GatewayDirectoryServiceServicer_to_server(self.directory, s),
            "eventd": lambda s: add_EventServiceServicer_to_server(self.events, s),
            "aaa": lambda s: add_accountingServicer_to_server(self.aaa, s),
        }

    async def _listen(self, name: str, register: Register) -> None:
        listening = await listen(getattr(self._simulation.listen, name), [register])
        self._closing.push_async_callback(listening.close)
        self.addresses[name] = listening.address

    async def _open_data_plane(self) -> None:
        settings = self._simulation.data_plane
        path = Path(settings.state_file) if settings.state_file else None
        previous = state_file.read(path) if path else None
        state = switch.started(previous, self._now_s(), switch_restarts=settings.switch_restarts)
        data_plane = DataPlane(
            switch.Switch(state, self._rate, self._simulation.seed),
            LocalSessionManagerStub(self._to_sessiond),
            settings,
            keep=state_file.keeper(path),
            now_s=self._now_s,
            attached=self._attached(),
        )
        await self._listen("pipelined", lambda s: add_PipelinedServicer_to_server(data_plane, s))
        self._reporting = asyncio.create_task(data_plane.run())
        self._closing.callback(self._reporting.cancel)

    def _rate(self, rule: str) -> Rate:
        return self._rates.get(rule, self._simulation.data_plane.other_rules)

    def _attached(self) -> Callable[[], Awaitable[Collection[str] | None]]:
        """Return the question whose devices send traffic: asked of mobilityd, without one it is all of them."""
        address = self.addresses.get("mobilityd") or self._simulation.data_plane.mobilityd
        if address is None:
            return _everyone
        to_mobilityd = channel(address)
        self._closing.push_async_callback(to_mobilityd.close)
        return attached_at(MobilityServiceStub(to_mobilityd))


async def _everyone() -> None:
    return None
