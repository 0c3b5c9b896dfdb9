"""Which flows are to be up is one answer, whoever asks: a setup, moved tunnels, quota that is back, what waited."""

from collections.abc import Callable
from functools import partial

import pytest

from sessiond.core.decide import bearer, create, flows, reauth, release, resync
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.decide.wanted import wanted_flows
from sessiond.core.effects import ActivateFlows, DeactivateFlows, Saved, VersionedRule, in_order
from sessiond.core.rules import Bearer, RuleInstall, Teids
from tests.core.builders import (
    TEIDS,
    Life,
    dynamic,
    failure,
    free,
    grant,
    ocs,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)

MOVED, DEDICATED = Teids(1, 2), Teids(3, 4)
ON_ITS_BEARER = ActivateFlows(teids=DEDICATED, rules=(VersionedRule("qos", 1),))


def up(*rules: tuple[str, int], teids: Teids = TEIDS) -> ActivateFlows:
    """Return what brings flows up."""
    return ActivateFlows(teids=teids, rules=tuple(VersionedRule(*rule) for rule in rules))


def down(*rules: tuple[str, int]) -> DeactivateFlows:
    """Return what takes flows down."""
    return DeactivateFlows(teids=TEIDS, rules=tuple(VersionedRule(*rule) for rule in rules))


def gx(life: Life) -> list[ActivateFlows]:
    """Return the Gx flows that a setup would put up."""
    return [effect for effect in wanted_flows(life.session) if not effect.gy]


def change(life: Life, *installs: RuleInstall, remove: tuple[str, ...] = ()) -> None:
    """Let the PCRF change rules."""
    wanted = PolicyChange(remove=remove, installs=installs)
    life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at))


class TestAwaitingABearer:
    """A rule that asked for a bearer of its own has no flows before it is there (known problem B2)."""

    @pytest.fixture
    def life(self) -> Life:
        """Give a session with a redirected credit, a rule on it, and one that waits for its bearer."""
        at = situation(ocs("plain", 1), free("qos", qci=1))
        return started(at, credits_=[redirect_grant()], installs=static("plain", "qos"))

    def test_a_setup_leaves_it_out(self, life: Life) -> None:
        """Pipelined that restarted is told of the others; once there is a bearer, of this one on its tunnel."""
        assert gx(life) == [up(("plain", 1))]
        life.decide(lambda draft: bearer.bound(draft, "qos", Bearer(6, DEDICATED)))
        assert life.effects == [ON_ITS_BEARER]
        assert gx(life) == [up(("plain", 1)), ON_ITS_BEARER]

    def test_moved_tunnels_leave_it_out(self, life: Life) -> None:
        """It is not for the default bearer, wherever that goes."""
        life.decide(lambda draft: create.activate(draft, MOVED, life.at))
        assert life.effects_of(ActivateFlows) == [up(("plain", 1), teids=MOVED)]

    def test_quota_that_is_back_leaves_it_out(self, life: Life) -> None:
        """All static rules come up again with a credit that is served again, but for those without their bearer."""
        life.use("plain", 1000)
        life.collect()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(grant())
        life.struck()
        life.collect()
        assert life.effects == [up(("plain", 2))]

    def test_a_new_definition_may_ask_for_no_bearer(self) -> None:
        """A rule that is defined for the default bearer while it waits does not wait any more."""
        life = started(situation(), installs=dynamic(free("qos", qci=1)))
        assert gx(life) == [up()]
        change(life, *dynamic(free("qos")))
        assert gx(life) == life.effects == [up(("qos", 2))]


class TestCredits:
    """What a credit does to the flows that count on it."""

    def test_a_re_authorised_unknown_credit_leaves_its_flows_up(self) -> None:
        """Nobody took them down, so that a setup does not either; one that is installed meanwhile comes up too."""
        life = started(situation(ocs("rule1", 9), ocs("rule2", 9)), installs=static("rule1"))
        life.decide(partial(reauth.reauthorise_credit, key="9"))
        assert gx(life) == [up(("rule1", 1))]
        change(life, *static("rule2"))
        assert life.effects == [up(("rule2", 1))]
        assert gx(life) == [up(("rule1", 1), ("rule2", 1))]

    @pytest.mark.parametrize("how", ["final unit", "suspended", "blocked"])
    def test_flows_that_were_taken_down_stay_down(self, how: str) -> None:
        """A setup brings up nothing that waits for quota, nor do moved tunnels."""
        at = situation(ocs("rule1", 1), ocs("rule2", 2), final_unit_blocks_rating_group_only=True)
        answer = terminate_grant("1") if how == "final unit" else grant("1")
        life = started(at, credits_=[answer, grant("2")], installs=static("rule1", "rule2"))
        life.use("rule1", 1000)
        life.collect()
        if how == "suspended":
            life.answered(failure(4012))
        elif how == "blocked":
            life.decide(lambda draft: draft.set("credits", "1", blocked=True))
        assert gx(life) == [up(("rule2", 1))]
        life.struck()
        life.decide(lambda draft: create.activate(draft, MOVED, life.at))
        assert life.effects_of(ActivateFlows) == [up(("rule2", 1), teids=MOVED)]


class TestOvertaken:
    """What waits to be told when all flows are told anew: the last word on each, in the version it has by now."""

    @pytest.fixture
    def life(self) -> Life:
        """Give a session with two rules in force."""
        return started(situation(free("a"), free("b"), ocs("c", 1)), credits_=[grant()], installs=static("a", "b"))

    @staticmethod
    def overtaken(life: Life) -> list[Saved]:
        """Tell all flows anew; return what is left to be told."""
        life.decide(flows.overtaken)
        return [effect for _, effect in in_order(life.session.effects)]

    def test_only_the_last_word(self, life: Life) -> None:
        """Flows that went down and up again while nobody listened are told to be up, and the other way round."""
        change(life, remove=("a",))
        change(life, *static("a"), remove=("b",))
        change(life, *static("b"))
        change(life, remove=("b",))
        assert life.effects == [down(("a", 2)), down(("b", 2)), up(("a", 3)), up(("b", 3)), down(("b", 4))]
        assert self.overtaken(life) == [up(("a", 3)), down(("b", 4))]

    @pytest.mark.parametrize("decision", [flows.overtaken, resync.counters_restarted])
    def test_it_changes_nothing_the_second_time(self, life: Life, decision: Callable[..., None]) -> None:
        """What was overtaken once is up to date."""
        change(life, *static("a", "c"), remove=("a",))
        life.decide(decision)
        before = life.session
        life.decide(flows.overtaken)
        assert life.session == before

    def test_the_version_of_the_moment(self, life: Life) -> None:
        """After a restart of the switch what waited is told in the version that counts from new."""
        change(life, *static("c"), remove=("b",))
        life.decide(resync.counters_restarted)
        assert life.effects == [down(("b", 2)), up(("c", 2))]
        assert gx(life) == [up(("a", 2), ("c", 2))]

    def test_other_effects_are_left(self, life: Life) -> None:
        """What is for others than pipelined, and the default drop flow, is told as decided."""
        life.decide(lambda draft: draft.save(ActivateFlows(teids=TEIDS)))
        life.release(notify=True)
        before = life.effects
        assert self.overtaken(life) == before

    def test_a_rule_that_was_given_up(self, life: Life) -> None:
        """What pipelined could not install is not told again, though it waited twice."""
        change(life, *static("c"))
        life.decide(lambda draft: flows.not_installed(draft, [VersionedRule("c", 1)], gy=False))
        assert self.overtaken(life) == []

    def test_a_final_action_is_another_flow(self) -> None:
        """Gx and Gy flows of one rule are told apart."""
        at = situation(ocs("rule1", 1))
        life = started(at, credits_=[redirect_grant()], installs=[*static("rule1"), *dynamic(free("redirect"))])
        life.use("rule1", 1000)
        life.collect()
        change(life, remove=("redirect",))
        gy = ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("redirect", 3),))
        assert self.overtaken(life) == [gy, down(("redirect", 3))]


def test_the_end_leaves_nothing_to_be_told_of_single_rules() -> None:
    """What waited when the session was released is not told: all of its flows go."""
    life = started(situation(free("rule1")), installs=static("rule1"), keep_effects=True)
    life.decide(lambda draft: release.release(draft, life.at, "ENDED", notify=False))
    assert life.effects == [DeactivateFlows(teids=TEIDS, everything=True)]


def test_effects_are_in_the_order_of_their_numbers() -> None:
    """However many digits their ids have."""
    effects: dict[str, Saved] = {number: up() for number in ("1000000", "999999", "000002", "10000000")}
    assert [effect_id for effect_id, _ in in_order(effects)] == ["000002", "999999", "1000000", "10000000"]
