"""Lists and counts of sessions: requests to questions, page tokens, answers to messages."""

import asyncio
import base64
import binascii
import hashlib
from typing import Final

import msgspec

from sessiond.app import statistics
from sessiond.app.listing import Listing
from sessiond.core import filters, orders
from sessiond.core.errors import InvalidArgument
from sessiond.core.filters import Filter
from sessiond.core.lifecycle import State
from sessiond.core.orders import Order, Place
from sessiond.northbound.native.masks import ReadMask
from sessiond.northbound.native.session_messages import session_to_wire
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2

PAGE: Final = 50
LONGEST_PAGE: Final = 1000
MOST_OCTETS: Final = 3 * 2**20
"""A page that would be larger ends earlier: clients take messages of up to 4 MiB if they are not told otherwise."""
TURN: Final = 100
"""Sessions turned into messages before others get their turn."""


class Lists:
    """Answers what sessions there are, and how many."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def looked_up(self) -> None:
        """Count a look-up of a single session."""
        self._listing.looked_up()

    async def sessions(
        self, request: session_service_pb2.ListSessionsRequest
    ) -> session_service_pb2.ListSessionsResponse:
        """Return a page of sessions."""
        wanted, order = filters.parse(request.filter), orders.parse(request.order_by)
        mask, size = ReadMask(request.read_mask, session_pb2.Session), _size(request.page_size)
        after = _place(request.page_token, wanted, order) if request.page_token else None
        page = await self._listing.page(wanted, wanted, order, size, after)
        response, end, octets = session_service_pb2.ListSessionsResponse(), page.end, 0
        for number, session in enumerate(page.sessions, start=1):
            message = mask.of(session_to_wire(session))
            octets += message.ByteSize()
            if octets > MOST_OCTETS and number > 1:
                end = order.place(page.sessions[number - 2])
                break
            response.sessions.append(message)
            if number % TURN == 0:
                await asyncio.sleep(0)
        response.next_page_token = _token(end, wanted, order) if end else ""
        return response

    async def statistics(
        self, request: session_service_pb2.GetStatisticsRequest
    ) -> session_service_pb2.GetStatisticsResponse:
        """Return how many sessions there are."""
        wanted = filters.parse(request.filter)
        counted = await statistics.count(self._listing, wanted, wanted)
        return session_service_pb2.GetStatisticsResponse(
            total=sum(counted.states.values()),
            states=[
                session_pb2.StateCount(
                    state=session_pb2.SessionState.Value(f"SESSION_STATE_{state}"), count=counted.states.get(state, 0)
                )
                for state in State
            ],
            types=counted.types,
            lookup_hits=self._listing.lookups.hits,
            lookup_misses=self._listing.lookups.misses,
            traffic=session_pb2.Traffic(**msgspec.structs.asdict(counted.traffic)),
        )


def _size(wanted: int) -> int:
    if wanted < 0:
        raise InvalidArgument("PAGE_SIZE_INVALID", f"a page cannot have {wanted} sessions", field="page_size")
    return min(wanted or PAGE, LONGEST_PAGE)


def _token(end: Place, wanted: Filter, order: Order) -> str:
    """Return where a list goes on, and a digest of which list that is."""
    value, key = end
    return base64.urlsafe_b64encode(msgspec.msgpack.encode((_digest(end, wanted, order), value, key))).decode()


def _place(token: str, wanted: Filter, order: Order) -> Place:
    """Return where the list goes on that gave this token."""
    try:
        octets = base64.b64decode(token, altchars=b"-_", validate=True)
        digest, value, key = msgspec.msgpack.decode(octets, type=tuple[bytes, int | str, str])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        digest, value, key = b"", 0, ""
    if digest != _digest((value, key), wanted, order):
        text = "the page token is none that was given for this filter and this order"
        raise InvalidArgument("PAGE_TOKEN_INVALID", text, field="page_token")
    return value, key


def _digest(end: Place, wanted: Filter, order: Order) -> bytes:
    content = msgspec.msgpack.encode((*end, wanted.text, str(order)))
    return hashlib.blake2b(content, digest_size=8).digest()
