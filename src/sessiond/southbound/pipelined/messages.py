"""What is told to pipelined, and what it says to that."""

import re
from collections.abc import Iterator
from typing import Final

from sessiond.app.ports.peers import SetupResult, UnknownFlows
from sessiond.core import rules
from sessiond.core.decide.wanted import wanted_flows
from sessiond.core.effects import ActivateFlows, DeactivateFlows, ExportFlows, QuotaState, VersionedRule
from sessiond.core.rules import Catalogue, PolicyRule, Rule
from sessiond.core.session import Context, Session
from sessiond.pb.magma.lte import pipelined_pb2, qos_pb2
from sessiond.translate.context import context_of
from sessiond.translate.rules import policy_rule_to_wire
from sessiond.translate.scalars import named, octets_of, subscriber_to_wire

NO_MAC_ADDRESS: Final = "11:11:11:11:11:11"
_ACCESS_POINT: Final = re.compile(r"(?P<mac>[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}):(?P<name>.*)", re.DOTALL)
_Origin = pipelined_pb2.RequestOriginType
_Rate = qos_pb2.AggregatedMaximumBitrate


def activate_request(
    session: Session, effect: ActivateFlows, catalogue: Catalogue
) -> tuple[pipelined_pb2.ActivateFlowsRequest, tuple[str, ...]]:
    """Return the request that installs flows, and the ids of the rules that nobody can define any more.

    Without a rule the request is good all the same: it puts the default drop flow of the device.
    """
    context = context_of(session)
    policies = [(rule, _definition(session, rule, effect, catalogue)) for rule in effect.rules]
    request = pipelined_pb2.ActivateFlowsRequest(
        sid=subscriber_to_wire(context.subscriber),
        ip_addr=context.ue_ipv4,
        ipv6_addr=context.ue_ipv6.encode(),
        msisdn=octets_of(context.msisdn),
        request_origin=_origin(gy=effect.gy),
        apn_ambr=None if effect.gy else _apn_ambr(context),
        uplink_tunnel=effect.teids.agw,
        downlink_tunnel=effect.teids.enb,
        policies=[_policy(rule, definition) for rule, definition in policies if definition is not None],
    )
    return request, tuple(rule.id for rule, definition in policies if definition is None)


def deactivate_request(session: Session, effect: DeactivateFlows) -> pipelined_pb2.DeactivateFlowsRequest | None:
    """Return the request that removes flows; None for no rules, which pipelined would take for all of the device."""
    if not effect.rules and not effect.everything:
        return None
    context = context_of(session)
    policies = [pipelined_pb2.VersionedPolicyID(rule_id=rule.id, version=rule.version) for rule in effect.rules]
    return pipelined_pb2.DeactivateFlowsRequest(
        sid=subscriber_to_wire(context.subscriber),
        ip_addr=context.ue_ipv4,
        ipv6_addr=context.ue_ipv6.encode(),
        request_origin=_Origin(type=_Origin.WILDCARD) if effect.everything else _origin(gy=effect.gy),
        remove_default_drop_flows=effect.everything,
        uplink_tunnel=effect.teids.agw,
        downlink_tunnel=effect.teids.enb,
        policies=[] if effect.everything else policies,
    )


def deactivate_unknown_request(flows: UnknownFlows) -> pipelined_pb2.DeactivateFlowsRequest:
    """Return the request that removes everything of a device that has no session."""
    return pipelined_pb2.DeactivateFlowsRequest(
        sid=subscriber_to_wire(flows.subscriber),
        ip_addr=flows.ue_ipv4,
        ipv6_addr=flows.ue_ipv6.encode(),
        request_origin=_Origin(type=_Origin.WILDCARD),
        remove_default_drop_flows=True,
        uplink_tunnel=flows.teid,
    )


def export_request(session: Session, effect: ExportFlows) -> pipelined_pb2.UEMacFlowRequest:
    """Return the request that exports the flows of a session; LTE has no MAC address, and pipelined wants one."""
    context = context_of(session)
    ap_mac_addr, ap_name = access_point(context.apn)
    return pipelined_pb2.UEMacFlowRequest(
        sid=subscriber_to_wire(context.subscriber),
        mac_addr=context.wlan.mac_addr if context.wlan else NO_MAC_ADDRESS,
        msisdn=context.msisdn,
        ap_mac_addr=ap_mac_addr,
        ap_name=ap_name,
        pdp_start_time=effect.began_at_ms // 1000,
    )


def mac_flow_request(session: Session) -> pipelined_pb2.UEMacFlowRequest:
    """Return the request that forgets the MAC address of a session."""
    context = context_of(session)
    return pipelined_pb2.UEMacFlowRequest(sid=subscriber_to_wire(context.subscriber), mac_addr=_mac_addr(context))


def mac_flow_setup(session: Session) -> pipelined_pb2.UEMacFlowRequest:
    """Return all that pipelined is to know again of a carrier wifi session's device."""
    return export_request(session, ExportFlows(began_at_ms=session.head.created_at_ms))


def quota_update(session: Session, state: QuotaState) -> pipelined_pb2.SubscriberQuotaUpdate:
    """Return whether a subscriber has anything left to spend."""
    context = context_of(session)
    return pipelined_pb2.SubscriberQuotaUpdate(
        sid=subscriber_to_wire(context.subscriber),
        mac_addr=_mac_addr(context),
        update_type=pipelined_pb2.SubscriberQuotaUpdate.Type.Value(state.name),
    )


def access_point(apn: str) -> tuple[str, str]:
    """Return MAC address and name of an access point, `03-21-00-02-00-20:Magma`; without the former, all is name."""
    found = _ACCESS_POINT.fullmatch(apn)
    return (found["mac"], found["name"]) if found else ("", apn)


def _mac_addr(context: Context) -> str:
    return context.wlan.mac_addr if context.wlan else ""


def setup_requests(session: Session, catalogue: Catalogue) -> Iterator[pipelined_pb2.ActivateFlowsRequest]:
    """Yield all flows of a session, as pipelined wants them after a restart."""
    for effect in wanted_flows(session):
        request, _ = activate_request(session, effect, catalogue)
        yield request


def setup_result(answer: pipelined_pb2.SetupFlowsResult) -> SetupResult:
    """Return what pipelined says to a setup; what it says in words unknown here is not success."""
    return named(pipelined_pb2.SetupFlowsResult.Result.Name, answer.result, SetupResult, SetupResult.FAILURE)


def not_installed(request: pipelined_pb2.ActivateFlowsRequest, answer: pipelined_pb2.ActivateFlowsResult) -> list[str]:
    """Return the ids of the rules of a request that pipelined could not install."""
    failed = {
        result.rule_id for result in answer.policy_results if result.result == pipelined_pb2.RuleModResult.FAILURE
    }
    return [policy.rule.id for policy in request.policies if policy.rule.id in failed]


def _definition(
    session: Session, rule: VersionedRule, effect: ActivateFlows, catalogue: Catalogue
) -> PolicyRule | None:
    return rules.definition(rule.id, session.rules.get(rule.id, Rule()), catalogue, gy=effect.gy)


def _policy(rule: VersionedRule, definition: PolicyRule) -> pipelined_pb2.VersionedPolicy:
    return pipelined_pb2.VersionedPolicy(rule=policy_rule_to_wire(definition), version=rule.version)


def _origin(*, gy: bool) -> pipelined_pb2.RequestOriginType:
    return _Origin(type=_Origin.GY if gy else _Origin.GX)


def _apn_ambr(context: Context) -> qos_pb2.AggregatedMaximumBitrate | None:
    """Return the most that all bearers without a guaranteed rate may carry together, if the MME said it."""
    if context.lte is None or context.lte.qos is None:
        return None
    qos = context.lte.qos
    unit = _Rate.KBPS if qos.kbps else _Rate.BPS
    return _Rate(max_bandwidth_ul=qos.apn_ambr_ul, max_bandwidth_dl=qos.apn_ambr_dl, br_unit=unit)
