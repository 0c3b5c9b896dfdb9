"""Rule sets pushed as a whole: a session has exactly these rules from then on."""

from collections.abc import Mapping

from msgspec import Struct

from sessiond.core.decide import flows, wallet
from sessiond.core.decide.flows import RuleChanges
from sessiond.core.draft import Draft
from sessiond.core.lifecycle import State
from sessiond.core.rules import PolicyRule, Rule, RuleInstall
from sessiond.core.situation import Situation


class RuleSet(Struct, frozen=True, gc=False):
    """The static rules, by id, and the dynamic ones of a session."""

    static: frozenset[str] = frozenset()
    dynamic: tuple[PolicyRule, ...] = ()


class RuleSets(Struct, frozen=True, gc=False):
    """What a subscriber is to have: for every session, and beside that by APN."""

    wide: RuleSet | None = None
    by_apn: Mapping[str, RuleSet] = {}

    def of(self, apn: str) -> RuleSet | None:
        """Return the rules of an APN; None if nothing is said about it."""
        sets = [rules for rules in (self.by_apn.get(apn), self.wide) if rules is not None]
        if not sets:
            return None
        return RuleSet(
            frozenset().union(*(rules.static for rules in sets)),
            tuple(rule for rules in sets for rule in rules.dynamic),
        )


def apply_set(draft: Draft, wanted: RuleSet, at: Situation) -> None:
    """Remove the Gx rules that are not in the set, install those that are missing or defined otherwise."""
    if draft.head.state is not State.ACTIVE:
        return
    changes = RuleChanges()
    dynamic = {rule.id: rule for rule in wanted.dynamic}
    superfluous = [
        rule_id
        for rule_id, rule in draft.rules.items()
        if rule.gx is not None and rule_id not in dynamic and rule_id not in wanted.static
    ]
    flows.remove(draft, superfluous, changes)
    static = [RuleInstall(rule_id) for rule_id in sorted(wanted.static)]
    changed = [RuleInstall(rule.id, rule) for rule in dynamic.values() if not _has(draft.rules.get(rule.id), rule)]
    flows.install(draft, [*static, *changed], changes, at)
    flows.tell(draft, changes)
    wallet.reviewed(draft, at)


def _has(known: Rule | None, definition: PolicyRule) -> bool:
    return known is not None and known.gx is not None and known.gx.rule == definition
