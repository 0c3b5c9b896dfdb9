"""Time: when a session next wants to be looked at, and what has come due by then."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, TypeAlias

from sessiond.core import charging, rules
from sessiond.core.charging import ChargingCredit
from sessiond.core.decide import flows, lapse, wallet
from sessiond.core.decide.create import abandoned
from sessiond.core.decide.flows import RuleChanges
from sessiond.core.decide.release import await_final_usage, final_usage_in, still_flowing
from sessiond.core.decide.report import collect
from sessiond.core.decide.retention import forget
from sessiond.core.draft import Draft
from sessiond.core.lifecycle import State
from sessiond.core.rules import RuleInstall
from sessiond.core.session import Gateway, Revalidation, RevalidationState, Session
from sessiond.core.situation import Situation

_OVER: Final = frozenset({State.CLOSING, State.CLOSED})
LOOK_AGAIN_MS: Final = 1000
"""How long at least until it is looked at again whether the data plane is there."""
MAX_FINAL_USAGE_WAIT_MS: Final = 300_000
"""How long the final usage is waited for while the data plane cannot be told to stop, or is away."""


class TimerKind(StrEnum):
    """What time alone brings about in a session."""

    STATE_TIMEOUT = "STATE_TIMEOUT"
    TERMINATION = "TERMINATION"
    WALLET = "WALLET"
    REVALIDATION = "REVALIDATION"
    CREDIT_VALIDITY = "CREDIT_VALIDITY"
    QUOTA_GRACE = "QUOTA_GRACE"
    QUOTA_RETRY = "QUOTA_RETRY"
    RULE_ACTIVATION = "RULE_ACTIVATION"
    RULE_DEACTIVATION = "RULE_DEACTIVATION"
    RETENTION = "RETENTION"
    KEY_ROTATION = "KEY_ROTATION"
    EXPIRY = "EXPIRY"
    IDLE = "IDLE"


_LAPSES: Final = {
    lapse.TIMED_OUT: TimerKind.STATE_TIMEOUT,
    lapse.EXPIRED: TimerKind.EXPIRY,
    lapse.IDLE: TimerKind.IDLE,
}

Timer: TypeAlias = tuple[TimerKind, str, int]
"""What happens, to which credit or rule ("" for the session), and when (unix ms)."""


def deadline(session: Session, now_ms: int, used_at_ms: int = 0) -> int | None:
    """Return the earliest moment (unix ms) at which time alone changes something, or None.

    A validity time that has passed is none any more: it is reported at once, or again with the next usage report.
    `used_at_ms` says when a native session was last used, if that is later than is written in it.
    """
    earliest_ms = None
    for kind, _, at_ms in timers(session, used_at_ms):
        if (earliest_ms is None or at_ms < earliest_ms) and (at_ms > now_ms or kind is not TimerKind.CREDIT_VALIDITY):
            earliest_ms = at_ms
    return earliest_ms


def timers(session: Session, used_at_ms: int = 0) -> Iterator[Timer]:
    """Yield everything that a session waits for, in no order."""
    if session.head.forget_at_ms and not session.head.forgotten:
        yield TimerKind.RETENTION, "", session.head.forget_at_ms
    if session.limits is not None:
        for reason, at_ms in lapse.lapses(session, used_at_ms):
            yield _LAPSES[reason], "", at_ms
    if session.secret is not None and session.secret.rotate_at_ms and session.head.state not in _OVER:
        yield TimerKind.KEY_ROTATION, "", session.secret.rotate_at_ms
    if session.gateway is not None and session.head.state is not State.CLOSED:
        yield from _gateway_timers(session, session.gateway)


def _gateway_timers(session: Session, gateway: Gateway) -> Iterator[Timer]:
    if gateway.decide_by_ms:
        ending = session.head.state is State.CLOSING
        yield TimerKind.TERMINATION if ending else TimerKind.STATE_TIMEOUT, "", gateway.decide_by_ms
    if session.head.state is not State.ACTIVE:
        return
    if gateway.end_without_quota_at_ms:
        yield TimerKind.WALLET, "", gateway.end_without_quota_at_ms
    if gateway.revalidation is not None and gateway.revalidation.state is RevalidationState.PENDING:
        yield TimerKind.REVALIDATION, "", gateway.revalidation.at_ms
    for key, charge in session.credits.items():
        if charge.expires_at_ms is not None and charge.in_flight is None:
            yield TimerKind.CREDIT_VALIDITY, key, charge.expires_at_ms
        if charge.block_at_ms and not charge.blocked:
            yield TimerKind.QUOTA_GRACE, key, charge.block_at_ms
        if (again_at_ms := charging.asks_again_at_ms(charge)) is not None:
            yield TimerKind.QUOTA_RETRY, key, again_at_ms
    for rule_id, rule in session.rules.items():
        if rule.gx is not None and rule.gx.scheduled:
            yield TimerKind.RULE_ACTIVATION, rule_id, rule.gx.lifetime.activation_ms
        elif rule.gx is not None and rule.gx.lifetime.deactivation_ms:
            yield TimerKind.RULE_DEACTIVATION, rule_id, rule.gx.lifetime.deactivation_ms


def tick(draft: Draft, at: Situation, used_at_ms: int = 0) -> None:
    """Do what has come due; doing it again at once changes nothing."""
    if draft.head.forget_at_ms and draft.head.forget_at_ms <= at.now_ms:
        forget(draft)
    if draft.is_native:
        lapse.tick(draft, at, used_at_ms)
    if draft.is_gateway:
        _tick_gateway(draft, at)


def _tick_gateway(draft: Draft, at: Situation) -> None:
    decide_by_ms = draft.gateway.decide_by_ms
    if decide_by_ms and decide_by_ms <= at.now_ms:
        if draft.head.state is State.CREATING:
            abandoned(draft, at)
        elif _usage_may_come(draft, at):
            await_final_usage(draft, at, at_least_ms=LOOK_AGAIN_MS)
        else:
            final_usage_in(draft, at)
    if draft.head.state is State.ACTIVE:
        _rules(draft, at)
        wallet.reviewed(draft, at)
        _revalidation(draft, at)
        _block_without_quota(draft, at)
        if draft.gateway.end_without_quota_at_ms and draft.gateway.end_without_quota_at_ms <= at.now_ms:
            wallet.time_is_up(draft, at)
        for _ in range(2):  # what is to be done about a credit's traffic comes first, its report after that
            if any(_asks(charge, at) for charge in draft.credits.values()):
                collect(draft, at)


def _usage_may_come(draft: Draft, at: Situation) -> bool:
    """Whether the final usage is still to come: the data plane was not told of the end, or had no time to report."""
    if at.now_ms >= draft.head.closing_at_ms + MAX_FINAL_USAGE_WAIT_MS:
        return False
    since_ms, wait_ms = at.counting_since_ms, at.settings.session_force_termination_timeout_ms
    return still_flowing(draft) or since_ms is None or at.now_ms < since_ms + wait_ms


def _asks(charge: ChargingCredit, at: Situation) -> bool:
    """Whether a credit is to be asked about without any usage: its validity has ended, or it is blocked long enough."""
    expired = charge.in_flight is None and charge.expires_at_ms is not None and charge.expires_at_ms <= at.now_ms
    again_at_ms = charging.asks_again_at_ms(charge)
    return expired or (again_at_ms is not None and again_at_ms <= at.now_ms)


def _rules(draft: Draft, at: Situation) -> None:
    """Bring rules in line with the clock."""
    changes = RuleChanges()
    over, begun = [], []
    for rule_id, rule in draft.rules.items():
        if rule.gx is None:
            continue
        if rules.is_over(rule.gx.lifetime, at.now_ms):
            over.append(rule_id)
        elif rule.gx.scheduled and not rules.is_ahead(rule.gx.lifetime, at.now_ms):
            begun.append(RuleInstall(rule_id, rule.gx.rule, rule.gx.lifetime))
    flows.remove(draft, over, changes)
    flows.install(draft, begun, changes, at)
    flows.forget_scheduled(draft, [wanted.id for wanted in begun])
    flows.tell(draft, changes)


def _revalidation(draft: Draft, at: Situation) -> None:
    pending = draft.gateway.revalidation
    if pending is not None and pending.state is RevalidationState.PENDING and pending.at_ms <= at.now_ms:
        draft.set("gateway", revalidation=Revalidation(RevalidationState.READY, pending.at_ms, pending.number))


def _block_without_quota(draft: Draft, at: Situation) -> None:
    """Take the flows down of credits that are used up and have been without an answer for too long."""
    for key, charge in list(draft.credits.items()):
        if charge.block_at_ms and charge.block_at_ms <= at.now_ms and not charge.blocked:
            draft.set("credits", key, blocked=True)
            flows.take_credit_down(draft, key)
