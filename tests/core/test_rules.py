"""Rules: when they are in force, what their traffic counts on, and where they are defined (session.md section 3)."""

import pytest
from msgspec import structs

from sessiond.core import rules
from sessiond.core.rules import Former, Installed, Lifetime, PolicyRule, Rule, Target, TrackingType
from tests.core.builders import catalogue, free, ocs


@pytest.mark.parametrize(
    ("lifetime", "now_ms", "ahead", "over"),
    [
        (Lifetime(), 10, False, False),
        (Lifetime(10, 0), 9, True, False),
        (Lifetime(10, 0), 10, False, False),
        (Lifetime(0, 10), 9, False, False),
        (Lifetime(0, 10), 10, False, True),
        (Lifetime(5, 15), 4, True, False),
        (Lifetime(5, 15), 5, False, False),
        (Lifetime(5, 15), 14, False, False),
        (Lifetime(5, 15), 15, False, True),
        (Lifetime(20, 15), 17, True, True),
    ],
)
def test_lifetime_against_the_clock(lifetime: Lifetime, now_ms: int, ahead: bool, over: bool) -> None:
    """A rule is in force from its activation time up to, not including, its deactivation time; 0 is open."""
    assert (rules.is_ahead(lifetime, now_ms), rules.is_over(lifetime, now_ms)) == (ahead, over)


@pytest.mark.parametrize(
    ("tracking", "target"),
    [
        (TrackingType.ONLY_OCS, Target("7", "")),
        (TrackingType.ONLY_PCRF, Target("", "m1")),
        (TrackingType.OCS_AND_PCRF, Target("7", "m1")),
        (TrackingType.NO_TRACKING, Target("", "")),
    ],
)
def test_what_traffic_counts_on(tracking: TrackingType, target: Target) -> None:
    """The tracking type says which of rating group and monitoring key count."""
    assert rules.target_of(PolicyRule(id="r", rating_group=7, monitoring_key="m1", tracking=tracking)) == target


def test_a_service_has_a_credit_of_its_own() -> None:
    """The service identifier is part of what traffic counts on (known problem G4)."""
    assert rules.target_of(ocs("r", 7, service_identifier=3)) == Target("7/3", "")


def test_a_definition_holds_from_the_next_version_on() -> None:
    """What older versions counted on is remembered, because their last usage comes after the change."""
    rule = rules.defined(Rule(version=3, target=Target("1")), ocs("r", 2))
    assert (rule.target, rule.former) == (Target("2"), (Former(3, Target("1")),))
    again = rules.defined(structs.replace(rule, version=5), free("r"))
    assert [rules.target_at(again, version).credit for version in range(1, 7)] == ["1", "1", "1", "2", "2", ""]


@pytest.mark.parametrize("rule", [Rule(), Rule(version=4, base=4)])
def test_a_first_definition_has_nothing_to_remember(rule: Rule) -> None:
    """A rule that had no version of its own yet counts on its definition, whatever version comes."""
    assert rules.defined(rule, ocs("r", 1)) == structs.replace(rule, target=Target("1"))


def test_the_same_definition_again() -> None:
    """A rule that is defined as before remembers nothing new."""
    rule = Rule(version=3, target=Target("1"), former=(Former(2, Target("7")),))
    assert rules.defined(rule, ocs("r", 1)) is rule


def test_not_all_definitions_are_remembered() -> None:
    """A rule that is defined otherwise all the time remembers the last few definitions."""
    rule = Rule(version=1)
    for number in range(1, 100):
        rule = structs.replace(rules.defined(rule, ocs("r", number)), version=number + 1)
    assert len(rule.former) == rules.FORMER_TARGETS
    assert [rules.target_at(rule, version).credit for version in (100, 99, 98)] == ["99", "98", "97"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(), False),
        (Rule(gy=free("r")), False),
        (Rule(gx=Installed()), True),
        (Rule(gx=Installed(scheduled=True)), False),
    ],
)
def test_only_an_installed_rule_is_in_force(rule: Rule, expected: bool) -> None:
    """A scheduled rule is not in force yet, a removed one not any more."""
    assert rules.in_force(rule) is expected


def test_where_a_rule_is_defined() -> None:
    """A dynamic rule brings its definition, which goes before a static one of the same id."""
    known = catalogue(free("r"))
    own = ocs("r", 1)
    assert rules.definition("r", Rule(gx=Installed(own)), known) == own
    assert rules.definition("r", Rule(gx=Installed()), known) == free("r")
    assert rules.definition("r", Rule(), known) == free("r")
    assert rules.definition("gone", Rule(gx=Installed()), known) is None


def test_where_a_final_action_rule_is_defined() -> None:
    """A Gy rule is defined by what was installed, not by the catalogue."""
    assert rules.definition("r", Rule(gy=ocs("r", 1)), catalogue(free("r")), gy=True) == ocs("r", 1)
    assert rules.definition("r", Rule(), catalogue(free("r")), gy=True) is None
