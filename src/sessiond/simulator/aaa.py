"""The AAA server of a carrier wifi gateway: accounting, and the sessions it asks sessiond for."""

import grpc
import grpc.aio
from msgspec import Struct

from sessiond.pb.aaa.protos import accounting_pb2_grpc
from sessiond.pb.aaa.protos.accounting_pb2 import (
    acct_resp,
    add_sessions_request,
    create_session_resp,
    stop_request,
    terminate_session_request,
    update_request,
)
from sessiond.pb.aaa.protos.context_pb2 import context as WifiContext  # noqa: N812 - the wire named a message so
from sessiond.pb.magma.lte.session_context_pb2 import (
    CommonSessionContext,
    RatSpecificContext,
    RATType,
    WLANSessionContext,
)
from sessiond.pb.magma.lte.session_manager_pb2 import (
    LocalCreateSessionRequest,
    LocalEndSessionRequest,
    UpdateTunnelIdsRequest,
)
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator.wire import Context

CALL_DEADLINE_S = 10.0
GIGAWORD = 2**32


class WifiSession(Struct, kw_only=True):
    """A session as the AAA server knows it, and the octets its RADIUS client counted."""

    context: WifiContext
    octets_in: int = 0
    octets_out: int = 0
    terminated: bool = False
    """sessiond asked to disconnect the device."""


class Accounting(accounting_pb2_grpc.accountingServicer):
    """The sessions by RADIUS session id; sessiond is told of those that begin and end here."""

    def __init__(self, sessiond: LocalSessionManagerStub) -> None:
        self.sessions: dict[str, WifiSession] = {}
        self._sessiond = sessiond

    async def start(self, request: WifiContext, _context: Context) -> acct_resp:
        """Begin to account for a session."""
        self.sessions.setdefault(request.session_id, WifiSession(context=request))
        return acct_resp()

    async def interim_update(self, request: update_request, context: Context) -> acct_resp:
        """Take what was counted so far."""
        session = await self._known(request.ctx.session_id, context)
        session.octets_in = request.octets_in + request.gigawords_in * GIGAWORD
        session.octets_out = request.octets_out + request.gigawords_out * GIGAWORD
        return acct_resp()

    async def stop(self, request: stop_request, context: Context) -> acct_resp:
        """End a session, at sessiond too."""
        session = await self._known(request.ctx.session_id, context)
        del self.sessions[request.ctx.session_id]
        end = LocalEndSessionRequest(sid=SubscriberID(id=session.context.imsi), apn=session.context.apn)
        try:
            await self._sessiond.EndSession(end, timeout=CALL_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        return acct_resp()

    async def create_session(self, request: WifiContext, context: Context) -> create_session_resp:
        """Have sessiond make a session for a device that authenticated; it has no tunnel, so all ids are 0."""
        subscriber = SubscriberID(id=request.imsi)
        try:
            made = await self._sessiond.CreateSession(wifi_request(request), timeout=CALL_DEADLINE_S)
            await self._sessiond.UpdateTunnelIds(UpdateTunnelIdsRequest(sid=subscriber), timeout=CALL_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        request.acct_session_id = made.session_id
        self.sessions[request.session_id] = WifiSession(context=request)
        return create_session_resp(session_id=made.session_id)

    async def terminate_session(self, request: terminate_session_request, context: Context) -> acct_resp:
        """Disconnect a device whose session sessiond ended."""
        session = await self._known(request.radius_session_id, context)
        session.terminated = True
        return acct_resp()

    async def add_sessions(self, request: add_sessions_request, _context: Context) -> acct_resp:
        """Learn which sessions still stand."""
        for session in request.sessions:
            self.sessions[session.session_id] = WifiSession(context=session)
        return acct_resp()

    async def _known(self, session_id: str, context: Context) -> WifiSession:
        session = self.sessions.get(session_id)
        if session is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no RADIUS session {session_id}")
        return session


def wifi_request(context: WifiContext) -> LocalCreateSessionRequest:
    """Return what an AAA server says about a device."""
    return LocalCreateSessionRequest(
        common_context=CommonSessionContext(
            sid=SubscriberID(id=context.imsi),
            ue_ipv4=context.ip_addr,
            apn=context.apn,
            msisdn=context.msisdn.encode(),
            rat_type=RATType.TGPP_WLAN,
        ),
        rat_specific_context=RatSpecificContext(
            wlan_context=WLANSessionContext(
                mac_addr_binary=bytes.fromhex(context.mac_addr.replace(":", "").replace("-", "")),
                mac_addr=context.mac_addr,
                radius_session_id=context.session_id,
            )
        ),
    )
