"""After pipelined or its switch restarted: what a session wants installed, and versions that count from new."""

from collections.abc import Iterator

from sessiond.core import charging, rules
from sessiond.core.decide import flows
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.rules import Teids
from sessiond.core.session import Session


def wanted_flows(session: Session) -> list[ActivateFlows]:
    """Return all flows of an active session: Gx by tunnel, then Gy; each at least once, for the default drop flow."""
    if session.head.state is not State.ACTIVE or session.context is None:
        return []
    default = session.context.teids
    return [
        *_requests(default, list(_gx(session, default)), gy=False),
        *_requests(default, list(_gy(session, default)), gy=True),
    ]


def _gx(session: Session, default: Teids) -> Iterator[tuple[Teids, VersionedRule]]:
    for rule_id, rule in session.rules.items():
        charge = session.credits.get(rule.target.credit)
        if rules.in_force(rule) and not (charge is not None and charging.held(charge)):
            yield (rule.bearer.teids if rule.bearer else default), VersionedRule(rule_id, rule.version)


def _gy(session: Session, default: Teids) -> Iterator[tuple[Teids, VersionedRule]]:
    for rule_id, rule in session.rules.items():
        if rule.gy is not None:
            yield default, VersionedRule(rule_id, rule.version)


def _requests(default: Teids, wanted: list[tuple[Teids, VersionedRule]], *, gy: bool) -> Iterator[ActivateFlows]:
    groups: dict[Teids, list[VersionedRule]] = {}
    for teids, versioned in wanted:
        groups.setdefault(teids, []).append(versioned)
    for teids, group in (groups or {default: []}).items():
        yield ActivateFlows(teids=teids, gy=gy, rules=tuple(group))


def counters_restarted(draft: Draft) -> None:
    """Take it that the switch counts from zero: every rule in force gets its next version."""
    for rule_id, rule in list(draft.rules.items()):
        if rules.in_force(rule) or rule.gy is not None:
            flows.bump(draft, rule_id)
