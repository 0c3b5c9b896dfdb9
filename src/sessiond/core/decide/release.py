"""The end of a gateway session: released, final usage awaited, reported, gone.

Releasing takes the flows down at once. What the data plane counted until then still comes with the next usage report;
the first one without a record of the session, or a timer, completes the end. The end is reported (CCR-T) only when no
other report of the session is in flight, so that no usage is in two requests (RFC 8506 clause 7, state PendingU).
"""

from collections.abc import Iterator
from typing import Final

from sessiond.core import events, rules
from sessiond.core.decide import flows
from sessiond.core.draft import Draft
from sessiond.core.effects import (
    DeactivateFlows,
    DeleteBearer,
    DeleteDirectoryRecord,
    DeleteMacFlow,
    QuotaState,
    TerminateAccess,
    TerminateSession,
    UpdateQuotaState,
)
from sessiond.core.lifecycle import Event, State
from sessiond.core.rules import Teids
from sessiond.core.session import Gateway, Rat, Session
from sessiond.core.situation import Situation

VERSIONS_KEPT_MS: Final = 300_000
"""How long an aborted session is remembered; pipelined reports every 2 s, unless it is away."""
OVER = frozenset({State.CLOSING, State.CLOSED})


def release(draft: Draft, at: Situation, reason: str, *, notify: bool) -> None:
    """Begin the end: flows down, rules gone, final usage awaited; `notify` tells the access side to drop its bearer.

    A session that the policy side has not allowed yet has nothing to take down: what its device has by now belongs to
    another session.
    """
    if draft.head.state in OVER:
        return
    begun = draft.head.state is not State.CREATING
    draft.step(Event.RELEASE, at.now_ms, reason)
    if begun:
        _take_down(draft, at, notify=notify)
    await_final_usage(draft, at)


def _take_down(draft: Draft, at: Situation, *, notify: bool) -> None:
    flows.forget_waiting(draft)
    for teids in dict.fromkeys(_tunnels(draft)):
        draft.save(DeactivateFlows(teids=teids, everything=True))
    for rule_id in list(draft.rules):
        forget_rule(draft, rule_id)
    _access_down(draft, notify=notify)
    if at.settings.wallet_exhaustion_terminates:
        draft.set("gateway", quota_state=QuotaState.TERMINATE)
        draft.save(UpdateQuotaState(state=QuotaState.TERMINATE))


def _access_down(draft: Draft, *, notify: bool) -> None:
    """Tell the access side, if it does not know, and forget the MAC address of carrier wifi."""
    lte, wlan = draft.context.lte, draft.context.rat is Rat.WLAN
    if notify and wlan:
        draft.save(TerminateAccess())
    elif notify and lte is not None:
        draft.save(DeleteBearer(bearer_ids=(lte.bearer_id,)))
    if wlan:
        draft.save(DeleteMacFlow())


def await_final_usage(draft: Draft, at: Situation, at_least_ms: int = 0) -> None:
    """Give the final usage some time to come."""
    wait_ms = max(at.settings.session_force_termination_timeout_ms, at_least_ms)
    draft.set("gateway", decide_by_ms=at.now_ms + wait_ms)


def still_flowing(session: Draft | Session) -> bool:
    """Whether the data plane is still to be told that the session is over."""
    return any(isinstance(effect, DeactivateFlows) and effect.everything for effect in session.effects.values())


def delivered(draft: Draft, effect_id: str, at: Situation) -> None:
    """Strike off an effect; once the flows of a released session are down, its final usage comes soon."""
    effect = draft.effects.get(effect_id)
    if effect is None:
        return
    draft.remove("effects", effect_id)
    flows_down = isinstance(effect, DeactivateFlows) and effect.everything
    if flows_down and draft.head.state is State.CLOSING and not draft.gateway.final and not still_flowing(draft):
        await_final_usage(draft, at)


def forget_rule(draft: Draft, rule_id: str) -> None:
    """Take a rule out of force without telling pipelined about it; usage of both versions still counts."""
    rule = draft.rules[rule_id]
    if rules.in_force(rule) or rule.gy is not None:
        flows.bump(draft, rule_id)
    draft.set("rules", rule_id, gx=None, gy=None, bearer=None)


def final_usage_in(draft: Draft, at: Situation) -> None:
    """Note that no more usage will come, and report the end as soon as nothing else is in flight."""
    if draft.head.state is State.CLOSING:
        draft.set("gateway", final=True, decide_by_ms=0)
        complete(draft, at)


def complete(draft: Draft, at: Situation) -> None:
    """Report the end, if the final usage is in and nothing else is in flight."""
    if draft.head.state is not State.CLOSING or not draft.gateway.final or in_flight(draft):
        return
    draft.step(Event.COMPLETE, at.now_ms)
    draft.save(TerminateSession())
    draft.tell(events.session_terminated(draft.session()), DeleteDirectoryRecord())


def abort(draft: Draft, at: Situation) -> None:
    """End a session at the word of the policy side (ASR): flows and bearer down, nothing reported any more.

    It is remembered for a while, so that the versions of its rules are not those of the next session of the subscriber:
    the data plane has still to report what it counted under them.
    """
    release(draft, at, "ABORTED", notify=True)
    draft.step(Event.COMPLETE, at.now_ms)
    draft.set("head", forget_at_ms=at.now_ms + VERSIONS_KEPT_MS)
    draft.tell(events.session_terminated(draft.session()), DeleteDirectoryRecord())


def in_flight(draft: Draft) -> bool:
    """Whether any request of the session is unanswered: a report, or the question that a revalidation is."""
    quotas = (*draft.credits.values(), *draft.monitors.values())
    return any(quota.in_flight is not None for quota in quotas) or revalidates(draft.gateway)


def revalidates(gateway: Gateway) -> bool:
    """Whether a revalidation is on its way, whether or not the next one is known."""
    return gateway.revalidation is not None and gateway.revalidation.number != 0


def _tunnels(draft: Draft) -> Iterator[Teids]:
    yield draft.context.teids
    for rule in draft.rules.values():
        if rule.bearer is not None:
            yield rule.bearer.teids
