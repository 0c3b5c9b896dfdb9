"""An event in the form that eventd stores."""

import msgspec

from sessiond.core.effects import LogEvent
from sessiond.pb.magma.orc8r import event_pb2

STREAM = "sessiond"


def event(news: LogEvent) -> event_pb2.Event:
    """Return an event; its value is compact JSON."""
    value = msgspec.json.encode(news.value).decode()
    return event_pb2.Event(stream_name=STREAM, event_type=news.type, tag=news.tag, value=value)
