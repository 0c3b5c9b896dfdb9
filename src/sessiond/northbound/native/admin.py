"""`sessiond.v1.AdminService`: what an operator asks a daemon."""

from typing import Any, Final

from sessiond.app.delivery import Delivery
from sessiond.app.draining import Drained, Draining
from sessiond.app.gateway import GatewayManager
from sessiond.app.recollection import Recollection
from sessiond.app.situation import Circumstances
from sessiond.core import filters
from sessiond.core.errors import InvalidArgument
from sessiond.core.filters import Filter
from sessiond.northbound.native import messages
from sessiond.northbound.native.session_requests import request_of
from sessiond.northbound.operations import Operations
from sessiond.pb.sessiond.v1 import admin_service_pb2, admin_service_pb2_grpc

LONGEST_MESSAGE: Final = 256


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """Answers the operator."""

    def __init__(
        self,
        manager: GatewayManager,
        delivery: Delivery,
        draining: Draining,
        circumstances: Circumstances,
        operations: Operations,
    ) -> None:
        self._manager = manager
        self._delivery = delivery
        self._draining = draining
        self._circumstances = circumstances
        self._operations = operations
        self._drains = Recollection[Drained](circumstances.clock)

    async def GetStatus(
        self, request: admin_service_pb2.GetStatusRequest, context: Any
    ) -> admin_service_pb2.GetStatusResponse:
        """Tell how the daemon is."""
        return messages.status_to_wire(self._operations.status())

    async def SetLogLevel(
        self, request: admin_service_pb2.SetLogLevelRequest, context: Any
    ) -> admin_service_pb2.SetLogLevelResponse:
        """Change how much is logged, for some time or for good."""
        level, duration_ms = messages.log_level_from_wire(request)
        previous = self._operations.set_log_level(level, duration_ms)
        return admin_service_pb2.SetLogLevelResponse(previous_level=messages.log_level_to_wire(previous))

    async def ReloadConfig(
        self, request: admin_service_pb2.ReloadConfigRequest, context: Any
    ) -> admin_service_pb2.ReloadConfigResponse:
        """Read the configuration again, or only say what that would change."""
        reloaded = await self._operations.reload(validate_only=request.validate_only)
        return admin_service_pb2.ReloadConfigResponse(changed_keys=reloaded.changed, restart_keys=reloaded.restart)

    async def DrainSessions(
        self, request: admin_service_pb2.DrainSessionsRequest, context: Any
    ) -> admin_service_pb2.DrainSessionsResponse:
        """End the sessions that are meant, and take no new ones if that is wanted."""
        wanted = filters.parse(request.filter)
        _check_drain(request)
        known = request_of(request)
        if (drained := self._drains.answer("", known)) is not None:
            return self._drained(drained)
        if not request.validate_only and (request.refuse_new or request.accept_new):
            self._draining.welcome.refuses_new = request.refuse_new
        drained = await self._drain(request, wanted)
        self._drains.keep("", known, drained)
        return self._drained(drained)

    def _drained(self, drained: Drained) -> admin_service_pb2.DrainSessionsResponse:
        """Return what a drain came to."""
        return admin_service_pb2.DrainSessionsResponse(
            matched=drained.matched,
            closed=drained.closed,
            closing=drained.closing,
            draining=self._draining.welcome.refuses_new,
        )

    async def GetSessionPolicy(
        self, request: admin_service_pb2.GetSessionPolicyRequest, context: Any
    ) -> admin_service_pb2.GetSessionPolicyResponse:
        """Tell what lies beneath a session."""
        if not request.key:
            raise InvalidArgument("SESSION_KEY_MISSING", "the key of the session is empty", field="key")
        session = await self._manager.session(request.key)
        return messages.session_policy(session, self._circumstances.catalogue, self._delivery.trouble(session))

    async def _drain(self, request: admin_service_pb2.DrainSessionsRequest, wanted: Filter) -> Drained:
        if request.validate_only or request.keep_sessions:
            return await self._draining.count(wanted)
        return await self._draining.drain(wanted, request.message, request.sessions_per_second)


def _check_drain(request: admin_service_pb2.DrainSessionsRequest) -> None:
    if request.refuse_new and request.accept_new:
        raise InvalidArgument("CONTRADICTION", "refuse_new and accept_new exclude each other", field="accept_new")
    if len(request.message) > LONGEST_MESSAGE:
        text = f"message has {len(request.message)} characters, more than {LONGEST_MESSAGE}"
        raise InvalidArgument("MESSAGE_TOO_LONG", text, field="message")
