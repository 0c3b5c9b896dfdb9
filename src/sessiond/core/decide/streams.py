"""Stream sessions: active from their creation until somebody ends them; what is said of them may change even then."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sessiond.core import lifecycle
from sessiond.core.decide.registry import numbered
from sessiond.core.decide.retention import keep_for_now
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound
from sessiond.core.lifecycle import Event, State
from sessiond.core.session import GivenTime, Head, Identity, Session, Stream
from sessiond.core.situation import Situation

TYPE: Final = "stream"
DEFAULT_KIND: Final = "Session"
DEFAULT_VERSION: Final = 1


class Offsets(Struct, frozen=True, gc=False):
    """Where the next record goes, by `topic:partition`, and which streams there are."""

    by_partition: Mapping[str, int] = {}
    streams: tuple[str, ...] = ()


def topics_of(data_source: str) -> tuple[str, str]:
    """Return the topics that every data source has: its main one, and that of the essentials."""
    return data_source, f"{data_source}_essential"


def partition_key(topic: str, partition: int) -> str:
    """Return the key of an offset."""
    return f"{topic}:{partition}"


class NewStream(Struct, frozen=True, gc=False, kw_only=True):
    """What a client says of the session it wants."""

    data_source: str = ""
    kind: str = ""
    identifier: str = ""
    version: int = 0
    utc_offset: GivenTime | None = None
    associates: tuple[str, ...] = ()
    details: Mapping[str, str] = {}
    created: GivenTime | None = None


def new_session(key: str, number: int, wanted: NewStream, offsets: Offsets, at: Situation) -> Session:
    """Return a session that is active at once."""
    state = State.REQUESTED
    for event in (Event.CREATE, Event.CONFIRM, Event.ACTIVATED):
        state = lifecycle.step(state, event)
    return Session(
        key=key,
        type=TYPE,
        scope=key,
        head=Head(state=state, created_at_ms=at.now_ms, activated_at_ms=at.now_ms),
        identity=Identity(
            data_source=wanted.data_source,
            kind=wanted.kind or DEFAULT_KIND,
            identifier=wanted.identifier,
            version=wanted.version or DEFAULT_VERSION,
            utc_offset=wanted.utc_offset,
            number=number,
        ),
        stream=Stream(streams=offsets.streams, start_offsets=offsets.by_partition, created=wanted.created),
        details=dict(wanted.details),
        associates=numbered(wanted.associates),
    )


def end(draft: Draft, offsets: Offsets, terminated: GivenTime | None, at: Situation, reason: str = "ENDED") -> None:
    """End a session; one that has ended stays as its first end left it."""
    if draft.head.state is State.CLOSED:
        return
    draft.step(Event.RELEASE, at.now_ms, reason)
    draft.step(Event.COMPLETE, at.now_ms)
    draft.set("stream", end_offsets=offsets.by_partition, terminated=terminated)
    keep_for_now(draft, at.settings.profile(TYPE), at.now_ms)


def checked(draft: Draft) -> Draft:
    """Return a draft of a stream session; there is no other as far as clients of streams can know."""
    if draft.stream is None:
        raise NotFound("SESSION_NOT_FOUND", f"there is no stream session {draft.key}")
    return draft
