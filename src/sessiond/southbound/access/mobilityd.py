"""mobilityd, for the addresses of those who are attached (`magma.lte.MobilityService`)."""

from sessiond.core.decide.attachment import Attachments
from sessiond.pb.magma.lte.mobility_pb2_grpc import MobilityServiceStub
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.southbound.access import messages
from sessiond.southbound.channel import Channel


class Mobilityd:
    """Implements `app.ports.peers.AttachmentPeer`: who has an address is attached."""

    name = "mobilityd"

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = MobilityServiceStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    async def attachments(self) -> Attachments:
        """Return everything that is attached."""
        table = await self.channel.call(self._stub.GetSubscriberIPTable, Void(), self._deadline_s)
        return messages.addresses(table)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
