"""eventd (`magma.orc8r.EventService`)."""

from sessiond.core.effects import LogEvent
from sessiond.pb.magma.orc8r.event_pb2_grpc import EventServiceStub
from sessiond.southbound.channel import Channel
from sessiond.southbound.events import messages


class Eventd:
    """Implements `app.ports.peers.EventPeer`."""

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = EventServiceStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    async def log(self, event: LogEvent) -> None:
        """Pass an event on."""
        await self.channel.call(self._stub.LogEvent, messages.event(event), self._deadline_s)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
