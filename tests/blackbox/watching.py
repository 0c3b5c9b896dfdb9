"""Clients that watch sessions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from grpc import aio

from sessiond.pb.sessiond.v1 import session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2 import SessionEvent, SessionEventKind, WatchSessionsResponse
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.peers import PATIENCE_S

OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))


class Watcher:
    """One stream of WatchSessions, read message by message."""

    def __init__(self, channel: aio.Channel, **request: Any) -> None:
        self.call = SessionServiceStub(channel).WatchSessions(session_service_pb2.WatchSessionsRequest(**request))
        self.token = request.get("resume_token", "")
        """The resume token of what was read last."""

    async def begun(self) -> "Watcher":
        """Return when nothing is missed any more."""
        assert (await self.next()).WhichOneof("update") == "heartbeat"
        return self

    async def next(self) -> WatchSessionsResponse:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.call.read()
        assert isinstance(message, WatchSessionsResponse), f"the stream has ended: {await self.call.code()}"
        self.token = message.resume_token or self.token
        return message

    async def event(self) -> SessionEvent:
        """Return the next event."""
        while (message := await self.next()).WhichOneof("update") != "event":
            assert message.WhichOneof("update") == "heartbeat"
        return message.event

    async def events(self, count: int) -> list[SessionEvent]:
        """Return the next events."""
        return [await self.event() for _ in range(count)]

    async def told(self, count: int) -> list[tuple[str, str]]:
        """Return what happened to which session in the next events."""
        return [(event.session.key, kinds(event)) for event in await self.events(count)]

    async def history(self) -> list[SessionEvent]:
        """Return the events that are told until those that have happened are complete."""
        told: list[SessionEvent] = []
        while (message := await self.next()).WhichOneof("update") == "event":
            told.append(message.event)
        assert message.WhichOneof("update") == "history_complete"
        return told

    async def snapshot(self) -> list[SessionEvent]:
        """Return all that is said until the snapshot is complete."""
        said: list[SessionEvent] = []
        while (message := await self.next()).WhichOneof("update") == "event":
            assert message.resume_token == ""
            said.append(message.event)
        assert message.WhichOneof("update") == "snapshot_complete"
        assert message.snapshot_complete.sessions == sum(kinds(event) == "EXISTS" for event in said)
        return said


def kinds(event: SessionEvent) -> str:
    """Return the kinds of an event in words."""
    return " ".join(SessionEventKind.Name(kind).removeprefix("SESSION_EVENT_KIND_") for kind in event.kinds)


@asynccontextmanager
async def watching(address: str, **request: Any) -> AsyncIterator[Watcher]:
    """Watch over a connection of its own."""
    async with aio.insecure_channel(address, options=OPTIONS) as channel:
        watcher = Watcher(channel, **request)
        try:
            yield await watcher.begun()
        finally:
            watcher.call.cancel()
