"""The data plane, as pipelined serves it (`magma.lte.Pipelined`)."""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from sessiond.app.ports.peers import SetupResult, UnknownFlows
from sessiond.core.effects import ActivateFlows, DeactivateFlows, ExportFlows, UpdateQuotaState
from sessiond.core.errors import PeerFailed
from sessiond.core.lifecycle import State
from sessiond.core.rules import Catalogue
from sessiond.core.session import Rat, Session
from sessiond.pb.magma.lte import pipelined_pb2
from sessiond.pb.magma.lte.pipelined_pb2_grpc import PipelinedStub
from sessiond.southbound.channel import Channel
from sessiond.southbound.pipelined import messages

_WORST_FIRST: Final = (SetupResult.OUTDATED_EPOCH, SetupResult.FAILURE, SetupResult.SUCCESS)
_SESSIONS_IN_ONE_GO: Final = 100
"""How many sessions are translated before others have their turn in the event loop."""

_log = structlog.get_logger(__name__)


class Pipelined:
    """Implements `app.ports.peers.DataPlanePeer`."""

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = PipelinedStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    @property
    def connected(self) -> bool:
        """Whether there is a connection to it at this moment."""
        return self.channel.connected

    async def set_up(self, epoch: int, sessions: Sequence[Session], catalogue: Catalogue) -> SetupResult:
        """Install everything that these sessions want; all calls are made at once, whatever becomes of the others.

        Over carrier wifi these are the devices too.
        """
        policies = pipelined_pb2.SetupPolicyRequest(epoch=epoch)
        for index, session in enumerate(sessions, start=1):
            policies.requests.extend(messages.setup_requests(session, catalogue))
            if index % _SESSIONS_IN_ONE_GO == 0:
                await asyncio.sleep(0)
        default = pipelined_pb2.SetupDefaultRequest(epoch=epoch)
        calls = [
            self.channel.call(self._stub.SetupDefaultControllers, default, self._deadline_s),
            self.channel.call(self._stub.SetupPolicyFlows, policies, self._deadline_s),
        ]
        wifi = [session for session in sessions if _is_wifi(session)]
        if wifi:
            requests = [messages.mac_flow_setup(session) for session in wifi if session.head.state is State.ACTIVE]
            macs = pipelined_pb2.SetupUEMacRequest(epoch=epoch, requests=requests)
            calls.append(self.channel.call(self._stub.SetupUEMacFlows, macs, self._deadline_s))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        results: list[SetupResult] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            results.append(messages.setup_result(answer))
        return min(results, key=_WORST_FIRST.index)

    async def set_up_quota_states(self, sessions: Sequence[Session]) -> None:
        """Say again what was last said about quota; a session of which nothing was said is passed over."""
        states = [
            (session, session.gateway.quota_state)
            for session in sessions
            if _is_wifi(session) and session.head.state is State.ACTIVE and session.gateway is not None
        ]
        updates = [messages.quota_update(session, state) for session, state in states if state is not None]
        if not updates:
            return
        try:
            await self._update_quota_states(updates)
        except PeerFailed as error:
            _log.warning("quota_states_not_set_up", sessions=len(updates), status=error.status, text=error.text)

    async def activate(self, session: Session, effect: ActivateFlows, catalogue: Catalogue) -> tuple[str, ...]:
        """Install flows; return the ids of the rules that nobody can define or that pipelined could not install."""
        request, undefined = messages.activate_request(session, effect, catalogue)
        if undefined:
            _log.warning("rules_undefined", session=session.key, rules=undefined)
        answer = await self.channel.call(self._stub.ActivateFlows, request, self._deadline_s)
        return (*undefined, *messages.not_installed(request, answer))

    async def deactivate(self, session: Session, effect: DeactivateFlows) -> None:
        """Remove flows; nothing is sent for no rules, which would remove all of the subscriber's."""
        request = messages.deactivate_request(session, effect)
        if request is not None:
            await self._deactivate(request)

    async def export_flows(self, session: Session, effect: ExportFlows) -> None:
        """Export the flows of a session (IPFIX)."""
        request = messages.export_request(session, effect)
        answer = await self.channel.call(self._stub.UpdateIPFIXFlow, request, self._deadline_s)
        _note("flows_not_exported", answer, session=session.key)

    async def delete_mac_flow(self, session: Session) -> None:
        """Forget the MAC address of a session."""
        request = messages.mac_flow_request(session)
        answer = await self.channel.call(self._stub.DeleteUEMacFlow, request, self._deadline_s)
        _note("mac_flow_not_deleted", answer, session=session.key)

    async def update_quota_state(self, session: Session, effect: UpdateQuotaState) -> None:
        """Say whether a subscriber has anything left to spend."""
        await self._update_quota_states([messages.quota_update(session, effect.state)])

    async def deactivate_unknown(self, flows: UnknownFlows) -> None:
        """Remove flows that belong to no session."""
        await self._deactivate(messages.deactivate_unknown_request(flows))

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()

    async def _update_quota_states(self, updates: list[pipelined_pb2.SubscriberQuotaUpdate]) -> None:
        request = pipelined_pb2.UpdateSubscriberQuotaStateRequest(updates=updates)
        answer = await self.channel.call(self._stub.UpdateSubscriberQuotaState, request, self._deadline_s)
        _note("quota_states_not_taken", answer, sessions=len(updates))

    async def _deactivate(self, request: pipelined_pb2.DeactivateFlowsRequest) -> None:
        """Remove flows; what pipelined says of the result is for the log, as it will not do better the next time."""
        answer = await self.channel.call(self._stub.DeactivateFlows, request, self._deadline_s)
        if answer.result != pipelined_pb2.DeactivateFlowsResult.SUCCESS:
            _log.warning("flows_not_removed", subscriber=request.sid.id, result=answer.result)


def _is_wifi(session: Session) -> bool:
    return session.context is not None and session.context.rat is Rat.WLAN


def _note(event: str, answer: pipelined_pb2.FlowResponse, **fields: object) -> None:
    """Log a result that is not success; asking again would not better it."""
    if answer.result != pipelined_pb2.FlowResponse.SUCCESS:
        _log.warning(event, result=answer.result, **fields)
