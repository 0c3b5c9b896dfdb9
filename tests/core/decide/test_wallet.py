"""The wallet of a subscriber: without a monitored rule in force there is nothing left to spend (credit.md 13)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.decide import create, reauth, rule_sets, tick, wallet
from sessiond.core.decide.answer import MonitorReply
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.decide.rule_sets import RuleSet
from sessiond.core.draft import Draft
from sessiond.core.effects import QuotaState, TerminateAccess, UpdateQuotaState
from sessiond.core.lifecycle import State
from sessiond.core.rules import Lifetime, PolicyRule, RuleInstall, Teids, TrackingType
from sessiond.core.session import PolicyAnswer
from sessiond.core.situation import Situation
from tests.core.builders import (
    NOW_MS,
    Life,
    allowed,
    both,
    dynamic,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    situation,
    started,
    static,
)
from tests.core.builders import lte_context as lte
from tests.core.builders import wlan_context as wlan

GRACE_MS = 30_000
RULES = (pcrf("m1", "1"), pcrf("m2", "2"), ocs("charged", 1), free("free"))


def watched(*rules: PolicyRule, **settings: Any) -> Situation:
    """Return a situation in which an empty wallet ends the session."""
    return situation(*(rules or RULES), wallet_exhaustion_terminates=True, **settings)


def surfing(*installs: RuleInstall, at: Situation | None = None, **fields: Any) -> Life:
    """Return a carrier wifi session whose wallet is watched, with all it had to say so far."""
    return started(at or watched(), context=wlan(), installs=installs, keep_effects=True, **fields)


def said(life: Life) -> list[QuotaState]:
    """Return what pipelined is told about quota, oldest first."""
    return [effect.state for effect in life.effects_of(UpdateQuotaState)]


def policy(life: Life, **change: Any) -> None:
    """Have the policy side change the rules."""
    life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(**change), life.at))


def ended(life: Life) -> bool:
    """Whether the end has begun and the AAA server hears of it."""
    closing = (life.state(), life.session.head.reason) == (State.CLOSING, "WALLET_EXHAUSTED")
    return closing and life.effects_of(TerminateAccess) == [TerminateAccess()]


class TestBeginning:
    """What is said when the tunnels are known."""

    def test_a_monitored_rule_is_quota(self) -> None:
        """One monitored rule is enough; reference: LocalEnforcerTest.test_cwf_quota_exhaustion_on_init_has_quota."""
        life = surfing(*static("m1"))
        assert said(life) == [QuotaState.VALID_QUOTA]
        assert (life.gateway.quota_state, tick.deadline(life.session, NOW_MS)) == (QuotaState.VALID_QUOTA, None)

    def test_no_rule_is_no_quota(self) -> None:
        """It is said once, and the session ends some time later.

        reference: LocalEnforcerTest.test_cwf_quota_exhaustion_on_init_no_quota.
        """
        life = surfing()
        assert said(life) == [QuotaState.NO_QUOTA]
        assert (life.state(), tick.deadline(life.session, NOW_MS)) == (State.ACTIVE, NOW_MS + GRACE_MS)

    @pytest.mark.parametrize(
        ("install", "has_quota"),
        [
            (dynamic(pcrf("any", "1")), True),
            (dynamic(both("any", 1, "1")), True),
            (dynamic(ocs("any", 1, monitoring_key="1")), False),
            (dynamic(free("any", monitoring_key="1")), False),
            (dynamic(PolicyRule(id="any", tracking=TrackingType.ONLY_PCRF)), False),
            (dynamic(pcrf("any", "1"), lifetime=Lifetime(NOW_MS + 1)), False),
            (static("m1", lifetime=Lifetime(NOW_MS + 1)), False),
            (static("unknown"), False),
        ],
    )
    def test_only_a_rule_in_force_that_is_monitored_counts(
        self, install: Sequence[RuleInstall], has_quota: bool
    ) -> None:
        """A rule needs a monitoring key, the PCRF to track it, and its time to have come."""
        assert said(surfing(*install)) == [QuotaState.VALID_QUOTA if has_quota else QuotaState.NO_QUOTA]

    def test_a_monitor_needs_no_quota_of_its_own(self) -> None:
        """What counts are the rules, not the grants: monitors may come later."""
        life = surfing(*static("m1"), monitors=[monitor_grant("1", 0)])
        assert said(life) == [QuotaState.VALID_QUOTA]

    def test_tunnels_a_second_time(self) -> None:
        """It is said again (rpc.md 1.4), but who keeps coming back does not put the end off."""
        life = surfing()
        life.later(10_000)
        life.decide(lambda draft: create.activate(draft, Teids(), life.at))
        assert said(life) == [QuotaState.NO_QUOTA] * 2
        assert tick.deadline(life.session, life.at.now_ms) == NOW_MS + GRACE_MS

    def test_switched_off(self) -> None:
        """Nobody watches the wallet unless it is configured."""
        life = started(situation(*RULES), context=wlan(), installs=static("m1"), keep_effects=True)
        policy(life, remove=("m1",))
        life.tick()
        assert (said(life), life.gateway.quota_state, life.state()) == ([], None, State.ACTIVE)


class TestTimeIsUp:
    """A session that has nothing to spend."""

    def test_it_ends(self) -> None:
        """After the configured time the AAA server and pipelined hear of the end."""
        life = surfing(at=watched(wallet_exhaustion_on_init_ms=7000))
        life.later(6999)
        life.tick()
        assert life.state() is State.ACTIVE
        life.later(1)
        life.tick()
        assert ended(life)
        assert said(life) == [QuotaState.NO_QUOTA, QuotaState.TERMINATE]

    def test_it_goes_on_if_a_rule_came(self) -> None:
        """Quota that comes meanwhile counts at once: pipelined lets traffic flow, and the end is off.

        The reference asks no more when its timer fires (known-problems.md 7).
        """
        life = surfing()
        policy(life, installs=static("m1"))
        assert said(life) == [QuotaState.NO_QUOTA, QuotaState.VALID_QUOTA]
        assert tick.deadline(life.session, NOW_MS) is None
        life.later(GRACE_MS)
        life.tick()
        assert (life.state(), said(life)) == (State.ACTIVE, [QuotaState.NO_QUOTA, QuotaState.VALID_QUOTA])

    def test_not_if_the_operator_changed_his_mind(self) -> None:
        """If the wallet is not watched any more when the time is up, the session is let through."""
        life = surfing()
        life.at = situation(*RULES, now_ms=NOW_MS + GRACE_MS)
        life.tick()
        assert (life.state(), said(life)) == (State.ACTIVE, [QuotaState.NO_QUOTA, QuotaState.VALID_QUOTA])
        assert tick.deadline(life.session, life.at.now_ms) is None

    def test_an_end_for_another_reason_comes_first(self) -> None:
        """A session that is being released ends by that."""
        life = surfing()
        life.release()
        assert said(life) == [QuotaState.NO_QUOTA, QuotaState.TERMINATE]
        life.struck()
        life.later(GRACE_MS)
        life.tick()
        assert (life.state(), life.session.head.reason, said(life)) == (State.CLOSED, "ENDED", [])


class TestPolicyChange:
    """Rules that the policy side changes on its own account."""

    def test_the_last_monitored_rule_goes(self) -> None:
        """The session ends at once; reference: LocalEnforcerTest.test_cwf_quota_exhaustion_on_rar."""
        life = surfing(*static("m1", "charged", "free"))
        policy(life, remove=("m1",))
        assert ended(life)
        assert said(life) == [QuotaState.VALID_QUOTA, QuotaState.TERMINATE]

    def test_another_one_is_left(self) -> None:
        """One is enough, and nothing is said again."""
        life = surfing(*static("m1", "m2"))
        policy(life, remove=("m1",))
        assert (life.state(), said(life)) == (State.ACTIVE, [QuotaState.VALID_QUOTA])

    def test_one_goes_and_another_comes(self) -> None:
        """What counts is what the change leaves."""
        life = surfing(*static("m1"))
        policy(life, remove=("m1",), installs=dynamic(pcrf("m9", "9")))
        assert (life.state(), said(life)) == (State.ACTIVE, [QuotaState.VALID_QUOTA])

    def test_before_the_tunnels_are_known(self) -> None:
        """The rules of the session are not in force yet, so that nothing can be missing."""
        life = allowed(PolicyAnswer(installs=static("m1")), watched(), wlan())
        policy(life)
        assert (life.state(), said(life)) == (State.ACTIVE, [])


class TestAnswer:
    """Rules that come and go with the answer to a monitoring report."""

    def monitored(self) -> Life:
        """Return a session of two monitored rules, with a monitoring report in flight."""
        monitors = [monitor_grant("1"), monitor_grant("2")]
        life = surfing(*static("m1", "m2", "charged"), credits_=[grant()], monitors=monitors)
        life.use("m1", 1000)
        life.use("m2", 1000)
        life.collect()
        return life

    def test_the_last_monitored_rules_go(self) -> None:
        """The session ends, once, when all of the answer is in.

        reference: LocalEnforcerTest.test_cwf_quota_exhaustion_on_update.
        """
        life = self.monitored()
        replies = [
            MonitorReply(answer=monitor_grant("1"), remove=("m1",)),
            MonitorReply(answer=monitor_grant("2"), remove=("m2",)),
        ]
        life.answered(monitors=replies)
        assert ended(life)
        assert said(life) == [QuotaState.VALID_QUOTA, QuotaState.TERMINATE]

    def test_one_goes_and_another_comes(self) -> None:
        """What counts is what all of the answer leaves, in whatever order it says so."""
        life = self.monitored()
        replies = [
            MonitorReply(answer=monitor_grant("1"), remove=("m1", "m2")),
            MonitorReply(answer=monitor_grant("2"), installs=static("m2")),
        ]
        life.answered(monitors=replies)
        assert (life.state(), said(life)) == (State.ACTIVE, [QuotaState.VALID_QUOTA])

    @pytest.mark.parametrize("monitors", [(), (MonitorReply(success=False, result_code=4001),)])
    def test_an_answer_that_changes_no_rule_judges_nothing(self, monitors: Sequence[MonitorReply]) -> None:
        """A session in its time of grace is not ended by a charging answer, or by a monitor that failed."""
        life = surfing(*static("charged"), credits_=[grant()], monitors=[monitor_grant("1")])
        life.use("charged", 1000)
        life.collect()
        life.answered(grant(), monitors=monitors)
        assert (life.state(), said(life)) == (State.ACTIVE, [QuotaState.NO_QUOTA])


class TestByThemselves:
    """Rules that come and go without the policy side: nobody meant to end the session, so there is a time of grace."""

    def test_the_time_of_the_last_monitored_rule_is_over(self) -> None:
        """It is said, and the end follows; a restart that finds it so does the same.

        reference: LocalEnforcerTest.test_termination_scheduling_on_sync_sessions.
        """
        life = surfing(*static("m1", lifetime=Lifetime(0, NOW_MS + 1000)))
        life.later(5000)
        life.tick()
        assert said(life) == [QuotaState.VALID_QUOTA, QuotaState.NO_QUOTA]
        assert tick.deadline(life.session, life.at.now_ms) == life.at.now_ms + GRACE_MS
        life.later(GRACE_MS)
        life.tick()
        assert ended(life)
        assert said(life)[-1] is QuotaState.TERMINATE

    def test_the_time_of_a_monitored_rule_comes(self) -> None:
        """Then there is something to spend."""
        life = surfing(*static("m1", lifetime=Lifetime(NOW_MS + 1000)))
        life.later(1000)
        life.tick()
        assert said(life) == [QuotaState.NO_QUOTA, QuotaState.VALID_QUOTA]
        assert tick.deadline(life.session, life.at.now_ms) is None

    def test_a_pushed_set_without_monitored_rules(self) -> None:
        """A set of rules that leaves nothing to spend is noticed, and so is one that brings something."""
        life = surfing(*static("m1"))
        for names in ({"free"}, {"free", "m2"}):
            wanted = RuleSet(frozenset(names))
            life.decide(partial(rule_sets.apply_set, wanted=wanted, at=life.at))
        assert said(life) == [QuotaState.VALID_QUOTA, QuotaState.NO_QUOTA, QuotaState.VALID_QUOTA]
        assert tick.deadline(life.session, NOW_MS) is None

    def test_a_wallet_that_is_watched_from_now_on(self) -> None:
        """A session from before the operator wanted it watched is judged when it is looked at."""
        life = started(situation(*RULES), context=wlan())
        life.at = watched()
        life.tick()
        assert said(life) == [QuotaState.NO_QUOTA]


class TestRelease:
    """Whatever ends a session says so about its wallet too."""

    @pytest.mark.parametrize("context", [wlan(), lte()])
    @pytest.mark.parametrize("notify", [False, True])
    def test_always(self, context: Any, notify: bool) -> None:
        """The state is TERMINATE from then on, for every access and reason (credit.md 13)."""
        life = started(watched(), context=context, installs=static("m1"))
        life.release(notify=notify)
        assert (said(life), life.gateway.quota_state) == ([QuotaState.TERMINATE], QuotaState.TERMINATE)


Step = tuple[str, str]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["install", "remove", "push"]), st.sampled_from(["m1", "m2", "charged"])),
        st.tuples(st.just("later"), st.sampled_from(["1000", "30000"])),
    ),
    max_size=12,
)


@given(first=st.sets(st.sampled_from(["m1", "free"])), steps=STEPS)
def test_what_pipelined_was_told_is_what_is_so(first: set[str], steps: list[Step]) -> None:
    """While a session is active, its state says whether it has anything to spend, and its end is timed if not."""
    life = surfing(*static(*sorted(first)))
    for what, argument in steps:
        if life.state() is not State.ACTIVE:
            break
        _do(life, what, argument)
        assert said(life)[-1] is life.gateway.quota_state
        if life.state() is not State.ACTIVE:
            break
        empty = wallet.exhausted(Draft(life.session))
        assert life.gateway.quota_state is (QuotaState.NO_QUOTA if empty else QuotaState.VALID_QUOTA)
        assert bool(life.gateway.end_without_quota_at_ms) is empty
    else:
        assert TerminateAccess() not in life.effects


def _do(life: Life, what: str, argument: str) -> None:
    """Take one step of a history."""
    match what:
        case "install":
            lifetime = Lifetime(0, life.at.now_ms + 2000) if argument == "m2" else Lifetime()
            policy(life, installs=static(argument, lifetime=lifetime))
        case "remove":
            policy(life, remove=(argument,))
        case "push":
            wanted = RuleSet(frozenset({argument}))
            life.decide(partial(rule_sets.apply_set, wanted=wanted, at=life.at))
        case _:
            life.at = msgspec.structs.replace(life.at, now_ms=life.at.now_ms + int(argument))
            life.tick()
