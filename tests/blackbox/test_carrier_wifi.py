"""Carrier wifi with the real daemon: what AAA server and pipelined hear from a device's first packet to its last."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import pytest
from google.protobuf.message import Message

from sessiond.pb.aaa.protos import accounting_pb2
from sessiond.pb.magma.lte import pipelined_pb2, session_context_pb2, session_manager_pb2
from sessiond.pb.magma.lte.session_proxy_pb2 import CreateSessionRequest, CreateSessionResponse
from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import EPOCH, End, Tunnels, sid
from tests.blackbox.peers import answering
from tests.southbound.fakes import FakePeer, served
from tests.store.servers import Server, binary_of, closing_down

pytestmark = pytest.mark.blackbox

M = TypeVar("M", bound=Message)
SUBSCRIBER: Final = "IMSI001010000000077"
MAC: Final = "01:a1:20:c2:0f:bb"
RULES: Final = (
    {"id": "surf", "monitoring_key": "c3VyZg==", "tracking_type": "ONLY_PCRF", "priority": 10},
    {"id": "portal", "tracking_type": "NO_TRACKING", "priority": 20},
)


class Wifi:
    """A carrier wifi gateway: the daemon, and one server that plays AAA server and pipelined for it."""

    def __init__(self, whole: Gateway, fake: FakePeer, refused: set[str]) -> None:
        self.whole = whole
        self.refused = refused
        """The methods that are refused."""
        self._fake = fake

    async def heard(self, method: str, kind: Callable[[], M], count: int = 1) -> list[M]:
        """Return the requests to a method as soon as there are so many."""

        def found() -> list[bytes]:
            requests = [request for name, request in self._fake.calls if name == method]
            return requests if len(requests) >= count else []

        octets = await self.whole.changes.until(found, f"{count} calls of {method}")
        messages = [kind() for _ in octets]
        for message, content in zip(messages, octets, strict=True):
            message.ParseFromString(content)
        return messages

    def methods(self) -> list[str]:
        """Return what was heard so far, in order."""
        return self._fake.methods()

    async def create(self, apn: str = "03-21-00-02-00-20:Magma") -> str:
        """Let the device ask for a session."""
        common = session_context_pb2.CommonSessionContext(
            sid=sid(SUBSCRIBER), apn=apn, rat_type=session_context_pb2.TGPP_WLAN, msisdn=b"4977"
        )
        wlan = session_context_pb2.WLANSessionContext(mac_addr=MAC, radius_session_id="radius-77")
        specific = session_context_pb2.RatSpecificContext(wlan_context=wlan)
        request = session_manager_pb2.LocalCreateSessionRequest(common_context=common, rat_specific_context=specific)
        return (await self.whole.sessions.CreateSession(request)).session_id

    async def attach(self, *rules: str) -> str:
        """Let the device be connected, with these rules; the AAA server knows neither bearer nor tunnel."""

        def answer(request: CreateSessionRequest) -> CreateSessionResponse:
            response = CreateSessionResponse(session_id=request.session_id)
            for rule in rules:
                response.static_rules.add(rule_id=rule)
            return response

        self.whole.policy.create.behaviour = answering(answer)
        key = await self.create()
        await self.whole.sessions.UpdateTunnelIds(Tunnels(sid=sid(SUBSCRIBER)))
        return key

    async def quota_states(self, count: int) -> list[int]:
        """Return the numbers of the quota states that were heard, as soon as there are so many."""
        kind = pipelined_pb2.UpdateSubscriberQuotaStateRequest
        requests = await self.heard("UpdateSubscriberQuotaState", kind, count)
        return [update.update_type for request in requests for update in request.updates]


@asynccontextmanager
async def wifi(folder: Path, **config: Any) -> AsyncIterator[Wifi]:
    """Run a carrier wifi gateway that watches wallets."""
    told: list[Gateway] = []
    refused: set[str] = set()

    async def behave(_: bytes, context: Any) -> bytes:
        for whole in told:
            whole.changes.tell()
        if fake.calls[-1][0] in refused:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it is starting")
        return b""

    fake = FakePeer(behave)
    settings: dict[str, Any] = {
        "support_carrier_wifi": True,
        "enable_ipfix": True,
        "wallet_exhaust_detection": {"terminate_on_exhaust": True},
        **config,
    }
    async with served(fake) as (address, _):
        peers = {"aaa": address, "pipelined": address, "spgw": None}
        async with gateway(
            folder, down=("pipelined", "spgw"), rules=RULES, set_up=False, peers=peers, **settings
        ) as whole:
            told.append(whole)
            await whole.set_up()
            yield Wifi(whole, fake, refused)


async def test_a_device_comes_and_goes(tmp_path: Path) -> None:
    """Flows, flow records and quota state; then all of it down, and the end reported. The device left by itself."""
    async with wifi(tmp_path) as at:
        key = await at.attach("surf")
        (activate,) = await at.heard("ActivateFlows", pipelined_pb2.ActivateFlowsRequest)
        assert (activate.sid.id, activate.ip_addr) == (SUBSCRIBER, "")
        assert [policy.rule.id for policy in activate.policies] == ["surf"]
        (export,) = await at.heard("UpdateIPFIXFlow", pipelined_pb2.UEMacFlowRequest)
        assert (export.mac_addr, export.ap_mac_addr, export.ap_name) == (MAC, "03-21-00-02-00-20", "Magma")
        assert await at.quota_states(1) == [0]
        await at.whole.sessions.EndSession(End(sid=sid(SUBSCRIBER), apn="03-21-00-02-00-20:Magma"))
        assert await at.quota_states(2) == [0, 2]
        (forgotten,) = await at.heard("DeleteUEMacFlow", pipelined_pb2.UEMacFlowRequest)
        assert (forgotten.sid.id, forgotten.mac_addr) == (SUBSCRIBER, MAC)
        await at.whole.report()
        (end,) = await at.whole.policy.terminate.asked()
        assert end.session_id == key
        assert "terminate_session" not in at.methods()


async def test_a_device_that_comes_again_keeps_its_session(tmp_path: Path) -> None:
    """Whatever it says of itself now; the policy side is not asked, and the flow records begin where they began.

    reference: SessionManagerHandlerTest.test_create_session_cfg.
    """
    async with wifi(tmp_path) as at:
        key = await at.attach("surf")
        assert await at.create(apn="other") == key
        first, second = await at.heard("UpdateIPFIXFlow", pipelined_pb2.UEMacFlowRequest, 2)
        assert second.ap_name == "other"
        assert second.pdp_start_time <= first.pdp_start_time
        assert list((await at.whole.states())[SUBSCRIBER]) == ["other"]
        assert len(at.whole.policy.create.requests) == 1


async def test_an_empty_wallet_disconnects_the_device(tmp_path: Path) -> None:
    """Without a monitored rule there is a time of grace, then the AAA server is told to end it."""
    async with wifi(tmp_path, cwf_quota_exhaustion_termination_on_init_ms=100) as at:
        await at.attach("portal")
        assert await at.quota_states(2) == [1, 2]
        (ended,) = await at.heard("terminate_session", accounting_pb2.terminate_session_request)
        assert (ended.imsi, ended.radius_session_id) == (SUBSCRIBER, "radius-77")


async def test_pipelined_starts_again(tmp_path: Path) -> None:
    """It is told the devices and their quota too."""
    async with wifi(tmp_path) as at:
        await at.attach("surf")
        await at.quota_states(1)
        await at.whole.set_up(EPOCH + 1)
        (macs,) = await at.heard("SetupUEMacFlows", pipelined_pb2.SetupUEMacRequest)
        assert (macs.epoch, [request.mac_addr for request in macs.requests]) == (EPOCH + 1, [MAC])
        assert await at.quota_states(2) == [0, 0]


async def test_after_a_restart_the_aaa_server_is_told_which_sessions_stand(tmp_path: Path) -> None:
    """As soon as it is back, however late; until then the sessions go on, and none is ended."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    with closing_down(server):
        server.start()
        async with wifi(tmp_path, store={"url": server.url}) as at:
            key = await at.attach("surf")
            await at.whole.daemon.stop(signal.SIGKILL)
            at.refused.add("add_sessions")
            await at.whole.start()
            await at.whole.daemon.logged("reconciliation_waits", peer="aaa", status="UNAVAILABLE", count=2)
            assert list(await at.whole.states()) == [SUBSCRIBER]
            at.refused.clear()
            await at.whole.daemon.logged("wifi_sessions_told", sessions=1)
            (*_, told) = await at.heard("add_sessions", accounting_pb2.add_sessions_request)
            (session,) = told.sessions
            assert (session.imsi, session.session_id, session.acct_session_id) == (SUBSCRIBER, "radius-77", key)
            assert session.mac_addr == MAC
