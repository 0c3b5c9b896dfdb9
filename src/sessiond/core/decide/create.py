"""The beginning of a gateway session: asked for, allowed or refused by the policy side, and put in force.

A session is created before the policy side is asked, so that a crash in between leaves a trace that can be cleaned up.
Its rules and quotas come into force when the tunnels are known.
"""

from enum import StrEnum

from msgspec import Struct, structs

from sessiond.core import charging, events
from sessiond.core.charging import CreditAnswer, Verdict
from sessiond.core.credit import TRANSIENT_FAILURES
from sessiond.core.decide import flows, wallet
from sessiond.core.decide.answer import arm_revalidation, set_hosts, suspend, take_monitor
from sessiond.core.decide.flows import RuleChanges
from sessiond.core.decide.wanted import wanted
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, ExportFlows, TerminateSession, WriteDirectoryRecord
from sessiond.core.errors import Aborted, NotFound
from sessiond.core.ids import credit_key
from sessiond.core.lifecycle import Event, State
from sessiond.core.rules import Rule, RuleInstall, Teids, TrackingType
from sessiond.core.session import Context, Gateway, Head, PolicyAnswer, Rat, Session
from sessiond.core.situation import Situation

SUSPENSION_DELAY_MS = 500
"""How long after its start a session without credit keeps its flows."""


class Course(StrEnum):
    """What a request to create a session comes to."""

    NEW = "NEW"
    RECYCLE = "RECYCLE"
    REPLACE = "REPLACE"


class Plan(Struct, frozen=True, gc=False):
    """What to do about a request, and the session it concerns if there is one already."""

    course: Course
    key: str = ""


def plan(context: Context, present: list[Session]) -> Plan:
    """Return what a request to create a session comes to, given the sessions the subscriber has.

    LTE: the active session of the same APN is kept if nothing but the tunnels differs, and replaced otherwise. Carrier
    wifi: any active session of the subscriber is kept.
    """
    for session in present:
        if session.head.state is not State.ACTIVE or session.context is None:
            continue
        if context.rat is Rat.WLAN:
            return Plan(Course.RECYCLE, session.key)
        if session.context.apn == context.apn:
            same = structs.replace(session.context, teids=Teids()) == structs.replace(context, teids=Teids())
            return Plan(Course.RECYCLE if same else Course.REPLACE, session.key)
    return Plan(Course.NEW)


def being_made(session: Session, context: Context) -> bool:
    """Whether a session is just being made for the same subscriber and APN; over carrier wifi, for the subscriber."""
    if session.head.state is not State.CREATING or session.context is None:
        return False
    return context.rat is Rat.WLAN or session.context.apn == context.apn


def new_session(key: str, context: Context, present: list[Session], at: Situation) -> Session:
    """Return a session that the policy side is yet to be asked about.

    Its rule versions go on where those of the subscriber's present sessions of the same address are: what the data
    plane still counts for one of these is never taken for usage of the new one.
    """
    earlier = [session for session in present if _same_address(session.context, context)]
    versions = [(rule_id, rule.version) for session in earlier for rule_id, rule in session.rules.items()]
    return Session(
        key=key,
        type=context.rat.lower(),
        scope=context.subscriber,
        head=Head(state=State.CREATING, created_at_ms=at.now_ms),
        context=context,
        gateway=Gateway(decide_by_ms=at.now_ms + 2 * at.settings.policy_deadline_ms),
        rules={rule_id: Rule(version=version, base=version) for rule_id, version in sorted(versions)},
    )


def _same_address(earlier: Context | None, context: Context) -> bool:
    """Whether usage of two sessions of a subscriber looks alike; over carrier wifi it has no address at all."""
    if earlier is None:
        return False
    if Rat.WLAN in {earlier.rat, context.rat}:
        return True
    ours, theirs = (context.ue_ipv4, context.ue_ipv6), (earlier.ue_ipv4, earlier.ue_ipv6)
    return ours == theirs or any(mine and mine == other for mine, other in zip(ours, theirs, strict=True))


def recycled(draft: Draft, context: Context, at: Situation) -> bool:
    """Keep a session that a UE asks for again: LTE as it is, carrier wifi with its new context on the old tunnels.

    False: it has begun to end meanwhile.
    """
    if draft.head.state is not State.ACTIVE:
        return False
    if context.rat is not Rat.WLAN:
        draft.tell(WriteDirectoryRecord())
        return True
    draft.put("context", "", structs.replace(context, teids=draft.context.teids))
    if at.settings.ipfix:
        draft.save(ExportFlows(began_at_ms=draft.head.created_at_ms))
    return True


def allowed(draft: Draft, answer: PolicyAnswer, at: Situation) -> None:
    """Take it that the policy side allows the session; its answer is kept until the tunnels are known."""
    if draft.head.state is not State.CREATING:
        raise Aborted("SESSION_GONE", "Session not found")
    draft.step(Event.CONFIRM, at.now_ms)
    draft.step(Event.ACTIVATED, at.now_ms)
    draft.set("gateway", answer=answer, decide_by_ms=0)
    set_hosts(draft, answer.hosts)
    draft.tell(WriteDirectoryRecord())


def not_allowed(draft: Draft, at: Situation, *, certain: bool) -> None:
    """Take it that the policy side refuses the session, or was not reached.

    If it is not certain that the policy side knows nothing of the session, it is told the end.
    """
    if draft.head.state is State.CREATING:
        draft.step(Event.FAIL, at.now_ms, "POLICY_REFUSED" if certain else "POLICY_SILENT")
        draft.tell(events.session_create_failure(draft.context, events.CREATE_REFUSED))
        if not certain:
            draft.save(TerminateSession())


def abandoned(draft: Draft, at: Situation) -> None:
    """Give up a session whose policy answer never came: the policy side may know it, so it is told the end."""
    draft.step(Event.TIMEOUT, at.now_ms, "POLICY_SILENT")
    draft.save(TerminateSession())


def activate(draft: Draft, teids: Teids, at: Situation) -> None:
    """Put rules and quotas in force now that the tunnels are known; pipelined hears of it even without rules."""
    if draft.head.state is not State.ACTIVE:
        raise NotFound("SESSION_NOT_FOUND", f"session {draft.key} is {draft.head.state}, not active")
    moved = draft.context.teids != teids
    draft.set("context", teids=teids)
    answer = draft.gateway.answer or PolicyAnswer()
    draft.set("gateway", answer=None)
    accepted = [credit.key for credit in answer.credits if _accept(draft, credit, at)]
    for monitor in answer.monitors:
        take_monitor(draft, monitor)
    changes = RuleChanges(activate=list(wanted(draft)) if moved else [])
    flows.install(draft, _affordable(answer, accepted, at), changes, at)
    if not changes.activate:
        draft.save(ActivateFlows(teids=teids))
    flows.tell(draft, changes)
    arm_revalidation(draft, answer.revalidation_at_ms)
    if at.settings.ipfix:
        draft.save(ExportFlows(began_at_ms=at.now_ms))
    wallet.opened(draft, at)
    for credit in answer.credits:
        if not credit.success and credit.result_code in TRANSIENT_FAILURES:
            suspend(draft, credit.key, at.now_ms + SUSPENSION_DELAY_MS)
    draft.tell(events.session_created(draft.session()))


def _accept(draft: Draft, answer: CreditAnswer, at: Situation) -> bool:
    if charging.verdict(answer) is Verdict.INVALID:
        return False
    draft.put("credits", answer.key, charging.opened(answer, at.now_ms))
    return True


def _affordable(answer: PolicyAnswer, accepted: list[str], at: Situation) -> list[RuleInstall]:
    """Return the rules to install: with online charging, those of a rejected credit are left out."""
    return [wanted for wanted in answer.installs if not answer.online or _has_credit(wanted, accepted, at)]


def _has_credit(wanted: RuleInstall, accepted: list[str], at: Situation) -> bool:
    rule = wanted.rule or at.catalogue.get(wanted.id)
    if rule is None or rule.tracking not in {TrackingType.ONLY_OCS, TrackingType.OCS_AND_PCRF}:
        return True
    return credit_key(rule.rating_group, rule.service_identifier) in accepted
