"""The MME: attach, detach, dedicated bearers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.magma.lte.session_context_pb2 import RATType
from sessiond.pb.magma.lte.spgw_pb2 import CreateBearerRequest, DeleteBearerRequest
from sessiond.pb.magma.lte.spgw_pb2_grpc import SpgwServiceStub, add_SpgwServiceServicer_to_server
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator.access import DEFAULT_BEARER, Bearers, Devices, Mme, State
from sessiond.simulator.config import Access
from tests.simulator.scenes import ADDRESS, SUBSCRIBER, Sessiond, a_sessiond, served

OTHER = "IMSI001010000000002"
NOT_READY = (grpc.StatusCode.UNAVAILABLE, "PipelineD is not ready")


@asynccontextmanager
async def an_mme(settings: Access | None = None) -> AsyncIterator[tuple[Mme, Sessiond, SpgwServiceStub]]:
    """Run an MME at a sessiond that listens; hand out the stub of its bearer service too."""
    settings = settings or Access()
    devices = Devices(settings)
    async with a_sessiond() as (sessiond, stub):
        bearers = Bearers(devices, stub)
        async with served(lambda server: add_SpgwServiceServicer_to_server(bearers, server)) as channel:
            yield Mme(devices, stub, settings), sessiond, SpgwServiceStub(channel)


def create_bearer(*rules: str, subscriber: str = SUBSCRIBER) -> CreateBearerRequest:
    """Ask for a bearer per rule."""
    return CreateBearerRequest(
        sid=SubscriberID(id=subscriber),
        ip_addr=ADDRESS,
        link_bearer_id=DEFAULT_BEARER,
        policy_rules=[PolicyRule(id=rule) for rule in rules],
    )


def delete_bearer(*numbers: int) -> DeleteBearerRequest:
    """Ask to take bearers down."""
    return DeleteBearerRequest(
        sid=SubscriberID(id=SUBSCRIBER), ip_addr=ADDRESS, link_bearer_id=DEFAULT_BEARER, eps_bearer_ids=numbers
    )


async def test_a_device_attaches() -> None:
    """A session is asked for in the words of a real MME, then the tunnel of the default bearer is told."""
    async with an_mme() as (mme, sessiond, _):
        device = await mme.attach(SUBSCRIBER)
        assert (device.state, device.session_id, device.address) == (State.ATTACHED, f"{SUBSCRIBER}-1", ADDRESS)
        (asked,) = sessiond.created
        common, lte = asked.common_context, asked.rat_specific_context.lte_context
        assert (common.sid.id, common.ue_ipv4, common.apn, common.rat_type) == (
            SUBSCRIBER,
            ADDRESS,
            "magma.ipv4",
            RATType.TGPP_LTE,
        )
        assert (lte.bearer_id, lte.plmn_id, lte.imsi_plmn_id, len(lte.imei)) == (5, "00101", "00101", 16)
        assert (lte.qos_info.qos_class_id, len(lte.user_location), common.HasField("teids")) == (9, 13, False)
        (tunnel,) = sessiond.tunnels
        assert (tunnel.sid.id, tunnel.bearer_id) == (SUBSCRIBER, 5)
        assert tunnel.enb_teid
        assert tunnel.agw_teid


async def test_no_two_devices_share_anything() -> None:
    """Address, equipment and tunnel ends are each device's own, also when one comes back."""
    async with an_mme() as (mme, sessiond, _):
        await mme.attach_all([SUBSCRIBER, OTHER])
        await mme.detach(SUBSCRIBER)
        await mme.attach(SUBSCRIBER)
        addresses = {asked.common_context.ue_ipv4 for asked in sessiond.created}
        devices = {asked.rat_specific_context.lte_context.imei for asked in sessiond.created}
        ends = {end for tunnel in sessiond.tunnels for end in (tunnel.enb_teid, tunnel.agw_teid)}
        assert (len(addresses), len(devices), len(ends)) == (3, 3, 6)


async def test_attaching_waits_for_pipelined() -> None:
    """UNAVAILABLE is asked again after a pause."""
    async with an_mme() as (mme, sessiond, _):
        sessiond.refusals = [NOT_READY, NOT_READY]
        device = await mme.attach(SUBSCRIBER)
        assert (device.state, device.why, len(sessiond.created)) == (State.ATTACHED, "", 1)


async def test_attaching_gives_up_after_the_limit() -> None:
    """A sessiond that never gets ready refuses the device in the end."""
    async with an_mme(Access(attach_limit_s=1)) as (mme, sessiond, _):
        sessiond.refusals = [NOT_READY] * 100
        device = await mme.attach(SUBSCRIBER)
        assert (device.state, device.why) == (State.REFUSED, "no session within 1 s")


@pytest.mark.parametrize("of_tunnels", [False, True])
async def test_a_refusal_is_final(of_tunnels: bool) -> None:
    """Whether CreateSession or UpdateTunnelIds is refused, the device hears why and is not attached."""
    async with an_mme() as (mme, sessiond, _):
        sessiond.refuses_tunnels = of_tunnels
        sessiond.refusals = [] if of_tunnels else [(grpc.StatusCode.ABORTED, "no")]
        device = await mme.attach(SUBSCRIBER)
        assert device.state is State.REFUSED
        assert device.why.startswith("ABORTED: ")
        assert mme.devices.addresses() == set()


async def test_a_device_detaches_once() -> None:
    """The session is ended by subscriber and access point; a second detach says nothing."""
    async with an_mme() as (mme, sessiond, _):
        await mme.attach_all([SUBSCRIBER, OTHER])
        await mme.detach(SUBSCRIBER)
        await mme.detach(SUBSCRIBER)
        await mme.detach("IMSI999999")
        assert [(end.sid.id, end.apn) for end in sessiond.ended] == [(SUBSCRIBER, "magma.ipv4")]
        await mme.detach_all()
        assert [end.sid.id for end in sessiond.ended] == [SUBSCRIBER, OTHER]
        assert {device.state for device in mme.devices} == {State.DETACHED}


async def test_a_detach_that_is_refused_is_remembered() -> None:
    """The device is gone all the same, and says what it heard."""
    async with an_mme() as (mme, sessiond, _):
        device = await mme.attach(SUBSCRIBER)
        sessiond.refusals = [(grpc.StatusCode.FAILED_PRECONDITION, "Session not found")]
        await mme.detach(SUBSCRIBER)
        assert (device.state, device.why) == (State.DETACHED, "FAILED_PRECONDITION: Session not found")


async def test_a_rule_gets_a_bearer() -> None:
    """Each rule has a bearer with tunnel ends of its own, and sessiond hears of it; asked again it is the same one."""
    async with an_mme() as (mme, sessiond, spgw):
        await mme.attach(SUBSCRIBER)
        await spgw.CreateBearer(create_bearer("voice", "game"))
        bound = [await asyncio.wait_for(sessiond.bindings.get(), 10) for _ in range(2)]
        assert sorted((b.policy_rule_id, b.linked_bearer_id, b.bearer_id) for b in bound) == [
            ("game", 5, 7),
            ("voice", 5, 6),
        ]
        assert len({b.teids.enb_teid for b in bound}) == 2
        await spgw.CreateBearer(create_bearer("voice"))
        assert (await asyncio.wait_for(sessiond.bindings.get(), 10)) in bound


async def test_there_are_eleven_bearers() -> None:
    """When all are taken, or the device is unknown, the answer is bearer 0."""
    async with an_mme() as (mme, sessiond, spgw):
        await mme.attach(SUBSCRIBER)
        await spgw.CreateBearer(create_bearer(*(f"rule-{number}" for number in range(11))))
        numbers = [(await asyncio.wait_for(sessiond.bindings.get(), 10)).bearer_id for _ in range(11)]
        assert sorted(numbers) == [0, *range(6, 16)]
        await spgw.CreateBearer(create_bearer("voice", subscriber=OTHER))
        assert (await asyncio.wait_for(sessiond.bindings.get(), 10)).bearer_id == 0


async def test_bearers_are_taken_down() -> None:
    """A dedicated bearer goes and its number is free again; with the default bearer the device goes."""
    async with an_mme() as (mme, _, spgw):
        device = await mme.attach(SUBSCRIBER)
        mme.devices.dedicate(device, "voice")
        await spgw.DeleteBearer(delete_bearer(6))
        assert (set(device.bearers), device.state) == ({5}, State.ATTACHED)
        await spgw.DeleteBearer(delete_bearer(5))
        assert (device.state, mme.devices.addresses()) == (State.DROPPED, set())


async def test_a_late_deletion_leaves_the_next_device_alone() -> None:
    """A device that came back has another address, which the request does not name."""
    async with an_mme() as (mme, _, spgw):
        await mme.attach(SUBSCRIBER)
        again = await mme.attach(SUBSCRIBER)
        await spgw.DeleteBearer(delete_bearer(5))
        assert again.state is State.ATTACHED
