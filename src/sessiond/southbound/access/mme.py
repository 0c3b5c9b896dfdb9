"""The MME, for what is attached (`sessiond.peers.v1.AccessGateway`)."""

from typing import Final

from sessiond.core.decide.attachment import Attachment, Attachments
from sessiond.core.errors import PeerFailed
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2 import ListAttachmentsRequest
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2_grpc import AccessGatewayStub
from sessiond.southbound.access import messages
from sessiond.southbound.channel import Channel

PAGE: Final = 5000
PAGES: Final = 1000


class Mme:
    """Implements `app.ports.peers.AttachmentPeer`."""

    name = "mme"

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = AccessGatewayStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    async def attachments(self) -> Attachments:
        """Return everything that is attached; a list that does not come to its end is no answer."""
        found: list[Attachment] = []
        request = ListAttachmentsRequest(page_size=PAGE)
        for _ in range(PAGES):
            page = await self.channel.call(self._stub.ListAttachments, request, self._deadline_s)
            found += map(messages.attachment, page.attachments)
            if not page.next_page_token:
                return Attachments(found)
            request.page_token = page.next_page_token
        raise PeerFailed("OUT_OF_RANGE", f"the list of attachments has more than {PAGES} pages", answered=True)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
