"""`sessiond.v1.SessionService`: sessions for the clients that use them, through whichever surface they were made.

A method here does three things: request to command, one call of the application, value to answer. What belongs to a
subject of its own (watching, listing, executions, keys) is a module beside this one, which the method calls.
"""

from typing import Any, Final, TypeVar

from sessiond.app.callers import may_write
from sessiond.app.executions import Executions
from sessiond.app.ports.clock import Clock
from sessiond.app.sessions import SessionManager
from sessiond.core.errors import FailedPrecondition
from sessiond.core.keys import Handshake, check_rotation_nonce
from sessiond.core.secrecy import sensitive
from sessiond.core.session import Session
from sessiond.northbound.native import executions
from sessiond.northbound.native import fields as of
from sessiond.northbound.native.keys import handshake_of, secret_to_wire
from sessiond.northbound.native.lists import Lists
from sessiond.northbound.native.masks import ReadMask
from sessiond.northbound.native.session_messages import put_session, session_to_wire, traffic_to_wire
from sessiond.northbound.native.session_requests import new_session_of, request_of, terms_of, wanted_of
from sessiond.northbound.native.watch import Watching
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from sessiond.translate.scalars import timestamp

LONGEST_TRANSPORT: Final = 32

Response = TypeVar(
    "Response",
    session_service_pb2.CreateSessionResponse,
    session_service_pb2.UpdateSessionResponse,
    session_service_pb2.EndSessionResponse,
    session_service_pb2.ActivateSessionResponse,
    session_service_pb2.PauseSessionResponse,
    session_service_pb2.ResumeSessionResponse,
    session_service_pb2.TouchSessionResponse,
    session_service_pb2.AssociateSessionResponse,
)


class SessionService(session_service_pb2_grpc.SessionServiceServicer):
    """Answers the clients of sessions."""

    def __init__(
        self, sessions: SessionManager, lists: Lists, watching: Watching, executions: Executions, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._lists = lists
        self._watching = watching
        self._executions = executions
        self._clock = clock

    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: Any
    ) -> session_service_pb2.CreateSessionResponse:
        """Make a session, or give the one there is."""
        wanted, known, handshake = new_session_of(request), request_of(request), handshake_of(request)
        key = of.checked_key(request.session.key, "session.key") if request.session.key else ""
        session, created = await self._sessions.create(
            key,
            wanted,
            known,
            reuse_active=request.reuse_active,
            wait=not request.return_immediately,
            handshake=handshake,
        )
        secret = self._secret(session, handshake)
        return _with(session_service_pb2.CreateSessionResponse(created=created, secret=secret), session)

    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Any
    ) -> session_service_pb2.GetSessionResponse:
        """Read a session; what is sensitive is shown to who may change it."""
        mask = ReadMask(request.read_mask, session_pb2.Session) if request.HasField("read_mask") else None
        session = await self._found(request)
        self._lists.looked_up()
        message = session_to_wire(session)
        if sensitive(session) and may_write(session) and _wants_details(request):
            message.details.update(self._sessions.secrets.opened(session))
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
        return _with(session_service_pb2.UpdateSessionResponse(), session)

    async def WatchSessions(  # type: ignore[override]  # it writes to its context: `tell` says why
        self, request: session_service_pb2.WatchSessionsRequest, context: Any
    ) -> None:
        """Tell what happens to sessions."""
        await self._watching.tell(request, context)

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
        return _with(session_service_pb2.EndSessionResponse(ended_associate_keys=ended), session)

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
        key, terms, handshake = of.checked_key(request.key), terms_of(request, request.etag), handshake_of(request)
        if handshake is None:
            session = await self._sessions.activate(key, terms)
        else:
            session = await self._sessions.shake_hands(key, handshake, terms)
        secret = self._secret(session, handshake)
        return _with(session_service_pb2.ActivateSessionResponse(secret=secret), session)

    async def PauseSession(
        self, request: session_service_pb2.PauseSessionRequest, context: Any
    ) -> session_service_pb2.PauseSessionResponse:
        """Suspend a session."""
        session = await self._sessions.pause(of.checked_key(request.key), terms_of(request, request.etag))
        return _with(session_service_pb2.PauseSessionResponse(), session)

    async def ResumeSession(
        self, request: session_service_pb2.ResumeSessionRequest, context: Any
    ) -> session_service_pb2.ResumeSessionResponse:
        """Bring a session back into use, or on after its connection was lost."""
        key, terms = of.checked_key(request.key), terms_of(request, request.etag)
        if request.resumption_token:
            transport = of.text_of(request.transport, "transport", LONGEST_TRANSPORT)
            session = await self._sessions.resume_by_token(key, request.resumption_token, transport, terms)
        else:
            session = await self._sessions.resume(key, terms)
        return _with(session_service_pb2.ResumeSessionResponse(), session)

    async def TouchSession(
        self, request: session_service_pb2.TouchSessionRequest, context: Any
    ) -> session_service_pb2.TouchSessionResponse:
        """Say that a session is in use, and put off its end."""
        ttl_ms = of.lasting_ms(request.ttl, "ttl") if request.HasField("ttl") else None
        session = await self._sessions.touch(of.checked_key(request.key), ttl_ms, terms_of(request))
        return _with(session_service_pb2.TouchSessionResponse(), session)

    async def AssociateSession(
        self, request: session_service_pb2.AssociateSessionRequest, context: Any
    ) -> session_service_pb2.AssociateSessionResponse:
        """Tie a session to another."""
        other = of.checked_key(request.associate_key, "associate_key")
        session = await self._sessions.associate(of.checked_key(request.key), other, terms_of(request, request.etag))
        return _with(session_service_pb2.AssociateSessionResponse(), session)

    async def AuthorizeExecution(
        self, request: session_service_pb2.AuthorizeExecutionRequest, context: Any
    ) -> session_service_pb2.AuthorizeExecutionResponse:
        """Ask whether a session may do something, and count it."""
        target = of.checked_key(request.target_key, "target_key") if request.target_key else ""
        authorized = await self._executions.authorize(
            of.checked_key(request.key), executions.wish_of(request), target, request_of(request)
        )
        return executions.authorized_to_wire(authorized)

    async def RecordTraffic(
        self, request: session_service_pb2.RecordTrafficRequest, context: Any
    ) -> session_service_pb2.RecordTrafficResponse:
        """Add to the traffic of a session."""
        traffic = await self._executions.record(
            of.checked_key(request.key), executions.more_of(request), request_of(request)
        )
        return session_service_pb2.RecordTrafficResponse(traffic=traffic_to_wire(traffic))

    async def RotateSessionKey(
        self, request: session_service_pb2.RotateSessionKeyRequest, context: Any
    ) -> session_service_pb2.RotateSessionKeyResponse:
        """Give a session its next key, which is told to nobody else."""
        if request.nonce:
            check_rotation_nonce(request.nonce)
        session = await self._sessions.rotate_key(
            of.checked_key(request.key), request.nonce, terms_of(request, request.etag)
        )
        kept = session.secret
        if kept is None or kept.made_by != request.request_id:
            raise FailedPrecondition(
                "KEY_ROTATED_SINCE", f"the key of session {session.key} was changed once more since"
            )
        return session_service_pb2.RotateSessionKeyResponse(
            secret=secret_to_wire(self._sessions.keys.opened(session)),
            nonce=kept.nonce,
            key_rotation_time=timestamp(kept.rotate_at_ms),
        )

    async def GetSessionStatistics(
        self, request: session_service_pb2.GetSessionStatisticsRequest, context: Any
    ) -> session_service_pb2.GetSessionStatisticsResponse:
        """Read what a session has done so far."""
        session = await self._sessions.get(of.checked_key(request.key), peek=True)
        return executions.statistics_to_wire(session, self._clock.now_ms())

    def _secret(self, session: Session, handshake: Handshake | None) -> session_service_pb2.SessionSecret | None:
        """Return the secret that comes of a handshake, as long as it is that of the session."""
        return secret_to_wire(self._sessions.keys.made_with(session, handshake)) if handshake else None

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


def _with(response: Response, session: Session) -> Response:
    """Return an answer with a session in it."""
    put_session(response.session, session)
    return response


def _wants_details(request: session_service_pb2.GetSessionRequest) -> bool:
    """Whether what is sensitive is asked for, so that it need not be opened for who asks for other fields."""
    paths = request.read_mask.paths
    return not paths or any(path.partition(".")[0] in {"details", "*"} for path in paths)
