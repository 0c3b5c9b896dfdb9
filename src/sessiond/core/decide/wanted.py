"""Wanted: which flows a session wants to be up at this moment, in which version and on which tunnel.

Everybody who tells pipelined of flows asks here which they are: after its restart, when tunnels move, when a quota
comes back, when a bearer is made, and when something waited to be told.
"""

from collections.abc import Iterable, Iterator, Mapping

from sessiond.core import charging, rules
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.rules import Teids
from sessiond.core.session import Session


def wanted_flows(session: Session) -> list[ActivateFlows]:
    """Return all flows of an active session: Gx by tunnel, then Gy; each at least once, for the default drop flow."""
    if session.head.state is not State.ACTIVE or session.gateway is None:
        return []
    draft = Draft(session)
    return [
        ActivateFlows(teids=teids, gy=gy, rules=tuple(group))
        for gy in (False, True)
        for teids, group in (by_tunnel(draft, wanted(draft, gy=gy), gy=gy) or {draft.context.teids: []}).items()
    ]


def wanted(draft: Draft, *, gy: bool = False) -> Iterator[str]:
    """Yield the rules whose flows are to be up."""
    return (rule_id for rule_id in draft.rules if is_wanted(draft, rule_id, gy=gy))


def is_wanted(draft: Draft, rule_id: str, *, gy: bool = False) -> bool:
    """Whether the flows of a rule are to be up: it is in force, has the bearer it asked for, and is not held."""
    rule = draft.rules[rule_id]
    if gy:
        return rule.gy is not None
    return rules.in_force(rule) and not rules.awaits_bearer(rule) and not held(draft, rule_id)


def held(draft: Draft, rule_id: str) -> bool:
    """Whether the flows of a rule wait until its credit has quota again."""
    charge = draft.credits.get(draft.rules[rule_id].target.credit)
    return charge is not None and charging.held(charge)


def by_tunnel(
    draft: Draft, ids: Iterable[str], *, gy: bool, tunnels: Mapping[str, Teids] | None = None
) -> dict[Teids, list[VersionedRule]]:
    """Return rules with their present versions by the tunnel that carries them, or of which `tunnels` says so."""
    groups: dict[Teids, list[VersionedRule]] = {}
    for rule_id in dict.fromkeys(ids):
        teids = (tunnels or {}).get(rule_id) or tunnel_of(draft, rule_id, gy=gy)
        groups.setdefault(teids, []).append(VersionedRule(rule_id, draft.rules[rule_id].version))
    return groups


def tunnel_of(draft: Draft, rule_id: str, *, gy: bool = False) -> Teids:
    """Return the tunnel that carries a rule: its own bearer's, or the default one."""
    known = draft.rules.get(rule_id)
    return known.bearer.teids if known and known.bearer and not gy else draft.context.teids
