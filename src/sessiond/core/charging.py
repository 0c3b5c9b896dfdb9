"""Charging credits (Gy, TS 32.299 6): what an answer of the OCS does to one, and what is due for it.

A credit belongs to a rating group, or to a service within one. Its `service` says whether its traffic may flow.
"""

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from sessiond.core import credit
from sessiond.core.credit import CreditLimit, Quota
from sessiond.core.quantity import GrantedUnits, RequestedUnits, Volume
from sessiond.core.update import Change, applied


class FinalAction(StrEnum):
    """What happens when a final unit is used up (Final-Unit-Action, RFC 8506 clause 8.35)."""

    TERMINATE = "TERMINATE"
    REDIRECT = "REDIRECT"
    RESTRICT_ACCESS = "RESTRICT_ACCESS"


class Service(StrEnum):
    """Whether the traffic of a credit may flow, and what is still to be done about it."""

    ENABLED = "ENABLED"
    NEEDS_DEACTIVATION = "NEEDS_DEACTIVATION"
    NEEDS_SUSPENSION = "NEEDS_SUSPENSION"
    DISABLED = "DISABLED"
    NEEDS_ACTIVATION = "NEEDS_ACTIVATION"
    REDIRECTED = "REDIRECTED"
    RESTRICTED = "RESTRICTED"


class ReAuth(StrEnum):
    """How far a re-authorisation asked for by the OCS has come."""

    NOT_NEEDED = "NOT_NEEDED"
    REQUIRED = "REQUIRED"
    PROCESSING = "PROCESSING"


class UpdateReason(StrEnum):
    """Reporting-Reason of a charging update (TS 32.299 7.2)."""

    TERMINATED = "TERMINATED"
    QUOTA_EXHAUSTED = "QUOTA_EXHAUSTED"
    VALIDITY_TIMER_EXPIRED = "VALIDITY_TIMER_EXPIRED"
    REAUTH_REQUIRED = "REAUTH_REQUIRED"


class RedirectServer(Struct, frozen=True, gc=False):
    """Where redirected traffic goes (Redirect-Server, RFC 8506 clause 8.37)."""

    address_type: str = "IPV4"
    address: str = ""


class ChargingCredit(Quota, frozen=True, gc=False, kw_only=True):
    """The quota of one rating group, or of one service within it."""

    is_final: bool = False
    final_action: FinalAction = FinalAction.TERMINATE
    redirect: RedirectServer = RedirectServer()
    restrict_rules: tuple[str, ...] = ()
    expires_at_ms: int | None = None
    service: Service = Service.ENABLED
    reauth: ReAuth = ReAuth.NOT_NEEDED
    suspended: bool = False
    """The OCS has a passing trouble: flows down, and nothing reported but on re-authorisation."""
    blocked: bool = False
    """Flows down, reports go on: the OCS has been silent for too long, or its final unit ends this service only."""
    block_at_ms: int = 0
    empty_answers: int = 0
    """Answers in a row that brought nothing to use."""
    ask_again_at_ms: int = 0


class CreditAnswer(Struct, frozen=True, gc=False, kw_only=True):
    """What the OCS says about one credit (a Multiple-Services-Credit-Control, RFC 8506 clause 8.16)."""

    key: str
    success: bool = True
    result_code: int = 0
    limit: CreditLimit = CreditLimit.FINITE
    granted: GrantedUnits = GrantedUnits()
    is_final: bool = False
    final_action: FinalAction = FinalAction.TERMINATE
    redirect: RedirectServer = RedirectServer()
    restrict_rules: tuple[str, ...] = ()
    validity_ms: int = 0


class Verdict(StrEnum):
    """How an answer is to be taken."""

    VALID = "VALID"
    TRANSIENT = "TRANSIENT"
    INVALID = "INVALID"


class Action(StrEnum):
    """What is to be done about the traffic of a credit."""

    CONTINUE = "CONTINUE"
    ACTIVATE = "ACTIVATE"
    TERMINATE = "TERMINATE"
    REDIRECT = "REDIRECT"
    RESTRICT_ACCESS = "RESTRICT_ACCESS"


NO_UNITS: Final = GrantedUnits()
FIRST_PAUSE_MS: Final = 4000
LONGEST_PAUSE_MS: Final = 60_000
"""Bounds of the pause before an OCS that had nothing to give twice is asked again."""


def verdict(answer: CreditAnswer) -> Verdict:
    """Return how to take an answer: its result code first, then whether it grants anything."""
    judged = Verdict.VALID
    if not answer.success:
        if answer.result_code not in credit.TRANSIENT_FAILURES:
            return Verdict.INVALID
        judged = Verdict.TRANSIENT
    finite = answer.limit is CreditLimit.FINITE
    if finite and answer.granted == NO_UNITS and not answer.is_final and judged is Verdict.VALID:
        return Verdict.INVALID
    return judged


def opened(answer: CreditAnswer, now_ms: int) -> ChargingCredit:
    """Return a new credit from its first answer, which must not be INVALID."""
    new = ChargingCredit(limit=answer.limit)
    opened_credit: ChargingCredit = applied(new, _grant(new, answer, now_ms))
    return opened_credit


def answered(
    current: ChargingCredit,
    answer: CreditAnswer,
    now_ms: int,
    *,
    taken: bool,
    terminates: bool,
    group_only: bool = False,
) -> Change:
    """Return the change of a credit that an answer brings; what it says again is none.

    `taken`: the answer belongs to the report in flight; a transient failure has taken that usage all the same, any
    other failure has not. The rest is as with `should_deactivate`.
    """
    judged = verdict(answer)
    if judged is not Verdict.INVALID:
        settled, grant = credit.acknowledged(current) if taken else Change(), _grant(current, answer, now_ms)
        add, fields = {**settled.add, **grant.add}, {**settled.set, **grant.set}
        after = applied(current, Change(add, fields))
        used_up = credit.exhausted(after, 1.0)
        fields |= _emptiness(after, answer, now_ms, used_up=used_up)
        fields |= _reopened(after, judged, used_up=used_up)
    else:
        add, fields = {}, dict(credit.returned(current).set) if taken else {}
        after = current
    if should_deactivate(after, terminates=terminates, group_only=group_only):
        fields["service"] = Service.NEEDS_DEACTIVATION
    return Change(add, {name: value for name, value in fields.items() if getattr(current, name) != value})


def _grant(current: ChargingCredit, answer: CreditAnswer, now_ms: int) -> Change:
    """Return the change of quota, final unit and validity that an answer brings."""
    change = credit.granted(current, answer.granted)
    final: dict[str, Any] = {"is_final": answer.is_final}
    if answer.is_final:
        final["final_action"] = answer.final_action
        if answer.final_action is FinalAction.REDIRECT:
            final["redirect"] = answer.redirect
        if answer.final_action is FinalAction.RESTRICT_ACCESS:
            final["restrict_rules"] = answer.restrict_rules
    final["expires_at_ms"] = now_ms + answer.validity_ms if answer.validity_ms else None
    return Change(change.add, {**change.set, **final})


def _emptiness(current: ChargingCredit, answer: CreditAnswer, now_ms: int, *, used_up: bool) -> dict[str, Any]:
    """Return what becomes of how long to wait before asking again: longer with every answer that brought nothing.

    Quota, or a final unit with its own action, ends the wait for an answer before the credit is blocked.
    """
    if answer.is_final or not used_up:
        return {"empty_answers": 0, "ask_again_at_ms": 0, "block_at_ms": 0}
    if any((answer.granted.total, answer.granted.tx, answer.granted.rx)):
        return {"empty_answers": 0, "ask_again_at_ms": 0}
    times = current.empty_answers + 1
    pause_ms = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (times - 2)) if times > 1 else 0
    return {"empty_answers": times, "ask_again_at_ms": now_ms + pause_ms}


def _reopened(current: ChargingCredit, judged: Verdict, *, used_up: bool) -> dict[str, Any]:
    """Return what becomes of what waited for an answer; a transient failure brings no service, however much is left."""
    changes: dict[str, Any] = {}
    if current.reauth is ReAuth.PROCESSING:
        changes["reauth"] = ReAuth.NOT_NEEDED
    held_back = current.service is not Service.ENABLED
    if judged is Verdict.VALID and held_back and not used_up:
        changes["service"] = Service.NEEDS_ACTIVATION
    return changes


def should_deactivate(current: ChargingCredit, *, terminates: bool, group_only: bool = False) -> bool:
    """Whether a final unit is used up and its action is still to be taken.

    `terminates` is `terminate_service_when_quota_exhausted`; `group_only`: what ends is the service of the rating group
    and not the session, so that nothing is left to be done for one that is blocked.
    """
    if not current.is_final or not credit.exhausted(current, 1.0):
        return False
    if current.final_action is FinalAction.TERMINATE:
        return terminates and not (group_only and current.blocked)
    return current.service is Service.ENABLED


def action(current: ChargingCredit) -> tuple[Action, Service]:
    """Return what to do about the traffic of a credit, and the state of its service after that."""
    match current.service:
        case Service.NEEDS_ACTIVATION:
            return Action.ACTIVATE, Service.ENABLED
        case Service.NEEDS_DEACTIVATION if not current.is_final or current.final_action is FinalAction.TERMINATE:
            return Action.TERMINATE, Service.DISABLED
        case Service.NEEDS_SUSPENSION if current.final_action is FinalAction.TERMINATE:
            return Action.CONTINUE, Service.DISABLED
        case Service.NEEDS_DEACTIVATION | Service.NEEDS_SUSPENSION if current.final_action is FinalAction.REDIRECT:
            return Action.REDIRECT, Service.REDIRECTED
        case Service.NEEDS_DEACTIVATION | Service.NEEDS_SUSPENSION:
            return Action.RESTRICT_ACCESS, Service.RESTRICTED
        case _:
            return Action.CONTINUE, current.service


def due(current: ChargingCredit, now_ms: int, threshold: float) -> UpdateReason | None:
    """Return why an update is due for a credit, or None; nothing is due while one is in flight."""
    if current.in_flight is not None:
        return None
    if current.reauth is ReAuth.REQUIRED:
        return UpdateReason.REAUTH_REQUIRED
    if current.expires_at_ms is not None and now_ms >= current.expires_at_ms:
        return UpdateReason.VALIDITY_TIMER_EXPIRED
    if current.is_final or current.suspended or not credit.exhausted(current, threshold):
        return None
    return None if _waits_after_empty_answers(current, now_ms) else UpdateReason.QUOTA_EXHAUSTED


def _waits_after_empty_answers(current: ChargingCredit, now_ms: int) -> bool:
    """Whether to ask again later: nothing new was used, or the OCS had nothing to give several times in a row.

    A credit that is blocked cannot use anything new: it asks again all the same.
    """
    if not current.empty_answers:
        return False
    idle = credit.unreported(current) == Volume() and not current.blocked
    return idle or now_ms < current.ask_again_at_ms


def asks_again_at_ms(current: ChargingCredit) -> int | None:
    """Return when a credit asks again by itself, because it is blocked and the OCS had nothing to give; or None."""
    waits = current.blocked and current.empty_answers and current.in_flight is None
    if not waits or current.is_final or current.suspended or not credit.exhausted(current, 1.0):
        return None
    return current.ask_again_at_ms


def room(current: ChargingCredit, threshold: float) -> int:
    """Return how many octets may at least be used before anything comes of it; the first ones are noted at once."""
    if not current.first_usage_s:
        return 0
    silent = current.in_flight is not None or current.is_final or current.suspended
    return credit.room(current, 1.0 if silent else threshold)


def reported(current: ChargingCredit, number: int, reason: UpdateReason) -> Change:
    """Return the change when an update goes out in the request of this number; a final unit asks for nothing."""
    change = credit.sent(current, number, reason, wanted(current))
    if reason is UpdateReason.REAUTH_REQUIRED:
        return Change(change.add, {**change.set, "reauth": ReAuth.PROCESSING})
    return change


def wanted(current: ChargingCredit) -> RequestedUnits:
    """Return the units to ask for."""
    return RequestedUnits() if current.is_final else credit.requested(current)


def without_quota(current: ChargingCredit, now_ms: int, grace_ms: int) -> Change:
    """Return the change when a credit is used up: it is blocked some time later if the OCS says nothing until then."""
    used_up = grace_ms and not current.is_final and not current.block_at_ms and credit.exhausted(current, 1.0)
    return Change(set={"block_at_ms": now_ms + grace_ms}) if used_up else Change()


def held(current: ChargingCredit) -> bool:
    """Whether the flows of a credit are to stay down."""
    return current.suspended or current.blocked


def unanswered(current: ChargingCredit) -> Change:
    """Return the change when a request certainly was not carried out: usage and re-authorisation are due again."""
    change = credit.returned(current)
    if change and current.reauth is ReAuth.PROCESSING:
        return Change(change.add, {**change.set, "reauth": ReAuth.REQUIRED})
    return change
