"""What is due for an active session: final actions, and usage reports to the OCS and the PCRF (CCR-U)."""

from collections.abc import Iterator

from sessiond.core import charging, monitors, rules
from sessiond.core.charging import Action, ChargingCredit, Service
from sessiond.core.credit import sent
from sessiond.core.decide import flows
from sessiond.core.decide.release import release
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, ReportUsage
from sessiond.core.events import USAGE_REPORT
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Monitor
from sessiond.core.quantity import RequestedUnits
from sessiond.core.rules import REDIRECT_RULE, PolicyRule
from sessiond.core.session import Gateway, Revalidation, RevalidationState, Session
from sessiond.core.situation import Situation
from sessiond.core.update import Change


def due(session: Session, at: Situation) -> bool:
    """Whether `collect` would do anything for a session; also true while it waits for its final usage."""
    if session.head.state is State.CLOSING:
        return True
    if session.head.state is not State.ACTIVE or session.gateway is None:
        return False
    threshold = at.settings.usage_reporting_threshold
    return (
        _charging_due(session, at.now_ms, threshold)
        or any(monitors.due(monitor, threshold) for monitor in session.monitors.values())
        or _revalidation_due(session.gateway)
    )


def _charging_due(session: Session, now_ms: int, threshold: float) -> bool:
    """Whether a credit is to be reported, or something is to be done about its traffic."""
    for charge in session.credits.values():
        if charge.service in _PENDING or charging.due(charge, now_ms, threshold):
            return True
    return False


_PENDING = frozenset({Service.NEEDS_ACTIVATION, Service.NEEDS_DEACTIVATION, Service.NEEDS_SUSPENSION})


def collect(draft: Draft, at: Situation) -> None:
    """Take every action and begin every report that is due; only an active session has any.

    The charging reports of one go share a request number, the monitoring reports share the next one.
    """
    if draft.head.state is not State.ACTIVE:
        return
    actions = list(_charging_reports(draft, at))
    _monitoring_reports(draft, at)
    _revalidation(draft)
    for key, action in actions:
        if draft.head.state is State.ACTIVE:
            act(draft, key, action, at)


def _charging_reports(draft: Draft, at: Situation) -> Iterator[tuple[str, Action]]:
    """Begin the charging reports; yield the credits that need an action instead."""
    number, any_sent = draft.gateway.request_number, False
    for key, charge in list(draft.credits.items()):
        action, service = charging.action(charge)
        if service is not charge.service:
            draft.set("credits", key, service=service)
        if action is not Action.CONTINUE:
            yield key, action
        elif reason := charging.due(charge, at.now_ms, at.settings.usage_reporting_threshold):
            draft.change("credits", key, charging.reported(charge, number, reason))
            any_sent = True
    if any_sent:
        _number_used(draft)


def _monitoring_reports(draft: Draft, at: Situation) -> None:
    number, any_sent = draft.gateway.request_number, False
    for key, monitor in list(draft.monitors.items()):
        if monitors.due(monitor, at.settings.usage_reporting_threshold):
            draft.change("monitors", key, _last_or_not(monitor, number))
            any_sent = True
    if any_sent:
        _number_used(draft)


def _last_or_not(monitor: Monitor, number: int) -> Change:
    return sent(monitor, number, USAGE_REPORT, RequestedUnits(), last=monitor.last_report)


def _revalidation(draft: Draft) -> None:
    pending = draft.gateway.revalidation
    if pending is not None and _revalidation_due(draft.gateway):
        number = draft.gateway.request_number
        draft.set("gateway", revalidation=Revalidation(RevalidationState.SENT, pending.at_ms, number))
        _number_used(draft)


def _revalidation_due(gateway: Gateway) -> bool:
    """Whether the policy is to be asked again; the answer to one request comes before the next one."""
    pending = gateway.revalidation
    return pending is not None and pending.state is RevalidationState.READY and not pending.number


def _number_used(draft: Draft) -> None:
    draft.change("gateway", "", Change(add={"request_number": 1}))
    if not any(isinstance(news, ReportUsage) for news in draft.news):
        draft.tell(ReportUsage())


def act(draft: Draft, key: str, action: Action, at: Situation) -> None:
    """Do to the traffic of a credit what its state asks for."""
    match action:
        case Action.ACTIVATE:
            _reactivate(draft, key)
        case Action.TERMINATE if at.settings.final_unit_blocks_rating_group_only:
            draft.set("credits", key, blocked=True)
            flows.take_credit_down(draft, key)
        case Action.TERMINATE:
            release(draft, at, "QUOTA_EXHAUSTED", notify=True)
        case Action.REDIRECT:
            _redirect(draft, draft.credits[key])
        case Action.RESTRICT_ACCESS:
            _restrict(draft, draft.credits[key], at)


def _reactivate(draft: Draft, key: str) -> None:
    """Bring the flows up again: all static rules, and the dynamic ones of the credit that has quota again."""
    draft.set("credits", key, suspended=False, blocked=False)
    again = [
        rule_id for rule_id, rule in draft.rules.items() if _is_static(rule) or rule_id in flows.on_credit(draft, key)
    ]
    flows.bring_up_again(draft, again)


def _is_static(rule: rules.Rule) -> bool:
    return rule.gx is not None and rule.gx.rule is None


def _redirect(draft: Draft, charge: ChargingCredit) -> None:
    known = draft.rules.get(REDIRECT_RULE)
    if known is None or known.gy is None:
        tracking = rules.TrackingType.NO_TRACKING
        flows.install_gy(draft, PolicyRule(id=REDIRECT_RULE, tracking=tracking, redirect=charge.redirect))
        flows.bring_up(draft, [REDIRECT_RULE], gy=True)


def _restrict(draft: Draft, charge: ChargingCredit, at: Situation) -> None:
    known = [at.catalogue[rule_id] for rule_id in charge.restrict_rules if rule_id in at.catalogue]
    for definition in known:
        flows.install_gy(draft, definition)
    if known:
        flows.bring_up(draft, [definition.id for definition in known], gy=True)
    else:
        draft.save(ActivateFlows(teids=draft.context.teids, gy=True))
