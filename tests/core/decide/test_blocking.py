"""An operator may want less than the end of the session, or more than to wait (known problems G6, G14)."""

import pytest

from sessiond.core.charging import FIRST_PAUSE_MS, LONGEST_PAUSE_MS, CreditAnswer, Service
from sessiond.core.decide import reauth
from sessiond.core.decide.tick import TimerKind, deadline, timers
from sessiond.core.effects import ActivateFlows, DeactivateFlows, VersionedRule
from sessiond.core.lifecycle import State
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    failure,
    grant,
    ocs,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)

GRACE_MS = 3000


def blocked() -> Life:
    """Return a session whose credit is used up, got an empty answer, and is blocked since then."""
    life = started(
        situation(ocs("rule1", 1), quota_exhausted_grace_ms=GRACE_MS), credits_=[grant()], installs=static("rule1")
    )
    life.use("rule1", 1000)
    life.collect()
    life.answered(grant(total=0))
    life.later(GRACE_MS)
    life.tick()
    assert (life.credit().blocked, life.credit().in_flight is not None) == (True, True)
    return life


def asked_again_after(life: Life) -> int:
    """Let time go on until the credit is asked about again by itself; return how long that took."""
    before_ms, at_ms = life.at.now_ms, deadline(life.session, life.at.now_ms)
    assert at_ms is not None
    life.later(at_ms - 1 - before_ms)
    life.tick()
    assert life.in_flight() == frozenset()
    life.later(1)
    life.tick()
    assert life.credit().in_flight is not None
    return at_ms - before_ms


class TestGrace:
    """The OCS is silent."""

    def test_only_the_rating_group_is_blocked(self) -> None:
        """A used-up final unit takes its own flows down; the session goes on, and quota brings them back."""
        at = situation(ocs("rule1", 1), ocs("rule2", 2), final_unit_blocks_rating_group_only=True)
        life = started(at, credits_=[terminate_grant("1"), grant("2")], installs=static("rule1", "rule2"))
        life.use("rule1", 1000)
        life.collect()
        assert (life.state(), life.credit("1").service) == (State.ACTIVE, Service.DISABLED)
        assert life.effects == [DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 2),))]
        life.struck()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(grant("1"))
        life.collect()
        assert life.credit("1").service is Service.ENABLED
        (up,) = life.effects_of(ActivateFlows)
        assert VersionedRule("rule1", 3) in up.rules

    def test_without_an_answer_the_flows_go_down_after_a_while(self) -> None:
        """Some time after the quota is used up its flows go down; reports go on, and quota brings them back."""
        life = started(
            situation(ocs("rule1", 1), quota_exhausted_grace_ms=3000), credits_=[grant()], installs=static("rule1")
        )
        life.use("rule1", 1000)
        life.collect()
        assert deadline(life.session, NOW_MS) == NOW_MS + 3000
        life.later(2999)
        life.tick()
        assert life.effects == []
        life.later(1)
        life.tick()
        assert life.effects == [DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 2),))]
        assert (life.credit().blocked, deadline(life.session, life.at.now_ms)) == (True, None)
        life.struck()
        life.refused()
        life.use("rule1", 1200, version=1)
        life.collect()
        assert life.in_flight() == {2}
        life.answered(grant())
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 3),))]
        assert (life.credit().blocked, life.credit().block_at_ms) == (False, 0)

    def test_an_answer_in_time_keeps_them_up(self) -> None:
        """Quota that comes before the time is over leaves the flows as they are."""
        life = started(
            situation(ocs("rule1", 1), quota_exhausted_grace_ms=3000), credits_=[grant()], installs=static("rule1")
        )
        life.use("rule1", 1000)
        life.collect()
        life.answered(grant())
        assert deadline(life.session, NOW_MS) is None
        life.later(3000)
        life.tick()
        assert (life.effects, life.credit().blocked) == ([], False)


class TestAskingAgain:
    """The OCS has nothing to give, and no traffic is left that would make anybody ask again."""

    def test_it_asks_by_itself_and_ever_less_often(self) -> None:
        """Each empty answer doubles the pause, up to its bound; no usage table is needed."""
        life = blocked()
        pauses = []
        for _ in range(7):
            life.answered(grant(total=0))
            pauses.append(asked_again_after(life))
        assert pauses == [min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2**number) for number in range(7)]

    def test_quota_ends_it(self) -> None:
        """The flows come up, and nothing is asked any more."""
        life = blocked()
        life.struck()
        life.answered(grant())
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 3),))]
        assert list(timers(life.session)) == []

    def test_an_operator_sees_when(self) -> None:
        """It is a timer of its own."""
        life = blocked()
        life.answered(grant(total=0))
        assert list(timers(life.session)) == [(TimerKind.QUOTA_RETRY, "1", life.at.now_ms + FIRST_PAUSE_MS)]

    @pytest.mark.parametrize("answer", [terminate_grant(total=0), redirect_grant(total=0), failure(4012)])
    def test_a_final_unit_and_a_passing_trouble_are_not_asked_about(self, answer: CreditAnswer) -> None:
        """What ends by itself, or waits for the OCS to come back to it, asks for nothing."""
        life = blocked()
        life.answered(answer)
        assert list(timers(life.session)) == []

    def test_not_before_it_is_blocked(self) -> None:
        """As long as traffic flows, what it uses makes the credit ask."""
        life = started(situation(ocs("rule1", 1)), credits_=[grant(total=0)], installs=static("rule1"))
        life.collect()
        life.answered(grant(total=0))
        assert list(timers(life.session)) == []


class TestOneRatingGroup:
    """A final unit ends its own service only."""

    def test_late_usage_does_not_take_it_down_again(self) -> None:
        """What was still counted when the flows went down changes nothing about them."""
        life = started(
            situation(ocs("rule1", 1), final_unit_blocks_rating_group_only=True),
            credits_=[terminate_grant()],
            installs=static("rule1"),
        )
        life.use("rule1", 1000)
        life.collect()
        life.struck()
        life.use("rule1", 1500, version=1)
        life.collect()
        assert (life.effects, life.rule("rule1").version, life.credit().used_tx) == ([], 2, 1500)

    def test_the_session_ends_if_that_is_wanted_and_the_flows_are_down(self) -> None:
        """A credit that was blocked for want of an answer, and then gets its final unit, ends the session."""
        life = blocked()
        life.answered(terminate_grant(total=0))
        life.collect()
        assert life.state() is State.CLOSING

    def test_a_credit_that_is_blocked_already_needs_no_more(self) -> None:
        """If only the rating group is to end, it has."""
        life = started(
            situation(ocs("rule1", 1), quota_exhausted_grace_ms=GRACE_MS, final_unit_blocks_rating_group_only=True),
            credits_=[grant()],
            installs=static("rule1"),
        )
        life.use("rule1", 1000)
        life.collect()
        life.later(GRACE_MS)
        life.tick()
        life.struck()
        life.answered(terminate_grant(total=0))
        life.collect()
        assert (life.state(), life.effects, life.credit().service) == (State.ACTIVE, [], Service.ENABLED)
