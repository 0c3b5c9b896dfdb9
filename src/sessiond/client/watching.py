"""Watching: what happens to sessions, in order, without gap or repetition, whatever becomes of the connection."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc import aio
from msgspec import Struct

from sessiond.client.errors import SessiondError, Unavailable, error_of
from sessiond.client.link import Link, backoff_s
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub

SILENCE_S: Final = 60.0
"""The daemon says more often than that that it is alive; if it does not, the connection is taken for lost."""
SNAPSHOT_COMPLETE: Final = "SNAPSHOT_COMPLETE"
HISTORY_COMPLETE: Final = "HISTORY_COMPLETE"
PREFIX: Final = "SESSION_EVENT_KIND_"


class Event(Struct, frozen=True):
    """Something that happened to a session."""

    kind: str
    """EXISTS (in a snapshot), CREATED, ACTIVATED, PAUSED, RESUMED, UPDATED, KEY_ROTATED, CLOSING, EXPIRED, CLOSED,
    DELETED; or SNAPSHOT_COMPLETE and HISTORY_COMPLETE, which are about no session."""
    session: session_pb2.Session
    """The session after that; of a deleted one its last state, as far as it is known."""
    time_ms: int = 0
    """When it happened, unix milliseconds."""
    changed: tuple[str, ...] = ()
    """The fields that changed, of UPDATED."""
    token: str = ""
    """Where to go on after this event; empty within a snapshot, and before another event of the same change."""


class Watch:
    """What happens to sessions from the moment at which it is entered, or from a token on; iterate over it.

    If the connection is lost, it goes on where it was. `token` is where it is: another process can go on with it.
    Raise ResumeTokenExpired if what happened meanwhile is not known any more, and any error that waiting does not mend.
    """

    def __init__(
        self, link: Link, request: session_service_pb2.WatchSessionsRequest, silence_s: float = SILENCE_S
    ) -> None:
        self.token = request.resume_token
        """Where to go on after the last event that was handed out."""
        self._position = request.resume_token
        """Where to go on after the last message that was taken; its events may still wait to be handed out."""
        self._link = link
        self._request = request
        self._kinds = frozenset(request.kinds)
        self._silence_s = silence_s
        self._snapshot = _Snapshot()
        self._events: deque[Event] = deque()
        self._messages = self._received()
        self._begun = False
        self._history = request.history
        """Whether the end of what has happened is still to be told."""

    async def __aenter__(self) -> Self:
        """Return when nothing that happens from now on can be missed."""
        await self._take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._messages.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, as soon as there is one."""
        while not self._events:
            await self._take()
        event = self._events.popleft()
        self.token = event.token or self.token
        return event

    async def _take(self) -> None:
        """Wait for a message, and take what it says."""
        message = await anext(self._messages)
        self._begun = True
        self._events.extend(self._said(message))
        self._position = message.resume_token or self._position
        if not self._events:
            self.token = self._position

    async def _received(self) -> Any:
        """Yield messages, from one connection after the other."""
        now = asyncio.get_running_loop().time
        lost_s, failures = now(), 0
        while True:
            why: SessiondError = Unavailable(
                grpc.StatusCode.UNAVAILABLE, "the daemon has ended the stream, or does not answer"
            )
            try:
                async for message in self._connection():
                    failures, lost_s = 0, now()
                    yield message
                    lost_s = now()
            except aio.AioRpcError as failed:
                why = error_of(failed)
                if not _goes_on(why):
                    raise why from failed
            except TimeoutError:
                pass
            if not self._begun and now() - lost_s > self._link.timeout_s:
                raise why
            await asyncio.sleep(max(why.retry_after_s or 0.0, backoff_s(failures)))
            failures += 1

    async def _connection(self) -> AsyncIterator[session_service_pb2.WatchSessionsResponse]:
        """Yield what comes through one connection, from where the last one ended."""
        request = session_service_pb2.WatchSessionsRequest()
        request.CopyFrom(self._request)
        if self._position:
            request.resume_token, request.snapshot, request.history = self._position, False, self._history
        self._snapshot.begin_again()
        call = SessionServiceStub(self._link.channel).WatchSessions(request, metadata=self._link.metadata)
        try:
            while True:
                async with asyncio.timeout(self._silence_s):
                    message = await call.read()
                if not isinstance(message, session_service_pb2.WatchSessionsResponse):
                    return  # the end of the stream
                yield message
        finally:
            call.cancel()

    def _said(self, message: session_service_pb2.WatchSessionsResponse) -> Iterator[Event]:
        """Yield what a message says, but for what has been said before."""
        if message.HasField("event"):
            for event in _events(message, self._kinds):
                if message.resume_token or self._snapshot.is_news(event):
                    yield event
        elif message.HasField("snapshot_complete"):
            for key in self._snapshot.gone():
                yield Event("DELETED", session_pb2.Session(key=key))
            yield Event(SNAPSHOT_COMPLETE, session_pb2.Session(), token=message.resume_token)
            self._snapshot = _Snapshot()
        elif message.HasField("history_complete"):
            self._history = False
            yield Event(HISTORY_COMPLETE, session_pb2.Session(), token=message.resume_token)


class _Snapshot:
    """What has been said in a snapshot that had to begin again because the connection was lost."""

    def __init__(self) -> None:
        self._etags: dict[str, str] = {}
        self._seen: set[str] = set()

    def begin_again(self) -> None:
        """Forget what is there, not what has been said."""
        self._seen.clear()

    def is_news(self, event: Event) -> bool:
        """Whether something has not been said: what happens meanwhile, or a session that has not been told as it is."""
        key, etag = event.session.key, event.session.etag
        self._seen.add(key)
        is_news = event.kind != "EXISTS" or self._etags.get(key) != etag or not etag
        self._etags[key] = etag
        if event.kind == "DELETED":
            del self._etags[key]
        return is_news

    def gone(self) -> list[str]:
        """Return the keys of the sessions that have been told of and are not there any more."""
        return [key for key in self._etags if key not in self._seen]


def _goes_on(error: SessiondError) -> bool:
    """Whether the watch can go on after an error: the daemon is away, or we were too slow for it."""
    is_away = isinstance(error, Unavailable) or error.code is grpc.StatusCode.CANCELLED
    return is_away or error.reason == "WATCHER_TOO_SLOW"


def _events(message: session_service_pb2.WatchSessionsResponse, wanted: Collection[int]) -> Iterator[Event]:
    """Yield the events of a message, one for each kind that is wanted; the token belongs to the last."""
    event = message.event
    kinds = [kind for kind in event.kinds if not wanted or kind in wanted]
    for left, kind in enumerate(kinds, start=1 - len(kinds)):
        yield Event(
            kind=session_service_pb2.SessionEventKind.Name(kind).removeprefix(PREFIX),
            session=event.session,
            time_ms=event.event_time.ToMilliseconds(),
            changed=tuple(event.changed_fields.paths),
            token="" if left else message.resume_token,
        )
