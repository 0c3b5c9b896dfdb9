"""Messages of the stream surface to commands and back; pure functions."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.decide.streams import NewStream, Offsets, partition_key, topics_of
from sessiond.core.errors import InvalidArgument
from sessiond.core.lifecycle import State
from sessiond.core.session import GivenTime, Identity, Session, Stream
from sessiond.pb.ma.streaming.api.v1 import api_pb2
from sessiond.pb.ma.streaming.open_data.v1 import open_data_pb2

LAST_NANO = 999_999_999


def new_stream(request: api_pb2.CreateSessionRequest) -> NewStream:
    """Return what a client says of the session it wants."""
    return NewStream(
        data_source=request.data_source,
        kind=request.type,
        identifier=request.identifier,
        version=request.version,
        utc_offset=span_of(request.utc_offset, "utc_offset") if request.HasField("utc_offset") else None,
        associates=tuple(request.associate_session_key),
        details=dict(request.details),
        created=time_of(request.creation_time, "creation_time") if request.HasField("creation_time") else None,
    )


def created(session: Session) -> api_pb2.CreateSessionResponse:
    """Return the answer to a client whose session is new; what it has not said about the UTC offset stays unsaid."""
    identity, stream = parts_of(session)
    packet = open_data_pb2.NewSessionPacket(
        data_source=identity.data_source,
        topic_partition_offsets=stream.start_offsets,
        utc_offset=None if identity.utc_offset is None else duration(identity.utc_offset),
        creation_time=created_at(session),
        session_info=open_data_pb2.SessionInfoPacket(
            data_source=identity.data_source,
            identifier=identity.identifier,
            type=identity.kind,
            version=identity.version,
            associate_session_keys=session.associates.values(),
            details=texts(session.details),
        ),
    )
    return api_pb2.CreateSessionResponse(session_key=session.key, new_session=packet, success=True)


def ended(session: Session, offsets: Offsets) -> api_pb2.EndSessionResponse:
    """Return the answer to a client whose session is over, with the offsets of now."""
    identity, _ = parts_of(session)
    packet = open_data_pb2.EndOfSessionPacket(
        data_source=identity.data_source,
        topic_partition_offsets=offsets.by_partition,
        termination_time=terminated_at(session),
    )
    return api_pb2.EndSessionResponse(end_session=packet, success=True)


def info(session: Session, streams: tuple[str, ...]) -> api_pb2.GetSessionInfoResponse:
    """Return all that is known about a session."""
    identity, stream = parts_of(session)
    main, essentials = (partition_key(topic, 0) for topic in topics_of(identity.data_source))
    complete = session.head.state is State.CLOSED
    return api_pb2.GetSessionInfoResponse(
        data_source=identity.data_source,
        identifier=identity.identifier,
        type=identity.kind,
        version=identity.version,
        associate_session_keys=session.associates.values(),
        is_complete=complete,
        streams=streams,
        topic_partition_offsets=stream.start_offsets,
        main_offset=stream.start_offsets.get(main, 0),
        essentials_offset=stream.start_offsets.get(essentials, 0),
        details=texts(session.details),
        utc_offset=duration(identity.utc_offset or GivenTime()),
        success=True,
        creation_time=created_at(session),
        termination_time=terminated_at(session) if complete else None,
    )


def texts(details: Mapping[str, Any]) -> dict[str, str]:
    """Return details as this surface knows them: texts."""
    return {key: value if isinstance(value, str) else str(value) for key, value in details.items()}


def created_at(session: Session) -> Timestamp:
    """Return when a session began: as its owner says, or when it was created."""
    _, stream = parts_of(session)
    return timestamp(stream.created or _of_ms(session.head.created_at_ms))


def terminated_at(session: Session) -> Timestamp:
    """Return when a session ended: as its owner said first, or when that was heard."""
    _, stream = parts_of(session)
    return timestamp(stream.terminated or _of_ms(session.head.closed_at_ms))


def time_of(time: Timestamp, field: str) -> GivenTime:
    """Return a moment; refuse one that no calendar has (google/protobuf/timestamp.proto)."""
    first, last = -62_135_596_800, 253_402_300_799  # 0001-01-01 to 9999-12-31
    if not (first <= time.seconds <= last and 0 <= time.nanos <= LAST_NANO):
        raise InvalidArgument("TIME_INVALID", f"{field} is not between the years 1 and 9999", field=field)
    return GivenTime(time.seconds, time.nanos)


def span_of(span: Duration, field: str) -> GivenTime:
    """Return a span of time; refuse one that is none (google/protobuf/duration.proto)."""
    same_sign = span.seconds == 0 or span.nanos == 0 or (span.seconds < 0) == (span.nanos < 0)
    if not (abs(span.seconds) <= 315_576_000_000 and abs(span.nanos) <= LAST_NANO and same_sign):
        raise InvalidArgument("DURATION_INVALID", f"{field} is no span of time", field=field)
    return GivenTime(span.seconds, span.nanos)


def timestamp(time: GivenTime) -> Timestamp:
    """Return a moment as a message."""
    return Timestamp(seconds=time.seconds, nanos=time.nanos)


def duration(span: GivenTime) -> Duration:
    """Return a span of time as a message."""
    return Duration(seconds=span.seconds, nanos=span.nanos)


def parts_of(session: Session) -> tuple[Identity, Stream]:
    """Return the parts that every stream session has."""
    if session.identity is None or session.stream is None:
        raise TypeError(f"session {session.key} is no stream session")
    return session.identity, session.stream


def _of_ms(time_ms: int) -> GivenTime:
    seconds, milliseconds = divmod(time_ms, 1000)
    return GivenTime(seconds, milliseconds * 1_000_000)
