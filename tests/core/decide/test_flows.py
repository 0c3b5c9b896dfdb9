"""Rule changes: what an install or removal does, and what pipelined and the MME are told (session.md 3 to 5, 7)."""

import pytest

from sessiond.core.decide import bearer, flows, reauth
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    Saved,
    VersionedRule,
)
from sessiond.core.rules import Bearer, Lifetime, PolicyRule, RuleInstall, Target, Teids
from sessiond.core.session import Context, LteContext
from tests.core.builders import (
    DEFAULT_QCI,
    NOW_MS,
    TEIDS,
    Life,
    dynamic,
    failure,
    free,
    grant,
    lte_context,
    ocs,
    pcrf,
    situation,
    started,
    static,
    wlan_context,
)

DAY_MS = 86_400_000
PAST, FUTURE, OVER = Lifetime(NOW_MS - 1), Lifetime(NOW_MS + DAY_MS), Lifetime(0, NOW_MS)
DEDICATED = Teids(1, 2)


def with_rules(*installs: RuleInstall, context: Context | None = None) -> Life:
    """Return a session with these rules; the catalogue knows more."""
    at = situation(ocs("static-1", 1), free("static-2"), free("static-qos", qci=1))
    return started(at, installs=installs, context=context)


def change(life: Life, *installs: RuleInstall, remove: tuple[str, ...] = ()) -> list[str]:
    """Change the rules of a session; return the static ones that nobody knows."""
    wanted = PolicyChange(remove=remove, installs=installs)
    return life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at))


def up(*rules: tuple[str, int], teids: Teids = TEIDS) -> ActivateFlows:
    """Return what is told when flows go up."""
    return ActivateFlows(teids=teids, rules=tuple(VersionedRule(*rule) for rule in rules))


def down(*rules: tuple[str, int], teids: Teids = TEIDS) -> DeactivateFlows:
    """Return what is told when flows go down."""
    return DeactivateFlows(teids=teids, rules=tuple(VersionedRule(*rule) for rule in rules))


class TestInstall:
    """An install list, session.md 3.2."""

    def test_a_new_rule_is_in_force(self) -> None:
        """A rule that is installed has version 1, and knows what it counts on.

        reference: SessionStateTest.test_session_rules.
        """
        life = with_rules()
        change(life, *dynamic(pcrf("dynamic-1", "m1")), *static("static-1"))
        assert life.effects == [up(("static-1", 1), ("dynamic-1", 1))]
        assert (life.rule("static-1").target, life.rule("dynamic-1").target) == (Target("1"), Target("", "m1"))

    def test_a_static_rule_in_force_is_left_alone(self) -> None:
        """Only what is missing is installed.

        reference: SessionProxyResponderHandlerTest.test_policy_reauth,
        SessionStateTest.test_process_static_rule_installs.
        """
        life = with_rules(*static("static-1"))
        change(life, *static("static-1", "static-2"))
        assert life.effects == [up(("static-2", 1))]
        assert life.rule("static-1").version == 1

    def test_a_dynamic_rule_in_force_is_installed_again(self) -> None:
        """The new definition takes the place of the old one, with a new version.

        reference: SessionStateTest.test_process_dynamic_rule_installs.
        """
        life = with_rules(*dynamic(ocs("dynamic-1", 1)))
        changed = ocs("dynamic-1", 2)
        change(life, *dynamic(changed))
        assert life.effects == [up(("dynamic-1", 2))]
        installed = life.rule("dynamic-1").gx
        assert installed is not None
        assert (installed.rule, life.rule("dynamic-1").target) == (changed, Target("2"))

    def test_an_unknown_static_rule_is_passed_over(self) -> None:
        """A rule that nobody defines is not installed, and is named to whoever asked."""
        life = with_rules()
        assert change(life, *static("unknown", "static-1"), *dynamic(free("dynamic-1"))) == ["unknown"]
        assert set(life.session.rules) == {"static-1", "dynamic-1"}

    @pytest.mark.parametrize("installs", [static("static-1", lifetime=PAST), dynamic(free("static-1"), lifetime=PAST)])
    def test_an_activation_time_that_has_passed(self, installs: tuple[RuleInstall, ...]) -> None:
        """A rule whose time has come is in force at once."""
        life = with_rules()
        change(life, *installs)
        assert life.effects == [up(("static-1", 1))]

    @pytest.mark.parametrize(
        "installs", [static("static-1", lifetime=FUTURE), dynamic(free("static-1"), lifetime=FUTURE)]
    )
    def test_an_activation_time_to_come(self, installs: tuple[RuleInstall, ...]) -> None:
        """A rule whose time is to come waits: no version, no flows."""
        life = with_rules()
        change(life, *installs)
        scheduled = life.rule("static-1").gx
        assert scheduled is not None
        assert (scheduled.scheduled, scheduled.lifetime, life.rule("static-1").version) == (True, FUTURE, 0)
        assert life.effects == []

    def test_a_dynamic_rule_in_force_that_is_to_begin_later(self) -> None:
        """A rule that is installed anew for later goes down until then."""
        life = with_rules(*dynamic(free("dynamic-1")))
        change(life, *dynamic(free("dynamic-1"), lifetime=FUTURE))
        assert life.effects == [down(("dynamic-1", 2))]
        life.struck()
        life.later(DAY_MS)
        life.tick()
        assert life.effects == [up(("dynamic-1", 3))]

    @pytest.mark.parametrize("lifetime", [Lifetime(), PAST])
    def test_a_scheduled_rule_that_is_to_begin_now(self, lifetime: Lifetime) -> None:
        """A rule that waits for its time and is installed for now does not wait any longer."""
        life = with_rules(*static("static-1", lifetime=FUTURE))
        change(life, *static("static-1", lifetime=lifetime))
        assert life.effects == [up(("static-1", 1))]

    @pytest.mark.parametrize("before", [(), static("static-1", lifetime=FUTURE)])
    def test_a_rule_that_is_over(self, before: tuple[RuleInstall, ...]) -> None:
        """A rule whose deactivation time has come is not installed; one that waited is forgotten."""
        life = with_rules(*before)
        change(life, *static("static-1", lifetime=OVER))
        assert life.effects == []
        assert all(rule.gx is None for rule in life.session.rules.values())

    def test_a_dynamic_rule_in_force_that_is_over(self) -> None:
        """A rule that is installed again with a time that has passed goes down."""
        life = with_rules(*dynamic(free("dynamic-1")))
        change(life, *dynamic(free("dynamic-1"), lifetime=OVER))
        assert life.effects == [down(("dynamic-1", 2))]

    @pytest.mark.parametrize("last", [OVER, FUTURE])
    def test_the_last_word_of_a_list_holds(self, last: Lifetime) -> None:
        """A rule that a list installs and takes away again is not brought up."""
        life = with_rules()
        change(life, *dynamic(free("dynamic-1")), *dynamic(free("dynamic-1"), lifetime=last))
        assert life.effects_of(ActivateFlows) == []

    def test_a_rule_named_twice_is_brought_up_once(self) -> None:
        """A list that names a rule twice installs it twice and tells it once, with the last version."""
        life = with_rules()
        change(life, *dynamic(free("dynamic-1"), free("dynamic-1")))
        assert life.effects == [up(("dynamic-1", 2))]

    def test_every_bump_is_kept(self) -> None:
        """Each of several rules of one request has its version (known problem S4)."""
        life = with_rules()
        change(life, *static("static-1", "static-2"))
        change(life, remove=("static-1", "static-2"))
        assert life.effects[-1] == down(("static-1", 2), ("static-2", 2))
        assert [life.rule(name).version for name in ("static-1", "static-2")] == [2, 2]

    def test_a_rule_of_a_suspended_credit_stays_down(self) -> None:
        """A rule that is installed while its credit is suspended is in force, and comes up with the quota."""
        life = started(situation(ocs("static-1", 1)), credits_=[failure(4012, "1"), grant("2")])
        change(life, *static("static-1"))
        assert life.effects == []
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(grant("1"))
        assert life.effects == [up(("static-1", 2))]

    def test_a_rule_that_moves_to_a_suspended_credit_goes_down(self) -> None:
        """A rule that is defined anew for a credit without quota does not go on by its old definition."""
        life = started(situation(), credits_=[grant("1"), failure(4012, "2")], installs=dynamic(ocs("dynamic-1", 1)))
        change(life, *dynamic(ocs("dynamic-1", 2)))
        assert life.effects == [down(("dynamic-1", 2))]
        life.struck()
        change(life, *dynamic(ocs("dynamic-1", 1), ocs("dynamic-1", 2)))
        assert life.effects_of(ActivateFlows) == []

    def test_a_rule_that_moves_to_another_qos_class_goes_down(self) -> None:
        """A rule that is defined anew for a bearer of its own waits for it without its old flows."""
        life = with_rules(*dynamic(free("dynamic-1")))
        change(life, *dynamic(free("dynamic-1", qci=1)))
        assert life.effects == [down(("dynamic-1", 2)), CreateBearer(rules=("dynamic-1",))]


class TestRemove:
    """A removal list, session.md 3.3."""

    def test_flows_go_down_with_a_new_version(self) -> None:
        """Pipelined is told a version newer than the installed one, and so takes it down after its last report."""
        life = with_rules(*static("static-1"), *dynamic(free("dynamic-1")))
        change(life, remove=("dynamic-1", "static-1"))
        assert life.effects == [down(("dynamic-1", 2), ("static-1", 2))]
        assert all(rule.gx is None for rule in life.session.rules.values())

    def test_what_is_not_there_is_passed_over(self) -> None:
        """Removing twice, or what never was, tells nobody; an empty request would remove all rules.

        reference: SessionStateTest.test_session_rules.
        """
        life = with_rules(*static("static-1"))
        change(life, remove=("static-1",))
        life.struck()
        before = life.session
        change(life, remove=("static-1", "unknown"))
        assert life.session is before

    def test_a_scheduled_rule_is_forgotten(self) -> None:
        """A rule that waits for its time can be removed (session.md 3.3 put right)."""
        life = with_rules(*static("static-1", lifetime=FUTURE))
        change(life, remove=("static-1",))
        assert (life.rule("static-1").gx, life.effects) == (None, [])

    def test_remove_and_install_in_one(self) -> None:
        """The old definition goes down before the new one comes up.

        reference: LocalEnforcerTest.test_rar_dynamic_rule_modification.
        """
        life = with_rules(*dynamic(ocs("dynamic-1", 1)))
        change(life, *dynamic(ocs("dynamic-1", 2)), remove=("dynamic-1",))
        assert [type(effect) for effect in life.effects] == [DeactivateFlows, ActivateFlows]
        assert life.effects[-1] == up(("dynamic-1", 3))
        assert life.rule("dynamic-1").target == Target("2")


class TestBearers:
    """Dedicated bearers, session.md 7."""

    @pytest.mark.parametrize(
        ("context", "qci", "wanted"),
        [
            (lte_context(), 1, True),
            (lte_context(), DEFAULT_QCI, False),
            (lte_context(), None, False),
            (lte_context(lte=LteContext()), 1, True),
            (lte_context(lte=LteContext()), 0, False),
            (wlan_context(), 1, False),
        ],
    )
    def test_when_a_rule_needs_one(self, context: Context, qci: int | None, wanted: bool) -> None:
        """An LTE rule of another QoS class than the default bearer's needs a bearer; without QoS that class is 0."""
        life = with_rules(context=context)
        change(life, *dynamic(free("dynamic-1", qci=qci)))
        expected: Saved = CreateBearer(rules=("dynamic-1",)) if wanted else up(("dynamic-1", 1))
        assert life.effects == [expected]

    @pytest.mark.parametrize("installs", [static("static-qos"), dynamic(free("static-qos", qci=1))])
    def test_static_and_dynamic_rules_alike(self, installs: tuple[RuleInstall, ...]) -> None:
        """A request of the policy side gets a bearer for static rules, too, and no empty one (known problem B1)."""
        life = with_rules()
        change(life, *installs, *static("static-2"))
        assert life.effects == [up(("static-2", 1)), CreateBearer(rules=("static-qos",))]

    def test_removed_rules_lose_their_bearers(self) -> None:
        """Flows go down on the tunnel they were on, and the bearer is taken down (known problem B1).

        reference: LocalEnforcerTest.test_dedicated_bearer_lifecycle.
        """
        life = with_rules(*static("static-qos", "static-2"))
        life.decide(lambda draft: bearer.bound(draft, "static-qos", Bearer(6, DEDICATED)))
        life.struck()
        change(life, remove=("static-qos", "static-2"))
        assert life.effects == [
            down(("static-qos", 2), teids=DEDICATED),
            down(("static-2", 2)),
            DeleteBearer(bearer_ids=(6,)),
        ]
        assert life.rule("static-qos").bearer is None

    def test_one_goes_and_one_comes(self) -> None:
        """A bearer is taken down before another is asked for."""
        life = with_rules(*static("static-qos"))
        life.decide(lambda draft: bearer.bound(draft, "static-qos", Bearer(6, DEDICATED)))
        life.struck()
        change(life, *dynamic(free("dynamic-1", qci=2)), remove=("static-qos",))
        assert life.effects[1:] == [DeleteBearer(bearer_ids=(6,)), CreateBearer(rules=("dynamic-1",))]

    def test_a_rule_that_has_one_keeps_it(self) -> None:
        """A dynamic rule that is installed again is brought up on its bearer."""
        life = with_rules(*dynamic(free("dynamic-1", qci=1)))
        life.decide(lambda draft: bearer.bound(draft, "dynamic-1", Bearer(6, DEDICATED)))
        life.struck()
        change(life, *dynamic(free("dynamic-1", qci=1)))
        assert life.effects == [up(("dynamic-1", 2), teids=DEDICATED)]

    @pytest.mark.parametrize("last", [OVER, FUTURE])
    def test_none_for_a_rule_that_is_gone_again(self, last: Lifetime) -> None:
        """A rule that a list installs and takes away again gets no bearer, and one named twice gets one."""
        rule: PolicyRule = free("dynamic-1", qci=1)
        life = with_rules()
        change(life, *dynamic(rule), *dynamic(rule, lifetime=last))
        assert life.effects_of(CreateBearer) == []
        change(life, *dynamic(rule, rule))
        assert life.effects_of(CreateBearer) == [CreateBearer(rules=("dynamic-1",))]


class TestNotInstalled:
    """Rules that the data plane could not install (known problem B2)."""

    @pytest.mark.parametrize(("version", "gone"), [(1, True), (2, False), (0, False)])
    def test_they_are_not_in_force(self, version: int, gone: bool) -> None:
        """A rule that failed is out of force, unless it was changed meanwhile."""
        life = with_rules(*static("static-1"))
        failed = [VersionedRule("static-1", version), VersionedRule("unknown", 1)]
        life.decide(lambda draft: flows.not_installed(draft, failed, gy=False))
        assert (life.rule("static-1").gx is None) is gone
        assert life.effects == []

    def test_final_action_rules_fail_by_themselves(self) -> None:
        """A Gy rule that failed leaves a Gx rule of the same id in force."""
        life = with_rules(*static("static-1"))
        life.decide(lambda draft: flows.install_gy(draft, free("static-1")))
        life.decide(lambda draft: flows.not_installed(draft, [VersionedRule("static-1", 2)], gy=True))
        assert life.rule("static-1").gy is None
        assert life.rule("static-1").gx is not None


def test_one_request_for_each_tunnel() -> None:
    """Rules are told together by tunnel, in their order."""
    life = with_rules(*static("static-1", "static-2", "static-qos"))
    life.decide(lambda draft: bearer.bound(draft, "static-1", Bearer(6, DEDICATED)))
    life.struck()
    life.decide(lambda draft: flows.bring_up(draft, ["static-1", "static-2", "static-qos", "static-1"]))
    assert life.effects == [up(("static-1", 1), teids=DEDICATED), up(("static-2", 1), ("static-qos", 1))]


def test_nothing_to_tell() -> None:
    """No rules are no request: pipelined takes an empty one for all of a subscriber's rules (southbound.md 2.1)."""
    life = with_rules(*static("static-1"))
    life.decide(lambda draft: flows.take_down(draft, []))
    life.decide(lambda draft: flows.bring_up(draft, []))
    assert life.effects == []
