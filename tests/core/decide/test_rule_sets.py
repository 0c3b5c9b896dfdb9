"""Rule sets pushed as a whole (rpc.md 1.6)."""

import pytest

from sessiond.core.decide import rule_sets
from sessiond.core.decide.release import release
from sessiond.core.decide.rule_sets import RuleSet, RuleSets
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows
from sessiond.core.rules import Lifetime
from tests.core.builders import NOW_MS, Life, dynamic, free, ocs, situation, started, static

KNOWN = [free(f"static{number}") for number in range(1, 4)]
WIDE, ONE = RuleSet(frozenset({"static1"}), (free("dynamic1"),)), RuleSet(frozenset({"static2"}), (free("dynamic2"),))


def with_rules() -> Life:
    """Return a session with two static and two dynamic rules."""
    return started(
        situation(*KNOWN),
        installs=[*static("static1", "static2"), *dynamic(free("dynamic1"), free("dynamic2"))],
    )


def push(life: Life, *static_ids: str, rules: tuple[str, ...] = ()) -> None:
    """Push a set."""
    wanted = RuleSet(frozenset(static_ids), tuple(free(rule_id) for rule_id in rules))
    life.decide(lambda draft: rule_sets.apply_set(draft, wanted, life.at))


def told(life: Life) -> tuple[set[str], set[str]]:
    """Return the rules whose flows went down and up."""
    return (
        {rule.id for effect in life.effects_of(DeactivateFlows) for rule in effect.rules},
        {rule.id for effect in life.effects_of(ActivateFlows) for rule in effect.rules},
    )


@pytest.mark.parametrize(
    ("sets", "apn", "expected"),
    [
        (RuleSets(), "apn1", None),
        (RuleSets(by_apn={"apn1": ONE}), "other", None),
        (RuleSets(by_apn={"apn1": ONE}), "apn1", ONE),
        (RuleSets(wide=WIDE), "apn1", WIDE),
        (
            RuleSets(wide=WIDE, by_apn={"apn1": ONE}),
            "apn1",
            RuleSet(frozenset({"static1", "static2"}), (free("dynamic2"), free("dynamic1"))),
        ),
    ],
)
def test_what_is_meant_for_an_apn(sets: RuleSets, apn: str, expected: RuleSet | None) -> None:
    """The rules of the APN and those for all of the subscriber, in whatever order they came (known problem B5)."""
    assert sets.of(apn) == expected


def test_a_session_has_exactly_the_set() -> None:
    """What is missing is installed, what is not in the set is removed, the rest is left alone.

    reference: SessionStateTest.test_apply_session_rule_set, LocalEnforcerTest.test_set_session_rules.
    """
    life = with_rules()
    push(life, "static2", "static3", "unknown", rules=("dynamic2", "dynamic3"))
    assert told(life) == ({"static1", "dynamic1"}, {"static3", "dynamic3"})
    assert {name for name, rule in life.session.rules.items() if rule.gx} == {
        "static2",
        "static3",
        "dynamic2",
        "dynamic3",
    }


def test_the_same_set_again_changes_nothing() -> None:
    """A session that has the set is left alone."""
    life = with_rules()
    before = life.session
    push(life, "static1", "static2", rules=("dynamic1", "dynamic2"))
    assert life.session is before


def test_an_empty_set_removes_everything() -> None:
    """A session that is to have no rules has none afterwards, and keeps its default drop flow."""
    life = with_rules()
    push(life)
    assert told(life) == ({"static1", "static2", "dynamic1", "dynamic2"}, set())
    assert not any(effect.everything for effect in life.effects_of(DeactivateFlows))


def test_a_session_that_is_ending_gets_no_rules() -> None:
    """A set that comes while the final usage is awaited brings no flows up again."""
    life = with_rules()
    life.decide(lambda draft: release(draft, life.at, "ENDED", notify=False))
    before = life.session
    push(life, "static3")
    assert life.session is before


def test_a_changed_definition_is_installed() -> None:
    """A dynamic rule that is defined otherwise is installed again (known problem B5)."""
    life = with_rules()
    wanted = RuleSet(frozenset({"static1", "static2"}), (ocs("dynamic1", 7), free("dynamic2")))
    life.decide(lambda draft: rule_sets.apply_set(draft, wanted, life.at))
    assert told(life) == (set(), {"dynamic1"})
    assert life.rule("dynamic1").target.credit == "7"


def test_a_static_rule_may_become_a_dynamic_one() -> None:
    """A rule that the set defines itself takes the place of the static one of its id."""
    life = with_rules()
    push(life, "static2", rules=("static1", "dynamic1", "dynamic2"))
    installed = life.rule("static1").gx
    assert installed is not None
    assert (installed.rule, told(life)) == (free("static1"), (set(), {"static1"}))


def test_a_rule_that_waits_for_its_time() -> None:
    """A set has no times: what it names is in force now, what it does not is forgotten."""
    later = Lifetime(NOW_MS + 1000)
    life = started(situation(*KNOWN), installs=static("static1", "static2", lifetime=later))
    push(life, "static1")
    assert told(life) == (set(), {"static1"})
    assert life.rule("static2").gx is None


def test_a_rule_of_another_qos_class_gets_a_bearer() -> None:
    """Bearers are asked for as with any other install."""
    life = started(situation(free("qos", qci=1)))
    push(life, "qos")
    assert life.effects == [CreateBearer(rules=("qos",))]
