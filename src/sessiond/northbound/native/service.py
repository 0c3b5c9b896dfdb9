"""`sessiond.v1.SessionService`: sessions for the clients that use them, through whichever surface they were made.

A method here does three things: request to command, one call of the application, value to answer. What belongs to a
subject of its own (watching, listing, executions, keys) is a module beside this one, which the method calls.
"""

from typing import Any

from sessiond.app.sessions import SessionManager
from sessiond.core.errors import InvalidArgument
from sessiond.northbound.native.lists import Lists
from sessiond.northbound.native.messages import session_to_wire
from sessiond.pb.sessiond.v1 import session_service_pb2, session_service_pb2_grpc


class SessionService(session_service_pb2_grpc.SessionServiceServicer):
    """Answers the clients of sessions."""

    def __init__(self, sessions: SessionManager, lists: Lists) -> None:
        self._sessions = sessions
        self._lists = lists

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        """Read a session."""
        if request.WhichOneof("lookup") in ("active", "peer_address"):
            raise NotImplementedError
        session = await self._sessions.session(checked_key(request.key))
        return session_service_pb2.GetSessionResponse(session=session_to_wire(session))

    async def ListSessions(
        self, request: session_service_pb2.ListSessionsRequest, context: Any
    ) -> session_service_pb2.ListSessionsResponse:
        """List sessions, a page at a time."""
        return await self._lists.sessions(request)

    async def GetStatistics(
        self, request: session_service_pb2.GetStatisticsRequest, context: Any
    ) -> session_service_pb2.GetStatisticsResponse:
        """Count sessions."""
        return await self._lists.statistics(request)


def checked_key(key: str) -> str:
    """Return the key of a request, which must not be empty."""
    if not key:
        raise InvalidArgument("SESSION_KEY_MISSING", "the key of the session is empty", field="key")
    return key
