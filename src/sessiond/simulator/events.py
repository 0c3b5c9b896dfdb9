"""eventd: keeps the last events, and passes each on to whoever listens."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import grpc
import msgspec
from msgspec import Struct

from sessiond.pb.magma.orc8r import event_pb2_grpc
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.pb.magma.orc8r.event_pb2 import Event as WireEvent
from sessiond.simulator.wire import Context


class Event(Struct, frozen=True):
    """What happened, to which subscriber, with all that was said about it."""

    stream: str
    type: str
    subscriber: str
    value: Mapping[str, Any]


Listener: TypeAlias = Callable[[Event], None]


class EventLog(event_pb2_grpc.EventServiceServicer):
    """The last events, the newest at the end, and how many of each type there were in all."""

    def __init__(self, keep: int) -> None:
        self.last: deque[Event] = deque(maxlen=keep)
        self.counts: Counter[str] = Counter()
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call this with every event from now on."""
        self._listeners.append(listener)

    async def LogEvent(self, request: WireEvent, context: Context) -> Void:
        """Take an event whose value is a JSON object, as the real eventd wants it."""
        try:
            value = msgspec.json.decode(request.value, type=dict[str, Any])
        except msgspec.DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the value is no JSON object: {error}")
        event = Event(request.stream_name, request.event_type, request.tag, value)
        self.last.append(event)
        self.counts[event.type] += 1
        for listener in self._listeners:
            listener(event)
        return Void()
