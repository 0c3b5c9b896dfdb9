"""Peers that are down, hang, refuse, come back or were never there: what callers hear, and what is left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from sessiond.pb.magma.lte.pipelined_pb2 import SetupFlowsResult
from sessiond.pb.magma.lte.policy_pb2 import FlowQos
from sessiond.pb.magma.lte.session_proxy_responder_pb2 import PolicyReAuthRequest
from tests.blackbox.harness import PEERS, Gateway, Refusal, gateway, refusal
from tests.blackbox.messages import EPOCH, GRANT, Device, amounts
from tests.blackbox.peers import PATIENCE_S, answering, hanging, refusing

pytestmark = pytest.mark.blackbox

Code = grpc.StatusCode
NOT_READY = Refusal(Code.UNAVAILABLE, "PipelineD is not ready", "DATA_PLANE_NOT_READY", (), 1000)
BYSTANDERS = ("spgw", "directoryd", "eventd")
DEADLINE_S = 6.0


async def repeated_until_ok(call: Callable[[], Awaitable[str]]) -> str:
    """Return what a call returns once it succeeds; until then it may only be UNAVAILABLE."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is not Code.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def took(at_least_s: float, at_most_s: float) -> AsyncIterator[None]:
    """Hold how long something takes against what it should."""
    now = asyncio.get_running_loop().time
    began = now()
    yield
    assert at_least_s <= now() - began <= at_most_s


async def is_asked_again(whole: Gateway, device: Device) -> None:
    """Hold that a create that failed left nothing: the next one asks the policy side anew, for another session."""
    assert await whole.states() == {}
    before = {request.session_id for request in whole.policy.create.requests}
    session_id = await repeated_until_ok(lambda: whole.create(device))
    assert session_id not in before
    (record,) = await whole.directoryd.write.asked()
    assert record.fields["session_id"] == session_id
    assert whole.policy.create.requests[-1].session_id == session_id
    assert whole.policy.terminate.requests == []


async def test_create_without_a_policy_controller(tmp_path: Path) -> None:
    """While nobody listens there, creating is UNAVAILABLE at once; when somebody does, it works without a restart."""
    device = Device(1)
    async with gateway(tmp_path, down=["session_proxy"]) as whole:
        async with took(0, 3):
            refused = await refusal(whole.sessions.CreateSession(device.create()))
        assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "PEER_UNAVAILABLE")
        event = await whole.eventd.heard("session_create_failure", device.subscriber)
        assert "Failed to initialize session in SessionProxy/PolicyDB" in event.value
        await whole.policy.start()
        await is_asked_again(whole, device)
        assert device.subscriber in await whole.states()


async def test_create_that_the_policy_controller_refuses(tmp_path: Path) -> None:
    """Its status and text go to the caller as they are, and nothing is left behind; it need not hear of an end."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        normal = whole.policy.create.behaviour
        for code in (Code.INTERNAL, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.PERMISSION_DENIED):
            whole.policy.create.behaviour = refusing(code, "no credit, señor")
            refused = await refusal(whole.sessions.CreateSession(device.create()))
            assert refused == Refusal(code, "no credit, señor", f"PEER_{code.name}")
        await whole.eventd.heard("session_create_failure", device.subscriber)
        whole.policy.create.behaviour = normal
        await is_asked_again(whole, device)


async def test_create_that_the_policy_controller_does_not_answer(tmp_path: Path) -> None:
    """Callers hear DEADLINE_EXCEEDED in time; as the policy side may know the sessions, it is told their end."""
    devices = [Device(number) for number in range(1, 4)]
    async with gateway(tmp_path) as whole:
        normal, whole.policy.create.behaviour = whole.policy.create.behaviour, hanging
        async with took(DEADLINE_S - 0.5, DEADLINE_S + 2):
            refused = await asyncio.gather(*(refusal(whole.create(device)) for device in devices))
        assert {(each.code, each.reason) for each in refused} == {(Code.DEADLINE_EXCEEDED, "PEER_DEADLINE_EXCEEDED")}
        assert await whole.states() == {}
        ended = await whole.policy.terminate.asked(count=len(devices))
        asked = {request.session_id for request in whole.policy.create.requests}
        assert {request.session_id for request in ended} == asked
        whole.policy.create.behaviour = normal
        assert await whole.create(devices[0]) not in asked


async def test_create_while_the_policy_controller_dies(tmp_path: Path) -> None:
    """A connection that breaks in mid-call is UNAVAILABLE to the caller, and the end is told once that can be."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        normal, whole.policy.create.behaviour = whole.policy.create.behaviour, hanging
        call = asyncio.ensure_future(refusal(whole.create(device)))
        (asked,) = await whole.policy.create.asked()
        await whole.policy.kill()
        assert (await call).code in {Code.UNAVAILABLE, Code.CANCELLED}
        assert await whole.states() == {}
        whole.policy.create.behaviour = normal
        await whole.policy.start()
        (ended,) = await whole.policy.terminate.asked()
        assert ended.session_id == asked.session_id
        assert await repeated_until_ok(lambda: whole.create(device)) != asked.session_id


@pytest.mark.slow
async def test_create_of_a_caller_who_goes_away(tmp_path: Path) -> None:
    """The policy side hears the end of a session whose caller gave up; it does not stand in the way of a new one."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        normal, whole.policy.create.behaviour = whole.policy.create.behaviour, hanging
        call = asyncio.ensure_future(whole.create(device))
        (given_up,) = await whole.policy.create.asked()
        call.cancel()
        whole.policy.create.behaviour = normal
        session_id = await whole.create(device)
        (end,) = await whole.policy.terminate.asked(timeout_s=3 * DEADLINE_S)
        assert end.session_id == given_up.session_id
        assert [each["session_id"] for each in (await whole.states())[device.subscriber][device.apn]] == [session_id]


async def test_create_before_pipelined_is_set_up(tmp_path: Path) -> None:
    """Creating waits for the data plane: UNAVAILABLE, with the time after which to try again."""
    device = Device(1)
    async with gateway(tmp_path, set_up=False) as whole:
        assert await refusal(whole.create(device)) == NOT_READY
        whole.pipelined.set_up_policies.behaviour = answering(
            lambda _: SetupFlowsResult(result=SetupFlowsResult.OUTDATED_EPOCH)
        )
        await whole.report()
        await whole.daemon.logged("data_plane_epoch_outdated")
        assert await refusal(whole.create(device)) == NOT_READY
        assert whole.policy.create.requests == []
        whole.pipelined.set_up_policies.behaviour = answering(lambda _: SetupFlowsResult())
        await whole.set_up(EPOCH + 1)
        await whole.create(device)


async def test_pipelined_that_cannot_be_set_up_is_tried_again(tmp_path: Path) -> None:
    """A setup that fails is repeated after five seconds, without another word of pipelined."""
    async with gateway(tmp_path, set_up=False) as whole:
        whole.pipelined.set_up_default.behaviour = refusing(Code.UNAVAILABLE, "not yet")
        await whole.report()
        await whole.daemon.logged("data_plane_setup_failed", status="UNAVAILABLE", text="not yet")
        assert await refusal(whole.create(Device(1))) == NOT_READY
        whole.pipelined.set_up_default.behaviour = answering(lambda _: SetupFlowsResult())
        async with took(3, 9):
            await whole.daemon.logged("data_plane_set_up")
        await whole.create(Device(1))


async def test_pipelined_that_restarts(tmp_path: Path) -> None:
    """Its new epoch is set up with all flows of all sessions, and then it is used as before."""
    devices = [Device(number) for number in range(1, 4)]
    async with gateway(tmp_path) as whole:
        for device in devices:
            await whole.attach(device)
        await whole.pipelined.kill()
        await whole.pipelined.start()
        before = len(whole.pipelined.set_up_policies.requests)
        await whole.set_up(EPOCH + 60)
        request = whole.pipelined.set_up_policies.requests[before]
        installed = {(flows.ip_addr, policy.rule.id) for flows in request.requests for policy in flows.policies}
        assert installed == {(device.ue_ipv4, "web") for device in devices}
        await whole.attach(Device(9))


async def test_flows_reach_a_pipelined_that_was_away(tmp_path: Path) -> None:
    """What was to be installed and removed while it was down is done once it is back."""
    old, new = Device(1), Device(2)
    async with gateway(tmp_path) as whole:
        session_id = await whole.attach(old)
        await whole.pipelined.kill()
        await whole.create(new)
        await whole.sessions.UpdateTunnelIds(new.tunnels())
        await whole.sessions.EndSession(old.end())
        await whole.daemon.logged("peer_failed", peer="pipelined", what="ActivateFlows")
        await whole.daemon.logged("peer_failed", peer="pipelined", what="DeactivateFlows")
        assert (await whole.states())[old.subscriber][old.apn][0]["lifecycle_state"] == "SESSION_RELEASED"
        await whole.pipelined.start()
        await whole.pipelined.activate.asked(wanted=lambda request: request.ip_addr == new.ue_ipv4)
        (down,) = await whole.pipelined.deactivate.asked(wanted=lambda request: request.ip_addr == old.ue_ipv4)
        assert down.remove_default_drop_flows
        await whole.report_until_ended(session_id, new.used(5, 5))
        assert (await whole.states()).keys() == {new.subscriber}


async def test_flows_that_pipelined_refuses_end_the_session(tmp_path: Path) -> None:
    """Without its flows a session would be free of charge: it ends, and the MME drops its bearer."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        whole.pipelined.activate.behaviour = refusing(Code.INTERNAL, "no table left")
        session_id = await whole.attach(device)
        (bearer,) = await whole.spgw.delete_bearer.asked()
        assert list(bearer.eps_bearer_ids) == [device.bearer_id]
        await whole.pipelined.deactivate.asked()
        await whole.report_until_ended(session_id)
        assert await whole.states() == {}


async def test_end_reaches_a_policy_controller_that_was_away(tmp_path: Path) -> None:
    """The last report of a session that ended while it was down comes once it is back, with all usage."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        await whole.attach(device)
        await whole.report(device.used(123, 45))
        await whole.policy.kill()
        await whole.sessions.EndSession(device.end())
        while not whole.daemon.find("peer_failed", peer="session_proxy", what="TerminateSession"):
            await whole.report()
        assert await whole.states() == {}
        await whole.policy.start()
        (end,) = await whole.policy.terminate.asked()
        assert amounts(end) == [(123, 45)]


async def test_usage_reaches_a_policy_controller_that_was_away(tmp_path: Path) -> None:
    """A report that could not be sent counts as not made: its usage is in the next one, and in no other."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        await whole.attach(device)
        await whole.policy.kill()
        await whole.report(device.used(GRANT, 0))
        failure = await whole.daemon.logged("usage_report_failed", status="UNAVAILABLE")
        assert failure["sessions"] == 1
        await whole.eventd.log.asked(wanted=lambda event: event.event_type == "session_update_failure")
        await whole.policy.start()

        async def reported() -> None:
            await whole.report(device.used(GRANT + 7, 0))
            await whole.changes.until(lambda: whole.policy.update.requests, "an update", timeout_s=1)

        for _ in range(10):  # the connection may take a second to be made again
            try:
                await reported()
                break
            except AssertionError:
                continue
        await whole.eventd.heard("session_updated", device.subscriber)
        assert [u.usage.bytes_tx for request in whole.policy.update.requests for u in request.updates] == [GRANT + 7]
        assert amounts(await whole.detach(device)) == [(0, 0)]


async def test_bearers_reach_an_mme_that_was_away(tmp_path: Path) -> None:
    """What the MME is asked for while it is down, it is asked for once it is back."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        session_id = await whole.attach(device)
        await whole.spgw.kill()
        request = PolicyReAuthRequest(imsi=device.subscriber, session_id=session_id)
        request.dynamic_rules_to_install.add().policy_rule.id = "voice"
        request.dynamic_rules_to_install[0].policy_rule.qos.qci = FlowQos.QCI_1
        await whole.responder.PolicyReAuth(request)
        await whole.daemon.logged("peer_failed", peer="spgw")
        await whole.spgw.start()
        (wanted,) = await whole.spgw.create_bearer.asked()
        assert [rule.id for rule in wanted.policy_rules] == ["voice"]


async def test_bystanders_that_come_back_are_used_again(tmp_path: Path) -> None:
    """A record or an event that comes late is old and dropped; the next ones arrive without a restart."""
    devices = map(Device, count(1))
    async with gateway(tmp_path) as whole:
        await whole.attach(next(devices))
        await asyncio.gather(whole.directoryd.kill(), whole.eventd.kill())
        await whole.attach(next(devices))
        for name in ("directoryd", "eventd"):
            await whole.daemon.logged("peer_failed", peer=name)
        await asyncio.gather(whole.directoryd.start(), whole.eventd.start())
        written, heard = len(whole.directoryd.write.requests), len(whole.eventd.log.requests)
        async with asyncio.timeout(PATIENCE_S):  # the connections may take a second to be made again
            while len(whole.directoryd.write.requests) == written or len(whole.eventd.log.requests) == heard:
                await whole.attach(next(devices))
                await asyncio.sleep(0.1)


async def test_a_session_lives_without_the_bystanders(tmp_path: Path) -> None:
    """With MME bearers, directory and events down, sessions are created, charged and ended all the same, at once."""
    device = Device(1)
    async with gateway(tmp_path, down=BYSTANDERS) as whole:
        async with took(0, 3):
            await whole.attach(device)
            await whole.report(device.used(GRANT, 0))
            await whole.policy.update.asked()
            assert amounts(await whole.detach(device)) == [(0, 0)]
        assert await whole.states() == {}


async def test_a_session_lives_with_bystanders_that_hang(tmp_path: Path) -> None:
    """Nobody waits for a directory or for events, even if these take calls and never answer."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        whole.directoryd.write.behaviour = whole.eventd.log.behaviour = hanging
        async with took(0, 3):
            await whole.attach(device)
            assert amounts(await whole.detach(device)) == [(0, 0)]


async def test_a_session_lives_where_bystanders_are_absent(tmp_path: Path) -> None:
    """Peers that are null in the configuration are not missed."""
    device = Device(1)
    async with gateway(tmp_path, peers=dict.fromkeys(BYSTANDERS)) as whole:
        await whole.attach(device)
        await whole.report(device.used(9, 9))
        assert amounts(await whole.detach(device)) == [(9, 9)]
        assert whole.daemon.find("peer_failed") == []


async def test_a_session_lives_without_a_data_plane(tmp_path: Path) -> None:
    """With pipelined: null sessions can be created from the start; their end waits for no final usage but its time."""
    device = Device(1)
    config: dict[str, Any] = {"peers": {"pipelined": None}, "session_force_termination_timeout_ms": 100}
    async with gateway(tmp_path, set_up=False, **config) as whole:
        await whole.create(device)
        await whole.sessions.UpdateTunnelIds(device.tunnels())
        await whole.sessions.EndSession(device.end())
        (end,) = await whole.policy.terminate.asked()
        assert amounts(end) == [(0, 0)]
        assert whole.pipelined.deactivate.requests == []


async def test_a_daemon_without_any_peer(tmp_path: Path) -> None:
    """With every peer null the daemon is healthy, and says which key is missing when a session is asked for."""
    async with gateway(tmp_path, set_up=False, peers=dict.fromkeys(PEERS)) as whole:
        refused = await refusal(whole.create(Device(1)))
        assert (refused.code, refused.reason) == (Code.UNAVAILABLE, "PEER_UNAVAILABLE")
        assert refused.text == "no policy controller is configured: peers.session_proxy"
        await whole.report(Device(1).used(1, 1))
        assert await whole.states() == {}
        health = await whole.health.Check(HealthCheckRequest(service=""))
        assert health.status == HealthCheckResponse.SERVING
