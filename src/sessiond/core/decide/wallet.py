"""The wallet of a subscriber: without any monitored rule in force there is nothing left to spend."""

from sessiond.core import rules
from sessiond.core.decide.release import release
from sessiond.core.draft import Draft
from sessiond.core.effects import QuotaState, UpdateQuotaState
from sessiond.core.lifecycle import State
from sessiond.core.situation import Situation


def exhausted(draft: Draft) -> bool:
    """Whether no rule in force counts on a usage monitor."""
    return not any(rules.in_force(rule) and rule.target.monitor for rule in draft.rules.values())


def opened(draft: Draft, at: Situation) -> None:
    """Say what a session that begins has to spend; one with nothing is ended some time later."""
    if at.settings.wallet_exhaustion_terminates:
        _say(draft, at)


def changed(draft: Draft, at: Situation) -> None:
    """End a session whose last monitored rule the policy side has taken away."""
    if _watched(draft, at) and exhausted(draft):
        release(draft, at, "WALLET_EXHAUSTED", notify=True)
    else:
        reviewed(draft, at)


def reviewed(draft: Draft, at: Situation) -> None:
    """Say what a session has to spend if that is news: rules come and go with time, too."""
    if _watched(draft, at) and draft.gateway.quota_state is not _state(draft):
        _say(draft, at)


def time_is_up(draft: Draft, at: Situation) -> None:
    """End a session that had nothing to spend for too long, unless the operator does not want that any more."""
    draft.set("gateway", end_without_quota_at_ms=0)
    if at.settings.wallet_exhaustion_terminates and exhausted(draft):
        release(draft, at, "WALLET_EXHAUSTED", notify=True)
    else:
        _tell(draft, QuotaState.VALID_QUOTA)


def _watched(draft: Draft, at: Situation) -> bool:
    """Whether a session is judged: only in force, for before that none of its rules is."""
    in_force = draft.head.state is State.ACTIVE and draft.gateway.answer is None
    return in_force and at.settings.wallet_exhaustion_terminates


def _state(draft: Draft) -> QuotaState:
    return QuotaState.NO_QUOTA if exhausted(draft) else QuotaState.VALID_QUOTA


def _say(draft: Draft, at: Situation) -> None:
    """Let pipelined know, and time the end if there is nothing; an end that is timed already stays."""
    state = _state(draft)
    end_at_ms = draft.gateway.end_without_quota_at_ms or at.now_ms + at.settings.wallet_exhaustion_on_init_ms
    draft.set("gateway", end_without_quota_at_ms=end_at_ms if state is QuotaState.NO_QUOTA else 0)
    _tell(draft, state)


def _tell(draft: Draft, state: QuotaState) -> None:
    draft.set("gateway", quota_state=state)
    draft.save(UpdateQuotaState(state=state))
