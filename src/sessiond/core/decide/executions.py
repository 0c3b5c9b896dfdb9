"""Executions and traffic: what is done in a native session, held against what it may do, and counted (row L6).

What is used in a session is used of the quotas of those that it acts for, too.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sessiond.core import access
from sessiond.core.access import EXECUTIONS, Operation, Place
from sessiond.core.decide.native import check_native
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, ResourceExhausted, SessionError
from sessiond.core.lifecycle import State
from sessiond.core.situation import Situation
from sessiond.core.traffic import Executions, Traffic, addition, resources
from sessiond.core.update import Change

MOST_FUNCTIONS: Final = 100
"""Functions of one session that are counted by name."""


class Wish(Struct, frozen=True):
    """What somebody wants to do in a session: an operation on a function, and what that uses, by resource."""

    operation: Operation
    function: str = ""
    usage: Mapping[str, int] = {}


def check_active(key: str, state: State) -> None:
    """Refuse a session in which nothing can be done now."""
    if state is not State.ACTIVE:
        raise FailedPrecondition("SESSION_NOT_ACTIVE", f"session {key} is {state}")


def authorize(draft: Draft, place: Place, target: Place | None, wish: Wish, at: Situation) -> None:
    """Let something be done in a session, and count it; what it may not is refused, and uses nothing.

    The target is another session that is read or changed, if that is what is wanted.
    """
    check_native(draft, over_is="SESSION_NOT_ACTIVE")
    check_active(draft.key, draft.head.state)
    access.check_permission(place, wish.operation, target)
    access.check_isolation(place, wish.operation, wish.function, target)
    usage = used_by(wish)
    access.check_usage(draft.quotas, usage)
    _use(draft, usage)
    known = draft.executions
    if known is None:
        draft.put("executions", "", Executions())
    fields = {"last_at_ms": at.now_ms, **_by_function(draft, known or Executions(), wish.function)}
    draft.change("executions", "", Change(add={"authorized": 1}, set=fields))


def used_by(wish: Wish) -> Mapping[str, int]:
    """Return what something uses, by resource: at least one execution."""
    return {**wish.usage, EXECUTIONS: max(1, wish.usage.get(EXECUTIONS, 0))}


def share(draft: Draft, usage: Mapping[str, int]) -> None:
    """Count in a session what is to be done in one that acts for it; refuse that if it has not enough left."""
    check_active(draft.key, draft.head.state)
    access.check_usage(draft.quotas, usage)
    _use(draft, usage)


def share_traffic(draft: Draft, usage: Mapping[str, int]) -> None:
    """Count in a session what went through one that acts for it, beyond a quota too: it has been."""
    _use(draft, usage)


def give_back(draft: Draft, usage: Mapping[str, int]) -> None:
    """Take back from a session what was counted in it for one that acts for it, and has not come about."""
    _use(draft, {resource: -amount for resource, amount in usage.items()})


def refuse(draft: Draft) -> None:
    """Count that something was not let be done."""
    if draft.executions is None:
        draft.put("executions", "", Executions())
    draft.change("executions", "", Change(add={"refused": 1}))


def is_refusal(error: SessionError) -> bool:
    """Whether an error says that a session may not do what is wanted, and not that the question was none."""
    return error.reason in {"SESSION_NOT_ACTIVE", "PERMISSION_DENIED", "POLICY_VIOLATION", "QUOTA_EXCEEDED"}


def record(draft: Draft, more: Traffic) -> None:
    """Count traffic, beyond a quota too: it has been."""
    check_native(draft)
    if draft.traffic is None:
        draft.put("traffic", "", Traffic())
    draft.change("traffic", "", addition(more))
    _use(draft, resources(more))


def check_traffic_quotas(quotas: Mapping[str, access.Quota]) -> None:
    """Raise ResourceExhausted if more went through a session than it may."""
    for resource in ("bytes", "packets"):
        quota = quotas.get(resource)
        if quota is not None and quota.used > quota.limit:
            text = f"the quota of {resource} is {quota.limit}, and {quota.used} are used"
            raise ResourceExhausted("QUOTA_EXCEEDED", text)


def _use(draft: Draft, usage: Mapping[str, int]) -> None:
    for resource, amount in usage.items():
        if amount and resource in draft.quotas:
            draft.change("quotas", resource, Change(add={"used": amount}))


def _by_function(draft: Draft, known: Executions, function: str) -> Mapping[str, Mapping[str, int]]:
    """Return the counts of functions that change, where performance is monitored."""
    counts = known.functions
    if not (function and draft.options.performance_monitoring):
        return {}
    if function not in counts and len(counts) >= MOST_FUNCTIONS:
        return {}
    return {"functions": {**counts, function: counts.get(function, 0) + 1}}
