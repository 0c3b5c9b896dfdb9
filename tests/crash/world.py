"""The world around a daemon that is killed again and again: it forgets nothing, and it is what the books are held to.

Policy side, data plane and MME are those of the simulator, behind one real gRPC server. Time is turned by hand: traffic
passes when somebody says so. A peer can be told to kill the daemon when it has something and has not answered yet.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, cast

import grpc
from grpc import aio

from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub
from sessiond.pb.magma.lte.mobility_pb2_grpc import add_MobilityServiceServicer_to_server
from sessiond.pb.magma.lte.pipelined_pb2_grpc import PipelinedServicer, add_PipelinedServicer_to_server
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.lte.session_context_pb2 import Teids
from sessiond.pb.magma.lte.session_manager_pb2 import PolicyBearerBindingRequest
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    SessionTerminateRequest,
    SessionTerminateResponse,
)
from sessiond.pb.magma.lte.session_proxy_pb2_grpc import add_CentralSessionControllerServicer_to_server
from sessiond.pb.magma.lte.session_proxy_responder_pb2_grpc import SessionProxyResponderStub
from sessiond.pb.magma.lte.spgw_pb2_grpc import add_SpgwServiceServicer_to_server
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator import switch
from sessiond.simulator.access import Bearer, Bearers, Devices
from sessiond.simulator.config import Rate, Simulation, load
from sessiond.simulator.data_plane import DataPlane
from sessiond.simulator.mobility import Mobility
from sessiond.simulator.policy import PolicyController, PolicySide
from tests.crash.steps import PEER_CALLS, Fuse

SIMULATION: Final = Path(__file__).with_name("simulation.yml")
FIRST_EPOCH: Final = 1_700_000_000
CLIENT_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
CALL_S: Final = 8.0
"""How long anybody waits for the daemon; longer than it waits for its peers."""
RETRY_S: Final = 0.05


class Failed(AssertionError):
    """Something is not as it was acknowledged; the text says all that is wrong."""


class Policy(PolicySide):
    """PCRF and OCS that remember how the end of each session was told."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(simulation)
        self.ends: dict[str, list[SessionTerminateRequest]] = {}

    def create(self, request: CreateSessionRequest) -> CreateSessionResponse:
        """Open a session; there are a million numbers for a subscriber, so that one of an earlier session may come."""
        books = self.sessions.get(request.session_id)
        if books is not None and books.terminated:
            self._set_aside(request.session_id)
        return super().create(request)

    def terminate(self, request: SessionTerminateRequest) -> SessionTerminateResponse:
        """Close a session."""
        self.ends.setdefault(request.session_id, []).append(request)
        return super().terminate(request)

    def _set_aside(self, key: str) -> None:
        past = f"{key} before {len(self.sessions)}"
        self.sessions[past], self.ends[past] = self.sessions.pop(key), self.ends.pop(key)
        del self._opened[key]
        for answers in (self._charged, self._monitored):
            for entry in [entry for entry in answers if entry[0] == key]:
                del answers[entry]


class Process(DataPlane):
    """One process of pipelined, which reports when it is told to."""

    def __init__(self, under: switch.Switch, simulation: Simulation, now_s: Callable[[], float]) -> None:
        super().__init__(
            under,
            cast("LocalSessionManagerStub", None),
            simulation.data_plane,
            keep=lambda _: None,
            now_s=now_s,
            attached=_everyone,
        )

    def meet(self, sessiond: LocalSessionManagerStub) -> None:
        """Report to a daemon from now on."""
        self._sessiond = sessiond

    async def _send(self, table: RuleRecordTable) -> bool:
        try:
            return await super()._send(table)
        except (asyncio.CancelledError, aio.UsageError):  # somebody has hung up
            return False

    async def announce(self) -> bool:
        """Say that it has started, and is not set up yet."""
        return await self._send(self._table())


class Pipelined:
    """The servicer for whatever process of pipelined there is at the moment."""

    process: Process

    def __getattr__(self, name: str) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            return await getattr(self.process, name)(request, context)

        return answer


class Mme(Bearers):
    """The bearer service of the MME, which says again what nobody heard."""

    sessiond: LocalSessionManagerStub

    def __init__(self, devices: Devices) -> None:
        super().__init__(devices, cast("LocalSessionManagerStub", None))

    async def _bind(self, subscriber: str, default_bearer: int, bearer: Bearer) -> None:
        device = self._devices.get(subscriber)
        request = PolicyBearerBindingRequest(
            sid=SubscriberID(id=subscriber),
            linked_bearer_id=default_bearer,
            policy_rule_id=bearer.rule,
            bearer_id=bearer.id,
            teids=Teids(enb_teid=bearer.enb_teid, agw_teid=bearer.agw_teid),
        )
        while self._devices.get(subscriber) is device:
            try:
                await self.sessiond.BindPolicy2Bearer(request, timeout=CALL_S)
            except (aio.AioRpcError, asyncio.CancelledError, aio.UsageError):
                await asyncio.sleep(RETRY_S)
            else:
                return


class Peers(aio.ServerInterceptor):
    """Tells a fuse when a peer has taken something and is about to answer."""

    def __init__(self) -> None:
        self.fuse = Fuse("", 0)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap a method."""
        handler = await continuation(details)
        step = PEER_CALLS.get(details.method.rpartition("/")[2])
        if handler is None or step is None:
            return handler

        async def behave(request: Any, context: Any) -> Any:
            answer = await handler.unary_unary(request, context)
            self.fuse.reached(f"{step}.lost")
            return answer

        return grpc.unary_unary_rpc_method_handler(behave, handler.request_deserializer, handler.response_serializer)


class World:
    """Everybody around the daemon."""

    def __init__(self) -> None:
        self.simulation = load(SIMULATION)
        self.peers = Peers()
        self.policy = Policy(self.simulation)
        self.devices = Devices(self.simulation.access)
        self.mme = Mme(self.devices)
        self.pipelined = Pipelined()
        self.now_s = 0.0
        self.address = ""
        self._server = aio.server(interceptors=[self.peers], options=[("grpc.so_reuseport", 0)])
        self._rates = {rule.id: rule.traffic for rule in self.simulation.rules}
        self._channel: aio.Channel | None = None
        self._start_pipelined(switch.SwitchState(epoch=FIRST_EPOCH, counted_until=self.now_s))

    async def __aenter__(self) -> Self:
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        add_PipelinedServicer_to_server(cast("PipelinedServicer", self.pipelined), self._server)
        add_CentralSessionControllerServicer_to_server(PolicyController(self.policy), self._server)
        add_SpgwServiceServicer_to_server(self.mme, self._server)
        add_MobilityServiceServicer_to_server(Mobility(self.devices), self._server)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.part()
        await self._server.stop(None)

    async def meet(self, address: str) -> None:
        """Talk to a daemon from now on."""
        await self.part()
        self._channel = aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self.sessions = LocalSessionManagerStub(self._channel)
        self.responder = SessionProxyResponderStub(self._channel)
        self.streams = SessionManagementServiceStub(self._channel)
        self.mme.sessiond = self.sessions
        self.pipelined.process.meet(self.sessions)

    async def part(self) -> None:
        """Hang up."""
        if self._channel is not None:
            await self._channel.close()

    def restart_pipelined(self, *, with_switch: bool) -> None:
        """Let the process of pipelined be a new one, and perhaps the switch too, which then counts from zero.

        What a process does not live to say, the next one says: that counters begin anew, and what is in doubt.
        """
        before, untold = self.switch.state(), not self.pipelined.process.set_up.is_set()
        after = switch.started(before, self.now_s, switch_restarts=with_switch)
        if not with_switch:
            after.restarted, after.reporting = before.restarted and untold, before.reporting
        self._start_pipelined(after)

    async def report(self, seconds: float = 0.0) -> bool:
        """Let traffic pass for a while, and pipelined report; return whether the daemon has taken it."""
        self.now_s += seconds
        if self.pipelined.process.set_up.is_set():
            return await self.pipelined.process.report()
        return await self.pipelined.process.announce()

    def _start_pipelined(self, state: switch.SwitchState) -> None:
        self.switch = switch.Switch(state, lambda rule: self._rates.get(rule, Rate()), self.simulation.seed)
        self.switch.reporting = state.reporting
        self.pipelined.process = Process(self.switch, self.simulation, lambda: self.now_s)
        if self._channel is not None:
            self.pipelined.process.meet(self.sessions)


async def _everyone() -> None:
    """Say that every device sends traffic through the flows it has."""
