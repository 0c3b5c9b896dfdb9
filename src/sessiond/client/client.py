"""The client: one method for each thing that can be asked of sessiond."""

from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.client.lease import Lease
from sessiond.client.link import Link, new_request_id
from sessiond.client.values import SessionFields, duration, paths_of, session_of
from sessiond.client.watching import PREFIX, SILENCE_S, Watch
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub

PAGE: Final = 1000

Operation: TypeAlias = Literal["execute", "compose", "read", "write"]


class Client:
    """Sessions of a daemon; enter it, or close it in the end.

    Every method raises SessiondError (`sessiond.client.errors`); what is away is tried again until the time of the call
    is over, with the same request id, so that nothing happens twice.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sessions = SessionServiceStub(link.channel)
        self._admin = AdminServiceStub(link.channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._link.close()

    # -- one session

    def session(self, kind: str, /, **fields: Unpack[SessionFields]) -> Lease:
        """Return a session that lives as long as a block: `async with client.session("ussd") as session: ...`."""
        return Lease(self, kind, fields)

    async def create(
        self,
        kind: str,
        /,
        *,
        reuse_active: bool = False,
        leave_inactive: bool = False,
        return_immediately: bool = False,
        request_id: str = "",
        **fields: Unpack[SessionFields],
    ) -> session_pb2.Session:
        """Make a session of a type or, with `reuse_active`, return the active one of the same number or address."""
        request = session_service_pb2.CreateSessionRequest(
            session=_of(kind, fields),
            reuse_active=reuse_active,
            leave_inactive=leave_inactive,
            return_immediately=return_immediately,
            request_id=request_id or new_request_id(),
        )
        return (await self._link.call(self._sessions.CreateSession, request)).session

    async def create_between_nodes(
        self,
        handshake: session_service_pb2.Handshake,
        /,
        *,
        kind: str = "peer",
        reuse_active: bool = False,
        request_id: str = "",
        **fields: Unpack[SessionFields],
    ) -> session_service_pb2.CreateSessionResponse:
        """Make a session between two nodes out of what they have said to each other; the answer has its secret."""
        request = session_service_pb2.CreateSessionRequest(
            session=_of(kind, fields),
            handshake=handshake,
            reuse_active=reuse_active,
            request_id=request_id or new_request_id(),
        )
        return await self._link.call(self._sessions.CreateSession, request)

    async def get(self, key: str, *, fields: Iterable[str] = (), peek: bool = False) -> session_pb2.Session:
        """Read a session; this counts as use of it unless you only `peek`."""
        return await self._got(session_service_pb2.GetSessionRequest(key=key, read_mask=_mask(fields), peek=peek))

    async def get_active(self, kind: str, msisdn: str, *, peek: bool = False) -> session_pb2.Session:
        """Read the active session of a phone number."""
        active = session_service_pb2.ActiveLookup(type=kind, msisdn=msisdn)
        return await self._got(session_service_pb2.GetSessionRequest(active=active, peek=peek))

    async def get_by_address(self, address: str, *, peek: bool = False) -> session_pb2.Session:
        """Read the active session with the node at an address."""
        return await self._got(session_service_pb2.GetSessionRequest(peer_address=address, peek=peek))

    async def _got(self, request: session_service_pb2.GetSessionRequest) -> session_pb2.Session:
        return (await self._link.call(self._sessions.GetSession, request)).session

    async def update(
        self,
        key: str,
        /,
        *,
        etag: str = "",
        remove_details: Iterable[str] = (),
        request_id: str = "",
        **fields: Unpack[SessionFields],
    ) -> session_pb2.Session:
        """Change the fields that are given; `details` are merged, and those in `remove_details` removed."""
        session = _of("", fields)
        session.key, session.etag = key, etag
        paths = [*paths_of(fields), *(f"details.{name}" for name in remove_details)]
        request = session_service_pb2.UpdateSessionRequest(
            session=session, update_mask=FieldMask(paths=paths), request_id=request_id or new_request_id()
        )
        return (await self._link.call(self._sessions.UpdateSession, request)).session

    async def touch(
        self, key: str, *, ttl_s: float | None = None, timeout_s: float | None = None
    ) -> session_pb2.Session:
        """Say that a session is in use and, with `ttl_s`, that it is to last so long from now."""
        request = session_service_pb2.TouchSessionRequest(key=key, ttl=duration(ttl_s), request_id=new_request_id())
        return (await self._link.call(self._sessions.TouchSession, request, timeout_s)).session

    async def activate(self, key: str, *, etag: str = "") -> session_pb2.Session:
        """Confirm a session that is pending, or bring a CREATED one into use."""
        request = session_service_pb2.ActivateSessionRequest(key=key, etag=etag, request_id=new_request_id())
        return (await self._link.call(self._sessions.ActivateSession, request)).session

    async def shake_hands(
        self, key: str, handshake: session_service_pb2.Handshake
    ) -> session_service_pb2.ActivateSessionResponse:
        """Bring a session into use whose nodes have shaken hands by now; the answer has its secret."""
        request = session_service_pb2.ActivateSessionRequest(key=key, handshake=handshake, request_id=new_request_id())
        return await self._link.call(self._sessions.ActivateSession, request)

    async def pause(self, key: str, *, etag: str = "") -> session_pb2.Session:
        """Suspend an ACTIVE session."""
        request = session_service_pb2.PauseSessionRequest(key=key, etag=etag, request_id=new_request_id())
        return (await self._link.call(self._sessions.PauseSession, request)).session

    async def resume(
        self, key: str, *, etag: str = "", resumption_token: bytes = b"", transport: str = ""
    ) -> session_pb2.Session:
        """Bring a PAUSED session back into use or, with its token, one between nodes after its connection was lost."""
        request = session_service_pb2.ResumeSessionRequest(
            key=key, etag=etag, resumption_token=resumption_token, transport=transport, request_id=new_request_id()
        )
        return (await self._link.call(self._sessions.ResumeSession, request)).session

    async def end(
        self,
        key: str,
        *,
        etag: str = "",
        message: str = "",
        end_associates: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> session_pb2.Session:
        """End a session and, if wanted, those it is associated with; one that has ended stays as it is."""
        request = session_service_pb2.EndSessionRequest(
            key=key,
            etag=etag,
            message=message,
            end_associates=end_associates,
            request_id=request_id or new_request_id(),
        )
        return (await self._link.call(self._sessions.EndSession, request, timeout_s)).session

    async def delete(self, key: str, *, etag: str = "", force: bool = False, allow_missing: bool = False) -> None:
        """Remove the record of a session that has ended or, with `force`, is ended by this."""
        request = session_service_pb2.DeleteSessionRequest(
            key=key, etag=etag, force=force, allow_missing=allow_missing, request_id=new_request_id()
        )
        await self._link.call(self._sessions.DeleteSession, request)

    async def associate(self, key: str, associate_key: str, *, etag: str = "") -> session_pb2.Session:
        """Link a session to another one."""
        request = session_service_pb2.AssociateSessionRequest(
            key=key, associate_key=associate_key, etag=etag, request_id=new_request_id()
        )
        return (await self._link.call(self._sessions.AssociateSession, request)).session

    # -- what is done in a session

    async def authorize(
        self,
        key: str,
        operation: Operation,
        *,
        function: str = "",
        target_key: str = "",
        usage: Mapping[str, int] | None = None,
        request_id: str = "",
    ) -> session_service_pb2.AuthorizeExecutionResponse:
        """Ask whether a session may do something, and count it; raise what forbids it, such as QuotaExceeded."""
        request = session_service_pb2.AuthorizeExecutionRequest(
            key=key,
            operation=session_service_pb2.Operation.Value(f"OPERATION_{operation.upper()}"),
            function=function,
            target_key=target_key,
            usage=usage or {},
            request_id=request_id or new_request_id(),
        )
        return await self._link.call(self._sessions.AuthorizeExecution, request)

    async def record_traffic(
        self, key: str, traffic: session_pb2.Traffic, *, request_id: str = ""
    ) -> session_pb2.Traffic:
        """Add to the traffic of a session; return all of it."""
        request = session_service_pb2.RecordTrafficRequest(
            key=key, traffic=traffic, request_id=request_id or new_request_id()
        )
        return (await self._link.call(self._sessions.RecordTraffic, request)).traffic

    async def rotate_key(
        self, key: str, *, nonce: bytes = b"", etag: str = ""
    ) -> session_service_pb2.RotateSessionKeyResponse:
        """Change the key of a session; the answer has the new secret, which is told this once."""
        request = session_service_pb2.RotateSessionKeyRequest(
            key=key, nonce=nonce, etag=etag, request_id=new_request_id()
        )
        return await self._link.call(self._sessions.RotateSessionKey, request)

    async def session_statistics(self, key: str) -> session_service_pb2.GetSessionStatisticsResponse:
        """Return what a session has done so far."""
        request = session_service_pb2.GetSessionStatisticsRequest(key=key)
        return await self._link.call(self._sessions.GetSessionStatistics, request)

    # -- many sessions

    async def list(
        self, where: str = "", /, *, order_by: str = "", limit: int | None = None, fields: Iterable[str] = ()
    ) -> AsyncIterator[session_pb2.Session]:
        """Yield the sessions that a filter means, page by page."""
        left, mask = limit, _mask(fields)
        request = session_service_pb2.ListSessionsRequest(filter=where, order_by=order_by, read_mask=mask)
        while left is None or left > 0:
            request.page_size = PAGE if left is None else min(PAGE, left)
            page = await self._link.call(self._sessions.ListSessions, request)
            for session in page.sessions:
                yield session
            if left is not None:
                left -= len(page.sessions)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def statistics(self, where: str = "", /) -> session_service_pb2.GetStatisticsResponse:
        """Count the sessions that a filter means."""
        request = session_service_pb2.GetStatisticsRequest(filter=where)
        return await self._link.call(self._sessions.GetStatistics, request)

    def watch(
        self,
        where: str = "",
        /,
        *,
        kinds: Iterable[str] = (),
        snapshot: bool = False,
        history: bool = False,
        token: str = "",
        fields: Iterable[str] = (),
        silence_s: float = SILENCE_S,
    ) -> Watch:
        """Return what happens to the sessions that a filter means, from when it is entered, or from a token on.

            async with client.watch('type = "ussd"') as events:
                async for event in events:
                    print(event.kind, event.session.key)

        With `snapshot`, all sessions there are come first, as EXISTS. With `history`, what has happened comes first:
        since the token, or from the oldest event that the daemon still has.
        """
        wanted = list(fields)
        request = session_service_pb2.WatchSessionsRequest(
            filter=where,
            kinds=[session_service_pb2.SessionEventKind.Value(f"{PREFIX}{kind}") for kind in kinds],
            snapshot=snapshot and not token,
            history=history,
            resume_token=token,
            read_mask=_mask([*wanted, "key", "etag"] if wanted else []),
        )
        return Watch(self._link, request, silence_s)

    # -- the daemon

    async def status(self) -> admin_service_pb2.GetStatusResponse:
        """Return how the daemon is."""
        return await self._link.call(self._admin.GetStatus, admin_service_pb2.GetStatusRequest())

    async def policy(self, key: str) -> admin_service_pb2.GetSessionPolicyResponse:
        """Return what lies beneath a session: rules, credits, monitors, timers, what peers must still be told."""
        request = admin_service_pb2.GetSessionPolicyRequest(key=key)
        return await self._link.call(self._admin.GetSessionPolicy, request)


def _of(kind: str, fields: SessionFields) -> session_pb2.Session:
    session = session_of(fields)
    session.type = kind
    return session


def _mask(fields: Iterable[str]) -> FieldMask | None:
    paths = list(fields)
    return FieldMask(paths=paths) if paths else None
