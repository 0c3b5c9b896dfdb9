"""What the MME says about the bearer of a rule (rpc.md 1.5)."""

import pytest

from sessiond.core.decide import bearer
from sessiond.core.effects import ActivateFlows, DeactivateFlows, VersionedRule
from sessiond.core.rules import Bearer, Lifetime, Teids
from sessiond.core.session import PolicyAnswer
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    allowed,
    dynamic,
    failure,
    free,
    grant,
    ocs,
    situation,
    started,
    static,
)

MADE = Bearer(6, Teids(1, 2))


def bound(life: Life, rule_id: str, said: Bearer) -> bool:
    """Take what the MME says."""
    return life.decide(lambda draft: bearer.bound(draft, rule_id, said))


def waiting() -> Life:
    """Return a session with a static and a dynamic rule that wait for their bearers."""
    life = started(
        situation(free("static-1", qci=1)), installs=[*static("static-1"), *dynamic(free("dynamic-1", qci=2))]
    )
    assert life.effects == []
    return life


@pytest.mark.parametrize("rule_id", ["static-1", "dynamic-1"])
def test_flows_come_up_on_the_bearer(rule_id: str) -> None:
    """A rule comes up with the version it has, on the tunnel of its bearer.

    reference: LocalEnforcerTest.test_dedicated_bearer_lifecycle, test_dedicated_bearer_creation_on_session_init.
    """
    life = waiting()
    assert bound(life, rule_id, MADE)
    assert life.rule(rule_id).bearer == MADE
    assert life.effects == [ActivateFlows(teids=MADE.teids, rules=(VersionedRule(rule_id, 1),))]


@pytest.mark.parametrize("rule_id", ["static-1", "dynamic-1"])
def test_without_a_bearer_the_rule_goes(rule_id: str) -> None:
    """Bearer id 0 says that there is none: the rule is removed."""
    life = waiting()
    assert bound(life, rule_id, Bearer(0))
    assert life.rule(rule_id).gx is None
    assert life.effects == [DeactivateFlows(teids=TEIDS, rules=(VersionedRule(rule_id, 2),))]


@pytest.mark.parametrize("said", [MADE, Bearer(0)])
def test_a_rule_that_is_not_in_force(said: Bearer) -> None:
    """A bearer for a rule that is unknown, removed or scheduled changes nothing."""
    life = started(situation(), installs=dynamic(free("later", qci=1), lifetime=Lifetime(NOW_MS + 1)))
    before = life.session
    assert not bound(life, "unknown", said)
    assert not bound(life, "later", said)
    assert life.session is before


def test_a_session_that_is_over() -> None:
    """A bearer that comes too late brings nothing up."""
    life = waiting()
    life.release()
    before = life.session
    assert not bound(life, "static-1", MADE)
    assert life.session is before


def test_a_session_that_has_no_rules_yet() -> None:
    """Before the tunnels are known there is no rule to carry."""
    assert not bound(allowed(PolicyAnswer(), situation()), "static-1", MADE)


def test_a_rule_without_credit_stays_down() -> None:
    """The bearer of a rule whose credit is suspended is noted; the flows come up on it with the quota."""
    life = started(
        situation(ocs("static-1", 1, qci=1)), credits_=[failure(4012, "1"), grant("2")], installs=static("static-1")
    )
    assert bound(life, "static-1", MADE)
    assert (life.rule("static-1").bearer, life.effects) == (MADE, [])
