"""`ma.streaming.api.v1.SessionManagementService`: an unknown session is an answer without success, not a status."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from google.protobuf.message import Message

from sessiond.app.streams import Moment, Notice, StreamManager
from sessiond.core.errors import NotFound
from sessiond.northbound.stream_api import messages
from sessiond.northbound.watching import tell
from sessiond.pb.ma.streaming.api.v1 import api_pb2, api_pb2_grpc

Answer = TypeVar("Answer", bound=Message)
Unary = Callable[[Any, Any, Any], Awaitable[Answer]]


def _unless_unknown(failure: type[Answer]) -> Callable[[Unary[Answer]], Unary[Answer]]:
    """Let a method answer without success, and with nothing else, if there is no such session."""

    def wrap(method: Unary[Answer]) -> Unary[Answer]:
        @wraps(method)
        async def answered(self: Any, request: Any, context: Any) -> Answer:
            try:
                return await method(self, request, context)
            except NotFound:
                return failure()

        return answered

    return wrap


class SessionManagement(api_pb2_grpc.SessionManagementServiceServicer):
    """Answers the clients of streams."""

    def __init__(self, manager: StreamManager) -> None:
        self._manager = manager

    async def CreateSession(self, request: api_pb2.CreateSessionRequest, context: Any) -> api_pb2.CreateSessionResponse:
        """A data source begins a session."""
        return messages.created(await self._manager.create(messages.new_stream(request)))

    @_unless_unknown(api_pb2.EndSessionResponse)
    async def EndSession(self, request: api_pb2.EndSessionRequest, context: Any) -> api_pb2.EndSessionResponse:
        """A session is over; the data source of the request is not looked at."""
        terminated = None
        if request.HasField("termination_time"):
            terminated = messages.time_of(request.termination_time, "termination_time")
        return messages.ended(*await self._manager.end(request.session_key, terminated))

    async def GetCurrentSessions(
        self, request: api_pb2.GetCurrentSessionsRequest, context: Any
    ) -> api_pb2.GetCurrentSessionsResponse:
        """All sessions of a data source, ended ones too."""
        keys = self._manager.keys(request.data_source)
        return api_pb2.GetCurrentSessionsResponse(session_keys=keys, success=True)

    @_unless_unknown(api_pb2.GetSessionInfoResponse)
    async def GetSessionInfo(
        self, request: api_pb2.GetSessionInfoRequest, context: Any
    ) -> api_pb2.GetSessionInfoResponse:
        """What is known about a session."""
        session = await self._manager.session(request.session_key)
        return messages.info(session, await self._manager.streams(session))

    @_unless_unknown(api_pb2.UpdateSessionIdentifierResponse)
    async def UpdateSessionIdentifier(
        self, request: api_pb2.UpdateSessionIdentifierRequest, context: Any
    ) -> api_pb2.UpdateSessionIdentifierResponse:
        """A session gets another name."""
        await self._manager.identify(request.session_key, request.identifier)
        return api_pb2.UpdateSessionIdentifierResponse(success=True)

    @_unless_unknown(api_pb2.AddAssociateSessionResponse)
    async def AddAssociateSession(
        self, request: api_pb2.AddAssociateSessionRequest, context: Any
    ) -> api_pb2.AddAssociateSessionResponse:
        """Another session is tied to a session."""
        await self._manager.associate(request.session_key, request.associate_session_key)
        return api_pb2.AddAssociateSessionResponse(success=True)

    @_unless_unknown(api_pb2.UpdateSessionDetailsResponse)
    async def UpdateSessionDetails(
        self, request: api_pb2.UpdateSessionDetailsRequest, context: Any
    ) -> api_pb2.UpdateSessionDetailsResponse:
        """More is said about a session."""
        await self._manager.describe(request.session_key, dict(request.details))
        return api_pb2.UpdateSessionDetailsResponse(success=True)

    async def GetSessionStartNotification(  # type: ignore[override]  # it writes to its context: `tell` says why
        self, request: api_pb2.GetSessionStartNotificationRequest, context: Any
    ) -> None:
        """Tell of sessions of a data source that begin."""
        await tell(self._manager.subscribe(Moment.START, request.data_source), context, _started)

    async def GetSessionStopNotification(  # type: ignore[override]  # it writes to its context: `tell` says why
        self, request: api_pb2.GetSessionStopNotificationRequest, context: Any
    ) -> None:
        """Tell of sessions of a data source that end."""
        await tell(self._manager.subscribe(Moment.STOP, request.data_source), context, _stopped)


class SwitchedOff(api_pb2_grpc.SessionManagementServiceServicer):
    """Answers as the original does with `IntegrateSessionManagement: false`: no success, and streams end at once."""

    async def CreateSession(self, request: Any, context: Any) -> api_pb2.CreateSessionResponse:
        """No session is begun."""
        return api_pb2.CreateSessionResponse()

    async def EndSession(self, request: Any, context: Any) -> api_pb2.EndSessionResponse:
        """No session is ended."""
        return api_pb2.EndSessionResponse()

    async def GetCurrentSessions(self, request: Any, context: Any) -> api_pb2.GetCurrentSessionsResponse:
        """No session is listed."""
        return api_pb2.GetCurrentSessionsResponse()

    async def GetSessionInfo(self, request: Any, context: Any) -> api_pb2.GetSessionInfoResponse:
        """No session is known."""
        return api_pb2.GetSessionInfoResponse()

    async def UpdateSessionIdentifier(self, request: Any, context: Any) -> api_pb2.UpdateSessionIdentifierResponse:
        """No session is named."""
        return api_pb2.UpdateSessionIdentifierResponse()

    async def AddAssociateSession(self, request: Any, context: Any) -> api_pb2.AddAssociateSessionResponse:
        """No session is tied to another."""
        return api_pb2.AddAssociateSessionResponse()

    async def UpdateSessionDetails(self, request: Any, context: Any) -> api_pb2.UpdateSessionDetailsResponse:
        """No session is described."""
        return api_pb2.UpdateSessionDetailsResponse()

    async def GetSessionStartNotification(self, request: Any, context: Any) -> None:  # type: ignore[override]
        """There is nothing to tell of."""

    async def GetSessionStopNotification(self, request: Any, context: Any) -> None:  # type: ignore[override]
        """There is nothing to tell of."""


def _started(notice: Notice) -> api_pb2.GetSessionStartNotificationResponse:
    return api_pb2.GetSessionStartNotificationResponse(session_key=notice.key, data_source=notice.data_source)


def _stopped(notice: Notice) -> api_pb2.GetSessionStopNotificationResponse:
    return api_pb2.GetSessionStopNotificationResponse(session_key=notice.key, data_source=notice.data_source)
