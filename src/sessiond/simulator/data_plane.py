"""pipelined: puts the requests of sessiond into the switch, and reports its counters (southbound.md 2.5)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

import grpc
import grpc.aio

from sessiond.pb.magma.lte import pipelined_pb2_grpc
from sessiond.pb.magma.lte.pipelined_pb2 import (
    ActivateFlowsRequest,
    ActivateFlowsResult,
    DeactivateFlowsRequest,
    DeactivateFlowsResult,
    FlowResponse,
    GetStatsRequest,
    SetupDefaultRequest,
    SetupFlowsResult,
    SetupPolicyRequest,
    SetupQuotaRequest,
    SetupUEMacRequest,
    UEMacFlowRequest,
    UpdateSubscriberQuotaStateRequest,
)
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.simulator.config import DataPlane as Settings
from sessiond.simulator.switch import Switch
from sessiond.simulator.wire import Context


class DataPlane(pipelined_pb2_grpc.PipelinedServicer):
    """The process between sessiond and the switch: it forgets that it was set up, the switch forgets nothing.

    `keep` must have stored the switch when it returns; nothing is answered or reported before.
    """

    def __init__(
        self,
        switch: Switch,
        sessiond: LocalSessionManagerStub,
        settings: Settings,
        *,
        keep: Callable[[Switch], None],
        now_s: Callable[[], float],
        attached: Callable[[], Awaitable[Collection[str] | None]],
    ) -> None:
        self.reports = 0
        self.set_up = asyncio.Event()
        self._switch = switch
        self._sessiond = sessiond
        self._settings = settings
        self._keep = keep
        self._now_s = now_s
        self._ask_attached = attached
        self._attached: Collection[str] | None = None

    async def run(self) -> None:
        """Report for ever: empty tables until set up, then all counters; one report at a time."""
        self._keep(self._switch)
        self._attached = await self._ask_attached()
        while not self.set_up.is_set():
            await self._send(self._table())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.set_up.wait(), self._settings.setup_interval_ms / 1000)
        while True:
            await asyncio.sleep(self._settings.report_interval_ms / 1000)
            await self.report()

    async def report(self) -> bool:
        """Report all counters once; return whether sessiond took them. If not, they come again with the next report."""
        self._attached = await self._ask_attached()
        self._switch.reporting = True
        self._advance()
        self._keep(self._switch)
        table = self._table()
        table.records.extend(self._switch.records())
        if not await self._send(table):
            return False
        self._switch.reporting = False
        self._switch.taken(table.records)
        self._keep(self._switch)
        self.reports += 1
        return True

    async def SetupDefaultControllers(self, request: SetupDefaultRequest, _context: Context) -> SetupFlowsResult:
        """Put the flows that every device needs; there is nothing to simulate about them."""
        return self._setup_result(request.epoch)

    async def SetupPolicyFlows(self, request: SetupPolicyRequest, _context: Context) -> SetupFlowsResult:
        """Make the tables what is listed, once per start."""
        result = self._setup_result(request.epoch)
        if result.result == SetupFlowsResult.SUCCESS and not self.set_up.is_set():
            self._advance()
            self._switch.replace(request.requests)
            self._keep(self._switch)
            self.set_up.set()
        return result

    async def SetupUEMacFlows(self, request: SetupUEMacRequest, _context: Context) -> SetupFlowsResult:
        """Put the devices of a carrier wifi gateway."""
        return self._setup_result(request.epoch)

    async def SetupQuotaFlows(self, request: SetupQuotaRequest, _context: Context) -> SetupFlowsResult:
        """Put who has quota left."""
        return self._setup_result(request.epoch)

    async def ActivateFlows(self, request: ActivateFlowsRequest, context: Context) -> ActivateFlowsResult:
        """Put flows up, once set up."""
        if not self.set_up.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Enforcement service not initialized!")
        self._advance()
        results = self._switch.activate(request)
        self._keep(self._switch)
        return ActivateFlowsResult(policy_results=results)

    async def DeactivateFlows(self, request: DeactivateFlowsRequest, _context: Context) -> DeactivateFlowsResult:
        """Take flows down."""
        self._advance()
        self._switch.deactivate(request)
        self._keep(self._switch)
        return DeactivateFlowsResult(result=DeactivateFlowsResult.SUCCESS)

    async def GetPolicyUsage(self, _request: Void, _context: Context) -> RuleRecordTable:
        """Return all counters as they are."""
        table = self._table()
        table.records.extend(self._switch.records())
        return table

    async def GetStats(self, _request: GetStatsRequest, context: Context) -> RuleRecordTable:
        """Return all counters as they are."""
        return await self.GetPolicyUsage(Void(), context)

    async def UpdateSubscriberQuotaState(
        self, _request: UpdateSubscriberQuotaStateRequest, _context: Context
    ) -> FlowResponse:
        """Hear whether a carrier wifi device has quota; its captive portal is not simulated."""
        return FlowResponse(result=FlowResponse.SUCCESS)

    async def AddUEMacFlow(self, _request: UEMacFlowRequest, _context: Context) -> FlowResponse:
        """Hear that a carrier wifi device came."""
        return FlowResponse(result=FlowResponse.SUCCESS)

    async def DeleteUEMacFlow(self, _request: UEMacFlowRequest, _context: Context) -> FlowResponse:
        """Hear that a carrier wifi device went."""
        return FlowResponse(result=FlowResponse.SUCCESS)

    async def UpdateIPFIXFlow(self, _request: UEMacFlowRequest, _context: Context) -> FlowResponse:
        """Hear whose flow records to export; none are."""
        return FlowResponse(result=FlowResponse.SUCCESS)

    def _advance(self) -> None:
        self._switch.advance(self._now_s(), self._attached)

    def _table(self) -> RuleRecordTable:
        return RuleRecordTable(epoch=self._switch.epoch, update_rule_versions=self._switch.restarted)

    async def _send(self, table: RuleRecordTable) -> bool:
        try:
            await self._sessiond.ReportRuleStats(table, timeout=self._settings.report_deadline_ms / 1000)
        except grpc.aio.AioRpcError:
            return False
        return True

    def _setup_result(self, epoch: int) -> SetupFlowsResult:
        fits = epoch == self._switch.epoch
        return SetupFlowsResult(result=SetupFlowsResult.SUCCESS if fits else SetupFlowsResult.OUTDATED_EPOCH)
