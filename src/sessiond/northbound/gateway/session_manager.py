"""`magma.lte.LocalSessionManager`: what MME, AAA and pipelined ask of us."""

from typing import Any

from sessiond.app.gateway import GatewayManager
from sessiond.app.usage import Usage
from sessiond.core.errors import Aborted, FailedPrecondition, NotFound
from sessiond.core.ids import check_subscriber
from sessiond.core.rules import Bearer, Teids
from sessiond.northbound.gateway.messages import rule_sets, table_rows
from sessiond.pb.magma.lte import rule_install_pb2, rule_stats_pb2, session_manager_pb2, session_manager_pb2_grpc
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.translate.context import context_from_wire


class LocalSessionManager(session_manager_pb2_grpc.LocalSessionManagerServicer):
    """Answers the access side and the data plane; statuses and texts are those the peers know."""

    def __init__(self, manager: GatewayManager, usage: Usage) -> None:
        self._manager = manager
        self._usage = usage

    async def CreateSession(
        self, request: session_manager_pb2.LocalCreateSessionRequest, context: Any
    ) -> session_manager_pb2.LocalCreateSessionResponse:
        """A UE attached."""
        common = request.common_context
        try:
            wanted = context_from_wire(common, request.rat_specific_context)
        except FailedPrecondition as error:
            self._manager.note_refusal(common.sid.id, common.apn, error.text)
            raise
        check_subscriber(wanted.subscriber, "common_context.sid.id")
        key = await self._manager.create_session(wanted)
        return session_manager_pb2.LocalCreateSessionResponse(session_id=key)

    async def UpdateTunnelIds(
        self, request: session_manager_pb2.UpdateTunnelIdsRequest, context: Any
    ) -> session_manager_pb2.UpdateTunnelIdsResponse:
        """The tunnels of a session stand."""
        check_subscriber(request.sid.id, "sid.id")
        teids = Teids(request.enb_teid, request.agw_teid)
        try:
            await self._manager.update_tunnel_ids(request.sid.id, request.bearer_id, teids, request.session_id)
        except NotFound as error:
            raise Aborted(error.reason, "Failed to Update tunnels Ids") from error
        return session_manager_pb2.UpdateTunnelIdsResponse()

    async def ReportRuleStats(self, request: rule_stats_pb2.RuleRecordTable, context: Any) -> Void:
        """The data plane says what it counted; the answer says that all of it is written."""
        await self._usage.report(table_rows(request), request.epoch, counters_restart=request.update_rule_versions)
        return Void()

    async def EndSession(
        self, request: session_manager_pb2.LocalEndSessionRequest, context: Any
    ) -> session_manager_pb2.LocalEndSessionResponse:
        """A UE detached."""
        check_subscriber(request.sid.id, "sid.id")
        try:
            await self._manager.end_session(request.sid.id, request.apn)
        except NotFound as error:
            raise FailedPrecondition(error.reason, "Session not found") from error
        return session_manager_pb2.LocalEndSessionResponse()

    async def BindPolicy2Bearer(
        self, request: session_manager_pb2.PolicyBearerBindingRequest, context: Any
    ) -> session_manager_pb2.PolicyBearerBindingResponse:
        """The dedicated bearer of a rule stands, or could not be made."""
        check_subscriber(request.sid.id, "sid.id")
        bearer = Bearer(request.bearer_id, Teids(request.teids.enb_teid, request.teids.agw_teid))
        await self._manager.bind_bearer(request.sid.id, request.linked_bearer_id, request.policy_rule_id, bearer)
        return session_manager_pb2.PolicyBearerBindingResponse()

    async def SetSessionRules(self, request: rule_install_pb2.SessionRules, context: Any) -> Void:
        """All rules of some subscribers; one that cannot be a subscriber leaves those of all others as they are."""
        for index, subscriber in enumerate(request.rules_per_subscriber):
            check_subscriber(subscriber.imsi, f"rules_per_subscriber[{index}].imsi")
        for subscriber in request.rules_per_subscriber:
            await self._manager.set_session_rules(subscriber.imsi, rule_sets(subscriber))
        return Void()
