"""Carrier wifi over real connections: what the AAA server and pipelined are sent (southbound.md 2.3, 2.6 and 7)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import pytest
import structlog
from grpc import StatusCode, aio
from msgspec import structs

from sessiond.app.ports.peers import SetupResult
from sessiond.core.effects import DeactivateFlows, ExportFlows, QuotaState, UpdateQuotaState
from sessiond.core.errors import PeerFailed
from sessiond.core.lifecycle import State
from sessiond.core.rules import Installed, Rule, Teids
from sessiond.core.session import Context, Gateway, Head, LteContext, Rat, Session, WlanContext
from sessiond.pb.aaa.protos import accounting_pb2
from sessiond.pb.magma.lte import pipelined_pb2
from sessiond.southbound.absent import NoDataPlane, NoWifi
from sessiond.southbound.access.aaa import Aaa
from sessiond.southbound.pipelined import messages
from sessiond.southbound.pipelined.peer import Pipelined
from tests.southbound import fakes, recorded
from tests.southbound.fakes import FakePeer
from tests.southbound.recorded import content
from tests.southbound.test_peers import CATALOGUE, talking

BEGAN_S: Final = 1_700_000_000
EPOCH: Final = 145
ACCESS_POINT: Final = "03-21-00-02-00-20:Magma"
FlowResponse = pipelined_pb2.FlowResponse
SetupFlowsResult = pipelined_pb2.SetupFlowsResult


def surfing(number: int = 1, state: State = State.ACTIVE, quota: QuotaState | None = None, **fields: Any) -> Session:
    """Return a carrier wifi session."""
    wlan = WlanContext(mac_addr=f"01:a1:20:c2:0f:b{number}", radius_session_id=f"radius-{number}")
    known = {"apn": ACCESS_POINT, "msisdn": f"555010000{number}", "rat": Rat.WLAN, "wlan": wlan, **fields}
    context = Context(subscriber=f"IMSI00101000000000{number}", **known)
    return Session(
        key=f"{context.subscriber}-{number}",
        type="wlan",
        scope=context.subscriber,
        head=Head(state=state, created_at_ms=BEGAN_S * 1000 + number),
        context=context,
        gateway=Gateway(quota_state=quota),
        rules={"static_nt": Rule(version=1, gx=Installed())},
    )


class TestAaa:
    """The AAA server (`aaa.protos.accounting`)."""

    async def test_an_end_names_subscriber_and_radius_session(self) -> None:
        """The names are those that the AAA server gave us, with the prefix it uses."""
        fake = FakePeer()
        async with talking(Aaa, fake) as peer:
            await peer.terminate(surfing(3))
        assert fake.methods() == ["terminate_session"]
        request = fake.request("terminate_session", accounting_pb2.terminate_session_request)
        assert content(request) == {"radius_session_id": "radius-3", "imsi": "IMSI001010000000003"}

    async def test_an_end_without_a_radius_session(self) -> None:
        """A session of which the AAA server said nothing more is ended by its subscriber."""
        fake = FakePeer()
        async with talking(Aaa, fake) as peer:
            await peer.terminate(surfing(wlan=None))
        request = fake.request("terminate_session", accounting_pb2.terminate_session_request)
        assert content(request) == {"imsi": "IMSI001010000000001"}

    async def test_after_a_restart_it_is_told_who_stands(self) -> None:
        """One call has every carrier wifi session, under the names of both sides."""
        fake = FakePeer()
        async with talking(Aaa, fake) as peer:
            await peer.add_sessions([surfing(1), recorded.session("lte-1"), surfing(2, apn="plain")])
        request = fake.request("add_sessions", accounting_pb2.add_sessions_request)
        assert content(request)["sessions"] == [
            {
                "imsi": "IMSI001010000000001",
                "session_id": "radius-1",
                "acct_session_id": "IMSI001010000000001-1",
                "mac_addr": "01:a1:20:c2:0f:b1",
                "msisdn": "5550100001",
                "apn": ACCESS_POINT,
            },
            {
                "imsi": "IMSI001010000000002",
                "session_id": "radius-2",
                "acct_session_id": "IMSI001010000000002-2",
                "mac_addr": "01:a1:20:c2:0f:b2",
                "msisdn": "5550100002",
                "apn": "plain",
            },
        ]

    @pytest.mark.parametrize("state", [State.CREATING, State.CLOSING, State.CLOSED])
    async def test_what_does_not_stand_is_not_told(self, state: State) -> None:
        """A session that has not begun or is about to go is not brought back; without any there is no call."""
        fake = FakePeer()
        async with talking(Aaa, fake) as peer:
            await peer.add_sessions([])
            await peer.add_sessions([recorded.session("lte-1"), surfing(1, state), surfing(2, wlan=None)])
        assert fake.calls == []

    @pytest.mark.parametrize("call", ["terminate", "add_sessions"])
    async def test_a_refusal_is_told_to_the_caller(self, call: str) -> None:
        """What to do about it is decided elsewhere."""
        async with talking(Aaa, FakePeer(_refuse)) as peer:
            with pytest.raises(PeerFailed, match="no such session") as caught:
                await _CALLS[call](peer)
        assert (caught.value.status, caught.value.answered, caught.value.reached) == ("NOT_FOUND", True, True)

    @pytest.mark.parametrize("call", ["terminate", "add_sessions"])
    async def test_silence_has_an_end(self, call: str) -> None:
        """A server that says nothing is waited for as long as was configured."""
        async with fakes.silent_peer() as address:
            peer = Aaa(address, 50)
            with pytest.raises(PeerFailed) as caught:
                await _CALLS[call](peer)
            await peer.close()
        assert (caught.value.status, caught.value.answered) == ("DEADLINE_EXCEEDED", False)


class TestPipelined:
    """What pipelined is told of devices beside their flows."""

    @pytest.mark.parametrize(
        ("session", "expected"),
        [
            (
                surfing(),
                {
                    "sid": {"id": "IMSI001010000000001"},
                    "mac_addr": "01:a1:20:c2:0f:b1",
                    "msisdn": "5550100001",
                    "ap_mac_addr": "03-21-00-02-00-20",
                    "ap_name": "Magma",
                    "pdp_start_time": "1700000009",
                },
            ),
            (
                surfing(apn="internet", rat=Rat.LTE, wlan=None, lte=LteContext()),
                {
                    "sid": {"id": "IMSI001010000000001"},
                    "mac_addr": "11:11:11:11:11:11",
                    "msisdn": "5550100001",
                    "ap_name": "internet",
                    "pdp_start_time": "1700000009",
                },
            ),
        ],
        ids=["wlan", "lte"],
    )
    async def test_flows_are_exported(self, session: Session, expected: Mapping[str, object]) -> None:
        """The device goes with its access point; one without a MAC address has the one that stands for none."""
        fake = FakePeer()
        async with talking(Pipelined, fake) as peer:
            await peer.export_flows(session, ExportFlows(began_at_ms=1_700_000_009_999))
        assert fake.methods() == ["UpdateIPFIXFlow"]
        assert content(fake.request("UpdateIPFIXFlow", pipelined_pb2.UEMacFlowRequest)) == expected

    async def test_a_mac_address_is_forgotten(self) -> None:
        """It goes by subscriber and address, nothing else."""
        fake = FakePeer()
        async with talking(Pipelined, fake) as peer:
            await peer.delete_mac_flow(surfing(2))
        assert fake.methods() == ["DeleteUEMacFlow"]
        request = fake.request("DeleteUEMacFlow", pipelined_pb2.UEMacFlowRequest)
        assert content(request) == {"sid": {"id": "IMSI001010000000002"}, "mac_addr": "01:a1:20:c2:0f:b2"}

    @pytest.mark.parametrize(
        ("state", "number"), [(QuotaState.VALID_QUOTA, 0), (QuotaState.NO_QUOTA, 1), (QuotaState.TERMINATE, 2)]
    )
    async def test_a_quota_state_is_told(self, state: QuotaState, number: int) -> None:
        """One update, with the number that pipelined knows the state by."""
        fake = FakePeer()
        async with talking(Pipelined, fake) as peer:
            await peer.update_quota_state(surfing(), UpdateQuotaState(state=state))
        request = fake.request("UpdateSubscriberQuotaState", pipelined_pb2.UpdateSubscriberQuotaStateRequest)
        (update,) = request.updates
        assert (update.sid.id, update.mac_addr) == ("IMSI001010000000001", "01:a1:20:c2:0f:b1")
        assert update.update_type == number

    @pytest.mark.parametrize("call", ["export_flows", "delete_mac_flow", "update_quota_state"])
    async def test_a_failure_that_is_answered_is_for_the_log(self, call: str) -> None:
        """Only the status decides (southbound.md 2.2); the same call would not do better the next time."""
        failed = FlowResponse(result=FlowResponse.FAILURE)
        fake = FakePeer(UpdateIPFIXFlow=failed, DeleteUEMacFlow=failed, UpdateSubscriberQuotaState=failed)
        with structlog.testing.capture_logs() as logs:
            async with talking(Pipelined, fake) as peer:
                await _CALLS[call](peer)
        assert [entry["result"] for entry in logs] == [FlowResponse.FAILURE]

    @pytest.mark.parametrize("call", ["export_flows", "delete_mac_flow", "update_quota_state"])
    async def test_a_refusal_is_told_to_the_caller(self, call: str) -> None:
        """Status and text are those of pipelined."""
        async with talking(Pipelined, FakePeer(_refuse)) as peer:
            with pytest.raises(PeerFailed, match="no such session"):
                await _CALLS[call](peer)

    @pytest.mark.parametrize("call", ["export_flows", "delete_mac_flow", "update_quota_state"])
    async def test_silence_has_an_end(self, call: str) -> None:
        """A pipelined that says nothing is waited for as long as was configured."""
        async with fakes.silent_peer() as address:
            peer = Pipelined(address, 50)
            with pytest.raises(PeerFailed) as caught:
                await _CALLS[call](peer)
            await peer.close()
        assert (caught.value.status, caught.value.answered) == ("DEADLINE_EXCEEDED", False)

    async def test_the_end_of_a_session_goes_without_a_tunnel(self) -> None:
        """Over wifi there is neither tunnel nor address: the subscriber alone says whose flows go."""
        fake = FakePeer()
        session = surfing()
        async with talking(Pipelined, fake) as peer:
            await peer.deactivate(session, DeactivateFlows(teids=Teids(), everything=True))
        request = fake.request("DeactivateFlows", pipelined_pb2.DeactivateFlowsRequest)
        assert content(request) == {
            "sid": {"id": "IMSI001010000000001"},
            "request_origin": {"type": "WILDCARD"},
            "remove_default_drop_flows": True,
        }


class TestSetUp:
    """What pipelined is told of devices when it starts."""

    async def test_all_of_carrier_wifi(self) -> None:
        """Rules with versions, devices and quota states of all sessions, each with its own.

        reference: LocalEnforcerTest.test_pipelined_cwf_setup.
        """
        fake = FakePeer()
        sessions = [surfing(1, quota=QuotaState.VALID_QUOTA), surfing(2, quota=QuotaState.NO_QUOTA, apn="plain")]
        async with talking(Pipelined, fake) as peer:
            assert await set_up(peer, [recorded.session("lte"), *sessions]) is SetupResult.SUCCESS
        assert sorted(fake.methods()[:3]) == ["SetupDefaultControllers", "SetupPolicyFlows", "SetupUEMacFlows"]
        assert fake.methods()[3:] == ["UpdateSubscriberQuotaState"]
        macs = fake.request("SetupUEMacFlows", pipelined_pb2.SetupUEMacRequest)
        assert macs.epoch == EPOCH
        assert [content(request) for request in macs.requests] == [
            {
                "sid": {"id": "IMSI001010000000001"},
                "mac_addr": "01:a1:20:c2:0f:b1",
                "msisdn": "5550100001",
                "ap_mac_addr": "03-21-00-02-00-20",
                "ap_name": "Magma",
                "pdp_start_time": str(BEGAN_S),
            },
            {
                "sid": {"id": "IMSI001010000000002"},
                "mac_addr": "01:a1:20:c2:0f:b2",
                "msisdn": "5550100002",
                "ap_name": "plain",
                "pdp_start_time": str(BEGAN_S),
            },
        ]
        quota = fake.request("UpdateSubscriberQuotaState", pipelined_pb2.UpdateSubscriberQuotaStateRequest)
        assert [(update.sid.id, update.mac_addr, update.update_type) for update in quota.updates] == [
            ("IMSI001010000000001", "01:a1:20:c2:0f:b1", 0),
            ("IMSI001010000000002", "01:a1:20:c2:0f:b2", 1),
        ]
        policies = fake.request("SetupPolicyFlows", pipelined_pb2.SetupPolicyRequest)
        told = [(request.sid.id, [policy.version for policy in request.policies]) for request in policies.requests[2:]]
        assert told == [(session.scope, versions) for session in sessions for versions in ([1], [])]

    async def test_without_wifi_there_is_nothing_of_it(self) -> None:
        """An LTE gateway's pipelined has no such services."""
        fake = FakePeer()
        session = structs.replace(recorded.session("lte"), gateway=Gateway(quota_state=QuotaState.VALID_QUOTA))
        async with talking(Pipelined, fake) as peer:
            await set_up(peer, [session])
        assert sorted(fake.methods()) == ["SetupDefaultControllers", "SetupPolicyFlows"]

    @pytest.mark.parametrize("state", [State.CREATING, State.CLOSING, State.CLOSED])
    async def test_devices_that_are_about_to_go_are_not_brought_back(self, state: State) -> None:
        """Their MAC flow may have been deleted already, and nobody would delete it again."""
        fake = FakePeer()
        sessions = [surfing(1, state, QuotaState.TERMINATE)]
        async with talking(Pipelined, fake) as peer:
            assert await set_up(peer, sessions) is SetupResult.SUCCESS
        assert not fake.request("SetupUEMacFlows", pipelined_pb2.SetupUEMacRequest).requests
        assert "UpdateSubscriberQuotaState" not in fake.methods()

    async def test_of_whom_nothing_was_said_nothing_is_said(self) -> None:
        """Without a watched wallet there are no quota states."""
        fake = FakePeer()
        async with talking(Pipelined, fake) as peer:
            await set_up(peer, [surfing()])
        assert "UpdateSubscriberQuotaState" not in fake.methods()

    @pytest.mark.parametrize(("said", "expected"), [(1, SetupResult.FAILURE), (2, SetupResult.OUTDATED_EPOCH)])
    async def test_devices_are_part_of_the_result(self, said: int, expected: SetupResult) -> None:
        """A pipelined that does not know the devices is not set up, and is not told of their quota either."""
        result = SetupFlowsResult(result=SetupFlowsResult.Result.ValueType(said))
        fake = FakePeer(SetupUEMacFlows=result)
        async with talking(Pipelined, fake) as peer:
            assert await set_up(peer, [surfing(quota=QuotaState.NO_QUOTA)]) is expected
        assert "UpdateSubscriberQuotaState" not in fake.methods()

    @pytest.mark.parametrize("failing", ["SetupDefaultControllers", "SetupPolicyFlows", "SetupUEMacFlows"])
    async def test_a_call_that_fails_fails_the_setup(self, failing: str) -> None:
        """All three are made, and one that is refused is enough to try all again."""
        fake = _refusing(failing)
        async with talking(Pipelined, fake) as peer:
            with pytest.raises(PeerFailed, match="no such session"):
                await set_up(peer, [surfing(quota=QuotaState.NO_QUOTA)])
        assert sorted(fake.methods()) == ["SetupDefaultControllers", "SetupPolicyFlows", "SetupUEMacFlows"]

    async def test_quota_states_decide_nothing(self) -> None:
        """A pipelined that does not take them is set up all the same: sessions may be created (southbound.md 2.3)."""
        fake = _refusing("UpdateSubscriberQuotaState")
        with structlog.testing.capture_logs() as logs:
            async with talking(Pipelined, fake) as peer:
                result = await set_up(peer, [surfing(quota=QuotaState.NO_QUOTA)])
        assert result is SetupResult.SUCCESS
        assert [(entry["event"], entry["status"]) for entry in logs] == [("quota_states_not_set_up", "NOT_FOUND")]


async def set_up(peer: Pipelined, sessions: Sequence[Session]) -> SetupResult:
    """Set pipelined up, with quota states if that went well."""
    result = await peer.set_up(EPOCH, sessions, CATALOGUE)
    if result is SetupResult.SUCCESS:
        await peer.set_up_quota_states(sessions)
    return result


@pytest.mark.parametrize(
    ("apn", "expected"),
    [
        ("03-21-00-02-00-20:Magma", ("03-21-00-02-00-20", "Magma")),
        ("03-21-00-02-00-20:", ("03-21-00-02-00-20", "")),
        ("03-21-00-02-00-20:two:names", ("03-21-00-02-00-20", "two:names")),
        ("aB-cD-00-02-00-20:Magma", ("aB-cD-00-02-00-20", "Magma")),
        ("03-0BLAHBLAH0-00-02-00-20:ThisIsNotOkay", ("", "03-0BLAHBLAH0-00-02-00-20:ThisIsNotOkay")),
        ("03:21:00:02:00:20:Magma", ("", "03:21:00:02:00:20:Magma")),
        ("03-21-00-02-00-2\u0660:Magma", ("", "03-21-00-02-00-2\u0660:Magma")),
        ("03-21-00-02-00-20-11:Magma", ("", "03-21-00-02-00-20-11:Magma")),
        ("03-21-00-02-00-20", ("", "03-21-00-02-00-20")),
        ("Magma", ("", "Magma")),
        ("", ("", "")),
    ],
)
def test_access_point_of_an_apn(apn: str, expected: tuple[str, str]) -> None:
    """A MAC address before the first colon is the access point's; otherwise all is its name.

    reference: LocalEnforcerTest.test_valid_apn_parsing, test_invalid_apn_parsing.
    """
    assert messages.access_point(apn) == expected


async def test_nobody_is_missed_where_there_is_no_wifi() -> None:
    """Without an AAA server or pipelined, what they would be told is dropped, and said once."""
    wifi, data_plane = NoWifi(), NoDataPlane()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            await wifi.terminate(surfing())
            await wifi.add_sessions([surfing()])
            await data_plane.export_flows(surfing(), ExportFlows(began_at_ms=1))
            await data_plane.delete_mac_flow(surfing())
            await data_plane.update_quota_state(surfing(), UpdateQuotaState(state=QuotaState.NO_QUOTA))
    await wifi.close()
    assert [entry["peer"] for entry in logs] == ["aaa", "pipelined"]


_CALLS: dict[str, Callable[[Any], Awaitable[None]]] = {
    "terminate": lambda peer: peer.terminate(surfing()),
    "add_sessions": lambda peer: peer.add_sessions([surfing()]),
    "export_flows": lambda peer: peer.export_flows(surfing(), ExportFlows(began_at_ms=1)),
    "delete_mac_flow": lambda peer: peer.delete_mac_flow(surfing()),
    "update_quota_state": lambda peer: peer.update_quota_state(surfing(), UpdateQuotaState(state=QuotaState.NO_QUOTA)),
}


async def _refuse(_: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
    await context.abort(StatusCode.NOT_FOUND, "no such session")
    return b""


def _refusing(method: str) -> FakePeer:
    """Return a peer that refuses one method and answers every other with success."""
    fake = FakePeer()

    async def behave(request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        return await _refuse(request, context) if fake.calls[-1][0] == method else b""

    fake.behaviour = behave
    return fake
