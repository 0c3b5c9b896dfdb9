"""Small things that every message is made of: names, octets that hold text, times, volumes, enums."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID

MAX_VOLUME: Final = 2**56
"""More than anything will ever use, in octets, and so little that sums of it fit into 63 bits everywhere."""
_EARLIEST_S, _LATEST_S = -62_135_596_800, 253_402_300_799
"""The range of a valid Timestamp, years 1 to 9999."""

Name = TypeVar("Name", bound=StrEnum)
Number = TypeVar("Number", bound=int)


def text_of(octets: bytes) -> str:
    """Return octets as text, one character each: what is bytes on the wire may be any octets."""
    return octets.decode("latin-1")


def octets_of(text: str) -> bytes:
    """Return what `text_of` was given."""
    return text.encode("latin-1")


def subscriber_to_wire(subscriber: str) -> SubscriberID | None:
    """Return the message that names a subscriber; none names nobody."""
    return SubscriberID(id=subscriber) if subscriber else None


def time_ms(timestamp: Timestamp) -> int:
    """Return a time as unix milliseconds; one that is not set is 0."""
    seconds = min(max(timestamp.seconds, _EARLIEST_S), _LATEST_S)
    return seconds * 1000 + timestamp.nanos // 1_000_000


def timestamp(time_ms: int) -> Timestamp | None:
    """Return unix milliseconds as a message; 0 is none."""
    if not time_ms:
        return None
    seconds, milliseconds = divmod(time_ms, 1000)
    return Timestamp(seconds=seconds, nanos=milliseconds * 1_000_000)


def volume(octets: int) -> int:
    """Return a volume that a peer named, held to `MAX_VOLUME`."""
    return min(octets, MAX_VOLUME)


def meanings(numbers: Iterable[tuple[str, int]], meant: type[Name]) -> dict[int, Name]:
    """Return the values of the core by the numbers of an enum that have their names."""
    return {number: meant[name] for name, number in numbers if name in meant.__members__}


def named(name_of: Callable[[Number], str], number: Number, meant: type[Name], otherwise: Name) -> Name:
    """Return the value of the core that has the name of this number; `otherwise` if there is none."""
    try:
        return meant[name_of(number)]
    except (ValueError, KeyError):
        return otherwise
