"""Rules: the core knows what concerns sessions, and all of a rule reaches those who know flows."""

import json
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.charging import RedirectServer
from sessiond.core.errors import InvalidArgument
from sessiond.core.rules import Lifetime, PolicyRule, RuleInstall, TrackingType
from sessiond.pb.magma.lte import policy_pb2, rule_install_pb2
from sessiond.translate.rules import (
    catalogue_from_json,
    dynamic_install_from_wire,
    policy_rule_from_redis,
    policy_rule_from_wire,
    policy_rule_to_wire,
    static_install_from_wire,
)

Redirect = policy_pb2.RedirectInformation


def full_rule() -> policy_pb2.PolicyRule:
    """Return a rule with something in every part that the core knows, and some that it does not."""
    return policy_pb2.PolicyRule(
        id="full",
        priority=10,
        rating_group=7,
        service_identifier=policy_pb2.ServiceIdentifier(value=42),
        monitoring_key=b"mk\xff",
        tracking_type=policy_pb2.PolicyRule.OCS_AND_PCRF,
        qos=policy_pb2.FlowQos(qci=policy_pb2.FlowQos.QCI_1, max_req_bw_ul=1_000_000),
        flow_list=[policy_pb2.FlowDescription(action=policy_pb2.FlowDescription.DENY)],
        he=policy_pb2.HeaderEnrichment(urls=["http://a.test"]),
    )


def test_rule_as_the_core_knows_it() -> None:
    """Keys, tracking and class are read; a monitoring key is any octets."""
    rule = policy_rule_from_wire(full_rule())
    assert rule == PolicyRule(
        id="full",
        rating_group=7,
        service_identifier=42,
        monitoring_key="mk\xff",
        tracking=TrackingType.OCS_AND_PCRF,
        qci=1,
        definition=rule.definition,
    )


def test_all_of_a_rule_survives() -> None:
    """What the core does not know is passed on as it came."""
    assert policy_rule_to_wire(policy_rule_from_wire(full_rule())) == full_rule()


def test_rule_without_anything() -> None:
    """What is not set is absent, not zero, where that is a difference."""
    rule = policy_rule_from_wire(policy_pb2.PolicyRule(id="bare"))
    assert (rule.service_identifier, rule.qci, rule.redirect) == (None, None, None)
    assert (rule.rating_group, rule.monitoring_key, rule.tracking) == (0, "", TrackingType.ONLY_OCS)


def test_service_zero_is_no_service() -> None:
    """A service identifier of 0 says the same as none."""
    wire = policy_pb2.PolicyRule(id="zero", service_identifier=policy_pb2.ServiceIdentifier(value=0))
    assert policy_rule_from_wire(wire).service_identifier is None


def test_class_zero_is_a_class() -> None:
    """A rule with QoS names its class even if that is 0."""
    assert policy_rule_from_wire(policy_pb2.PolicyRule(id="qos", qos=policy_pb2.FlowQos())).qci == 0


@pytest.mark.parametrize(
    ("number", "expected"),
    [*((policy_pb2.PolicyRule.TrackingType.Value(kind.name), kind) for kind in TrackingType), (9, "NO_TRACKING")],
)
def test_tracking_types(number: int, expected: TrackingType) -> None:
    """Each tracking type has its name; one that is unknown here counts against nothing."""
    kind = policy_pb2.PolicyRule.TrackingType.ValueType(number)
    assert policy_rule_from_wire(policy_pb2.PolicyRule(id="x", tracking_type=kind)).tracking == expected


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Redirect.IPv4, "IPV4"), (Redirect.IPv6, "IPV6"), (Redirect.URL, "URL"), (Redirect.SIP_URI, "SIP_URI")],
)
def test_redirection_is_read_and_made(kind: Redirect.AddressType.ValueType, name: str) -> None:
    """The four kinds of address have in a rule the names that a credit gives them."""
    redirect = Redirect(support=Redirect.ENABLED, address_type=kind, server_address="portal.test")
    server = RedirectServer(name, "portal.test")
    assert policy_rule_from_wire(policy_pb2.PolicyRule(id="r", redirect=redirect)).redirect == server
    made = policy_rule_to_wire(PolicyRule(id="redirect", tracking=TrackingType.NO_TRACKING, redirect=server))
    assert made == policy_pb2.PolicyRule(id="redirect", priority=2000, redirect=redirect)


def test_redirection_that_is_switched_off_is_none() -> None:
    """Support DISABLED says that there is no redirection."""
    assert policy_rule_from_wire(policy_pb2.PolicyRule(id="r", redirect=Redirect(server_address="x"))).redirect is None


def test_redirection_to_an_unknown_kind_of_address() -> None:
    """A kind of address without a name here is taken for the first."""
    kind = Redirect.AddressType.ValueType(9)
    wire = policy_pb2.PolicyRule(id="r", redirect=Redirect(support=Redirect.ENABLED, address_type=kind))
    assert policy_rule_from_wire(wire).redirect == RedirectServer("IPV4", "")


@pytest.mark.parametrize(
    "rule",
    [
        PolicyRule(id="ocs", rating_group=1),
        PolicyRule(id="service", rating_group=1, service_identifier=5),
        PolicyRule(id="pcrf", monitoring_key="mk", tracking=TrackingType.ONLY_PCRF, qci=5),
    ],
)
def test_rule_of_our_own_making_says_what_it_has(rule: PolicyRule) -> None:
    """A rule without a definition is made of what the core knows."""
    made = policy_rule_from_wire(policy_rule_to_wire(rule))
    assert made == PolicyRule(
        id=rule.id,
        rating_group=rule.rating_group,
        service_identifier=rule.service_identifier,
        monitoring_key=rule.monitoring_key,
        tracking=rule.tracking,
        qci=rule.qci,
        definition=made.definition,
    )


def test_installs_have_their_lifetime() -> None:
    """Times are milliseconds, and open where they are not set."""
    at = Timestamp(seconds=1_700_000_000, nanos=1_999_999)
    static = rule_install_pb2.StaticRuleInstall(rule_id="s", activation_time=at)
    dynamic = rule_install_pb2.DynamicRuleInstall(policy_rule=full_rule(), deactivation_time=at)
    assert static_install_from_wire(static) == RuleInstall("s", None, Lifetime(1_700_000_000_001, 0))
    install = dynamic_install_from_wire(dynamic)
    assert install == RuleInstall("full", policy_rule_from_wire(full_rule()), Lifetime(0, 1_700_000_000_001))


@pytest.mark.parametrize(("seconds", "expected"), [(2**63 - 1, 253_402_300_799_000), (-(2**63), -62_135_596_800_000)])
def test_times_beyond_all_time_are_held(seconds: int, expected: int) -> None:
    """A time that is no time does not become a number that nothing can store."""
    install = rule_install_pb2.StaticRuleInstall(rule_id="s", activation_time=Timestamp(seconds=seconds))
    assert static_install_from_wire(install).lifetime.activation_ms == expected


def test_policy_file_defines_rules() -> None:
    """Rules are proto JSON, with either spelling of their keys, and come by id."""
    text = json.dumps({"rules": [{"id": "a", "rating_group": 1}, {"id": "b", "trackingType": "NO_TRACKING"}]})
    rules = catalogue_from_json(text)
    assert list(rules) == ["a", "b"]
    assert (rules["a"].rating_group, rules["b"].tracking) == (1, TrackingType.NO_TRACKING)


def test_policy_file_may_be_empty() -> None:
    """No rules are a valid list of rules."""
    assert catalogue_from_json('{"rules": []}') == {}


MISTAKES: dict[str, tuple[Any, str]] = {
    "no object": (5, "rules[0]: not an object"),
    "no id": ({"priority": 1}, "rules[0]: id: missing, or not a text"),
    "empty id": ({"id": ""}, "rules[0]: id: missing, or not a text"),
    "id that is a number": ({"id": 5}, "rules[0]: id: missing, or not a text"),
    "id that is no text": ({"id": "\ud800"}, "rules[0] (\ud800): Failed to parse id field"),
    "unknown key": ({"id": "a", "ratinggroup": 1}, "rules[0] (a): ratinggroup: no such key"),
    "number out of range": ({"id": "a", "priority": -1}, "rules[0] (a): priority: Value out of range: -1."),
    "unknown name": ({"id": "a", "tracking_type": "OCS"}, "rules[0] (a): tracking_type: Invalid enum value OCS"),
    "mistake inside": (
        {"id": "a", "flow_list": [{"match": {"proto": 6}}]},
        'flow_list: Failed to parse match field: Message type "magma.lte.FlowMatch" has no field named "proto"',
    ),
}


@pytest.mark.parametrize(("rule", "expected"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_in_a_rule_is_named(rule: Any, expected: str) -> None:
    """Each mistake is told with its rule and its key, in one line."""
    with pytest.raises(InvalidArgument) as caught:
        catalogue_from_json(json.dumps({"rules": [rule]}))
    assert expected in caught.value.text
    assert caught.value.text.count("\n") == 0
    assert (caught.value.reason, caught.value.field) == ("POLICY_FILE_INVALID", "rules")


def test_every_mistake_is_named() -> None:
    """All mistakes are told at once."""
    rules = [{"id": "a", "x": 1, "y": 2}, {"id": "b"}, {"id": "b"}, {"z": 3}]
    with pytest.raises(InvalidArgument) as caught:
        catalogue_from_json(json.dumps({"rules": rules}))
    assert caught.value.text.splitlines() == [
        "rules[0] (a): x: no such key",
        "rules[0] (a): y: no such key",
        "rules[2] (b): id: an earlier rule has the same",
        "rules[3]: id: missing, or not a text",
        "rules[3]: z: no such key",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON: Expecting value: line 1"),
        ('{"rules": [\n{]}', "line 2 column 2"),
        ("[]", "not a policy file"),
        ("{}", "not a policy file"),
        ('{"rules": {}}', "not a policy file"),
        ('{"rules": [], "rule": []}', "unknown key rule"),
    ],
)
def test_file_that_is_no_policy_file_is_refused(text: str, expected: str) -> None:
    """A file of another form is told where it goes wrong."""
    with pytest.raises(InvalidArgument, match=expected):
        catalogue_from_json(text)


@pytest.mark.parametrize("octets", [b"\xff", b""])
def test_rules_in_redis_that_are_none(octets: bytes) -> None:
    """What is no rule, or one without an id, is refused by name."""
    with pytest.raises(InvalidArgument) as caught:
        policy_rule_from_redis(octets)
    assert caught.value.reason == "POLICY_RULE_INVALID"
