"""Rule changes of one session: what an install or removal does to it, and what pipelined and the MME are told."""

from collections.abc import Iterable, Iterator

from msgspec import Struct, structs

from sessiond.core import effects, rules
from sessiond.core.decide.wanted import by_tunnel, held, is_wanted, tunnel_of
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows, DeleteBearer, VersionedRule
from sessiond.core.rules import Installed, PolicyRule, Rule, RuleInstall, Teids
from sessiond.core.session import Session
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
    for item in sorted(installs, key=lambda item: item.rule is not None):
        definition = item.rule or at.catalogue.get(item.id)
        known = draft.rules.get(item.id)
        in_force = known is not None and rules.in_force(known)
        if definition is None or (in_force and item.rule is None):
            continue
        if rules.is_over(item.lifetime, at.now_ms):
            remove(draft, [item.id], changes)
        elif rules.is_ahead(item.lifetime, at.now_ms):
            remove(draft, [item.id], changes)
            _put(draft, item.id, gx=Installed(item.rule, True, item.lifetime))
        else:
            activate(draft, item, definition, changes)


def activate(draft: Draft, install: RuleInstall, definition: PolicyRule, changes: RuleChanges) -> None:
    """Put a rule in force; its flows wait for a bearer of its own or for quota, and those it had go down meanwhile."""
    was_in_force = install.id in draft.rules and rules.in_force(draft.rules[install.id])
    _put(draft, install.id, gx=Installed(install.rule, False, install.lifetime))
    _define(draft, install.id, definition)
    bump(draft, install.id)
    if needs_bearer(draft, install.id, definition):
        draft.set("rules", install.id, gx=Installed(install.rule, False, install.lifetime, awaits_bearer=True))
        changes.await_bearer.append(install.id)
    elif not held(draft, install.id):
        changes.activate.append(install.id)
        return
    if was_in_force:
        changes.deactivate.append(install.id)
        changes.tunnels_down[install.id] = tunnel_of(draft, install.id)


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


def tell(draft: Draft, changes: RuleChanges) -> None:
    """Save what pipelined and the MME must be told: flows down, flows up, bearers down, bearers up, in this order."""
    take_down(draft, changes.deactivate, changes.tunnels_down)
    bring_up(draft, [rule_id for rule_id in dict.fromkeys(changes.activate) if is_wanted(draft, rule_id)])
    if changes.bearers_down and draft.context.lte is not None:
        draft.save(DeleteBearer(bearer_ids=tuple(changes.bearers_down)))
    asked = dict.fromkeys(changes.await_bearer)
    if awaiting := tuple(rule_id for rule_id in asked if rules.awaits_bearer(draft.rules[rule_id])):
        draft.save(CreateBearer(rules=awaiting))


def bring_up(draft: Draft, ids: Iterable[str], *, gy: bool = False) -> None:
    """Save that the flows of some rules go up with their current versions, one request per tunnel."""
    for teids, versioned in by_tunnel(draft, ids, gy=gy).items():
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
    for teids, versioned in by_tunnel(draft, ids, gy=gy, tunnels=tunnels).items():
        draft.save(DeactivateFlows(teids=teids, gy=gy, rules=tuple(versioned), not_before_ms=not_before_ms))


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


def on_credit(draft: Draft, key: str) -> list[str]:
    """Return the Gx rules in force whose traffic counts on a credit."""
    return [rule_id for rule_id, rule in draft.rules.items() if rules.in_force(rule) and rule.target.credit == key]


def take_credit_down(draft: Draft, key: str, not_before_ms: int = 0) -> None:
    """Take the flows down whose traffic counts on a credit; the rules stay in force, with new versions."""
    ids = on_credit(draft, key)
    for rule_id in ids:
        bump(draft, rule_id)
    take_down(draft, ids, not_before_ms=not_before_ms)


def bring_up_again(draft: Draft, ids: Iterable[str]) -> None:
    """Bring flows up under new versions, those of them that are to be up."""
    again = [rule_id for rule_id in ids if is_wanted(draft, rule_id)]
    for rule_id in again:
        bump(draft, rule_id)
    bring_up(draft, again)


def waits_for_data_plane(session: Session) -> bool:
    """Whether pipelined is still to be told of any rule's flows."""
    return any(_waiting(session))


def _waiting(session: Session | Draft) -> Iterator[tuple[str, ActivateFlows | DeactivateFlows]]:
    """Yield what is still to be told of the flows of rules, oldest first."""
    for effect_id, effect in effects.in_order(session.effects):
        if isinstance(effect, (ActivateFlows, DeactivateFlows)) and effect.rules:
            yield effect_id, effect


def forget_waiting(draft: Draft) -> None:
    """Tell nothing any more of the flows of single rules: all of them go."""
    for effect_id, _ in list(_waiting(draft)):
        draft.remove("effects", effect_id)


def overtaken(draft: Draft) -> None:
    """Leave of what waits to be told about flows the last word on each, in the version that it has by now.

    Whoever is told all flows anew knows newer versions than those that were decided before: to hear one of these would
    undo that, and what flows count that come up under an old version would be taken for what was counted already.
    """
    said: set[tuple[str, bool]] = set()
    for effect_id, effect in reversed(list(_waiting(draft))):
        left = [rule.id for rule in effect.rules if (rule.id, effect.gy) not in said]
        said |= {(rule_id, effect.gy) for rule_id in left}
        up = isinstance(effect, ActivateFlows)
        _retell(draft, effect_id, effect, [id_ for id_ in left if is_wanted(draft, id_, gy=effect.gy) is up])


def _retell(draft: Draft, effect_id: str, effect: ActivateFlows | DeactivateFlows, ids: list[str]) -> None:
    """Let an effect be about these rules only, in the versions that they have now."""
    now = tuple(VersionedRule(rule_id, draft.rules[rule_id].version) for rule_id in ids)
    if not now:
        draft.remove("effects", effect_id)
    elif now != effect.rules:
        draft.put("effects", effect_id, structs.replace(effect, rules=now))


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
