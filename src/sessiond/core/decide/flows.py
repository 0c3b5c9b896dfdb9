"""Rule changes of one session: what an install or removal does to it, and what pipelined and the MME are told."""

from collections.abc import Callable, Iterable

from msgspec import Struct, structs

from sessiond.core import charging, rules
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows, DeleteBearer, VersionedRule
from sessiond.core.rules import Bearer, Installed, PolicyRule, Rule, RuleInstall, Teids
from sessiond.core.situation import Situation
from sessiond.core.update import Change


class RuleChanges(Struct):
    """Rule ids whose flows are to go up or down, that wait for a bearer, and the bearers that lost their rule."""

    activate: list[str] = []
    deactivate: list[str] = []
    await_bearer: list[str] = []
    bearers_down: list[int] = []
    tunnels_down: dict[str, Teids] = {}


def install(draft: Draft, installs: Iterable[RuleInstall], changes: RuleChanges, at: Situation) -> None:
    """Take a list of rules to install; unknown static rules and static ones already in force are passed over."""
    for wanted in sorted(installs, key=lambda item: item.rule is not None):
        definition = wanted.rule or at.catalogue.get(wanted.id)
        known = draft.rules.get(wanted.id)
        in_force = known is not None and rules.in_force(known)
        if definition is None or (in_force and wanted.rule is None):
            continue
        if rules.is_over(wanted.lifetime, at.now_ms):
            remove(draft, [wanted.id], changes)
        elif rules.is_ahead(wanted.lifetime, at.now_ms):
            remove(draft, [wanted.id], changes)
            _put(draft, wanted.id, gx=Installed(wanted.rule, True, wanted.lifetime))
        else:
            activate(draft, wanted, definition, changes)


def activate(draft: Draft, wanted: RuleInstall, definition: PolicyRule, changes: RuleChanges) -> None:
    """Put a rule in force; its flows wait for a bearer of its own or for quota, and those it had go down meanwhile."""
    was_in_force = wanted.id in draft.rules and rules.in_force(draft.rules[wanted.id])
    _put(draft, wanted.id, gx=Installed(wanted.rule, False, wanted.lifetime))
    _define(draft, wanted.id, definition)
    bump(draft, wanted.id)
    if needs_bearer(draft, wanted.id, definition):
        changes.await_bearer.append(wanted.id)
    elif not held(draft, wanted.id):
        changes.activate.append(wanted.id)
        return
    if was_in_force:
        changes.deactivate.append(wanted.id)
        changes.tunnels_down[wanted.id] = tunnel_of(draft, wanted.id)


def held(draft: Draft, rule_id: str) -> bool:
    """Whether the flows of a rule wait until its credit has quota again."""
    charge = draft.credits.get(draft.rules[rule_id].target.credit)
    return charge is not None and charging.held(charge)


def remove(draft: Draft, ids: Iterable[str], changes: RuleChanges) -> None:
    """Take rules away; the flows of those in force go down, scheduled ones are forgotten, unknown ones passed over."""
    for rule_id in ids:
        known = draft.rules.get(rule_id)
        if known is None or known.gx is None:
            continue
        if rules.in_force(known):
            changes.deactivate.append(rule_id)
            changes.tunnels_down[rule_id] = tunnel_of(draft, rule_id)
            bump(draft, rule_id)
        if known.bearer is not None:
            changes.bearers_down.append(known.bearer.id)
        draft.set("rules", rule_id, gx=None, bearer=None)


def needs_bearer(draft: Draft, rule_id: str, definition: PolicyRule) -> bool:
    """Whether a rule asks for a QoS class other than the default bearer's and has no bearer yet (LTE only)."""
    lte = draft.context.lte
    if lte is None or definition.qci is None or draft.rules[rule_id].bearer is not None:
        return False
    return definition.qci != (lte.qos.qci if lte.qos else 0)


def bump(draft: Draft, rule_id: str) -> int:
    """Count up the version of a rule and return it."""
    draft.change("rules", rule_id, Change(add={"version": 1}))
    return draft.rules[rule_id].version


def tunnel_of(draft: Draft, rule_id: str) -> Teids:
    """Return the tunnel that carries a rule: its own bearer's, or the default one."""
    known = draft.rules.get(rule_id)
    return known.bearer.teids if known and known.bearer else draft.context.teids


def tell(draft: Draft, changes: RuleChanges) -> None:
    """Save what pipelined and the MME must be told: flows down, flows up, bearers down, bearers up, in this order."""
    take_down(draft, changes.deactivate, changes.tunnels_down)
    bring_up(draft, [rule_id for rule_id in _still_in_force(draft, changes.activate) if not held(draft, rule_id)])
    if changes.bearers_down and draft.context.lte is not None:
        draft.save(DeleteBearer(bearer_ids=tuple(changes.bearers_down)))
    if awaiting := _still_in_force(draft, changes.await_bearer):
        draft.save(CreateBearer(rules=awaiting))


def _still_in_force(draft: Draft, ids: Iterable[str]) -> tuple[str, ...]:
    """Return each of these rules once, without those that a later change of the same list has taken away again."""
    return tuple(rule_id for rule_id in dict.fromkeys(ids) if rules.in_force(draft.rules[rule_id]))


def bring_up(draft: Draft, ids: Iterable[str], *, gy: bool = False) -> None:
    """Save that the flows of some rules go up with their current versions, one request per tunnel."""
    for teids, versioned in _by_tunnel(draft, ids, lambda rule_id: tunnel_of(draft, rule_id), gy=gy).items():
        draft.save(ActivateFlows(teids=teids, gy=gy, rules=tuple(versioned)))


def take_down(
    draft: Draft,
    ids: Iterable[str],
    tunnels: dict[str, Teids] | None = None,
    *,
    gy: bool = False,
    not_before_ms: int = 0,
) -> None:
    """Save that the flows of some rules go down with their current versions, one request per tunnel."""
    known = tunnels or {}

    def tunnel(rule_id: str) -> Teids:
        return known.get(rule_id) or tunnel_of(draft, rule_id)

    for teids, versioned in _by_tunnel(draft, ids, tunnel, gy=gy).items():
        draft.save(DeactivateFlows(teids=teids, gy=gy, rules=tuple(versioned), not_before_ms=not_before_ms))


def _by_tunnel(
    draft: Draft, ids: Iterable[str], tunnel: Callable[[str], Teids], *, gy: bool
) -> dict[Teids, list[VersionedRule]]:
    groups: dict[Teids, list[VersionedRule]] = {}
    for rule_id in dict.fromkeys(ids):
        teids = draft.context.teids if gy else tunnel(rule_id)
        groups.setdefault(teids, []).append(VersionedRule(rule_id, draft.rules[rule_id].version))
    return groups


def _put(draft: Draft, rule_id: str, **fields: object) -> None:
    """Set fields of a rule, whether the session knew it before or not."""
    known = draft.rules.get(rule_id)
    if known is None:
        draft.put("rules", rule_id, structs.replace(Rule(), **fields))
    else:
        draft.set("rules", rule_id, **fields)


def install_gy(draft: Draft, definition: PolicyRule) -> None:
    """Put a rule in force that answers a used-up final unit."""
    _put(draft, definition.id, gy=definition)
    _define(draft, definition.id, definition)
    bump(draft, definition.id)


def _define(draft: Draft, rule_id: str, definition: PolicyRule) -> None:
    """Have the next version of a rule count on what its definition says."""
    after = rules.defined(draft.rules[rule_id], definition)
    draft.set("rules", rule_id, target=after.target, former=after.former)


def remove_gy(draft: Draft, ids: Iterable[str]) -> list[str]:
    """Take such rules away again; return those that were in force."""
    gone = [rule_id for rule_id in ids if rule_id in draft.rules and draft.rules[rule_id].gy is not None]
    for rule_id in gone:
        draft.set("rules", rule_id, gy=None)
        bump(draft, rule_id)
    return gone


def on_credits(draft: Draft, keys: Iterable[str]) -> list[str]:
    """Return the Gx rules in force whose traffic counts on one of these credits."""
    wanted = set(keys)
    return [rule_id for rule_id, rule in draft.rules.items() if rules.in_force(rule) and rule.target.credit in wanted]


def take_credit_down(draft: Draft, key: str, not_before_ms: int = 0) -> None:
    """Take the flows down whose traffic counts on a credit; the rules stay in force, with new versions."""
    ids = on_credits(draft, [key])
    for rule_id in ids:
        bump(draft, rule_id)
    take_down(draft, ids, not_before_ms=not_before_ms)


def bring_credit_up(draft: Draft, key: str) -> None:
    """Bring the flows up again whose traffic counts on a credit."""
    ids = on_credits(draft, [key])
    for rule_id in ids:
        bump(draft, rule_id)
    bring_up(draft, ids)


def bind(draft: Draft, rule_id: str, bearer: Bearer) -> None:
    """Carry a rule on a bearer of its own from now on."""
    draft.set("rules", rule_id, bearer=bearer)


def all_in_force(draft: Draft) -> list[str]:
    """Return the ids of all Gx rules in force."""
    return [rule_id for rule_id, rule in draft.rules.items() if rules.in_force(rule)]


def forget_scheduled(draft: Draft, ids: Iterable[str]) -> None:
    """Drop scheduled rules that could not be activated because nobody knows their definition any more."""
    for rule_id in ids:
        known = draft.rules[rule_id]
        if known.gx is not None and known.gx.scheduled:
            draft.set("rules", rule_id, gx=None)


def not_installed(draft: Draft, failed: Iterable[VersionedRule], *, gy: bool) -> None:
    """Take rules that the data plane could not install out of force, unless they were changed meanwhile."""
    for rule in failed:
        known = draft.rules.get(rule.id)
        if known is not None and known.version == rule.version:
            draft.set("rules", rule.id, **({"gy": None} if gy else {"gx": None, "bearer": None}))
