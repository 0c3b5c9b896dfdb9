"""Requests of the policy side (Gx and Gy RAR): re-authorise credits, change rules, bring monitors."""

from enum import StrEnum

from msgspec import Struct

from sessiond.core.charging import ChargingCredit, ReAuth, Service
from sessiond.core.decide import flows, wallet
from sessiond.core.decide.answer import arm_revalidation, take_monitor
from sessiond.core.decide.flows import RuleChanges
from sessiond.core.decide.release import OVER
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound
from sessiond.core.lifecycle import State
from sessiond.core.monitors import MonitorAnswer
from sessiond.core.rules import RuleInstall
from sessiond.core.situation import Situation


class ReAuthResult(StrEnum):
    """What a re-authorisation request comes to."""

    UPDATE_INITIATED = "UPDATE_INITIATED"
    UPDATE_NOT_NEEDED = "UPDATE_NOT_NEEDED"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    OTHER_FAILURE = "OTHER_FAILURE"


class PolicyChange(Struct, frozen=True, gc=False, kw_only=True):
    """What a PolicyReAuth wants changed in a session."""

    remove: tuple[str, ...] = ()
    installs: tuple[RuleInstall, ...] = ()
    monitors: tuple[MonitorAnswer, ...] = ()
    revalidation_at_ms: int | None = None


def reauthorise_credit(draft: Draft, key: str) -> ReAuthResult:
    """Re-authorise one credit with the next usage report; one never heard of begins without service."""
    if draft.head.state in OVER:
        return ReAuthResult.SESSION_NOT_FOUND
    charge = draft.credits.get(key)
    if charge is None:
        draft.put("credits", key, ChargingCredit(service=Service.DISABLED, reauth=ReAuth.REQUIRED))
        return ReAuthResult.UPDATE_INITIATED
    if charge.in_flight is not None:
        return ReAuthResult.UPDATE_NOT_NEEDED
    draft.set("credits", key, reauth=ReAuth.REQUIRED)
    return ReAuthResult.UPDATE_INITIATED


def reauthorise_all(draft: Draft) -> ReAuthResult:
    """Re-authorise every credit of which no report is in flight."""
    if draft.head.state in OVER:
        return ReAuthResult.SESSION_NOT_FOUND
    idle = [key for key, charge in draft.credits.items() if charge.in_flight is None]
    for key in idle:
        draft.set("credits", key, reauth=ReAuth.REQUIRED)
    return ReAuthResult.UPDATE_INITIATED if idle else ReAuthResult.UPDATE_NOT_NEEDED


def change_policy(draft: Draft, wanted: PolicyChange, at: Situation) -> list[str]:
    """Change monitors, revalidation and rules; return the static rules that nobody knows."""
    if draft.head.state is not State.ACTIVE:
        raise NotFound("SESSION_NOT_FOUND", f"session {draft.key} is {draft.head.state}, not active")
    for monitor in wanted.monitors:
        take_monitor(draft, monitor)
    arm_revalidation(draft, wanted.revalidation_at_ms)
    changes = RuleChanges()
    flows.remove(draft, wanted.remove, changes)
    flows.install(draft, wanted.installs, changes, at)
    flows.tell(draft, changes)
    wallet.changed(draft, at)
    return [item.id for item in wanted.installs if item.rule is None and item.id not in at.catalogue]
