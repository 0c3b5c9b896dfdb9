"""Who is attached, as mobilityd and the MME tell it."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import grpc
import pytest

from sessiond.core.decide.attachment import Attachment
from sessiond.core.errors import PeerFailed
from sessiond.core.lifecycle import State
from sessiond.core.session import Gateway, Head, Session
from sessiond.pb.magma.lte.address_pb2 import IPAddress
from sessiond.pb.magma.lte.mobility_pb2 import SubscriberIPTable, SubscriberIPTableEntry
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.pb.sessiond.peers.v1 import access_gateway_pb2
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2 import ListAttachmentsRequest, ListAttachmentsResponse
from sessiond.southbound.access import messages
from sessiond.southbound.access.mme import PAGES, Mme
from sessiond.southbound.access.mobilityd import Mobilityd
from tests.app.scenes import ue
from tests.core.builders import NOW_MS
from tests.southbound.fakes import FakePeer, served

DEADLINE_MS = 2000
ONE, TWO = ue(1), ue(2)


def standing(number: int, **fields: Any) -> Session:
    """Return a session of a device."""
    context = ue(number, **fields)
    head = Head(state=State.ACTIVE, created_at_ms=NOW_MS)
    key = f"{context.subscriber}-{number}"
    return Session(key=key, type="lte", scope=context.subscriber, head=head, context=context, gateway=Gateway())


def entry(subscriber: str, address: str, apn: str = "internet") -> SubscriberIPTableEntry:
    """Return an entry of mobilityd's table."""
    ip = ip_address(address)
    version = IPAddress.IPV4 if ip.version == 4 else IPAddress.IPV6
    return SubscriberIPTableEntry(
        sid=SubscriberID(id=subscriber), ip=IPAddress(version=version, address=ip.packed), apn=apn
    )


async def test_mobilityd_tells_who_has_an_address() -> None:
    """It writes subscribers without their prefix; ours have it."""
    table = SubscriberIPTable(entries=[entry(ONE.subscriber.removeprefix("IMSI"), ONE.ue_ipv4)])
    async with served(FakePeer(GetSubscriberIPTable=table)) as (address, _):
        mobilityd = Mobilityd(address, DEADLINE_MS)
        attachments = await mobilityd.attachments()
        await mobilityd.close()
    assert attachments.has(standing(1))
    assert not attachments.has(standing(2))


async def test_a_failure_of_mobilityd_is_no_answer() -> None:
    """Neither a status nor silence is an empty table."""

    async def behave(_: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INTERNAL, "Redis is away")
        return b""

    async with served(FakePeer(behave)) as (address, _):
        mobilityd = Mobilityd(address, DEADLINE_MS)
        with pytest.raises(PeerFailed, match="Redis is away"):
            await mobilityd.attachments()
        await mobilityd.close()


def test_addresses_of_either_kind_are_understood() -> None:
    """What is no address is passed over, and the kind of address that newer ones add to the APN is not part of it."""
    table = SubscriberIPTable(
        entries=[
            entry("IMSI00101", "10.0.0.1", "internet,ipv4"),
            SubscriberIPTableEntry(sid=SubscriberID(id="00102"), ip=IPAddress(address=b"?"), apn="ims"),
        ]
    )
    attachments = messages.addresses(table)
    assert attachments.has(standing(1, subscriber="IMSI00101", ue_ipv4="10.0.0.1"))
    assert not attachments.has(standing(1, subscriber="IMSI00101", ue_ipv4="10.0.0.2"))
    assert attachments.has(standing(1, subscriber="IMSI00102", apn="ims"))


def test_without_any_ipv6_address_nothing_is_said_about_those_who_have_nothing_else() -> None:
    """A mobilityd that tells none may not tell them at all; with one, the others are not attached."""
    only_ipv6 = standing(1, ue_ipv4="", ue_ipv6="2001:db8::1")
    assert messages.addresses(SubscriberIPTable(entries=[entry("2", "10.0.0.1")])).has(only_ipv6)
    assert not messages.addresses(SubscriberIPTable(entries=[entry("2", "2001:db8:1::1")])).has(only_ipv6)


def pages(*answers: Sequence[str]) -> FakePeer:
    """Return an MME that tells subscribers page by page, with the number of the next page as token."""

    async def behave(octets: bytes, _: Any) -> bytes:
        number = int(ListAttachmentsRequest.FromString(octets).page_token or 0)
        here = [access_gateway_pb2.Attachment(subscriber=one, apn="internet") for one in answers[number]]
        token = str(number + 1) if number + 1 < len(answers) else ""
        return ListAttachmentsResponse(attachments=here, next_page_token=token).SerializeToString()

    return FakePeer(behave)


async def test_the_mme_tells_what_is_attached_page_by_page() -> None:
    """All pages are one answer."""
    async with served(pages([ONE.subscriber], [], [TWO.subscriber])) as (address, _):
        mme = Mme(address, DEADLINE_MS)
        attachments = await mme.attachments()
        await mme.close()
    assert [attachments.has(standing(number)) for number in (1, 2, 3)] == [True, True, False]


async def test_a_list_without_an_end_is_no_answer() -> None:
    """An MME that always has another page does not hold us for ever."""
    endless = FakePeer(ListAttachments=ListAttachmentsResponse(next_page_token="more"))  # noqa: S106  no password
    async with served(endless) as (address, _):
        mme = Mme(address, DEADLINE_MS)
        with pytest.raises(PeerFailed, match="pages"):
            await mme.attachments()
        await mme.close()
    assert len(endless.calls) == PAGES


def test_an_attachment_of_the_mme() -> None:
    """A prefix of IPv6 may be written with its length."""
    message = access_gateway_pb2.Attachment(
        subscriber="IMSI1", apn="a", ue_ipv4="10.0.0.1", ue_ipv6="2001:db8::/64", session_id="IMSI1-7"
    )
    assert messages.attachment(message) == Attachment(
        subscriber="IMSI1", apn="a", ue_ipv4="10.0.0.1", ue_ipv6="2001:db8::", session_id="IMSI1-7"
    )
