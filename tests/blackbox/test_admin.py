"""The operator's view of a running daemon, over the real wire."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_policy_pb2
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.blackbox.harness import Gateway, gateway, refusal
from tests.blackbox.messages import Device
from tests.blackbox.peers import hanging

pytestmark = pytest.mark.blackbox


def admin_of(whole: Gateway) -> AdminServiceStub:
    """Return a client of the operator's service."""
    return AdminServiceStub(whole.channel)


async def status_of(whole: Gateway) -> admin_service_pb2.GetStatusResponse:
    """Return how the daemon is."""
    return await admin_of(whole).GetStatus(admin_service_pb2.GetStatusRequest())


def states_of(status: admin_service_pb2.GetStatusResponse) -> Iterator[tuple[str, str]]:
    """Yield the name and the state of each peer."""
    for peer in status.peers:
        yield peer.name, admin_service_pb2.PeerState.Name(peer.state).removeprefix("PEER_STATE_")


async def test_status_of_a_gateway(tmp_path: Path) -> None:
    """The operator sees the peers, pipelined's setup, the sessions, and what is still to be told."""
    async with gateway(tmp_path, down=["eventd"], set_up=False) as whole:
        before = await status_of(whole)
        assert (before.ready, before.draining) == (True, False)
        assert before.pipelined_setup == admin_service_pb2.SETUP_STATE_NOT_READY
        assert (before.store.kind, before.store.url) == ("memory", "memory:")
        assert before.config_file == str(whole.config_file)
        assert len(before.states) == len(session_pb2.SessionState.values()) - 1
        await whole.set_up()
        await whole.attach(Device(1))
        await whole.daemon.logged("peer_failed", peer="eventd")
        after = await status_of(whole)
        assert after.pipelined_setup == admin_service_pb2.SETUP_STATE_READY
        assert dict(states_of(after)) == {
            "session_proxy": "CONNECTED",
            "pipelined": "CONNECTED",
            "spgw": "IDLE",
            "aaa": "ABSENT",
            "directoryd": "CONNECTED",
            "eventd": "FAILING",
            "mobilityd": "ABSENT",
            "mme": "ABSENT",
        }
        (active,) = (count for count in after.states if count.state == session_pb2.SESSION_STATE_ACTIVE)
        assert active.count == 1


async def test_what_lies_beneath_a_session(tmp_path: Path) -> None:
    """Rules, quota and what it waits for, while a usage report is under way."""
    async with gateway(tmp_path) as whole:
        key = await whole.attach(Device(1))
        whole.policy.update.behaviour = hanging
        await whole.report(Device(1).used(60_000, 30_000))
        await whole.policy.update.asked()
        policy = await admin_of(whole).GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest(key=key))
        (rule,) = policy.rules
        assert (rule.id, rule.kind, rule.state) == (
            "web",
            session_policy_pb2.RULE_KIND_STATIC,
            session_policy_pb2.RULE_STATE_ACTIVE,
        )
        assert [(usage.tx_bytes, usage.rx_bytes) for usage in rule.usage] == [(60_000, 30_000)]
        buckets = policy.credits[0].quota.buckets
        assert (buckets.used_tx, buckets.reporting_tx, buckets.reported_tx) == (60_000, 60_000, 0)
        assert [pending.method for pending in policy.pending_requests] == [
            "/magma.lte.CentralSessionController/UpdateSession"
        ]
        assert (policy.session.traffic.bytes_sent, policy.session.traffic.bytes_received) == (60_000, 30_000)


async def test_a_session_that_is_not_there(tmp_path: Path) -> None:
    """It is NOT_FOUND, with the reason."""
    async with gateway(tmp_path, set_up=False) as whole:
        call = admin_of(whole).GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest(key="IMSI1-1"))
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_reload_tells_what_it_changes(tmp_path: Path) -> None:
    """Nothing changes while it is only looked; then what can change does, and the rest waits."""
    async with gateway(tmp_path) as whole:
        admin = admin_of(whole)
        whole.write_config(log_level="DEBUG", poll_stats_interval=9)
        looked = await admin.ReloadConfig(admin_service_pb2.ReloadConfigRequest(validate_only=True))
        assert (list(looked.changed_keys), list(looked.restart_keys)) == (["log_level"], ["poll_stats_interval"])
        assert (await status_of(whole)).log_level == admin_service_pb2.LOG_LEVEL_INFO
        done = await admin.ReloadConfig(admin_service_pb2.ReloadConfigRequest())
        assert done == looked
        assert (await status_of(whole)).log_level == admin_service_pb2.LOG_LEVEL_DEBUG
        again = await admin.ReloadConfig(admin_service_pb2.ReloadConfigRequest())
        assert (list(again.changed_keys), list(again.restart_keys)) == ([], ["poll_stats_interval"])


async def test_reload_of_a_broken_configuration_changes_nothing(tmp_path: Path) -> None:
    """Every problem is a violation with its line."""
    async with gateway(tmp_path) as whole:
        whole.write_config(log_level="LOUD", nonsense=1)
        refused = await refusal(admin_of(whole).ReloadConfig(admin_service_pb2.ReloadConfigRequest()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
        assert set(refused.fields) == {"log_level", "nonsense"}
        assert (await status_of(whole)).log_level == admin_service_pb2.LOG_LEVEL_INFO


async def test_a_log_level_for_some_time(tmp_path: Path) -> None:
    """It goes back by itself."""
    async with gateway(tmp_path, set_up=False) as whole:
        request = admin_service_pb2.SetLogLevelRequest(level=admin_service_pb2.LOG_LEVEL_DEBUG)
        request.duration.FromMilliseconds(200)
        answer = await admin_of(whole).SetLogLevel(request)
        assert answer.previous_level == admin_service_pb2.LOG_LEVEL_INFO
        await whole.daemon.logged("log_level_set", to="DEBUG")
        await whole.daemon.logged("log_level_set", to="INFO")


async def test_a_drain_that_comes_again(tmp_path: Path) -> None:
    """The same request is answered alike and ends nothing that has come since; its id is for no other."""
    async with gateway(tmp_path) as whole:
        admin = admin_of(whole)
        await whole.attach(Device(1))
        request = admin_service_pb2.DrainSessionsRequest(request_id="drain-1")
        drained = await admin.DrainSessions(request)
        assert (drained.matched, drained.closing) == (1, 1)
        later = await whole.attach(Device(2))
        assert await admin.DrainSessions(request) == drained
        policy = await admin.GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest(key=later))
        assert policy.session.state == session_pb2.SESSION_STATE_ACTIVE
        request.filter = "state = ACTIVE"
        refused = await refusal(admin.DrainSessions(request))
        assert (refused.reason, refused.fields) == ("REQUEST_ID_REUSED", ("request_id",))


async def test_a_gateway_is_drained(tmp_path: Path) -> None:
    """All sessions end, their ends are told, and nobody gets in until it is allowed again."""
    async with gateway(tmp_path) as whole:
        admin = admin_of(whole)
        for number in (1, 2):
            await whole.attach(Device(number))
        drained = await admin.DrainSessions(admin_service_pb2.DrainSessionsRequest(refuse_new=True))
        assert (drained.matched, drained.closing, drained.draining) == (2, 2, True)
        await whole.pipelined.deactivate.asked(2)
        assert (await status_of(whole)).draining
        refused = await refusal(whole.create(Device(3)))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        accepted = await admin.DrainSessions(
            admin_service_pb2.DrainSessionsRequest(accept_new=True, keep_sessions=True)
        )
        assert not accepted.draining
        await whole.attach(Device(3))
