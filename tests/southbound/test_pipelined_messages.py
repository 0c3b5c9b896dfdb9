"""What pipelined is told, and what it says to that."""

import pytest
from msgspec import structs

from sessiond.app.ports.peers import SetupResult, UnknownFlows
from sessiond.core.charging import RedirectServer
from sessiond.core.effects import ActivateFlows, DeactivateFlows, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.rules import Installed, PolicyRule, Rule, Teids, TrackingType
from sessiond.core.session import Context, LteContext, QosInformation
from sessiond.pb.magma.lte import pipelined_pb2, session_proxy_pb2
from sessiond.southbound.pipelined import messages
from sessiond.translate.rules import dynamic_install_from_wire, policy_rule_from_wire
from tests.southbound import recorded
from tests.southbound.recorded import SUBSCRIBER, TEIDS, content

Activate, Deactivate = pipelined_pb2.ActivateFlowsRequest, pipelined_pb2.DeactivateFlowsRequest
CATALOGUE = recorded.catalogue()
STATIC = Rule(version=1, gx=Installed())


def versioned(*ids: str, version: int = 1) -> tuple[VersionedRule, ...]:
    """Return rules, all in one version."""
    return tuple(VersionedRule(rule_id, version) for rule_id in ids)


def dynamic_rules() -> dict[str, Rule]:
    """Return the dynamic rules of the recorded session."""
    response = recorded.response("create", session_proxy_pb2.CreateSessionResponse)
    installs = map(dynamic_install_from_wire, response.dynamic_rules)
    return {install.id: Rule(version=1, gx=Installed(install.rule)) for install in installs}


def redirected() -> Rule:
    """Return the rule that the core makes for a redirection."""
    server = RedirectServer("URL", "http://portal.test/top-up")
    return Rule(version=1, gy=PolicyRule(id="redirect", tracking=TrackingType.NO_TRACKING, redirect=server))


def test_rules_are_installed_as_recorded() -> None:
    """Static and dynamic rules go in one request, whole, each with its version."""
    ids = ["static_ocs", "static_nt", "static_pcrf", "dyn_ocs", "dyn_pcrf"]
    session = recorded.session("a-1", rules={**dict.fromkeys(ids[:3], STATIC), **dynamic_rules()})
    effect = ActivateFlows(teids=TEIDS, rules=versioned(*ids))
    request, undefined = messages.activate_request(session, effect, CATALOGUE)
    assert content(request) == content(recorded.request("activate", Activate))
    assert request.HasField("request_origin")
    assert undefined == ()


def test_redirection_is_installed_as_recorded() -> None:
    """A final action is installed on account of the charging side, without rates of the access point."""
    session = recorded.session("a-1", rules={"redirect": redirected()})
    effect = ActivateFlows(teids=TEIDS, gy=True, rules=versioned("redirect"))
    request, _ = messages.activate_request(session, effect, {})
    assert content(request) == content(recorded.request("activate_redirect", Activate))


def test_rule_that_nobody_can_define_is_left_out() -> None:
    """A static rule that the catalogue lost is named, and the others are installed."""
    effect = ActivateFlows(teids=TEIDS, rules=versioned("lost", "static_nt"))
    request, undefined = messages.activate_request(recorded.session("a-1"), effect, CATALOGUE)
    assert [policy.rule.id for policy in request.policies] == ["static_nt"]
    assert undefined == ("lost",)


@pytest.mark.parametrize("gy", [False, True])
def test_no_rules_are_a_request_all_the_same(gy: bool) -> None:
    """Without a rule the default drop flow of the device is still to be installed."""
    request, _ = messages.activate_request(recorded.session("a-1"), ActivateFlows(teids=TEIDS, gy=gy), CATALOGUE)
    assert request.sid.id == SUBSCRIBER
    assert not request.policies
    assert request.HasField("apn_ambr") is not gy


def test_rates_of_the_access_point_are_sent_in_their_unit() -> None:
    """Rates in kbit/s stay so."""
    lte = LteContext(qos=QosInformation(apn_ambr_dl=20, apn_ambr_ul=10, kbps=True))
    session = structs.replace(recorded.session("a-1"), context=Context(subscriber=SUBSCRIBER, lte=lte))
    request, _ = messages.activate_request(session, ActivateFlows(teids=TEIDS), CATALOGUE)
    assert content(request.apn_ambr) == {"max_bandwidth_ul": 10, "max_bandwidth_dl": 20, "br_unit": "KBPS"}


@pytest.mark.parametrize("lte", [None, LteContext()])
def test_rates_that_nobody_said_are_not_sent(lte: LteContext | None) -> None:
    """Without QoS information there are no rates."""
    session = structs.replace(recorded.session("a-1"), context=Context(subscriber=SUBSCRIBER, lte=lte))
    request, _ = messages.activate_request(session, ActivateFlows(teids=TEIDS), CATALOGUE)
    assert not request.HasField("apn_ambr")


def test_ipv6_address_is_text_in_octets() -> None:
    """Pipelined reads the address as text."""
    context = Context(subscriber=SUBSCRIBER, ue_ipv6="fe80::1")
    session = structs.replace(recorded.session("a-1"), context=context)
    request, _ = messages.activate_request(session, ActivateFlows(teids=TEIDS), CATALOGUE)
    assert request.ipv6_addr == b"fe80::1"
    removal = messages.deactivate_request(session, DeactivateFlows(teids=TEIDS, everything=True))
    assert removal is not None
    assert removal.ipv6_addr == b"fe80::1"


@pytest.mark.parametrize(
    ("recording", "effect"),
    [
        ("deactivate", DeactivateFlows(teids=TEIDS, rules=versioned("static_nt", "dyn_pcrf", version=2))),
        ("deactivate_redirect", DeactivateFlows(teids=TEIDS, gy=True, rules=versioned("redirect", version=2))),
        ("deactivate_everything", DeactivateFlows(teids=TEIDS, everything=True)),
    ],
)
def test_flows_are_removed_as_recorded(recording: str, effect: DeactivateFlows) -> None:
    """Rules go by id and version; everything goes without naming any."""
    request = messages.deactivate_request(recorded.session("a-1"), effect)
    assert request is not None
    assert content(request) == content(recorded.request(recording, Deactivate))
    assert request.HasField("request_origin")


@pytest.mark.parametrize("gy", [False, True])
def test_removal_of_nothing_is_never_sent(gy: bool) -> None:
    """A request without rules would take away all flows of the device."""
    assert messages.deactivate_request(recorded.session("a-1"), DeactivateFlows(teids=TEIDS, gy=gy)) is None


def test_everything_names_no_rule() -> None:
    """With rules, pipelined would remove these only."""
    effect = DeactivateFlows(teids=TEIDS, rules=versioned("static_nt"), everything=True)
    request = messages.deactivate_request(recorded.session("a-1"), effect)
    assert request is not None
    assert not request.policies


def test_unknown_flows_go_altogether() -> None:
    """A device without a session loses everything it has on a tunnel."""
    request = messages.deactivate_unknown_request(UnknownFlows(SUBSCRIBER, "192.168.128.11", "fe80::1", 8193))
    assert content(request) == {
        "sid": {"id": SUBSCRIBER},
        "ip_addr": "192.168.128.11",
        "ipv6_addr": "ZmU4MDo6MQ==",
        "request_origin": {"type": "WILDCARD"},
        "remove_default_drop_flows": True,
        "uplink_tunnel": 8193,
    }


def test_set_up_is_as_recorded() -> None:
    """After a restart each session is told with its rules in force, and once on account of the charging side."""
    expected = recorded.request("set_up", pipelined_pb2.SetupPolicyRequest)
    dynamic = policy_rule_from_wire(expected.requests[0].policies[0].rule)
    rules = {"dyn_nt": Rule(version=1, gx=Installed(dynamic)), "static_ocs": STATIC, "static_nt": STATIC}
    requests = list(messages.setup_requests(recorded.session("a-1", rules=rules), CATALOGUE))
    assert list(map(content, requests)) == list(map(content, expected.requests))


def test_session_that_is_over_wants_no_flows() -> None:
    """Nothing is installed for a session that is not active."""
    session = recorded.session("a-1", rules={"static_nt": STATIC})
    over = structs.replace(session, head=structs.replace(session.head, state=State.CLOSING))
    assert list(messages.setup_requests(over, CATALOGUE)) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, SetupResult.SUCCESS), (1, SetupResult.FAILURE), (2, SetupResult.OUTDATED_EPOCH), (7, SetupResult.FAILURE)],
)
def test_result_of_a_setup(number: int, expected: SetupResult) -> None:
    """A result is known by its name, and one without a name here is not success."""
    result = pipelined_pb2.SetupFlowsResult.Result.ValueType(number)
    assert messages.setup_result(pipelined_pb2.SetupFlowsResult(result=result)) is expected


def test_rules_that_were_not_installed() -> None:
    """Rules that failed are named, as far as they were asked for; in part is not failed."""
    effect = ActivateFlows(teids=Teids(), rules=versioned("static_ocs", "static_nt", "static_pcrf"))
    request, _ = messages.activate_request(recorded.session("a-1"), effect, CATALOGUE)
    results = {
        "static_ocs": pipelined_pb2.RuleModResult.SUCCESS,
        "static_nt": pipelined_pb2.RuleModResult.FAILURE,
        "static_pcrf": pipelined_pb2.RuleModResult.PARTIAL_SUCCESS,
        "of_another_world": pipelined_pb2.RuleModResult.FAILURE,
    }
    answer = pipelined_pb2.ActivateFlowsResult(
        policy_results=[pipelined_pb2.RuleModResult(rule_id=name, result=result) for name, result in results.items()]
    )
    assert messages.not_installed(request, answer) == ["static_nt"]
