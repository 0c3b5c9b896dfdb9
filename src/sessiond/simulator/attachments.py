"""The MME as sessiond asks it after a restart (`sessiond.peers.v1.AccessGateway`): what is attached, page by page."""

from typing import Final

from sessiond.pb.sessiond.peers.v1 import access_gateway_pb2_grpc
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2 import (
    Attachment,
    ListAttachmentsRequest,
    ListAttachmentsResponse,
)
from sessiond.simulator.access import Devices, State
from sessiond.simulator.wire import Context

PAGE: Final = 1000
LONGEST_PAGE: Final = 10_000


class AccessGateway(access_gateway_pb2_grpc.AccessGatewayServicer):
    """Answers from the MME's table of devices; a page token is the subscriber that the page before ended with."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def ListAttachments(self, request: ListAttachmentsRequest, _context: Context) -> ListAttachmentsResponse:
        """Return what is attached, by subscriber."""
        size = min(request.page_size or PAGE, LONGEST_PAGE)
        here = [device for device in self._devices if device.state in {State.ATTACHING, State.ATTACHED}]
        rest = sorted((one for one in here if one.subscriber > request.page_token), key=lambda one: one.subscriber)
        page = [
            Attachment(subscriber=one.subscriber, apn=one.apn, ue_ipv4=one.address, session_id=one.session_id)
            for one in rest[:size]
        ]
        return ListAttachmentsResponse(
            attachments=page, next_page_token=page[-1].subscriber if len(rest) > size else ""
        )
