"""WatchSessions: what happens to sessions, to messages; each is made once for all who want to see it alike."""

from collections.abc import Callable, Hashable
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.app.callers import visible
from sessiond.app.feed import Beat, Complete, Feed, HistoryComplete, Item, News
from sessiond.core import filters
from sessiond.core.changes import Kind
from sessiond.core.errors import InvalidArgument
from sessiond.core.session import Session
from sessiond.northbound.native.masks import ReadMask
from sessiond.northbound.native.session_messages import session_to_wire
from sessiond.northbound.watching import tell
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2 import SessionEvent, SessionEventKind, WatchSessionsResponse
from sessiond.translate.scalars import timestamp

FORM: Final = "1."
"""What a resume token begins with; the number is that of its form."""
EXISTS: Final = session_service_pb2.SESSION_EVENT_KIND_EXISTS
KINDS: Final = {kind: SessionEventKind.Value(f"SESSION_EVENT_KIND_{kind}") for kind in Kind}
_OF_NUMBER: Final = {number: kind for kind, number in KINDS.items()}
UNTOLD: Final = frozenset({"etag", "update_time", "last_activity_time"})
"""The fields that differ after every change."""


class Watching:
    """Answers those who watch; `now_ms` is the time that heartbeats tell."""

    def __init__(self, feed: Feed, now_ms: Callable[[], int]) -> None:
        self._feed = feed
        self._now_ms = now_ms

    async def tell(self, request: session_service_pb2.WatchSessionsRequest, context: Any) -> None:
        """Tell what happens until the caller leaves."""
        view = View(request, self._now_ms)
        position = _position(request.resume_token)
        if request.snapshot and (position or request.history):
            text = "a snapshot begins anew; with a resume token one goes on, with its history one begins in the past"
            raise InvalidArgument("INVALID_CONFIGURATION", text, field="snapshot")
        watch = self._feed.watch(position, snapshot=request.snapshot, history=request.history)
        await tell(watch, context, view.message)


class View:
    """What one caller wants to see, and the messages for it."""

    def __init__(self, request: session_service_pb2.WatchSessionsRequest, now_ms: Callable[[], int]) -> None:
        self._meant = visible(filters.parse(request.filter))
        self._mask = ReadMask(request.read_mask, session_pb2.Session)
        self._looks_like: Hashable = tuple(sorted(set(request.read_mask.paths)))
        self._kinds = {_OF_NUMBER[number] for number in request.kinds if number in _OF_NUMBER}
        self._wants_all = not request.kinds
        self._wants_existing = not request.kinds or EXISTS in request.kinds
        self._now_ms = now_ms
        self._existing = 0
        self._quiet = True
        """Whether nothing was said since the last heartbeat."""

    def message(self, item: Item) -> bytes | None:
        """Return what the caller is told of something, if it wants to hear of it."""
        match item:
            case News():
                said = self._news(item)
            case Beat(position):
                said = self._beat(position) if self._quiet else None
                self._quiet = True
                return said
            case Complete(position):
                said = WatchSessionsResponse(
                    resume_token=token(position),
                    snapshot_complete=session_service_pb2.SnapshotComplete(sessions=self._existing),
                ).SerializeToString()
            case HistoryComplete(position):
                said = WatchSessionsResponse(
                    resume_token=token(position), history_complete=session_service_pb2.HistoryComplete()
                ).SerializeToString()
            case Session():
                said = self._exists(item)
        self._quiet = self._quiet and said is None
        return said

    def _news(self, news: News) -> bytes | None:
        """Return the message about a change, which is made once for all who see it alike."""
        if not (self._wants_all or self._kinds.intersection(news.kinds)):
            return None
        meant = news.made.get(self._meant)
        if meant is None:
            before, after = news.change.before, news.change.after
            meant = news.made[self._meant] = self._meant(after) or (before is not None and self._meant(before))
        if not meant:
            return None
        said: bytes | None = news.made.get(self._looks_like)
        if said is None:
            said = news.made[self._looks_like] = self._event(news).SerializeToString()
        return said

    def _event(self, news: News) -> WatchSessionsResponse:
        change = news.change
        after = session_to_wire(change.after)
        event = SessionEvent(
            kinds=[KINDS[kind] for kind in news.kinds],
            event_time=timestamp(change.at_ms),
            session=self._mask.of(after),
        )
        if Kind.UPDATED in news.kinds and change.before is not None:
            event.changed_fields.CopyFrom(_changed(session_to_wire(change.before), after))
            if change.before.details != change.after.details and "details" not in event.changed_fields.paths:
                event.changed_fields.paths.append("details")  # what is sensitive looks alike before and after
        return WatchSessionsResponse(resume_token=token(news.position), event=event)

    def _exists(self, session: Session) -> bytes | None:
        if not (self._wants_existing and self._meant(session)):
            return None
        self._existing += 1
        event = SessionEvent(kinds=[EXISTS], session=self._mask.of(session_to_wire(session)))
        return WatchSessionsResponse(event=event).SerializeToString()

    def _beat(self, position: str) -> bytes:
        heartbeat = session_service_pb2.Heartbeat(server_time=timestamp(self._now_ms()))
        return WatchSessionsResponse(resume_token=token(position), heartbeat=heartbeat).SerializeToString()


def token(position: str) -> str:
    """Return the resume token of a position; empty for none."""
    return FORM + position if position else ""


def _position(resume_token: str) -> str:
    """Return the position that a resume token stands for; refuse what is none."""
    if not resume_token:
        return ""
    if not resume_token.startswith(FORM) or len(resume_token) == len(FORM):
        text = "this is no resume token of this service"
        raise InvalidArgument("RESUME_TOKEN_INVALID", text, field="resume_token")
    return resume_token.removeprefix(FORM)


def _changed(before: session_pb2.Session, after: session_pb2.Session) -> FieldMask:
    """Return the fields that differ, but for those that always do."""
    fields = session_pb2.Session.DESCRIPTOR.fields
    names = [field.name for field in fields if field.name not in UNTOLD]
    return FieldMask(paths=[name for name in names if getattr(before, name) != getattr(after, name)])
