"""`sessiond.v1.SessionService`: sessions for the clients that use them, through whichever surface they were made.

A method here does three things: request to command, one call of the application, value to answer. What belongs to a
subject of its own (watching, listing, executions, keys) is a module beside this one, which the method calls.
"""

from typing import Any

from sessiond.app.sessions import SessionManager
from sessiond.core.session import Session
from sessiond.northbound.native import fields as of
from sessiond.northbound.native.lists import Lists
from sessiond.northbound.native.masks import ReadMask
from sessiond.northbound.native.session_messages import session_to_wire
from sessiond.northbound.native.session_requests import new_session_of, request_of, terms_of, wanted_of
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc


class SessionService(session_service_pb2_grpc.SessionServiceServicer):
    """Answers the clients of sessions."""

    def __init__(self, sessions: SessionManager, lists: Lists) -> None:
        self._sessions = sessions
        self._lists = lists

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: Any
    ) -> session_service_pb2.CreateSessionResponse:
        """Make a session, or give the one there is."""
        wanted, known = new_session_of(request), request_of(request)
        key = of.checked_key(request.session.key, "session.key") if request.session.key else ""
        session, created = await self._sessions.create(
            key,
            wanted,
            known,
            reuse_active=request.reuse_active,
            wait=not request.return_immediately,
        )
        return session_service_pb2.CreateSessionResponse(session=session_to_wire(session), created=created)

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        """Read a session."""
        mask = ReadMask(request.read_mask, session_pb2.Session) if request.HasField("read_mask") else None
        message = session_to_wire(await self._found(request))
        return session_service_pb2.GetSessionResponse(session=mask.of(message) if mask else message)

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

    async def UpdateSession(
        self, request: session_service_pb2.UpdateSessionRequest, context: Any
    ) -> session_service_pb2.UpdateSessionResponse:
        """Change some fields of a session."""
        key = of.checked_key(request.session.key, "session.key")
        session = await self._sessions.update(key, wanted_of(request), terms_of(request, request.session.etag))
        return session_service_pb2.UpdateSessionResponse(session=session_to_wire(session))

    async def EndSession(
        self, request: session_service_pb2.EndSessionRequest, context: Any
    ) -> session_service_pb2.EndSessionResponse:
        """End a session, and those it is tied to if that is wanted."""
        message = of.text_of(request.message, "message")
        ended_at_ms = of.moment_ms(request.end_time, "end_time") if request.HasField("end_time") else 0
        session = await self._sessions.end(
            of.checked_key(request.key), terms_of(request, request.etag), message, ended_at_ms
        )
        ended = await self._sessions.end_associates(session) if request.end_associates else ()
        return session_service_pb2.EndSessionResponse(session=session_to_wire(session), ended_associate_keys=ended)

    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, context: Any
    ) -> session_service_pb2.DeleteSessionResponse:
        """Remove the record of a session."""
        await self._sessions.delete(
            of.checked_key(request.key),
            terms_of(request, request.etag),
            force=request.force,
            allow_missing=request.allow_missing,
        )
        return session_service_pb2.DeleteSessionResponse()

    async def ActivateSession(
        self, request: session_service_pb2.ActivateSessionRequest, context: Any
    ) -> session_service_pb2.ActivateSessionResponse:
        """Confirm a session that is pending, or bring one into use."""
        session = await self._sessions.activate(of.checked_key(request.key), terms_of(request, request.etag))
        return session_service_pb2.ActivateSessionResponse(session=session_to_wire(session))

    async def PauseSession(
        self, request: session_service_pb2.PauseSessionRequest, context: Any
    ) -> session_service_pb2.PauseSessionResponse:
        """Suspend a session."""
        session = await self._sessions.pause(of.checked_key(request.key), terms_of(request, request.etag))
        return session_service_pb2.PauseSessionResponse(session=session_to_wire(session))

    async def ResumeSession(
        self, request: session_service_pb2.ResumeSessionRequest, context: Any
    ) -> session_service_pb2.ResumeSessionResponse:
        """Bring a session back into use."""
        session = await self._sessions.resume(of.checked_key(request.key), terms_of(request, request.etag))
        return session_service_pb2.ResumeSessionResponse(session=session_to_wire(session))

    async def TouchSession(
        self, request: session_service_pb2.TouchSessionRequest, context: Any
    ) -> session_service_pb2.TouchSessionResponse:
        """Say that a session is in use, and put off its end."""
        ttl_ms = of.lasting_ms(request.ttl, "ttl") if request.HasField("ttl") else None
        session = await self._sessions.touch(of.checked_key(request.key), ttl_ms, terms_of(request))
        return session_service_pb2.TouchSessionResponse(session=session_to_wire(session))

    async def AssociateSession(
        self, request: session_service_pb2.AssociateSessionRequest, context: Any
    ) -> session_service_pb2.AssociateSessionResponse:
        """Tie a session to another."""
        other = of.checked_key(request.associate_key, "associate_key")
        session = await self._sessions.associate(of.checked_key(request.key), other, terms_of(request, request.etag))
        return session_service_pb2.AssociateSessionResponse(session=session_to_wire(session))

    async def _found(self, request: session_service_pb2.GetSessionRequest) -> Session:
        """Return the session that a request is about, by one of the ways there are to name it."""
        match request.WhichOneof("lookup"):
            case "active":
                msisdn = of.msisdn_of(request.active.msisdn, "active.msisdn")
                session_type = of.text_of(request.active.type, "active.type")
                return await self._sessions.active(session_type, msisdn, peek=request.peek)
            case "peer_address":
                return await self._sessions.with_peer(request.peer_address, peek=request.peek)
            case _:
                return await self._sessions.get(of.checked_key(request.key), peek=request.peek)
