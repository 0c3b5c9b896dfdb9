"""A daemon that serves sessions through our own API, and its client as tests want it: values in, values out."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import yaml
from google.protobuf.json_format import MessageToDict
from grpc import aio

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import CLIENT_OPTIONS, Daemon, Refusal, refusal
from tests.blackbox.peers import Changes


class Shown:
    """Shows a token; of each kind of call an interceptor of its own does so, as gRPC wants it."""

    def __init__(self, token: str) -> None:
        self._metadata = ("authorization", f"Bearer {token}")

    def _with_token(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), self._metadata])


class ShownInCalls(Shown, aio.UnaryUnaryClientInterceptor):
    """Shows a token with every call that has one answer."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Make a call."""
        return await continuation(self._with_token(details), request)


class ShownInStreams(Shown, aio.UnaryStreamClientInterceptor):
    """Shows a token with every call that has many."""

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Open a stream."""
        return await continuation(self._with_token(details), request)


class Client:
    """A client of our own API, which may show a token or a certificate."""

    def __init__(self, address: str, token: str = "", credentials: grpc.ChannelCredentials | None = None) -> None:
        shown: list[Any] = [ShownInCalls(token), ShownInStreams(token)] if token else []
        if credentials is None:
            self.channel = aio.insecure_channel(address, options=CLIENT_OPTIONS, interceptors=shown)
        else:
            self.channel = aio.secure_channel(address, credentials, options=CLIENT_OPTIONS, interceptors=shown)
        self.stub = SessionServiceStub(self.channel)

    async def close(self) -> None:
        """Let go of the connection."""
        await self.channel.close()

    async def made(self, said: session.Session, **fields: Any) -> service.CreateSessionResponse:
        """Create a session; return the answer."""
        return await self.stub.CreateSession(service.CreateSessionRequest(session=said, **fields))

    async def create(self, kind: str = "ussd", /, **fields: Any) -> session.Session:
        """Create a session that has these fields; return it."""
        return (await self.made(said(kind, **fields))).session

    async def get(self, key: str, **fields: Any) -> session.Session:
        """Read a session."""
        return (await self.stub.GetSession(service.GetSessionRequest(key=key, **fields))).session

    async def update(self, key: str, *mask: str, request_id: str = "", **fields: Any) -> session.Session:
        """Change some fields of a session, those of the mask or those that are given."""
        request = service.UpdateSessionRequest(session=said("", key=key, **fields), request_id=request_id)
        request.update_mask.paths.extend(mask)
        return (await self.stub.UpdateSession(request)).session

    async def end(self, key: str, **fields: Any) -> session.Session:
        """End a session."""
        return (await self.stub.EndSession(service.EndSessionRequest(key=key, **fields))).session

    async def delete(self, key: str, **fields: Any) -> None:
        """Remove the record of a session."""
        await self.stub.DeleteSession(service.DeleteSessionRequest(key=key, **fields))

    async def activate(self, key: str, **fields: Any) -> session.Session:
        """Activate a session."""
        return (await self.stub.ActivateSession(service.ActivateSessionRequest(key=key, **fields))).session

    async def pause(self, key: str, **fields: Any) -> session.Session:
        """Pause a session."""
        return (await self.stub.PauseSession(service.PauseSessionRequest(key=key, **fields))).session

    async def resume(self, key: str, **fields: Any) -> session.Session:
        """Resume a session."""
        return (await self.stub.ResumeSession(service.ResumeSessionRequest(key=key, **fields))).session

    async def touch(self, key: str, **fields: Any) -> session.Session:
        """Touch a session."""
        return (await self.stub.TouchSession(service.TouchSessionRequest(key=key, **fields))).session

    async def associate(self, key: str, other: str, **fields: Any) -> session.Session:
        """Tie a session to another."""
        request = service.AssociateSessionRequest(key=key, associate_key=other, **fields)
        return (await self.stub.AssociateSession(request)).session

    async def missing(self, key: str) -> Refusal:
        """Return how a session is not found."""
        return await refusal(self.get(key, peek=True))


def said(kind: str = "ussd", /, details: Mapping[str, Any] | None = None, **fields: Any) -> session.Session:
    """Return a session as a client says what it wants."""
    message = session.Session(type=kind, **fields)
    if details is not None:
        message.details.update(details)
    return message


def details_of(message: session.Session) -> dict[str, Any]:
    """Return the details of a session."""
    details: dict[str, Any] = MessageToDict(message.details)
    return details


def state_of(message: session.Session) -> str:
    """Return the name of the state of a session."""
    return session.SessionState.Name(message.state).removeprefix("SESSION_STATE_")


def reason_of(message: session.Session) -> str:
    """Return the name of the reason for which a session ended."""
    return session.EndReason.Name(message.end_reason).removeprefix("END_REASON_")


class NativeDaemon:
    """A daemon without peers, and a client of it."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.changes = Changes()
        self.file = folder / "sessiond.yml"
        listen = {"server": {"listen": "127.0.0.1:0"}, "metrics": {"listen": "127.0.0.1:0"}}
        loud = {"log_level": "DEBUG"}  # what no log may show is looked for in all that can be logged
        self.file.write_text(yaml.safe_dump({**listen, **loud, **config}), encoding="utf-8")
        self.process = Daemon(self.file, self.changes, {})
        self._clients: list[Client] = []

    def client(self, token: str = "") -> Client:
        """Return a client of the daemon as it runs now, which may show a token."""
        self._clients.append(Client(self.process.address, token))
        return self._clients[-1]

    def reload(self) -> None:
        """Let the daemon read its configuration again."""
        self.process.send(signal.SIGHUP)

    async def close(self) -> None:
        """Leave nothing behind."""
        for client in self._clients:
            await client.close()
        await self.process.close()


@asynccontextmanager
async def sessions(folder: Path, **config: Any) -> AsyncIterator[NativeDaemon]:
    """Run a daemon; it must not have met what it does not expect."""
    daemon = NativeDaemon(folder, config)
    try:
        await daemon.process.start()
        yield daemon
        assert daemon.process.failures() == []
    finally:
        await daemon.close()
