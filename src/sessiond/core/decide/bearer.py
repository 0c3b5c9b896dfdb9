"""Dedicated bearers: what the MME says about the one it made, or could not make, for a rule."""

from msgspec import structs

from sessiond.core.decide import flows
from sessiond.core.decide.flows import RuleChanges
from sessiond.core.decide.wanted import is_wanted
from sessiond.core.draft import Draft
from sessiond.core.lifecycle import State
from sessiond.core.rules import Bearer


def bound(draft: Draft, rule_id: str, bearer: Bearer) -> bool:
    """Bring a rule's flows up on its bearer; bearer id 0 says there is none, and the rule goes. False: no such rule."""
    rule = draft.rules.get(rule_id)
    if draft.head.state is not State.ACTIVE or rule is None or rule.gx is None or rule.gx.scheduled:
        return False
    if bearer.id == 0:
        changes = RuleChanges()
        flows.remove(draft, [rule_id], changes)
        flows.tell(draft, changes)
    else:
        draft.set("rules", rule_id, bearer=bearer, gx=structs.replace(rule.gx, awaits_bearer=False))
        if is_wanted(draft, rule_id):
            flows.bring_up(draft, [rule_id])
    return True
