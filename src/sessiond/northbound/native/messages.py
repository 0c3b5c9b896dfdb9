"""Values of the core as messages of sessiond.v1, and back; pure functions."""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct as StructMessage

from sessiond.app.delivery import Trouble
from sessiond.app.reporting import in_flight
from sessiond.core import charging, credit, rules
from sessiond.core.charging import ChargingCredit, FinalAction
from sessiond.core.credit import Quota
from sessiond.core.decide.flows import needs_bearer
from sessiond.core.decide.tick import TimerKind, timers
from sessiond.core.decide.usage import DROP_RULE
from sessiond.core.draft import Draft
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    DeleteMacFlow,
    ExportFlows,
    Saved,
    TerminateAccess,
    TerminateSession,
    UpdateQuotaState,
)
from sessiond.core.errors import InvalidArgument
from sessiond.core.events import REVALIDATION_TIMEOUT
from sessiond.core.ids import credit_key_parts
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, Monitor
from sessiond.core.quantity import GrantedUnits
from sessiond.core.rules import REDIRECT_RULE, Catalogue, PolicyRule, Rule
from sessiond.core.session import Gateway, Session
from sessiond.northbound.native.session_messages import session_to_wire
from sessiond.northbound.operations import Status
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_policy_pb2
from sessiond.translate.rules import policy_rule_to_wire
from sessiond.translate.scalars import octets_of, timestamp

METHODS: Final[dict[type[Saved], tuple[str, str]]] = {
    ActivateFlows: ("pipelined", "/magma.lte.Pipelined/ActivateFlows"),
    DeactivateFlows: ("pipelined", "/magma.lte.Pipelined/DeactivateFlows"),
    ExportFlows: ("pipelined", "/magma.lte.Pipelined/UpdateIPFIXFlow"),
    DeleteMacFlow: ("pipelined", "/magma.lte.Pipelined/DeleteUEMacFlow"),
    UpdateQuotaState: ("pipelined", "/magma.lte.Pipelined/UpdateSubscriberQuotaState"),
    CreateBearer: ("access", "/magma.lte.SpgwService/CreateBearer"),
    DeleteBearer: ("access", "/magma.lte.SpgwService/DeleteBearer"),
    TerminateAccess: ("access", "/aaa.protos.accounting/terminate_session"),
    TerminateSession: ("policy", "/magma.lte.CentralSessionController/TerminateSession"),
}
"""Who is told of an effect, and by which method."""
LONGEST_DURATION_MS: Final = 30 * 86_400_000
REPORT_METHOD: Final = "/magma.lte.CentralSessionController/UpdateSession"


def session_policy(
    session: Session, catalogue: Catalogue, troubles: Mapping[str, Trouble]
) -> admin_service_pb2.GetSessionPolicyResponse:
    """Return what lies beneath a session; `troubles` are those of its effects, by their ids."""
    gateway = session.gateway or Gateway(request_number=0)
    revalidates = gateway.revalidation is not None
    return admin_service_pb2.GetSessionPolicyResponse(
        session=session_to_wire(session),
        rules=[rule for rule_id in sorted(session.rules) for rule in _rules(session, rule_id, catalogue)],
        credits=[_credit(key, session.credits[key]) for key in sorted(session.credits, key=_in_order)],
        monitors=[_monitor(key, session.monitors[key]) for key in sorted(session.monitors)],
        timers=[_timer(*timer) for timer in sorted(timers(session), key=itemgetter(2))],
        pending_requests=_pending(session, troubles),
        next_request_number=gateway.request_number,
        event_triggers=[REVALIDATION_TIMEOUT] if revalidates else [],
        diameter_hosts=admin_service_pb2.DiameterHosts(gx_host=gateway.hosts.gx, gy_host=gateway.hosts.gy),
    )


def _rules(session: Session, rule_id: str, catalogue: Catalogue) -> Iterator[session_policy_pb2.SessionRule]:
    """Yield a rule as often as it is installed: by the policy side, for a final action, or not any more."""
    rule = session.rules[rule_id]
    if rule.gx is not None:
        dynamic = rule.gx.rule is not None
        kind = session_policy_pb2.RULE_KIND_DYNAMIC if dynamic else session_policy_pb2.RULE_KIND_STATIC
        known = rules.definition(rule_id, rule, catalogue)
        yield _rule(rule_id, rule, kind, _state(session, rule_id, rule, known), known)
    if rule.gy is not None:
        kind = session_policy_pb2.RULE_KIND_FINAL_ACTION
        yield _rule(rule_id, rule, kind, session_policy_pb2.RULE_STATE_ACTIVE, rule.gy)
    if rule.gx is None and rule.gy is None and (rule.version > rule.base or rule_id == DROP_RULE):
        lets_flow = rule_id == DROP_RULE and session.head.state is State.ACTIVE
        state = session_policy_pb2.RULE_STATE_ACTIVE if lets_flow else session_policy_pb2.RULE_STATE_REMOVED
        yield _rule(rule_id, rule, _kind_of_gone(rule_id, catalogue), state, catalogue.get(rule_id))


def _kind_of_gone(rule_id: str, catalogue: Catalogue) -> session_policy_pb2.RuleKind.ValueType:
    """Return what a rule was that is not installed any more, by all that is left of it."""
    if rule_id == REDIRECT_RULE:
        return session_policy_pb2.RULE_KIND_FINAL_ACTION
    by_id = rule_id in catalogue or rule_id == DROP_RULE
    return session_policy_pb2.RULE_KIND_STATIC if by_id else session_policy_pb2.RULE_KIND_DYNAMIC


def _state(
    session: Session, rule_id: str, rule: Rule, known: PolicyRule | None
) -> session_policy_pb2.RuleState.ValueType:
    """Return whether the traffic of a Gx rule flows."""
    charge = session.credits.get(rule.target.credit)
    if rule.gx is not None and rule.gx.scheduled:
        return session_policy_pb2.RULE_STATE_SCHEDULED
    if charge is not None and charging.held(charge):
        return session_policy_pb2.RULE_STATE_SUSPENDED
    if known is not None and needs_bearer(Draft(session), rule_id, known):
        return session_policy_pb2.RULE_STATE_WAITING_FOR_BEARER
    return session_policy_pb2.RULE_STATE_ACTIVE


def _rule(
    rule_id: str,
    rule: Rule,
    kind: session_policy_pb2.RuleKind.ValueType,
    state: session_policy_pb2.RuleState.ValueType,
    known: PolicyRule | None,
) -> session_policy_pb2.SessionRule:
    lifetime = rule.gx.lifetime if rule.gx else rules.Lifetime()
    message = session_policy_pb2.SessionRule(
        id=rule_id,
        kind=kind,
        state=state,
        version=rule.version,
        last_reported_version=max(rule.seen_ipv4.version, rule.seen_ipv6.version),
        activation_time=timestamp(lifetime.activation_ms),
        deactivation_time=timestamp(lifetime.deactivation_ms),
        bearer_id=rule.bearer.id if rule.bearer else 0,
        usage=_usage(rule),
    )
    if known is not None:
        message.rating_group = known.rating_group
        if known.service_identifier:
            message.service_identifier = known.service_identifier
        message.monitoring_key = _key_text(known.monitoring_key)
        message.tracking = known.tracking
        message.definition.CopyFrom(_definition(known))
    return message


def _definition(rule: PolicyRule) -> StructMessage:
    definition = StructMessage()
    definition.update(json_format.MessageToDict(policy_rule_to_wire(rule)))
    return definition


def _usage(rule: Rule) -> list[session_policy_pb2.RuleUsage]:
    """Return what a rule carried in the versions that were counted last, IPv4 and IPv6 together."""
    usage: dict[int, session_policy_pb2.RuleUsage] = {}
    for seen in (rule.seen_ipv4, rule.seen_ipv6):
        if seen.version or seen.dropped_tx or seen.dropped_rx:
            entry = usage.setdefault(seen.version, session_policy_pb2.RuleUsage(version=seen.version))
            entry.tx_bytes += seen.tx
            entry.rx_bytes += seen.rx
            entry.dropped_tx_bytes += seen.dropped_tx
            entry.dropped_rx_bytes += seen.dropped_rx
    return [usage[version] for version in sorted(usage)]


def _in_order(key: str) -> tuple[int, int]:
    rating_group, identifier = credit_key_parts(key)
    return rating_group, identifier or 0


def _credit(key: str, charge: ChargingCredit) -> session_policy_pb2.ChargingCredit:
    rating_group, identifier = credit_key_parts(key)
    action = f"FINAL_ACTION_{charge.final_action}" if charge.is_final else "FINAL_ACTION_UNSPECIFIED"
    redirects = charge.is_final and charge.final_action is FinalAction.REDIRECT
    return session_policy_pb2.ChargingCredit(
        rating_group=rating_group,
        service_identifier=identifier,
        quota=_quota(charge),
        final_action=session_policy_pb2.FinalAction.Value(action),
        redirect_address=charge.redirect.address if redirects else "",
        restrict_rule_ids=charge.restrict_rules,
        validity_time=timestamp(charge.expires_at_ms or 0),
        service_state=session_policy_pb2.ServiceState.Value(f"SERVICE_STATE_{charge.service}"),
        re_auth_state=session_policy_pb2.ReAuthState.Value(f"RE_AUTH_STATE_{charge.reauth}"),
        suspended=charge.suspended,
        blocked=charge.blocked,
    )


def _monitor(key: str, monitor: Monitor) -> session_policy_pb2.UsageMonitor:
    return session_policy_pb2.UsageMonitor(
        monitoring_key=_key_text(key),
        session_level=monitor.level is Level.SESSION_LEVEL,
        quota=_quota(monitor),
        last_report=monitor.last_report,
    )


def _key_text(key: str) -> str:
    """Return a monitoring key, which may be any octets, as text for people."""
    return octets_of(key).decode(errors="backslashreplace")


def _quota(quota: Quota) -> session_policy_pb2.QuotaStatus:
    tracking = "UNSPECIFIED" if quota.tracking is credit.Tracking.UNSET else quota.tracking
    return session_policy_pb2.QuotaStatus(
        limit_type=session_policy_pb2.LimitType.Value(f"LIMIT_TYPE_{quota.limit}"),
        tracking_type=session_policy_pb2.TrackingType.Value(f"TRACKING_TYPE_{tracking}"),
        buckets=_buckets(quota),
        last_grant=_units(quota.granted),
        exhausted=credit.exhausted(quota, 1.0),
        in_flight_request_number=quota.in_flight.number if quota.in_flight else 0,
        first_usage_time=timestamp(quota.first_usage_s * 1000),
        last_usage_time=timestamp(quota.last_usage_s * 1000),
    )


def _buckets(quota: Quota) -> session_policy_pb2.QuotaBuckets:
    unreported = credit.unreported(quota)
    return session_policy_pb2.QuotaBuckets(
        used_tx=quota.used_tx,
        used_rx=quota.used_rx,
        allowed_total=quota.allowed_total,
        allowed_tx=quota.allowed_tx,
        allowed_rx=quota.allowed_rx,
        floor_total=quota.floor_total,
        floor_tx=quota.floor_tx,
        floor_rx=quota.floor_rx,
        reporting_tx=quota.in_flight.tx if quota.in_flight else 0,
        reporting_rx=quota.in_flight.rx if quota.in_flight else 0,
        reported_tx=quota.reported_tx,
        reported_rx=quota.reported_rx,
        unreported_tx=unreported.tx,
        unreported_rx=unreported.rx,
    )


def _units(units: GrantedUnits) -> session_policy_pb2.Units:
    return session_policy_pb2.Units(total=units.total, tx=units.tx, rx=units.rx)


def _timer(kind: TimerKind, subject: str, at_ms: int) -> session_policy_pb2.SessionTimer:
    number = session_policy_pb2.TimerKind.Value(f"TIMER_KIND_{kind}")
    return session_policy_pb2.SessionTimer(kind=number, subject=subject, due_time=timestamp(at_ms))


def _pending(session: Session, troubles: Mapping[str, Trouble]) -> Iterator[session_policy_pb2.PendingRequest]:
    """Yield the usage reports without an answer, then the effects that are still to be acknowledged."""
    for number in sorted(in_flight(session)):
        yield session_policy_pb2.PendingRequest(
            id=f"report-{number}", peer="policy", method=REPORT_METHOD, request_number=number, in_flight=True
        )
    for effect_id in sorted(session.effects):
        effect = session.effects[effect_id]
        peer, method = METHODS[type(effect)]
        ends = isinstance(effect, TerminateSession) and session.gateway is not None
        trouble = troubles.get(effect_id, Trouble(0, "", effect.not_before_ms))
        yield session_policy_pb2.PendingRequest(
            id=effect_id,
            peer=peer,
            method=method,
            request_number=session.gateway.request_number if ends and session.gateway else 0,
            attempts=trouble.attempts,
            next_attempt_time=timestamp(trouble.again_at_ms),
            last_error=trouble.text,
        )


def status_to_wire(status: Status) -> admin_service_pb2.GetStatusResponse:
    """Return how the daemon is."""
    setup = status.setup or "UNSPECIFIED"
    return admin_service_pb2.GetStatusResponse(
        version=status.version,
        start_time=timestamp(status.started_at_ms),
        ready=status.ready,
        draining=status.draining,
        log_level=log_level_to_wire(status.log_level),
        config_file=status.config_file,
        config_load_time=timestamp(status.config_loaded_at_ms),
        store=admin_service_pb2.StoreStatus(
            kind=status.store.kind,
            url=status.store.url,
            connected=status.store.connected,
            survives=status.store.survives,
            exclusive=status.store.exclusive,
            epoch=status.store.epoch,
            last_error=status.store.last_error,
        ),
        peers=[
            admin_service_pb2.PeerStatus(
                name=peer.name,
                address=peer.address,
                state=admin_service_pb2.PeerState.Value(f"PEER_STATE_{peer.state}"),
                last_answer_time=timestamp(peer.last_answer_ms),
                last_error=peer.last_error,
                pending_requests=peer.pending,
            )
            for peer in status.peers
        ],
        pipelined_setup=admin_service_pb2.SetupState.Value(f"SETUP_STATE_{setup}"),
        states=[
            session_pb2.StateCount(
                state=session_pb2.SessionState.Value(f"SESSION_STATE_{state}"), count=status.states.get(state, 0)
            )
            for state in State
        ],
        pending_requests=status.pending,
        watchers=status.watchers,
        next_timer_time=timestamp(status.next_timer_ms),
    )


def log_level_to_wire(level: str) -> admin_service_pb2.LogLevel.ValueType:
    """Return a log level by its name."""
    return admin_service_pb2.LogLevel.Value(f"LOG_LEVEL_{level}")


def log_level_from_wire(request: admin_service_pb2.SetLogLevelRequest) -> tuple[str | None, int]:
    """Return the level wanted (None: the configured one) and for how many milliseconds (0: for good)."""
    if request.level not in admin_service_pb2.LogLevel.values():
        raise InvalidArgument("LOG_LEVEL_UNKNOWN", f"there is no log level {request.level}", field="level")
    name = admin_service_pb2.LogLevel.Name(request.level).removeprefix("LOG_LEVEL_")
    level = None if request.level == admin_service_pb2.LOG_LEVEL_UNSPECIFIED else name
    if not request.HasField("duration"):
        return level, 0
    duration_ms = request.duration.seconds * 1000 + request.duration.nanos // 1_000_000
    if not 0 < duration_ms <= LONGEST_DURATION_MS:
        text = f"duration is to be at least a millisecond and at most {LONGEST_DURATION_MS // 86_400_000} days"
        raise InvalidArgument("DURATION_OUT_OF_RANGE", text, field="duration")
    return level, duration_ms
