"""After pipelined or its switch restarted: versions that count from new, and nothing told that is older than these."""

from sessiond.core import rules
from sessiond.core.decide import flows
from sessiond.core.draft import Draft


def counters_restarted(draft: Draft) -> None:
    """Take it that the switch counts from zero: every rule in force gets its next version."""
    for rule_id, rule in list(draft.rules.items()):
        if rules.in_force(rule) or rule.gy is not None:
            flows.bump(draft, rule_id)
    flows.overtaken(draft)
