"""Answers of the policy side to usage reports (credit.md section 9)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from sessiond.core import credit
from sessiond.core.charging import CreditAnswer, ReAuth, Service
from sessiond.core.credit import Report
from sessiond.core.decide import answer, reauth
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.effects import ActivateFlows, DeactivateFlows, DeleteBearer, TerminateSession, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, RequestedUnits, Volume
from sessiond.core.rules import REDIRECT_RULE, Lifetime
from sessiond.core.session import DestinationHosts, Revalidation, RevalidationState
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    dynamic,
    failure,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    restrict_grant,
    situation,
    started,
    static,
    terminate_grant,
)

GX_FAILED = MonitorReply(success=False)


def reporting(*answers: CreditAnswer, monitors: Sequence[MonitorAnswer] = (), **settings: Any) -> Life:
    """Return a session whose quotas are all used up and in flight: credits in request 1, monitors in the next."""
    known = [ocs("rule1", 1), ocs("rule1b", 1), ocs("rule2", 2), pcrf("rule3", "m1"), free("rule4"), free("restrict-1")]
    life = started(
        situation(*known, **settings),
        credits_=answers,
        monitors=monitors,
        installs=static("rule1", "rule1b", "rule2", "rule3"),
    )
    for rule_id in ("rule1", "rule2", "rule3"):
        life.use(rule_id, 1000)
    life.collect()
    return life


def reply(
    life: Life,
    *credits_: CreditReply,
    monitors: Sequence[MonitorReply] = (),
    numbers: Sequence[int] = (1, 2, 3),
) -> None:
    """Take an answer to requests of these numbers."""
    wanted = UpdateAnswer(numbers=frozenset(numbers), credits=credits_, monitors=tuple(monitors))
    life.decide(lambda draft: answer.answered(draft, wanted, life.at))


class TestCharging:
    """Charging answers."""

    def test_a_grant_refills(self) -> None:
        """What was reported is acknowledged, the grant is added, and an event names the update.

        reference: LocalEnforcerTest.test_all.
        """
        life = reporting(grant(total=1000))
        life.answered(grant(total=4096))
        assert (life.credit().allowed_total, life.credit().reported_tx, life.in_flight()) == (5096, 1000, frozenset())
        (event,) = life.events
        assert event.type == "session_updated"
        assert event.value["list_of_updates"] == [{"rating_group": 1, "update_reason": "QUOTA_EXHAUSTED"}]

    def test_only_what_is_named_is_credited(self) -> None:
        """An answer changes the credits it names; what it does not name was not taken and is due again.

        reference: LocalEnforcerTest.test_update_session_credits_and_rules.
        """
        life = reporting(grant("1"), grant("2"))
        life.answered(grant("1"))
        assert (life.credit("1").reported_tx, life.credit("1").allowed_total) == (1000, 2000)
        assert (life.credit("2").reported_tx, life.credit("2").in_flight) == (0, None)
        assert credit.unreported(life.credit("2")) == Volume(1000)
        life.collect()
        assert life.credit("2").in_flight == Report(2, 1000, 0, "QUOTA_EXHAUSTED", credit.requested(life.credit("2")))

    def test_usage_meanwhile_is_reported_next(self) -> None:
        """What was used while the report was in flight is unreported after the answer (known problem R1)."""
        life = reporting(grant())
        life.use("rule1", 1700)
        life.answered(grant())
        assert (life.credit().reported_tx, credit.unreported(life.credit())) == (1000, Volume(700))
        assert life.credit().allowed_total == 2700

    def test_an_answer_to_requests_that_are_settled_changes_nothing(self) -> None:
        """An answer that comes twice grants once."""
        life = reporting(grant())
        life.answered(grant(), numbers=[1])
        before = life.session
        life.answered(grant(), numbers=[1])
        assert (life.session, life.news) == (before, [])

    def test_an_answer_to_one_of_two_requests(self) -> None:
        """Reports in another request stay in flight."""
        life = reporting(grant(), monitors=[monitor_grant("m1")])
        life.answered(grant(), numbers=[1])
        assert life.in_flight() == {2}

    @pytest.mark.parametrize("unknown", [grant("9"), failure(4012, "9")])
    def test_a_credit_nobody_asked_for(self, unknown: CreditAnswer) -> None:
        """An answer may bring a credit the session did not have."""
        life = reporting(grant("1"))
        life.answered(grant("1"), unknown)
        assert "9" in life.session.credits

    @pytest.mark.parametrize("unknown", [failure(0, "9"), failure(5003, "9"), grant("9", None)])
    def test_a_rejected_credit_that_is_not_known(self, unknown: CreditAnswer) -> None:
        """A rejection of a credit the session does not have makes none."""
        life = reporting(grant("1"))
        life.answered(grant("1"), unknown)
        assert "9" not in life.session.credits

    @pytest.mark.parametrize("code", [5000, 5030, 5999])
    def test_a_permanent_failure_ends_the_session(self, code: int) -> None:
        """A 5xxx code releases the session; the usage was not taken and is reported with the end."""
        life = reporting(grant("1"), grant("2"))
        life.answered(failure(code, "1"), grant("2"))
        assert (life.state(), life.session.head.reason) == (State.CLOSING, "PERMANENT_FAILURE")
        assert life.effects == [DeactivateFlows(teids=TEIDS, everything=True), DeleteBearer(bearer_ids=(5,))]
        assert (life.credit("1").reported_tx, life.credit("2").reported_tx) == (0, 1000)
        life.final_usage_in()
        assert credit.unreported(life.credit("1")) == Volume(1000)
        assert life.effects_of(TerminateSession) == [TerminateSession()]

    def test_a_permanent_failure_may_block_its_rating_group_only(self) -> None:
        """If the operator wants it so, the session goes on without the rating group (known problem G14)."""
        life = reporting(grant("1"), grant("2"), final_unit_blocks_rating_group_only=True)
        life.answered(failure(5030, "1"), grant("2"))
        assert life.state() is State.ACTIVE
        versioned = (VersionedRule("rule1", 2), VersionedRule("rule1b", 2))
        assert life.effects == [DeactivateFlows(teids=TEIDS, rules=versioned)]
        assert (life.credit("1").suspended, life.credit("2").suspended) == (True, False)

    @pytest.mark.parametrize("code", [4012, 5030])
    def test_a_code_of_a_success_means_nothing(self, code: int) -> None:
        """An answer that says success is one, whatever its code."""
        life = reporting(grant())
        life.answered(grant(result_code=code))
        assert (life.state(), life.credit().suspended, life.credit().allowed_total) == (State.ACTIVE, False, 2000)

    @pytest.mark.parametrize("code", [0, 3002, 6001])
    def test_any_other_failure_is_no_reason_to_end(self, code: int) -> None:
        """A code that is neither transient nor permanent leaves the usage unreported, and the session goes on."""
        life = reporting(grant())
        life.answered(failure(code))
        assert (life.state(), life.credit().reported_tx, life.in_flight()) == (State.ACTIVE, 0, frozenset())
        assert life.effects == []

    def test_hosts_are_remembered(self) -> None:
        """The host that answered is asked next time; an answer that names none changes nothing (known problem S3).

        reference: SessionStateTest.test_tgpp_context_is_set_on_update.
        """
        life = reporting(grant())
        hosts = DestinationHosts("gx.dest.com", "gy.dest.com")
        reply(life, CreditReply(answer=grant(), hosts=hosts))
        assert life.gateway.hosts == hosts
        life.use("rule1", 5000)
        life.collect()
        reply(life, CreditReply(answer=grant(), hosts=DestinationHosts()))
        assert life.gateway.hosts == hosts


class TestSuspension:
    """Transient failures, and the quota that ends them."""

    def test_suspend_and_resume(self) -> None:
        """The rules of the rating group go down, each time it is said, and come up with new quota; others go on.

        reference: LocalEnforcerTest.test_update_with_transient_error_suspendand_unsuspend.
        """
        life = reporting(grant("1"), grant("2"))
        life.answered(failure(4012, "1"), grant("2"))
        down = (VersionedRule("rule1", 2), VersionedRule("rule1b", 2))
        assert life.effects == [DeactivateFlows(teids=TEIDS, rules=down)]
        assert (life.credit("1").suspended, life.credit("1").service) == (True, Service.ENABLED)
        assert life.credit("1").reported_tx == 1000
        life.struck()
        for version in (3, 4):
            life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
            life.collect()
            if version == 3:
                life.answered(failure(4012, "1"))
                assert life.effects_of(ActivateFlows) == []
                assert life.effects_of(DeactivateFlows)[0].rules[0].version == version
                life.struck()
        life.answered(grant("1", 222))
        up = (VersionedRule("rule1", 4), VersionedRule("rule1b", 4))
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=up)]
        assert not life.credit("1").suspended

    def test_a_suspended_credit_is_not_reported(self) -> None:
        """A suspended credit that is used up is left alone until it is re-authorised."""
        life = reporting(grant("1"), grant("2"))
        life.answered(failure(4012, "1"), grant("2"))
        life.use("rule1", 2000, version=1)
        life.collect()
        assert life.in_flight() == frozenset()

    def test_only_rules_in_force_are_told(self) -> None:
        """Rules of the rating group that are removed, or wait for their time, are not taken down."""
        life = started(
            situation(ocs("rule1", 1), ocs("rule2", 1)),
            credits_=[grant("1"), grant("2")],
            installs=[*static("rule1", "rule2"), *dynamic(ocs("later", 1), lifetime=Lifetime(NOW_MS + 1000))],
        )
        removal = reauth.PolicyChange(remove=("rule1",))
        life.decide(lambda draft: reauth.change_policy(draft, removal, life.at))
        life.struck()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(failure(4012, "1"))
        assert life.effects == [DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule2", 2),))]

    def test_without_rules_nothing_is_told(self) -> None:
        """A rating group without rules is suspended without a word: an empty request would remove all rules."""
        life = started(situation(ocs("rule2", 2)), credits_=[grant("1"), grant("2")], installs=static("rule2"))
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(failure(4012, "1"))
        assert (life.credit("1").suspended, life.effects) == (True, [])

    def test_if_no_credit_is_left_the_final_action_is_taken(self) -> None:
        """When the last credit is suspended it is disabled, or redirected if its final action says so."""
        life = reporting(grant("1"))
        life.answered(redirect_grant("1", None, success=False, result_code=4012))
        assert life.credit().service is Service.NEEDS_SUSPENSION
        life.struck()
        life.collect()
        assert (life.credit().service, life.credit().suspended) == (Service.REDIRECTED, True)
        assert life.effects == [ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule(REDIRECT_RULE, 1),))]

    @pytest.mark.parametrize("later", [grant("1", 0), failure(0), failure(4012)])
    def test_no_quota_does_not_lift_it(self, later: CreditAnswer) -> None:
        """A suspended credit that gets nothing stays suspended.

        reference: LocalEnforcerTest.test_no_credit_reauth_with_redirected_suspended_credit.
        """
        life = reporting(grant("1"), grant("2"))
        life.answered(failure(4012, "1"), grant("2"))
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.struck()
        life.answered(later)
        assert (life.credit("1").suspended, life.effects_of(ActivateFlows)) == (True, [])

    @pytest.mark.parametrize("later", [failure(0), failure(4012), grant("1", None)])
    def test_quota_that_is_left_does_not_lift_it(self, later: CreditAnswer) -> None:
        """A suspended credit with quota left stays suspended, and redirected, until an answer grants something."""
        life = started(situation(ocs("rule1", 1)), credits_=[redirect_grant("1")], installs=static("rule1"))
        for said in (redirect_grant("1", None, success=False, result_code=4012), later):
            life.decide(reauth.reauthorise_all)
            life.collect()
            life.answered(said)
            life.collect()
        assert life.credit().suspended
        assert life.rule(REDIRECT_RULE).gy is not None
        assert all(not effect.gy for effect in life.effects_of(DeactivateFlows))
        assert all(effect.gy for effect in life.effects_of(ActivateFlows))

    def test_a_redirected_suspended_credit_is_served_again(self) -> None:
        """New quota takes the redirection away and brings the rules back.

        reference: LocalEnforcerTest.test_reauth_with_redirected_suspended_credit.
        """
        life = reporting(grant("1"))
        life.answered(redirect_grant("1", None, success=False, result_code=4012))
        life.collect()
        life.struck()
        life.decide(reauth.reauthorise_all)
        life.collect()
        assert life.credit().in_flight == Report(2, 0, 0, "REAUTH_REQUIRED")
        life.answered(grant("1", 4096))
        assert life.effects == [
            DeactivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule(REDIRECT_RULE, 2),)),
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 3), VersionedRule("rule1b", 3))),
        ]
        assert (life.credit().suspended, life.credit().service) == (False, Service.NEEDS_ACTIVATION)

    def test_terminate_and_no_quota_ends_a_redirected_suspended_credit(self) -> None:
        """A final unit TERMINATE of nothing ends the session with the next table.

        reference: LocalEnforcerTest.test_terminate_credit_reauth_with_redirected_suspended_credit.
        """
        life = reporting(grant("1"))
        life.answered(redirect_grant("1", None, success=False, result_code=4012))
        life.collect()
        life.decide(reauth.reauthorise_all)
        life.collect()
        life.answered(terminate_grant("1", 0))
        assert life.state() is State.ACTIVE
        life.collect()
        assert life.state() is State.CLOSING

    def test_a_failure_of_a_credit_that_is_not_there(self) -> None:
        """A suspension of an unknown credit that was not opened either is passed over."""
        life = reporting(grant("1"))
        life.decide(lambda draft: answer.suspend(draft, "9"))
        assert life.effects == []


class TestFinalActions:
    """What an answer does to a redirection or restriction that is in place."""

    def test_a_shared_redirection_stays_while_it_is_needed(self) -> None:
        """Of two redirected rating groups one gets quota: the redirect rule stays for the other (known problem G15)."""
        life = started(
            situation(ocs("rule1", 1), ocs("rule2", 2)),
            credits_=[redirect_grant("1"), redirect_grant("2")],
            installs=static("rule1", "rule2"),
        )
        life.use("rule1", 1000)
        life.use("rule2", 1000)
        life.collect()
        life.struck()
        for key, gone in (("1", False), ("2", True)):
            life.decide(partial(reauth.reauthorise_credit, key=key))
            life.collect()
            life.struck()
            life.answered(grant(key))
            assert (life.rule(REDIRECT_RULE).gy is None) is gone
            assert bool(life.effects_of(DeactivateFlows)) is gone

    def test_a_shared_restriction_stays_while_it_is_needed(self) -> None:
        """Only the rules of a restriction that no other restricted rating group names are taken away."""
        life = started(
            situation(ocs("rule1", 1), ocs("rule2", 2), free("shared"), free("own")),
            credits_=[restrict_grant("shared", "own", key="1"), restrict_grant("shared", key="2")],
            installs=static("rule1", "rule2"),
        )
        life.use("rule1", 1000)
        life.use("rule2", 1000)
        life.collect()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.struck()
        life.answered(grant("1"))
        (down,) = life.effects_of(DeactivateFlows)
        assert (down.gy, [rule.id for rule in down.rules]) == (True, ["own"])

    def test_a_restriction_to_rules_that_are_not_known(self) -> None:
        """A rule that could not be installed for a restriction need not be taken away with it."""
        life = started(
            situation(ocs("rule1", 1), free("restrict-1")),
            credits_=[restrict_grant("restrict-1", "unknown")],
            installs=static("rule1"),
        )
        life.use("rule1", 1000)
        life.collect()
        life.decide(reauth.reauthorise_all)
        life.collect()
        life.struck()
        life.answered(grant())
        assert life.effects == [DeactivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("restrict-1", 2),))]

    def test_no_quota_keeps_it(self) -> None:
        """An answer that brings nothing leaves the redirection in place."""
        life = started(situation(ocs("rule1", 1)), credits_=[redirect_grant()], installs=static("rule1"))
        life.use("rule1", 1000)
        life.collect()
        life.decide(reauth.reauthorise_all)
        life.collect()
        life.struck()
        life.answered(redirect_grant(total=0))
        assert (life.credit().service, life.effects) == (Service.REDIRECTED, [])

    def test_a_released_session_gets_nothing_back(self) -> None:
        """An answer that comes after the release is counted, and changes no flows."""
        life = reporting(redirect_grant("1"), grant("2"), monitors=[monitor_grant("m1")])
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.release()
        life.struck()
        install = MonitorReply(answer=monitor_grant("m1"), installs=static("rule4"))
        life.answered(grant("1"), failure(4012, "2"), monitors=[install])
        assert (life.effects, life.in_flight()) == ([], frozenset())
        assert "rule4" not in life.session.rules
        assert [charge.reported_tx for charge in life.session.credits.values()] == [1000, 1000]


class TestMonitoring:
    """Monitoring answers."""

    def test_refill_and_rule_changes(self) -> None:
        """An answer refills its monitor, removes rules, installs others; flows go down before others come up.

        reference: LocalEnforcerTest.test_usage_monitors.
        """
        life = reporting(monitors=[monitor_grant("m1", 1024)])
        assert life.monitor("m1").in_flight == Report(1, 1000, 0, "USAGE_REPORT")
        change = MonitorReply(
            answer=monitor_grant("m1", 2048),
            remove=("rule1", "unknown"),
            installs=(*static("rule4"), *dynamic(free("dynamic-1"))),
            hosts=DestinationHosts("gx", "gy"),
            revalidation_at_ms=NOW_MS + 5,
        )
        life.answered(monitors=[change])
        assert (life.monitor("m1").allowed_total, life.monitor("m1").reported_tx) == (3072, 1000)
        assert life.effects == [
            DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 2),)),
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule4", 1), VersionedRule("dynamic-1", 1))),
        ]
        assert life.gateway.hosts == DestinationHosts("gx", "gy")
        assert life.gateway.revalidation == Revalidation(RevalidationState.PENDING, NOW_MS + 5)
        (event,) = life.events
        assert event.value["list_of_updates"] == [{"monitoring_key": "m1", "update_reason": "USAGE_REPORT"}]

    def test_usage_of_rules_that_an_answer_installed(self) -> None:
        """Rules of an answer have a version of their own at once, and their usage counts (known problem S4)."""
        life = reporting(grant("1"), monitors=[monitor_grant("m1")])
        life.answered(
            grant("1"), monitors=[MonitorReply(answer=monitor_grant("m1"), installs=dynamic(ocs("dynamic-1", 1)))]
        )
        assert life.use("dynamic-1", 7, version=1) == []
        assert life.credit("1").used_tx == 1007

    def test_a_monitor_nobody_asked_for(self) -> None:
        """An answer may bring a monitor; one of the session level counts every rule from then on."""
        life = reporting(monitors=[monitor_grant("m1")])
        life.answered(monitors=[monitor_grant("m1"), monitor_grant("whole", 5000, level=Level.SESSION_LEVEL)])
        assert (life.monitor("whole").allowed_total, life.gateway.session_monitor) == (5000, "whole")
        life.use("rule1", 1500)
        assert life.monitor("whole").used_tx == 500

    def test_disable_of_a_monitor_that_is_not_there(self) -> None:
        """A monitor that is to end and never was is not made, nor does it become that of the session."""
        life = reporting(monitors=[monitor_grant("m1")])
        life.answered(
            monitors=[monitor_grant("whole", level=Level.SESSION_LEVEL, action=MonitorAction.DISABLE)], numbers=[1]
        )
        assert (set(life.session.monitors), life.gateway.session_monitor) == ({"m1"}, "")

    def test_disable_makes_no_session_monitor(self) -> None:
        """A monitor that is to end does not become that of the session (credit.md section 7 put right)."""
        life = reporting(monitors=[monitor_grant("m1")])
        life.answered(monitors=[monitor_grant("m1", level=Level.SESSION_LEVEL, action=MonitorAction.DISABLE)])
        assert (life.monitor("m1").last_report, life.gateway.session_monitor) == (True, "")

    def test_disable(self) -> None:
        """A disabled monitor reports once more, what came since, and is gone with the answer.

        reference: LocalEnforcerTest.test_usage_monitor_disable.
        """
        life = reporting(monitors=[monitor_grant("m1")])
        life.use("rule3", 1001)
        life.answered(monitors=[monitor_grant("m1", action=MonitorAction.DISABLE)])
        assert (life.monitor("m1").reported_tx, life.monitor("m1").last_report) == (1000, True)
        life.collect()
        assert life.monitor("m1").in_flight == Report(2, 1, 0, "USAGE_REPORT", last=True)
        life.answered(monitors=[monitor_grant("m1", action=MonitorAction.DISABLE)])
        assert life.session.monitors == {}

    def test_a_zero_grant_silences(self) -> None:
        """After a grant of nothing there is one last report when the rest is used up."""
        life = started(situation(pcrf("rule3", "m1")), monitors=[monitor_grant("m1")], installs=static("rule3"))
        life.use("rule3", 800)
        life.collect()
        life.answered(monitors=[monitor_grant("m1", 0)])
        life.use("rule3", 999)
        life.collect()
        assert life.in_flight() == frozenset()
        life.use("rule3", 4000)
        life.collect()
        assert life.monitor("m1").in_flight == Report(2, 3200, 0, "USAGE_REPORT", last=True)

    def test_the_last_report_need_not_be_mentioned(self) -> None:
        """An answer that says nothing of a monitor that reported for the last time has taken it all the same."""
        life = ending()
        life.answered()
        assert life.session.monitors == {}

    def test_a_last_report_that_failed_is_not_lost(self) -> None:
        """If the PCRF did not answer, the last usage is due again (credit.md section 9)."""
        life = ending()
        life.answered(monitors=[GX_FAILED])
        assert (life.monitor("m1").in_flight, life.monitor("m1").reported_tx) == (None, 1000)
        life.collect()
        assert life.monitor("m1").in_flight == Report(3, 1, 0, "USAGE_REPORT", last=True)

    def test_a_grant_that_answers_nothing_takes_no_last_report(self) -> None:
        """A policy request that names a monitor whose last report is in flight does not acknowledge it."""
        life = ending()
        wanted = reauth.PolicyChange(monitors=(monitor_grant("m1"),))
        life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at))
        assert life.monitor("m1").in_flight == Report(2, 1, 0, "USAGE_REPORT", last=True)
        assert life.monitor("m1").reported_tx == 1000

    @pytest.mark.parametrize("mentioned", [True, False])
    def test_a_monitor_that_counted_on_reports_again(self, mentioned: bool) -> None:
        """What a monitor counted after its last report was sent is reported before it goes."""
        life = ending()
        life.use("rule3", 1600)
        life.answered(monitors=[monitor_grant("m1")] if mentioned else [])
        assert (life.monitor("m1").reported_tx, life.monitor("m1").last_report) == (1001, True)
        life.collect()
        assert life.monitor("m1").in_flight == Report(3, 599, 0, "USAGE_REPORT", last=True)
        life.answered()
        assert life.session.monitors == {}

    def test_a_failure_leaves_the_usage(self) -> None:
        """An answer that failed without a code: the usage is due again, the session goes on."""
        life = reporting(monitors=[monitor_grant("m1")])
        life.answered(monitors=[GX_FAILED])
        assert (life.state(), life.monitor("m1").reported_tx, life.in_flight()) == (State.ACTIVE, 0, frozenset())

    def test_a_permanent_failure_ends_the_session(self) -> None:
        """A 5xxx code for a monitor releases the session; its credit is left as it is.

        reference: LocalEnforcerTest.test_update_session_credits_and_rules_with_failure.
        """
        life = reporting(grant(), monitors=[monitor_grant("m1")])
        life.answered(grant(), monitors=[MonitorReply(success=False, result_code=5030)])
        assert life.state() is State.CLOSING
        assert (life.monitor("m1").allowed_total, life.monitor("m1").used_tx) == (1000, 1000)

    def test_rules_of_an_answer_that_ends_the_session(self) -> None:
        """Rules that come with the answer that ends the session do not outlive it."""
        life = reporting(grant(), monitors=[monitor_grant("m1")])
        install = MonitorReply(answer=monitor_grant("m1"), installs=dynamic(free("dynamic-1")))
        life.answered(failure(5030), monitors=[install])
        assert life.state() is State.CLOSING
        assert all(rule.gx is None for rule in life.session.rules.values())
        assert life.effects[-2:] == [DeactivateFlows(teids=TEIDS, everything=True), DeleteBearer(bearer_ids=(5,))]


def ending() -> Life:
    """Return a session whose monitor has its last report, of one octet, in flight in request 2."""
    life = reporting(monitors=[monitor_grant("m1")])
    life.answered(monitors=[monitor_grant("m1", 0)])
    life.use("rule3", 1001)
    life.collect()
    assert life.monitor("m1").in_flight == Report(2, 1, 0, "USAGE_REPORT", last=True)
    return life


class TestRevalidation:
    """The request that only asks again."""

    def revalidating(self) -> Life:
        """Return a session that asks for its policy again in request 1."""
        life = started(situation(free("rule1"), free("rule2")), installs=static("rule1"), revalidation_at_ms=NOW_MS)
        life.tick()
        life.collect()
        assert life.in_flight() == {1}
        return life

    def test_an_answer_settles_it(self) -> None:
        """The policy has been asked again; an event says so.

        reference: LocalEnforcerTest.test_revalidation_timer_on_update_no_monitor.
        """
        life = self.revalidating()
        life.answered()
        assert life.gateway.revalidation is None
        (event,) = life.events
        assert event.value["list_of_updates"] == [{"update_reason": "REVALIDATION_TIMEOUT"}]

    def test_an_answer_to_something_else_leaves_it(self) -> None:
        """A revalidation waits for its own answer, and one whose time is to come for its time."""
        life = started(situation(), credits_=[grant(validity_ms=1)], revalidation_at_ms=NOW_MS + 1)
        life.later(1)
        life.tick()
        life.collect()
        assert life.gateway.revalidation == Revalidation(RevalidationState.SENT, NOW_MS + 1, 2)
        life.answered(grant(), numbers=[1])
        assert life.gateway.revalidation == Revalidation(RevalidationState.SENT, NOW_MS + 1, 2)
        (event,) = life.events
        assert event.value["list_of_updates"] == [{"rating_group": 1, "update_reason": "VALIDITY_TIMER_EXPIRED"}]

    def test_an_answer_may_arm_it_again(self) -> None:
        """A new time in the answer is not lost; reference: LocalEnforcerTest.test_revalidation_timer_on_update."""
        life = self.revalidating()
        life.answered(monitors=[MonitorReply(revalidation_at_ms=NOW_MS + 5), MonitorReply(), MonitorReply()])
        assert life.gateway.revalidation == Revalidation(RevalidationState.PENDING, NOW_MS + 5)

    def test_a_failure_makes_it_due_again(self) -> None:
        """A request that was not carried out is repeated with the next table (session.md 8 put right)."""
        life = self.revalidating()
        life.refused()
        assert life.gateway.revalidation == Revalidation(RevalidationState.READY, NOW_MS)
        (event,) = life.events
        assert event.type == "session_update_failure"
        life.collect()
        assert life.in_flight() == {2}

    def test_a_request_that_crosses_it(self) -> None:
        """A new time that comes while the request is in flight holds, and the answer still brings its rules."""
        life = self.revalidating()
        later = reauth.PolicyChange(revalidation_at_ms=NOW_MS + 5000)
        life.decide(lambda draft: reauth.change_policy(draft, later, life.at))
        reply(life, monitors=[MonitorReply(installs=static("rule2"))], numbers=[1])
        assert life.rule("rule2").gx is not None
        assert life.gateway.revalidation == Revalidation(RevalidationState.PENDING, NOW_MS + 5000)


class TestRefused:
    """A request that was certainly not carried out."""

    def test_everything_is_due_again(self) -> None:
        """The same usage goes out with the next table and a new number; an event says why.

        reference: SessiondTest.end_to_end_cloud_down.
        """
        life = reporting(grant(), monitors=[monitor_grant("m1")])
        life.refused(text="failed to connect")
        assert life.in_flight() == frozenset()
        (event,) = life.events
        assert (event.type, event.tag) == ("session_update_failure", "")
        assert event.value["failure_reason"] == "UpdateSession request to FeG/PolicyDB failed: failed to connect"
        assert len(event.value["list_of_updates"]) == 2
        life.use("rule1", 1024)
        life.collect()
        assert life.credit().in_flight == Report(3, 1024, 0, "QUOTA_EXHAUSTED", RequestedUnits(1000))
        assert (life.credit().reported_tx, life.monitor("m1").reported_tx) == (0, 0)

    def test_a_re_authorisation_is_required_again(self) -> None:
        """A re-authorisation that did not get through is due with the next table."""
        life = started(situation(), credits_=[grant()])
        life.decide(reauth.reauthorise_all)
        life.collect()
        assert life.credit().reauth is ReAuth.PROCESSING
        life.refused()
        assert life.credit().reauth is ReAuth.REQUIRED

    def test_requests_that_are_settled(self) -> None:
        """A failure of requests that nobody waits for is no news."""
        life = reporting(grant())
        before = life.session
        life.refused([7])
        assert (life.session, life.news) == (before, [])

    def test_a_last_report_is_kept(self) -> None:
        """The last report of a monitor is not taken by a request that failed."""
        life = ending()
        life.refused()
        assert credit.unreported(life.monitor("m1")) == Volume(1)


def test_a_session_monitor_goes_with_its_last_report_and_the_next_takes_its_place() -> None:
    """When the monitor of the session is replaced, the end of the old one leaves the new one's place."""
    life = started(
        situation(free("rule1")),
        monitors=[monitor_grant("old", 0, level=Level.SESSION_LEVEL)],
        installs=static("rule1"),
    )
    life.use("rule1", 10)
    life.collect()
    whole = MonitorAnswer(key="new", granted=GrantedUnits(1000))
    life.answered(monitors=[monitor_grant("old", level=Level.SESSION_LEVEL), whole])
    assert (set(life.session.monitors), life.gateway.session_monitor) == ({"new"}, "new")
