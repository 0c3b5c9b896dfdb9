"""The wallet of a carrier wifi subscriber: without any monitored rule in force there is nothing left to spend."""

from sessiond.core import rules
from sessiond.core.decide.release import release
from sessiond.core.draft import Draft
from sessiond.core.effects import QuotaState, UpdateQuotaState
from sessiond.core.situation import Situation


def exhausted(draft: Draft) -> bool:
    """Whether no rule in force counts on a usage monitor."""
    return not any(rules.in_force(rule) and rule.target.monitor for rule in draft.rules.values())


def opened(draft: Draft, at: Situation) -> None:
    """Say what a session that begins has to spend; one with nothing is ended some time later."""
    if not at.settings.wallet_exhaustion_terminates:
        return
    if exhausted(draft):
        tell(draft, QuotaState.NO_QUOTA)
        draft.set("gateway", end_without_quota_at_ms=at.now_ms + at.settings.wallet_exhaustion_on_init_ms)
    else:
        tell(draft, QuotaState.VALID_QUOTA)


def changed(draft: Draft, at: Situation) -> None:
    """End a session whose last monitored rule has gone."""
    if at.settings.wallet_exhaustion_terminates and exhausted(draft):
        release(draft, at, "WALLET_EXHAUSTED", notify=True)


def time_is_up(draft: Draft, at: Situation) -> None:
    """End a session that began with nothing to spend, unless it got something meanwhile."""
    draft.set("gateway", end_without_quota_at_ms=0)
    if exhausted(draft):
        release(draft, at, "WALLET_EXHAUSTED", notify=True)
    else:
        tell(draft, QuotaState.VALID_QUOTA)


def tell(draft: Draft, state: QuotaState) -> None:
    """Let pipelined know."""
    draft.set("gateway", quota_state=state)
    draft.save(UpdateQuotaState(state=state))
