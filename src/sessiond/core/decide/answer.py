"""Answers of the policy side to usage reports: quotas grow, rules come and go, services stop and go on.

An answer is applied as a difference to the session as it is now, not as it was when the report went out.
"""

from collections.abc import Iterator

from msgspec import Struct

from sessiond.core import charging, credit, events, monitors
from sessiond.core.charging import ChargingCredit, CreditAnswer, Service, Verdict
from sessiond.core.decide import flows, wallet
from sessiond.core.decide.flows import RuleChanges
from sessiond.core.decide.release import complete, release
from sessiond.core.draft import Draft
from sessiond.core.events import Update
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, Monitor, MonitorAction, MonitorAnswer
from sessiond.core.quantity import Volume
from sessiond.core.rules import REDIRECT_RULE, RuleInstall
from sessiond.core.session import DestinationHosts, Revalidation, RevalidationState
from sessiond.core.situation import Situation


class MonitorReply(Struct, frozen=True, gc=False, kw_only=True):
    """One usage monitoring answer, with the rule changes that came along."""

    success: bool = True
    result_code: int = 0
    answer: MonitorAnswer | None = None
    remove: tuple[str, ...] = ()
    installs: tuple[RuleInstall, ...] = ()
    hosts: DestinationHosts | None = None
    revalidation_at_ms: int | None = None


class CreditReply(Struct, frozen=True, gc=False, kw_only=True):
    """One charging answer."""

    answer: CreditAnswer
    hosts: DestinationHosts | None = None


class UpdateAnswer(Struct, frozen=True, gc=False, kw_only=True):
    """Everything the policy side said about one session in answer to the requests of these numbers."""

    numbers: frozenset[int]
    credits: tuple[CreditReply, ...] = ()
    monitors: tuple[MonitorReply, ...] = ()


class _Course(Struct):
    """What the replies add up to; carried out in this order: suspend, resume, terminate."""

    suspend: list[str] = []
    resume: list[str] = []
    terminate: bool = False


def answered(draft: Draft, answer: UpdateAnswer, at: Situation) -> None:
    """Apply an answer; what it does not mention was not taken and is due again. A session that is over takes none."""
    updates = list(_updates(draft, answer.numbers))
    if not updates:
        return
    course = _Course()
    for reply in answer.credits:
        _credit_reply(draft, reply, answer.numbers, course, at)
    for monitor_reply in answer.monitors:
        _monitor_reply(draft, monitor_reply, answer.numbers, course, at)
    _settle(draft, answer.numbers, carried_out=True, all_taken=all(reply.success for reply in answer.monitors))
    if draft.head.state is State.ACTIVE:
        _carry_out(draft, course, at)
        if any(reply.success for reply in answer.monitors):
            wallet.changed(draft, at)
    draft.tell(events.session_updated(draft.session(), updates))
    complete(draft, at)


def refused(draft: Draft, numbers: frozenset[int], status_text: str, at: Situation) -> None:
    """Take it that the requests of these numbers were certainly not carried out: all of it is due again."""
    updates = list(_updates(draft, numbers))
    if not updates:
        return
    _settle(draft, numbers, carried_out=False)
    draft.tell(events.session_update_failure(draft.session(), updates, status_text))
    complete(draft, at)


def _updates(draft: Draft, numbers: frozenset[int]) -> Iterator[Update]:
    """Yield what the requests of these numbers were about; nothing any more if the session is over."""
    if draft.head.state is State.CLOSED:
        return
    for key, charge in draft.credits.items():
        if charge.in_flight is not None and charge.in_flight.number in numbers:
            yield events.charging_update(key, charge.in_flight.reason)
    for key, monitor in draft.monitors.items():
        if credit.awaits(monitor, numbers):
            yield events.monitor_update(key)
    if _revalidating(draft, numbers):
        yield {"update_reason": events.REVALIDATION_TIMEOUT}


def _settle(draft: Draft, numbers: frozenset[int], *, carried_out: bool, all_taken: bool = False) -> None:
    """Bring back what was in flight in these requests and was not acknowledged one by one.

    `all_taken`: no monitoring answer failed, so that a last report need not be mentioned to be taken.
    """
    for key, charge in list(draft.credits.items()):
        if credit.awaits(charge, numbers):
            draft.change("credits", key, charging.unanswered(charge))
    for key, monitor in list(draft.monitors.items()):
        if not credit.awaits(monitor, numbers):
            continue
        if all_taken and monitor.in_flight is not None and monitor.in_flight.last:
            _taken_for_the_last_time(draft, key)
        else:
            draft.change("monitors", key, credit.returned(monitor))
    pending = draft.gateway.revalidation
    if pending is not None and pending.number in numbers:
        draft.set("gateway", revalidation=_settled(pending, carried_out=carried_out))


def _settled(pending: Revalidation, *, carried_out: bool) -> Revalidation | None:
    """Return what is left of a revalidation: nothing, the same again, or the next one if a time for it has come."""
    if pending.state is not RevalidationState.SENT:
        return Revalidation(pending.state, pending.at_ms)
    return None if carried_out else Revalidation(RevalidationState.READY, pending.at_ms)


def _revalidating(draft: Draft, numbers: frozenset[int]) -> bool:
    pending = draft.gateway.revalidation
    return pending is not None and pending.number in numbers


def _credit_reply(draft: Draft, reply: CreditReply, numbers: frozenset[int], course: _Course, at: Situation) -> None:
    answer = reply.answer
    if not answer.success and answer.result_code in credit.PERMANENT_FAILURES:
        if at.settings.final_unit_blocks_rating_group_only:
            course.suspend.append(answer.key)
        else:
            course.terminate = True
        return
    if not answer.success and answer.result_code in credit.TRANSIENT_FAILURES:
        course.suspend.append(answer.key)
    before = draft.credits.get(answer.key)
    if before is None:
        if charging.verdict(answer) is not Verdict.INVALID:
            draft.put("credits", answer.key, charging.opened(answer, at.now_ms))
    else:
        change = charging.answered(
            before,
            answer,
            at.now_ms,
            taken=credit.awaits(before, numbers),
            terminates=at.settings.terminate_service_when_quota_exhausted,
            group_only=at.settings.final_unit_blocks_rating_group_only,
        )
        draft.change("credits", answer.key, change)
        _service_again(draft, answer, before, course)
    set_hosts(draft, reply.hosts)


def _service_again(draft: Draft, answer: CreditAnswer, before: ChargingCredit, course: _Course) -> None:
    """Lift what held the traffic of a credit back, if the answer brought quota."""
    after = draft.credits[answer.key]
    has_quota = charging.held(after) and not credit.exhausted(after, 1.0)
    if not (after.service is Service.NEEDS_ACTIVATION or has_quota) or charging.verdict(answer) is Verdict.TRANSIENT:
        return
    at_once = after.suspended or (after.blocked and after.service is not Service.NEEDS_ACTIVATION)
    if at_once and charging.verdict(answer) is Verdict.VALID:
        course.resume.append(answer.key)
    if before.service in {Service.REDIRECTED, Service.RESTRICTED}:
        flows.take_down(draft, flows.remove_gy(draft, _no_longer_needed(draft, before)), gy=True)


def _no_longer_needed(draft: Draft, before: ChargingCredit) -> set[str]:
    """Return the rules of a final action that no other credit still needs."""
    others = set().union(*(_final_rules(charge) for charge in draft.credits.values()))
    return _final_rules(before) - others


def _final_rules(charge: ChargingCredit) -> set[str]:
    match charge.service:
        case Service.REDIRECTED:
            return {REDIRECT_RULE}
        case Service.RESTRICTED:
            return set(charge.restrict_rules)
        case _:
            return set()


def _monitor_reply(draft: Draft, reply: MonitorReply, numbers: frozenset[int], course: _Course, at: Situation) -> None:
    if not reply.success:
        course.terminate |= reply.result_code in credit.PERMANENT_FAILURES
        return
    if reply.answer is not None:
        take_monitor(draft, reply.answer, numbers)
    set_hosts(draft, reply.hosts)
    if draft.head.state is not State.ACTIVE:
        return
    changes = RuleChanges()
    flows.remove(draft, reply.remove, changes)
    flows.install(draft, reply.installs, changes, at)
    flows.tell(draft, changes)
    arm_revalidation(draft, reply.revalidation_at_ms)


def take_monitor(draft: Draft, answer: MonitorAnswer, numbers: frozenset[int] = frozenset()) -> None:
    """Take what the PCRF says about one monitoring key; `numbers` are the requests it answers."""
    monitor = draft.monitors.get(answer.key)
    disabled = answer.action is MonitorAction.DISABLE
    if monitor is None and disabled:
        return
    if monitor is not None and credit.awaits(monitor, numbers) and monitor.in_flight and monitor.in_flight.last:
        _taken_for_the_last_time(draft, answer.key)
        return
    if monitor is None:
        draft.put("monitors", answer.key, monitors.answered(Monitor(level=answer.level), answer, taken=False))
    else:
        taken = credit.awaits(monitor, numbers)
        draft.become("monitors", answer.key, monitors.answered(monitor, answer, taken=taken))
    if answer.level is Level.SESSION_LEVEL and not disabled:
        draft.set("gateway", session_monitor=answer.key)


def _taken_for_the_last_time(draft: Draft, key: str) -> None:
    """Acknowledge the last report of a monitor; it goes, unless it counted more meanwhile."""
    draft.change("monitors", key, credit.acknowledged(draft.monitors[key]))
    if credit.unreported(draft.monitors[key]) != Volume():
        return
    draft.remove("monitors", key)
    if draft.gateway.session_monitor == key:
        draft.set("gateway", session_monitor="")


def set_hosts(draft: Draft, hosts: DestinationHosts | None) -> None:
    """Remember the Diameter hosts that answered, as far as the answer names them."""
    known = draft.gateway.hosts
    if hosts is not None and (told := DestinationHosts(hosts.gx or known.gx, hosts.gy or known.gy)) != known:
        draft.set("gateway", hosts=told)


def arm_revalidation(draft: Draft, at_ms: int | None) -> None:
    """Ask the policy side again at that time; a request that is on its way is still waited for."""
    if at_ms is not None:
        known = draft.gateway.revalidation
        number = known.number if known is not None else 0
        draft.set("gateway", revalidation=Revalidation(RevalidationState.PENDING, at_ms, number))


def _carry_out(draft: Draft, course: _Course, at: Situation) -> None:
    for key in course.suspend:
        suspend(draft, key)
    for key in course.resume:
        draft.set("credits", key, suspended=False, blocked=False)
        flows.bring_up_again(draft, flows.on_credit(draft, key))
    if course.terminate:
        release(draft, at, "PERMANENT_FAILURE", notify=True)


def suspend(draft: Draft, key: str, not_before_ms: int = 0) -> None:
    """Stop the traffic of a credit; if no credit is left, its final action is taken with the next usage report."""
    if key not in draft.credits:
        return
    draft.set("credits", key, suspended=True)
    if all(charge.suspended for charge in draft.credits.values()):
        draft.set("credits", key, service=Service.NEEDS_SUSPENSION)
    flows.take_credit_down(draft, key, not_before_ms)
