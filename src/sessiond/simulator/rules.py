"""Rules as the wire has them, and what their traffic counts on."""

from collections.abc import Iterable

from google.protobuf.json_format import MessageToDict
from msgspec import Struct

from sessiond.pb.magma.lte.policy_pb2 import FlowDescription, FlowMatch, FlowQos, PolicyRule, ServiceIdentifier
from sessiond.simulator.config import Rule, Simulation


class Target(Struct, frozen=True):
    """What the traffic of a rule counts on: a rating group, a monitoring key, both or neither ("")."""

    credit: str = ""
    monitor: str = ""


def key_text(key: bytes) -> str:
    """Return a monitoring key as text, whatever it is made of."""
    return key.decode(errors="backslashreplace")


def credit_key(rating_group: int, service_identifier: int) -> str:
    """Return how a rating group, or a service within it, is named here; identifier 0 is none."""
    return f"{rating_group}/{service_identifier}" if service_identifier else str(rating_group)


def target_of(rule: PolicyRule) -> Target:
    """Return what the traffic of a rule counts on."""
    charged = rule.tracking_type in {PolicyRule.ONLY_OCS, PolicyRule.OCS_AND_PCRF}
    monitored = rule.tracking_type in {PolicyRule.ONLY_PCRF, PolicyRule.OCS_AND_PCRF}
    return Target(
        credit=credit_key(rule.rating_group, rule.service_identifier.value) if charged else "",
        monitor=key_text(rule.monitoring_key) if monitored else "",
    )


def policy_rule(rule: Rule) -> PolicyRule:
    """Return a rule of the file as the wire has it; it matches all traffic in both directions."""
    wire = PolicyRule(
        id=rule.id,
        priority=rule.priority,
        rating_group=rule.rating_group or 0,
        monitoring_key=(rule.monitoring_key or "").encode(),
        tracking_type=_tracking(rule),
        flow_list=[_everything(FlowMatch.UPLINK), _everything(FlowMatch.DOWNLINK)],
    )
    if rule.service_identifier is not None:
        wire.service_identifier.CopyFrom(ServiceIdentifier(value=rule.service_identifier))
    if rule.qci is not None:
        wire.qos.CopyFrom(
            FlowQos(qci=FlowQos.Qci.ValueType(rule.qci), max_req_bw_ul=1_000_000, max_req_bw_dl=1_000_000)
        )
    return wire


def policy_file(simulation: Simulation) -> dict[str, list[object]]:
    """Return the static rules in the form of `policies.file`: every rule that is not sent whole by the policy side."""
    dynamic = {name for plan in simulation.plans for name in plan.dynamic_rules}
    return {"rules": [_as_json(policy_rule(rule)) for rule in simulation.rules if rule.id not in dynamic]}


def wire_rules(rules: Iterable[Rule]) -> dict[str, PolicyRule]:
    """Return rules by id as the wire has them."""
    return {rule.id: policy_rule(rule) for rule in rules}


def _as_json(rule: PolicyRule) -> object:
    return MessageToDict(rule, preserving_proto_field_name=True)


def _tracking(rule: Rule) -> PolicyRule.TrackingType.ValueType:
    match rule.rating_group is not None, rule.monitoring_key is not None:
        case True, True:
            return PolicyRule.OCS_AND_PCRF
        case True, False:
            return PolicyRule.ONLY_OCS
        case False, True:
            return PolicyRule.ONLY_PCRF
        case _:
            return PolicyRule.NO_TRACKING


def _everything(direction: FlowMatch.Direction.ValueType) -> FlowDescription:
    return FlowDescription(match=FlowMatch(direction=direction), action=FlowDescription.PERMIT)
