"""The two conversations that the reference tests over real gRPC servers, with the real daemon and their numbers."""

import json
from pathlib import Path
from typing import Final

import grpc
import pytest

from sessiond.pb.magma.lte.credit_pb2 import CreditUsage
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecord
from sessiond.pb.magma.lte.session_proxy_pb2 import CreateSessionRequest, CreateSessionResponse
from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import Create, Device, allowed, quota
from tests.blackbox.peers import answering, refusing

pytestmark = pytest.mark.blackbox

DEVICE: Final = Device(7)
IPV6: Final = "2001:db8::7"
RULES: Final = (
    {"id": "rule1", "rating_group": 1, "tracking_type": "ONLY_OCS"},
    {"id": "rule2", "rating_group": 2, "tracking_type": "ONLY_OCS"},
)


def granting(whole: Gateway, **octets: int) -> None:
    """Let the policy side allow two rules, with a grant for the rating group of each."""

    def answer(request: CreateSessionRequest) -> CreateSessionResponse:
        key = request.session_id
        quotas = [quota(key, octets["rule1"], 1), quota(key, octets["rule2"], 2)]
        return allowed(key, ["rule1", "rule2"], quotas)

    whole.policy.create.behaviour = answering(answer)


def created() -> Create:
    """Return what the MME says when the device attaches with both addresses."""
    request = DEVICE.create()
    request.common_context.ue_ipv6 = IPV6
    return request


def by_ipv6(record: RuleRecord) -> RuleRecord:
    """Return a record for the other address of the device."""
    record.ue_ipv4, record.ue_ipv6 = "", IPV6
    return record


async def test_from_attach_to_detach(tmp_path: Path) -> None:
    """Set up, create, tunnels, usage by both addresses, update, end by the timer, and the event of it.

    reference: SessiondTest.end_to_end_success.
    """
    async with gateway(tmp_path, rules=RULES, session_force_termination_timeout_ms=100) as whole:
        granting(whole, rule1=1536, rule2=1024)
        session_id = (await whole.sessions.CreateSession(created())).session_id
        await whole.sessions.UpdateTunnelIds(DEVICE.tunnels())
        (activate,) = await whole.pipelined.activate.asked()
        assert (activate.ip_addr, activate.ipv6_addr) == (DEVICE.ue_ipv4, IPV6.encode())
        assert {policy.rule.id: policy.version for policy in activate.policies} == {"rule1": 1, "rule2": 1}
        await whole.eventd.heard("session_created", DEVICE.subscriber)
        await whole.report(
            DEVICE.used(512, 512, rule="rule1"),
            by_ipv6(DEVICE.used(0, 512, rule="rule1")),
            DEVICE.used(32, 32, rule="rule2"),
        )
        (update,) = await whole.policy.update.asked()
        (report,) = update.updates
        usage = report.usage
        assert (report.session_id, report.request_number, usage.charging_key) == (session_id, 1, 1)
        assert (usage.bytes_rx, usage.bytes_tx, usage.type) == (1024, 512, CreditUsage.QUOTA_EXHAUSTED)
        await whole.eventd.heard("session_updated", DEVICE.subscriber)
        await whole.sessions.EndSession(DEVICE.end())
        (end,) = await whole.policy.terminate.asked()
        assert {usage.charging_key: (usage.bytes_tx, usage.bytes_rx) for usage in end.credit_usages} == {
            1: (0, 0),
            2: (32, 32),
        }
        terminated = await whole.eventd.heard("session_terminated", DEVICE.subscriber)
        value = json.loads(terminated.value)
        assert (value["charging_tx"], value["charging_rx"]) == (544, 1056)


async def test_the_policy_side_runs_out_of_time(tmp_path: Path) -> None:
    """A report that the policy side gives up is not made; the next one has all usage since then.

    reference: SessiondTest.end_to_end_cloud_down.
    """
    async with gateway(tmp_path, rules=RULES) as whole:
        granting(whole, rule1=1025, rule2=1024)
        await whole.sessions.CreateSession(created())
        await whole.sessions.UpdateTunnelIds(DEVICE.tunnels())
        await whole.pipelined.activate.asked()
        behaviour = whole.policy.update.behaviour
        whole.policy.update.behaviour = refusing(grpc.StatusCode.DEADLINE_EXCEEDED, "the OCS did not answer")
        await whole.report(DEVICE.used(512, 512, rule="rule1"))
        await whole.policy.update.asked(1)
        failed = await whole.eventd.log.asked(wanted=lambda event: event.event_type == "session_update_failure")
        assert "the OCS did not answer" in json.loads(failed[0].value)["failure_reason"]
        whole.policy.update.behaviour = behaviour
        await whole.report(DEVICE.used(1024, 1024, rule="rule1"))
        requests = await whole.policy.update.asked(2)
        told = [
            (update.request_number, update.usage.bytes_tx, update.usage.bytes_rx)
            for request in requests
            for update in request.updates
        ]
        assert told == [(1, 512, 512), (2, 1024, 1024)]
