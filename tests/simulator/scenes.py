"""What the tests of the simulator share: simulations, requests as sessiond makes them, a sessiond that listens."""
# ruff: noqa: N802 - the names of methods are those of the wire

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from sessiond.pb.magma.lte import session_manager_pb2_grpc
from sessiond.pb.magma.lte.pipelined_pb2 import (
    ActivateFlowsRequest,
    DeactivateFlowsRequest,
    RequestOriginType,
    VersionedPolicy,
    VersionedPolicyID,
)
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.lte.session_manager_pb2 import (
    LocalCreateSessionRequest,
    LocalCreateSessionResponse,
    LocalEndSessionRequest,
    LocalEndSessionResponse,
    PolicyBearerBindingRequest,
    PolicyBearerBindingResponse,
    UpdateTunnelIdsRequest,
    UpdateTunnelIdsResponse,
)
from sessiond.pb.magma.lte.session_manager_pb2_grpc import add_LocalSessionManagerServicer_to_server
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.simulator.config import Simulation, parse
from sessiond.simulator.wire import Context, Register, channel, listen

SUBSCRIBER, ADDRESS = "IMSI001010000000001", "192.168.128.11"
GX, GY, WILDCARD = RequestOriginType.GX, RequestOriginType.GY, RequestOriginType.WILDCARD


def simulation(**sections: str) -> Simulation:
    """Return the simulation of a file with these sections, each given as YAML."""
    return parse("\n".join(f"{name}: {text}" for name, text in sections.items()), "test.yml")


def charged(name: str = "internet", rating_group: int = 1) -> PolicyRule:
    """Return a rule whose traffic the OCS counts."""
    return PolicyRule(id=name, rating_group=rating_group, tracking_type=PolicyRule.ONLY_OCS)


def monitored(name: str = "video", key: bytes = b"month") -> PolicyRule:
    """Return a rule whose traffic the PCRF counts."""
    return PolicyRule(id=name, monitoring_key=key, tracking_type=PolicyRule.ONLY_PCRF)


def untracked(name: str = "pages") -> PolicyRule:
    """Return a rule whose traffic nobody counts."""
    return PolicyRule(id=name, tracking_type=PolicyRule.NO_TRACKING)


def activation(
    *rules: tuple[PolicyRule, int], origin: RequestOriginType.OriginType.ValueType = GX
) -> ActivateFlowsRequest:
    """Return the request that puts rules up, each under a version."""
    return ActivateFlowsRequest(
        sid=SubscriberID(id=SUBSCRIBER),
        ip_addr=ADDRESS,
        request_origin=RequestOriginType(type=origin),
        policies=[VersionedPolicy(rule=rule, version=version) for rule, version in rules],
    )


def deactivation(
    *rules: tuple[str, int], origin: RequestOriginType.OriginType.ValueType = GX, drop: bool = False
) -> DeactivateFlowsRequest:
    """Return the request that takes rules down, without rules everything."""
    return DeactivateFlowsRequest(
        sid=SubscriberID(id=SUBSCRIBER),
        ip_addr=ADDRESS,
        request_origin=RequestOriginType(type=origin),
        remove_default_drop_flows=drop,
        policies=[VersionedPolicyID(rule_id=rule, version=version) for rule, version in rules],
    )


class Sessiond(session_manager_pb2_grpc.LocalSessionManagerServicer):
    """A sessiond that notes what it is told.

    `refusals` are the statuses of the next calls of any kind; while `answers` is not set, reports wait for theirs.
    """

    def __init__(self) -> None:
        self.tables: asyncio.Queue[RuleRecordTable] = asyncio.Queue()
        self.created: list[LocalCreateSessionRequest] = []
        self.tunnels: list[UpdateTunnelIdsRequest] = []
        self.bindings: asyncio.Queue[PolicyBearerBindingRequest] = asyncio.Queue()
        self.ended: list[LocalEndSessionRequest] = []
        self.refusals: list[tuple[grpc.StatusCode, str]] = []
        self.refuses_tunnels = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def ReportRuleStats(self, request: RuleRecordTable, context: Context) -> Void:
        """Take a report."""
        await self.tables.put(request)
        await self.answers.wait()
        await self._refuse(context)
        return Void()

    async def CreateSession(self, request: LocalCreateSessionRequest, context: Context) -> LocalCreateSessionResponse:
        """Create a session."""
        await self._refuse(context)
        self.created.append(request)
        return LocalCreateSessionResponse(session_id=f"{request.common_context.sid.id}-{len(self.created)}")

    async def UpdateTunnelIds(self, request: UpdateTunnelIdsRequest, context: Context) -> UpdateTunnelIdsResponse:
        """Take a tunnel."""
        if self.refuses_tunnels:
            await context.abort(grpc.StatusCode.ABORTED, "Failed to Update tunnels Ids")
        await self._refuse(context)
        self.tunnels.append(request)
        return UpdateTunnelIdsResponse()

    async def BindPolicy2Bearer(
        self, request: PolicyBearerBindingRequest, context: Context
    ) -> PolicyBearerBindingResponse:
        """Take a dedicated bearer."""
        await self.bindings.put(request)
        await self._refuse(context)
        return PolicyBearerBindingResponse()

    async def SetSessionRules(self, request: object, context: object) -> Void:
        """Nobody here calls it."""
        raise NotImplementedError

    async def EndSession(self, request: LocalEndSessionRequest, context: Context) -> LocalEndSessionResponse:
        """End a session."""
        await self._refuse(context)
        self.ended.append(request)
        return LocalEndSessionResponse()

    async def _refuse(self, context: Context) -> None:
        if self.refusals:
            await context.abort(*self.refusals.pop(0))


@asynccontextmanager
async def served(*services: Register) -> AsyncIterator[grpc.aio.Channel]:
    """Serve on a free loopback port; hand out a channel to it."""
    listening = await listen("127.0.0.1:0", services)
    async with channel(listening.address) as to_it:
        yield to_it
    await listening.close()


@asynccontextmanager
async def a_sessiond() -> AsyncIterator[tuple[Sessiond, session_manager_pb2_grpc.LocalSessionManagerStub]]:
    """Serve a sessiond that listens; hand it out, with the stub to call it."""
    sessiond = Sessiond()
    async with served(lambda server: add_LocalSessionManagerServicer_to_server(sessiond, server)) as to_it:
        yield sessiond, session_manager_pb2_grpc.LocalSessionManagerStub(to_it)
