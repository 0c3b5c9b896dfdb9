"""directoryd, eventd, mobilityd and the AAA server on the wire, and the policy controller there."""

import json

import grpc
import grpc.aio
import pytest

from sessiond.pb.aaa.protos.accounting_pb2 import (
    add_sessions_request,
    stop_request,
    terminate_session_request,
    update_request,
)
from sessiond.pb.aaa.protos.accounting_pb2_grpc import accountingStub, add_accountingServicer_to_server
from sessiond.pb.aaa.protos.context_pb2 import context
from sessiond.pb.magma.lte.address_pb2 import IPAddress
from sessiond.pb.magma.lte.mobility_pb2 import IPLookupRequest
from sessiond.pb.magma.lte.mobility_pb2_grpc import MobilityServiceStub, add_MobilityServiceServicer_to_server
from sessiond.pb.magma.lte.session_context_pb2 import CommonSessionContext, RATType
from sessiond.pb.magma.lte.session_proxy_pb2 import CreateSessionRequest, SessionTerminateRequest, UpdateSessionRequest
from sessiond.pb.magma.lte.session_proxy_pb2_grpc import (
    CentralSessionControllerStub,
    add_CentralSessionControllerServicer_to_server,
)
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.pb.magma.orc8r.directory_pb2 import DeleteRecordRequest, GetDirectoryFieldRequest, UpdateRecordRequest
from sessiond.pb.magma.orc8r.directory_pb2_grpc import (
    GatewayDirectoryServiceStub,
    add_GatewayDirectoryServiceServicer_to_server,
)
from sessiond.pb.magma.orc8r.event_pb2 import Event as WireEvent
from sessiond.pb.magma.orc8r.event_pb2_grpc import EventServiceStub, add_EventServiceServicer_to_server
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2 import ListAttachmentsRequest
from sessiond.pb.sessiond.peers.v1.access_gateway_pb2_grpc import (
    AccessGatewayStub,
    add_AccessGatewayServicer_to_server,
)
from sessiond.simulator.aaa import Accounting
from sessiond.simulator.access import Devices, State
from sessiond.simulator.attachments import AccessGateway
from sessiond.simulator.config import Access
from sessiond.simulator.directory import Directory
from sessiond.simulator.events import Event, EventLog
from sessiond.simulator.mobility import Mobility, attached_at
from sessiond.simulator.policy import PolicyController, PolicySide
from tests.simulator.scenes import ADDRESS, SUBSCRIBER, a_sessiond, served, simulation

NOT_FOUND, INVALID = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
WIFI = context(
    session_id="r1", imsi=SUBSCRIBER, apn="wifi", mac_addr="0A:1B:2C:3D:4E:5F", msisdn="555", ip_addr=ADDRESS
)


async def test_the_directory_keeps_a_record_per_subscriber() -> None:
    """Fields that are given are set, the others stay; the last locations are kept, the newest first."""
    async with served(lambda server: add_GatewayDirectoryServiceServicer_to_server(Directory(), server)) as channel:
        stub = GatewayDirectoryServiceStub(channel)
        await stub.UpdateRecord(
            UpdateRecordRequest(id=SUBSCRIBER, location="a", fields={"session_id": "s", "msisdn": "1"})
        )
        await stub.UpdateRecord(UpdateRecordRequest(id=SUBSCRIBER, location="b", fields={"msisdn": "2"}))
        await stub.UpdateRecord(UpdateRecordRequest(id=SUBSCRIBER, location="b"))
        (record,) = (await stub.GetAllDirectoryRecords(Void())).records
        assert (record.id, list(record.location_history)) == (SUBSCRIBER, ["b", "a"])
        assert dict(record.fields) == {"session_id": "s", "msisdn": "2"}
        field = await stub.GetDirectoryField(GetDirectoryFieldRequest(id=SUBSCRIBER, field_key="session_id"))
        assert (field.key, field.value) == ("session_id", "s")
        await stub.DeleteRecord(DeleteRecordRequest(id=SUBSCRIBER))
        assert list((await stub.GetAllDirectoryRecords(Void())).records) == []


async def test_the_directory_says_what_it_does_not_know() -> None:
    """Unknown subscribers and fields are NOT_FOUND, a record of nobody is refused."""
    async with served(lambda server: add_GatewayDirectoryServiceServicer_to_server(Directory(), server)) as channel:
        stub = GatewayDirectoryServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.DeleteRecord(DeleteRecordRequest(id=SUBSCRIBER))
        assert error.value.code() is NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetDirectoryField(GetDirectoryFieldRequest(id=SUBSCRIBER, field_key="x"))
        assert error.value.code() is NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.UpdateRecord(UpdateRecordRequest())
        assert error.value.code() is INVALID


async def test_the_event_log_keeps_the_last_events() -> None:
    """So many as it is told to keep, all of them counted, and each passed on at once."""
    log, heard = EventLog(keep=2), list[Event]()
    log.listen(heard.append)
    async with served(lambda server: add_EventServiceServicer_to_server(log, server)) as channel:
        stub = EventServiceStub(channel)
        for number in range(3):
            value = json.dumps({"number": number})
            await stub.LogEvent(
                WireEvent(stream_name="sessiond", event_type="session_created", tag=SUBSCRIBER, value=value)
            )
    assert [event.value["number"] for event in log.last] == [1, 2]
    assert log.counts == {"session_created": 3}
    assert heard[0] == Event("sessiond", "session_created", SUBSCRIBER, {"number": 0})


@pytest.mark.parametrize("value", ["", "[]", "{"])
async def test_an_event_must_be_an_object(value: str) -> None:
    """As the real one, it refuses what its schema cannot fit."""
    async with served(lambda server: add_EventServiceServicer_to_server(EventLog(1), server)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await EventServiceStub(channel).LogEvent(WireEvent(event_type="x", value=value))
        assert error.value.code() is INVALID


async def test_mobilityd_knows_who_has_which_address() -> None:
    """Devices that are attached, or about to be, have addresses; the subscriber comes without prefix."""
    devices = Devices(Access())
    devices.arrive(SUBSCRIBER)
    devices.arrive("IMSI001010000000002").state = State.DETACHED
    async with served(lambda server: add_MobilityServiceServicer_to_server(Mobility(devices), server)) as channel:
        stub = MobilityServiceStub(channel)
        (entry,) = (await stub.GetSubscriberIPTable(Void())).entries
        assert (entry.sid.id, entry.apn, entry.ip.address) == (SUBSCRIBER, "magma.ipv4", bytes([192, 168, 128, 11]))
        lookup = IPLookupRequest(sid=SubscriberID(id=SUBSCRIBER), apn="magma.ipv4")
        assert await stub.GetIPForSubscriber(lookup) == entry.ip
        assert (await stub.GetSubscriberIDFromIP(entry.ip)).id == SUBSCRIBER.removeprefix("IMSI")
        assert await attached_at(stub)() == {ADDRESS}
        for call in (
            stub.GetIPForSubscriber(IPLookupRequest(sid=SubscriberID(id=SUBSCRIBER), apn="other")),
            stub.GetSubscriberIDFromIP(IPAddress(address=bytes(4))),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert error.value.code() is NOT_FOUND


async def test_the_mme_tells_what_is_attached_page_by_page() -> None:
    """By subscriber, with the session of each; who has left is not told."""
    devices = Devices(Access())
    subscribers = [f"IMSI00101000000000{number}" for number in (3, 1, 2, 4)]
    for subscriber in subscribers:
        devices.arrive(subscriber).session_id = f"{subscriber}-7"
    devices.arrive("IMSI001010000000009").state = State.DROPPED
    async with served(lambda server: add_AccessGatewayServicer_to_server(AccessGateway(devices), server)) as channel:
        stub = AccessGatewayStub(channel)
        first = await stub.ListAttachments(ListAttachmentsRequest(page_size=3))
        second = await stub.ListAttachments(ListAttachmentsRequest(page_size=3, page_token=first.next_page_token))
    assert second.next_page_token == ""
    told = [*first.attachments, *second.attachments]
    assert [one.subscriber for one in told] == sorted(subscribers)
    assert [one.session_id for one in told] == [f"{subscriber}-7" for subscriber in sorted(subscribers)]
    assert all(one.ue_ipv4 and one.apn for one in told)


async def test_without_mobilityd_the_last_answer_holds() -> None:
    """Nobody is cut off because mobilityd is; before the first answer everyone counts as attached."""
    devices = Devices(Access())
    devices.arrive(SUBSCRIBER)
    async with served(lambda server: add_MobilityServiceServicer_to_server(Mobility(devices), server)) as channel:
        ask = attached_at(MobilityServiceStub(channel))
        assert await ask() == {ADDRESS}
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
        assert await attached_at(MobilityServiceStub(nowhere))() is None


async def test_a_wifi_session_begins_and_ends_at_the_aaa_server() -> None:
    """The session is made by sessiond, with tunnel ids of 0, and hears of its end; octets come in two words."""
    async with a_sessiond() as (sessiond, to_sessiond):
        aaa = Accounting(to_sessiond)
        async with served(lambda server: add_accountingServicer_to_server(aaa, server)) as channel:
            stub = accountingStub(channel)
            made = await stub.create_session(WIFI)
            assert made.session_id == f"{SUBSCRIBER}-1"
            (asked,) = sessiond.created
            assert asked.common_context.rat_type == RATType.TGPP_WLAN
            assert asked.rat_specific_context.wlan_context.mac_addr_binary == bytes.fromhex("0a1b2c3d4e5f")
            assert asked.rat_specific_context.wlan_context.radius_session_id == "r1"
            assert [(tunnel.bearer_id, tunnel.agw_teid) for tunnel in sessiond.tunnels] == [(0, 0)]
            await stub.start(WIFI)
            await stub.interim_update(update_request(ctx=WIFI, octets_in=5, gigawords_in=1, octets_out=7))
            assert (aaa.sessions["r1"].octets_in, aaa.sessions["r1"].octets_out) == (2**32 + 5, 7)
            await stub.stop(stop_request(ctx=WIFI))
            assert [(end.sid.id, end.apn) for end in sessiond.ended] == [(SUBSCRIBER, "wifi")]
            assert aaa.sessions == {}


async def test_the_aaa_server_hears_of_sessions_that_stand_or_end() -> None:
    """add_sessions fills it after a restart; terminate_session marks what is to be disconnected."""
    async with a_sessiond() as (_, to_sessiond):
        aaa = Accounting(to_sessiond)
        async with served(lambda server: add_accountingServicer_to_server(aaa, server)) as channel:
            stub = accountingStub(channel)
            await stub.add_sessions(add_sessions_request(sessions=[WIFI]))
            await stub.terminate_session(terminate_session_request(radius_session_id="r1", imsi=SUBSCRIBER))
            assert aaa.sessions["r1"].terminated
            for call in (
                stub.terminate_session(terminate_session_request(radius_session_id="r2")),
                stub.stop(stop_request(ctx=context(session_id="r2"))),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call
                assert error.value.code() is NOT_FOUND


async def test_the_aaa_server_passes_on_what_sessiond_refuses() -> None:
    """The status of sessiond is the status of the answer, at the beginning and at the end."""
    async with a_sessiond() as (sessiond, to_sessiond):
        aaa = Accounting(to_sessiond)
        async with served(lambda server: add_accountingServicer_to_server(aaa, server)) as channel:
            stub = accountingStub(channel)
            sessiond.refusals = [(grpc.StatusCode.UNAVAILABLE, "PipelineD is not ready")]
            with pytest.raises(grpc.aio.AioRpcError, match="PipelineD is not ready"):
                await stub.create_session(WIFI)
            await stub.start(WIFI)
            sessiond.refusals = [(grpc.StatusCode.FAILED_PRECONDITION, "Session not found")]
            with pytest.raises(grpc.aio.AioRpcError, match="Session not found"):
                await stub.stop(stop_request(ctx=WIFI))


async def test_the_policy_controller_answers() -> None:
    """Create, update and terminate reach the books; a refused session is a status with the reason."""
    side = PolicySide(simulation(plans="[{name: a}]", subscribers="{groups: [{plan: a, count: 1}]}"))
    register = PolicyController(side)
    async with served(lambda server: add_CentralSessionControllerServicer_to_server(register, server)) as channel:
        stub = CentralSessionControllerStub(channel)
        common = CommonSessionContext(sid=SubscriberID(id=SUBSCRIBER))
        assert (await stub.CreateSession(CreateSessionRequest(session_id="s", common_context=common))).online
        assert list((await stub.UpdateSession(UpdateSessionRequest())).responses) == []
        assert (await stub.TerminateSession(SessionTerminateRequest(session_id="s"))).session_id == "s"
        assert side.sessions["s"].terminated
        with pytest.raises(grpc.aio.AioRpcError, match="5030"):
            await stub.CreateSession(CreateSessionRequest(session_id="t"))
