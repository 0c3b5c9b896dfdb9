"""A daemon that does what a test says: a real server of the service, with scripted answers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from sessiond.client import Client, connect
from sessiond.core.errors import SessionError
from sessiond.northbound.status import answer_of
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

Answer = Callable[[Any, Any], Awaitable[Any]]


class ScriptedDaemon(session_service_pb2_grpc.SessionServiceServicer):
    """Answers each call with the next of its answers, the last one again and again; remembers what it was asked."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.heard = asyncio.Event()
        self._answers: deque[Answer] = deque()
        self._server: aio.Server | None = None

    def will(self, *answers: Answer) -> None:
        """Answer like this, from the next call on."""
        self._answers = deque(answers)

    async def start(self, port: int = 0) -> None:
        """Listen, at a new port or at one that was used before."""
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port or self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Be gone at once."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def _answer(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        self.heard.set()
        answer = self._answers.popleft() if len(self._answers) > 1 else self._answers[0]
        return await answer(request, context)

    CreateSession = GetSession = ListSessions = UpdateSession = EndSession = TouchSession = _answer
    WatchSessions: Any = _answer
    DeleteSession = ActivateSession = PauseSession = ResumeSession = AssociateSession = _answer
    AuthorizeExecution = RecordTraffic = RotateSessionKey = GetSessionStatistics = GetStatistics = _answer


def answers(message: Any) -> Answer:
    """Return the answer that is this message."""

    async def answer(*_: Any) -> Any:
        return message

    return answer


def refuses(error: SessionError) -> Answer:
    """Return the answer that is this error."""

    async def answer(_: Any, context: Any) -> Any:
        refusal = answer_of(error)
        await context.abort(refusal.code, refusal.text, refusal.metadata)

    return answer


def made(key: str = "k", **fields: Any) -> Answer:
    """Return the answer of CreateSession."""
    return answers(session_service_pb2.CreateSessionResponse(session=session_pb2.Session(key=key, **fields)))


@asynccontextmanager
async def scripted(**options: Any) -> AsyncIterator[tuple[ScriptedDaemon, Client]]:
    """Run a daemon, and a client of it."""
    daemon = ScriptedDaemon()
    await daemon.start()
    try:
        async with connect(f"127.0.0.1:{daemon.port}", **options) as client:
            yield daemon, client
    finally:
        await daemon.stop()


async def hangs(*_: Any) -> None:
    """Never answer."""
    await asyncio.Event().wait()
