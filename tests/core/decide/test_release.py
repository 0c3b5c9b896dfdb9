"""The end of a session: released, final usage awaited, reported once, gone (rpc.md 1.3)."""

from collections.abc import Callable
from functools import partial

import pytest
from msgspec import structs

from sessiond.core import update
from sessiond.core.charging import UpdateReason
from sessiond.core.credit import Quota, Report
from sessiond.core.decide import answer, release
from sessiond.core.decide.reauth import PolicyChange, change_policy
from sessiond.core.decide.tick import MAX_FINAL_USAGE_WAIT_MS, deadline
from sessiond.core.decide.usage import Ignored, UsageRecord
from sessiond.core.draft import Draft
from sessiond.core.effects import (
    ActivateFlows,
    DeactivateFlows,
    DeleteBearer,
    DeleteDirectoryRecord,
    Saved,
    TerminateSession,
    VersionedRule,
)
from sessiond.core.errors import FailedPrecondition
from sessiond.core.lifecycle import State
from sessiond.core.quantity import Volume
from sessiond.core.rules import Bearer, Lifetime, Teids
from sessiond.core.session import Context
from tests.core.builders import (
    DEFAULT_BEARER,
    NOW_MS,
    TEIDS,
    Life,
    asked,
    dynamic,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)
from tests.core.builders import lte_context as lte

RULES = (ocs("rule1", 1), pcrf("rule2", "m1"))


def reporting() -> Life:
    """Return a session with a charging report and a monitoring report in flight."""
    life = started(
        situation(*RULES),
        credits_=[grant()],
        monitors=[monitor_grant("m1")],
        installs=static("rule1", "rule2"),
    )
    life.use("rule1", 1000)
    life.use("rule2", 1000)
    life.collect()
    assert life.in_flight() == {1, 2}
    return life


class TestRelease:
    """The beginning of the end."""

    @pytest.mark.parametrize(
        ("notify", "context", "bearers"),
        [
            (False, lte(), []),
            (True, lte(), [DeleteBearer(bearer_ids=(DEFAULT_BEARER,))]),
        ],
    )
    def test_flows_go_down_and_the_access_side_hears_of_it(
        self, notify: bool, context: Context, bearers: list[DeleteBearer]
    ) -> None:
        """Everything of the subscriber is taken off the data plane; the default bearer goes if the end is ours.

        reference: LocalEnforcerTest.test_final_unit_handling, test_cwf_final_unit_handling.
        """
        life = started(situation(free("rule1")), context=context, installs=static("rule1"))
        life.release("ENDED", notify=notify)
        assert (life.session.head.state, life.session.head.reason) == (State.CLOSING, "ENDED")
        assert life.session.head.closing_at_ms == NOW_MS
        assert life.effects == [DeactivateFlows(teids=TEIDS, everything=True), *bearers]

    def test_every_tunnel_once(self) -> None:
        """Dedicated bearers have tunnels of their own; two rules on one are taken down together."""
        life = started(situation(*(free(f"rule{n}", qci=1) for n in range(3))), installs=static("rule0", "rule1"))
        for rule_id in ("rule0", "rule1"):
            life.decide(partial(Draft.set, part="rules", key=rule_id, bearer=Bearer(6, Teids(1, 2))))
        life.struck()
        life.release()
        assert [effect.teids for effect in life.effects_of(DeactivateFlows)] == [TEIDS, Teids(1, 2)]

    def test_no_rule_is_left_in_force(self) -> None:
        """Rules in force go with a new version, scheduled ones without; what they counted on is still known."""
        life = started(
            situation(ocs("rule1", 1)),
            credits_=[redirect_grant()],
            installs=[*static("rule1"), *dynamic(ocs("later", 1), lifetime=Lifetime(NOW_MS + 1))],
        )
        life.use("rule1", 1000)
        life.collect()
        life.release()
        assert {name: rule.version for name, rule in life.session.rules.items()} == {
            "rule1": 2,
            "later": 0,
            "redirect": 2,
        }
        assert all(rule.gx is None and rule.gy is None for rule in life.session.rules.values())
        assert life.rule("rule1").target.credit == "1"

    def test_what_was_changed_in_the_same_breath(self) -> None:
        """Rules that one decision installs and the end takes away again are written as they were decided."""
        life = started(situation(*RULES), installs=static("rule1"))

        def decide(draft: Draft) -> None:
            change_policy(draft, PolicyChange(remove=("rule1",), installs=static("rule1", "rule2")), life.at)
            release.release(draft, life.at, "ENDED", notify=False)

        life.decide(decide)
        assert {name: rule.version for name, rule in life.session.rules.items()} == {"rule1": 4, "rule2": 2}

    @pytest.mark.parametrize("closed", [False, True])
    def test_a_second_time_changes_nothing(self, closed: bool) -> None:
        """A session that is being released, or is over, is left to it."""
        life = started(situation())
        life.release("FIRST")
        if closed:
            life.final_usage_in()
        before = life.session
        life.later(1000)
        life.release("SECOND", notify=True)
        assert life.session is before

    def test_before_the_policy_side_has_answered(self) -> None:
        """A session that is still being created can be released; the policy side is told the end."""
        life = asked(situation())
        life.release()
        life.final_usage_in()
        assert life.session.head.state is State.CLOSED
        assert life.effects_of(TerminateSession) == [TerminateSession()]


class TestFinalUsage:
    """When the end is reported."""

    @pytest.mark.parametrize("by_table", [True, False])
    def test_a_table_without_the_session_or_a_timer(self, by_table: bool) -> None:
        """Whichever comes first completes the end, with one report and one event.

        reference: LocalEnforcerTest.test_terminate_credit, SessionManagerHandlerTest.test_end_session.
        """
        life = started(situation(*RULES), credits_=[grant("1"), grant("2")], installs=static("rule1"))
        life.use("rule1", 500)
        life.release()
        life.struck()
        life.later(4999)
        life.tick()
        assert life.session.head.state is State.CLOSING
        life.use("rule1", 700, version=1)
        life.later(1)
        if by_table:
            life.final_usage_in()
        else:
            life.tick()
        assert (life.session.head.state, life.session.head.closed_at_ms) == (State.CLOSED, NOW_MS + 5000)
        assert life.effects == [TerminateSession()]
        assert [event.type for event in life.events] == ["session_terminated"]
        assert life.news[-1] == DeleteDirectoryRecord()
        assert life.credit().used_tx == 700

    def test_only_once(self) -> None:
        """Further tables and timers find a session that is over (known problem R3).

        reference: LocalEnforcerTest.test_aggregate_records_for_termination.
        """
        life = started(situation())
        life.release()
        life.final_usage_in()
        before = life.session
        life.later(60_000)
        life.final_usage_in()
        life.tick()
        life.release()
        life.collect()
        assert (life.session, life.news) == (before, [])

    def test_an_active_session_awaits_no_final_usage(self) -> None:
        """A table without a record of an active session is nothing unusual."""
        life = started(situation())
        before = life.session
        life.final_usage_in()
        assert life.session is before

    def test_while_the_flows_are_not_down(self) -> None:
        """As long as pipelined could not be told, usage goes on and the timer starts anew."""
        life = started(situation(*RULES), installs=static("rule1"))
        life.release()
        life.later(5000)
        life.tick()
        assert (life.session.head.state, deadline(life.session, life.at.now_ms)) == (State.CLOSING, NOW_MS + 10_000)
        life.later(1000)
        life.struck()
        assert deadline(life.session, life.at.now_ms) == NOW_MS + 11_000
        life.later(5000)
        life.tick()
        assert life.session.head.state is State.CLOSED

    def test_not_for_ever(self) -> None:
        """A data plane that never answers does not keep a session for ever."""
        life = started(situation())
        life.release()
        while life.at.now_ms < NOW_MS + MAX_FINAL_USAGE_WAIT_MS:
            assert life.session.head.state is State.CLOSING
            life.later(5000)
            life.tick()
        assert life.session.head.state is State.CLOSED

    @pytest.mark.parametrize("away", ["not told", "not counting"])
    def test_without_a_wait_it_is_not_looked_at_all_the_time(self, away: str) -> None:
        """Even if no time is given for the final usage, a data plane that is away is waited for, second by second."""
        life = started(situation(session_force_termination_timeout_ms=0))
        life.release()
        if away == "not counting":
            life.struck()
            life.at = structs.replace(life.at, counting_since_ms=None)
        looks = 0
        while life.state() is State.CLOSING:
            life.tick()
            looks += 1
            life.later((deadline(life.session, life.at.now_ms) or life.at.now_ms) - life.at.now_ms)
        assert looks == MAX_FINAL_USAGE_WAIT_MS // 1000 + 1


class TestDelivered:
    """What happens when an effect is acknowledged."""

    def test_it_is_struck_off(self) -> None:
        """An effect that a peer has taken is gone; one that is gone already is not missed."""
        life = started(situation(free("rule1")), installs=static("rule1"), keep_effects=True)
        (effect_id,) = life.session.effects
        life.decide(lambda draft: release.delivered(draft, effect_id, life.at))
        before = life.session
        assert life.effects == []
        life.decide(lambda draft: release.delivered(draft, effect_id, life.at))
        assert life.session is before

    def test_the_last_tunnel_starts_the_wait(self) -> None:
        """With several tunnels the final usage is awaited from when all of them are down."""
        life = started(situation(free("rule1", qci=1)), installs=static("rule1"))
        life.decide(lambda draft: draft.set("rules", "rule1", bearer=Bearer(6, Teids(1, 2))))
        life.struck()
        life.release(notify=True)
        life.later(100)
        first, second, bearer = sorted(life.session.effects)
        for effect_id, at_ms in [(first, NOW_MS + 5000), (bearer, NOW_MS + 5000), (second, NOW_MS + 5100)]:
            life.decide(partial(release.delivered, effect_id=effect_id, at=life.at))
            assert life.gateway.decide_by_ms == at_ms

    def test_only_flows_start_the_wait(self) -> None:
        """A bearer that is taken down later does not start the wait again."""
        life = started(situation())
        life.release(notify=True)
        flows_down, bearer_down = sorted(life.session.effects)
        life.decide(partial(release.delivered, effect_id=flows_down, at=life.at))
        life.later(1000)
        life.decide(partial(release.delivered, effect_id=bearer_down, at=life.at))
        assert life.gateway.decide_by_ms == NOW_MS + 5000

    def test_not_for_a_session_that_is_over(self) -> None:
        """The flows of an aborted session go down without anybody waiting for its usage."""
        life = started(situation())
        life.decide(lambda draft: release.abort(draft, life.at))
        before = life.gateway
        life.later(1000)
        life.struck()
        assert life.gateway == before

    @pytest.mark.parametrize(
        ("effect", "flowing"),
        [
            (DeactivateFlows(teids=TEIDS, everything=True), True),
            (DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 2),)), False),
            (ActivateFlows(teids=TEIDS), False),
            (TerminateSession(), False),
        ],
    )
    def test_what_is_still_flowing(self, effect: Saved, flowing: bool) -> None:
        """Only the request that takes everything down stands between a released session and its final usage."""
        life = started(situation())
        life.decide(lambda draft: draft.save(DeleteBearer(bearer_ids=(5,)), effect))
        assert release.still_flowing(life.session) is flowing

    def test_not_once_the_final_usage_is_in(self) -> None:
        """A late acknowledgement does not start the wait again."""
        life = reporting()
        life.release()
        life.final_usage_in()
        life.struck()
        assert (life.gateway.final, life.gateway.decide_by_ms) == (True, 0)


class TestReportsInFlight:
    """The end waits for the reports before it (RFC 8506 clause 7)."""

    @pytest.mark.parametrize("settle", [Life.answered, Life.refused])
    def test_the_end_comes_after_the_answers(self, settle: Callable[[Life], None]) -> None:
        """The end is reported when the last report is settled, with what is unreported then.

        reference: LocalEnforcerTest.test_terminate_credit_during_reporting.
        """
        life = reporting()
        life.release()
        life.final_usage_in()
        assert (life.session.head.state, life.effects_of(TerminateSession)) == (State.CLOSING, [])
        settle(life)
        assert life.session.head.state is State.CLOSED
        assert life.effects_of(TerminateSession) == [TerminateSession()]
        assert [event.type for event in life.events].count("session_terminated") == 1

    def test_one_answer_is_not_enough(self) -> None:
        """As long as any report is in flight the end waits."""
        life = reporting()
        life.release()
        life.final_usage_in()
        life.refused([1])
        assert life.state() is State.CLOSING
        life.refused([2])
        assert life.state() is State.CLOSED

    @pytest.mark.parametrize("settled", [Life.answered, Life.refused])
    @pytest.mark.parametrize("armed_again", [False, True])
    def test_a_revalidation_is_waited_for(self, settled: Callable[[Life], None], armed_again: bool) -> None:
        """A request without usage is a request too: the end is the last one, whatever becomes of those before it."""
        life = started(situation(), revalidation_at_ms=NOW_MS)
        life.tick()
        life.collect()
        if armed_again:
            life.decide(lambda draft: answer.arm_revalidation(draft, NOW_MS + 1000))
        life.release()
        life.final_usage_in()
        assert (life.state(), life.in_flight()) == (State.CLOSING, frozenset({1}))
        settled(life)
        assert (life.state(), life.in_flight()) == (State.CLOSED, frozenset())
        assert len(life.effects_of(TerminateSession)) == 1

    def test_nothing_is_begun_after_the_release(self) -> None:
        """A session that is being released reports what it used with its end, and not before."""
        life = started(situation(*RULES), credits_=[grant()], installs=static("rule1"))
        life.release()
        life.use("rule1", 5000, version=1)
        life.collect()
        assert life.in_flight() == frozenset()

    def test_what_was_acknowledged_is_not_in_the_end(self) -> None:
        """Usage is in one request only: what the answer took is not unreported any more."""
        life = reporting()
        life.release()
        life.use("rule1", 1100, version=1)
        life.final_usage_in()
        life.answered(grant(), monitors=[monitor_grant("m1")])
        assert unreported(life.credit()) == Volume(100, 0)
        assert unreported(life.monitor("m1")) == Volume(0, 0)


def unreported(quota: Quota) -> Volume:
    """Return what the end has to report of a quota."""
    assert quota.in_flight is None
    return Volume(quota.used_tx - quota.reported_tx, quota.used_rx - quota.reported_rx)


class TestAbort:
    """The end at the word of the policy side."""

    def test_flows_and_bearer_go_and_nothing_is_reported(self) -> None:
        """A session that the policy side aborts is over at once.

        reference: SessionProxyResponderHandlerTest.test_abort_session.
        """
        life = reporting()
        life.decide(lambda draft: release.abort(draft, life.at))
        assert (life.session.head.state, life.session.head.reason) == (State.CLOSED, "ABORTED")
        assert life.effects == [
            DeactivateFlows(teids=TEIDS, everything=True),
            DeleteBearer(bearer_ids=(DEFAULT_BEARER,)),
        ]
        assert [event.type for event in life.events] == ["session_terminated"]
        assert life.news[-1] == DeleteDirectoryRecord()

    def test_its_timers_are_off(self) -> None:
        """An aborted session is forgotten later, and nothing else: its end is not reported either (rpc.md 3.1)."""
        life = started(situation())
        life.decide(lambda draft: release.abort(draft, life.at))
        assert deadline(life.session, life.at.now_ms) == life.at.now_ms + release.VERSIONS_KEPT_MS
        life.later(60_000)
        life.tick()
        assert life.effects_of(TerminateSession) == []
        assert not life.session.head.forgotten
        life.later(release.VERSIONS_KEPT_MS)
        life.tick()
        assert life.session.head.forgotten

    def test_one_that_is_being_released(self) -> None:
        """A session whose final usage is awaited ends without it, with the reason it had first."""
        life = started(situation())
        life.release("ENDED")
        life.decide(lambda draft: release.abort(draft, life.at))
        assert (life.session.head.state, life.session.head.reason) == (State.CLOSED, "ENDED")
        assert life.effects_of(TerminateSession) == []

    def test_one_that_is_over(self) -> None:
        """A session ends once: aborting it again is refused."""
        life = started(situation())
        life.decide(lambda draft: release.abort(draft, life.at))
        with pytest.raises(FailedPrecondition):
            life.decide(lambda draft: release.abort(draft, life.at))

    @pytest.mark.parametrize("answered", [True, False])
    def test_a_late_answer_changes_nothing(self, answered: bool) -> None:
        """The answer to a report that was in flight finds a session that is over, and so does its refusal."""
        life = reporting()
        life.decide(lambda draft: release.abort(draft, life.at))
        before = life.session
        if answered:
            life.answered(grant(), monitors=[monitor_grant("m1")])
        else:
            life.refused()
        assert (life.session, life.news) == (before, [])

    def test_late_usage_counts_nothing(self) -> None:
        """What the data plane still tells of a session that is over is told to nobody any more."""
        life = reporting()
        life.decide(lambda draft: release.abort(draft, life.at))
        before = life.session
        record = UsageRecord("rule1", life.rule("rule1").version, 10_000, 0)
        assert life.count(record) == [(record, Ignored.SESSION_OVER)]
        assert life.session == before


def test_a_used_up_final_unit_ends_the_session() -> None:
    """Final unit TERMINATE: nothing is reported on the way, and the end is ours to tell the access side.

    reference: LocalEnforcerTest.test_final_unit_handling, test_dynamic_rule_actions, test_all.
    """
    life = started(
        situation(ocs("static-1", 1), ocs("static-2", 1)),
        credits_=[terminate_grant(total=1024)],
        installs=[*static("static-1", "static-2"), *dynamic(ocs("dynamic-1", 1))],
        keep_effects=True,
    )
    (activate,) = life.effects
    assert isinstance(activate, ActivateFlows)
    assert len(activate.rules) == 3
    life.struck()
    life.use("static-1", 1000)
    life.collect()
    assert (life.session.head.state, life.in_flight()) == (State.ACTIVE, frozenset())
    life.use("dynamic-1", 24)
    life.collect()
    assert (life.session.head.state, life.session.head.reason) == (State.CLOSING, "QUOTA_EXHAUSTED")
    assert life.effects == [
        DeactivateFlows(teids=TEIDS, everything=True),
        DeleteBearer(bearer_ids=(DEFAULT_BEARER,)),
    ]


@pytest.mark.parametrize("in_flight", [None, Report(1, 0, 0, UpdateReason.TERMINATED)])
def test_the_end_is_the_same_for_every_store(in_flight: Report | None) -> None:
    """What the end writes leads, applied to the session before, to the session after."""
    life = started(situation(*RULES), credits_=[grant()], installs=static("rule1", "rule2"))
    life.decide(lambda draft: draft.set("credits", "1", in_flight=in_flight))
    draft = Draft(life.session)
    release.release(draft, life.at, "ENDED", notify=True)
    release.final_usage_in(draft, life.at)
    assert update.apply(life.session, draft.criteria()) == draft.session()
    assert draft.session().head.state is (State.CLOSED if in_flight is None else State.CLOSING)
