"""What is due for an active session: final actions, and reports to the OCS and the PCRF (credit.md 6 to 8)."""

from collections.abc import Sequence

import pytest

from sessiond.core.charging import Action, CreditAnswer, FinalAction, ReAuth, RedirectServer, Service
from sessiond.core.credit import Report
from sessiond.core.decide import reauth, report
from sessiond.core.effects import ActivateFlows, DeactivateFlows, ReportUsage, TerminateSession, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, RequestedUnits
from sessiond.core.rules import REDIRECT_RULE, Lifetime, PolicyRule, TrackingType
from sessiond.core.session import Head, Revalidation, RevalidationState, Session
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    both,
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

SERVER = RedirectServer("URL", "http://portal.test/top-up")


def online(*answers: CreditAnswer, monitors: Sequence[MonitorAnswer] = ()) -> Life:
    """Return a session with a static rule for each of two rating groups and two monitors."""
    known = [ocs("rule1", 1), ocs("rule2", 2), pcrf("rule3", "m1"), free("restrict-1"), free("restrict-2")]
    return started(situation(*known), credits_=answers, monitors=monitors, installs=static("rule1", "rule2", "rule3"))


class TestReports:
    """Usage reports and their request numbers."""

    def test_at_the_threshold(self) -> None:
        """A report goes out with everything used, asks for as much again, and its number is used up.

        reference: LocalEnforcerTest.test_collect_updates, SessionManagerHandlerTest.test_report_rule_stats.
        """
        life = online(grant(total=3072))
        life.use("rule1", 2048, 400)
        life.collect()
        assert (life.in_flight(), life.news) == (frozenset(), [])
        life.use("rule1", 2048, 1024)
        life.collect()
        assert life.credit().in_flight == Report(1, 2048, 1024, "QUOTA_EXHAUSTED", RequestedUnits(3072))
        assert (life.gateway.request_number, life.news) == (2, [ReportUsage()])

    def test_charging_and_monitoring_have_numbers_of_their_own(self) -> None:
        """Charging reports share a number, monitoring reports the next, the revalidation has the one after."""
        life = online(grant("1"), grant("2"), monitors=[monitor_grant("m1"), monitor_grant("m2")])
        life.decide(lambda draft: draft.set("monitors", "m2", last_report=True))
        ready = Revalidation(RevalidationState.READY, NOW_MS)
        life.decide(lambda draft: draft.set("gateway", revalidation=ready))
        for rule_id in ("rule1", "rule2", "rule3"):
            life.use(rule_id, 1000)
        life.collect()
        quotas = [*life.session.credits.values(), *life.session.monitors.values()]
        assert [quota.in_flight.number for quota in quotas if quota.in_flight] == [1, 1, 2, 2]
        assert life.gateway.revalidation == Revalidation(RevalidationState.SENT, NOW_MS, 3)
        assert (life.gateway.request_number, life.news) == (4, [ReportUsage()])

    def test_only_one_kind(self) -> None:
        """A number is used up only by what is sent: without charging reports the monitors have the first."""
        life = online(monitors=[monitor_grant("m1")])
        life.use("rule3", 1000)
        life.collect()
        assert life.monitor("m1").in_flight == Report(1, 1000, 0, "USAGE_REPORT")
        assert life.gateway.request_number == 2

    @pytest.mark.parametrize("state", [RevalidationState.PENDING, RevalidationState.SENT])
    def test_a_revalidation_goes_out_once_and_on_time(self, state: RevalidationState) -> None:
        """Before its time, and while its request is on its way, nothing is sent."""
        life = online()
        life.decide(lambda draft: draft.set("gateway", revalidation=Revalidation(state, NOW_MS + 1, 0)))
        before = life.session
        life.collect()
        assert life.session is before

    def test_nothing_twice(self) -> None:
        """While a report is in flight usage goes on, and nothing is reported (known problem R7)."""
        life = online(grant(), monitors=[monitor_grant("m1")])
        for octets in (1000, 2000):
            life.use("rule1", octets)
            life.use("rule3", octets)
            life.collect()
        assert life.in_flight() == {1, 2}
        assert life.gateway.request_number == 3

    def test_a_re_authorisation_reports_what_there_is(self) -> None:
        """A credit never heard of is reported with no usage, and gets its quota and its flows with the answer.

        reference: SessionStateTest.test_reauth_new_key, LocalEnforcerTest.test_re_auth.
        """
        life = online()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        assert life.credit().in_flight == Report(1, 0, 0, "REAUTH_REQUIRED")
        assert life.credit().reauth is ReAuth.PROCESSING
        life.answered(grant(total=4096))
        assert (life.credit().reauth, life.credit().service) == (ReAuth.NOT_NEEDED, Service.NEEDS_ACTIVATION)
        life.collect()
        assert [effect.rules[0] for effect in life.effects_of(ActivateFlows)] == [VersionedRule("rule1", 2)]

    def test_a_last_report_says_so(self) -> None:
        """The last report of a monitor carries the rest and is marked."""
        life = online(monitors=[monitor_grant("m1"), monitor_grant("m1", action=MonitorAction.DISABLE)])
        life.use("rule3", 7, 1)
        life.collect()
        assert life.monitor("m1").in_flight == Report(1, 7, 1, "USAGE_REPORT", last=True)

    @pytest.mark.parametrize("state", [State.CREATING, State.CLOSING, State.CLOSED, State.PAUSED])
    def test_only_an_active_session_reports(self, state: State) -> None:
        """Whatever is due for a session that is not active waits."""
        life = online(grant())
        life.use("rule1", 1000)
        life.decide(lambda draft: draft.set("head", state=state))
        before = life.session
        life.collect()
        assert life.session is before


class TestFinalUnits:
    """What happens when a final unit is used up."""

    def test_nothing_is_reported_on_the_way(self) -> None:
        """A final unit runs to its end without a report.

        reference: LocalEnforcerTest.test_final_unit_action_no_update.
        """
        life = online(restrict_grant("restrict-1", total=1024))
        life.use("rule1", 1023)
        life.collect()
        assert (life.in_flight(), life.effects) == (frozenset(), [])
        life.use("rule1", 1024)
        life.collect()
        assert (life.in_flight(), life.credit().service) == (frozenset(), Service.RESTRICTED)
        assert life.effects == [ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("restrict-1", 1),))]

    def test_redirect(self) -> None:
        """A redirect rule goes in as a Gy rule, with the server of the credit; nobody counts its traffic.

        reference: LocalEnforcerTest.test_final_unit_redirect_activation_and_termination,
        SessionStateTest.test_install_gy_rules.
        """
        life = online(redirect_grant())
        life.use("rule1", 1000)
        life.collect()
        expected = PolicyRule(id=REDIRECT_RULE, tracking=TrackingType.NO_TRACKING, redirect=SERVER)
        assert (life.rule(REDIRECT_RULE).gy, life.rule(REDIRECT_RULE).version) == (expected, 1)
        assert life.effects == [ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule(REDIRECT_RULE, 1),))]
        life.struck()
        life.release()
        assert life.effects == [DeactivateFlows(teids=TEIDS, everything=True)]

    def test_two_redirected_rating_groups_share_the_rule(self) -> None:
        """The second rating group finds the redirect rule in place (known problem G15)."""
        life = online(redirect_grant("1"), redirect_grant("2"))
        life.use("rule1", 1000)
        life.collect()
        life.struck()
        life.use("rule2", 1000)
        life.collect()
        assert (life.credit("2").service, life.effects) == (Service.REDIRECTED, [])
        assert life.rule(REDIRECT_RULE).version == 1

    def test_redirect_again(self) -> None:
        """A credit that was served again meanwhile is redirected again, with a new version of the rule."""
        life = online(redirect_grant())
        for used, version in ((1000, 1), (2000, 3)):
            life.use("rule1", used, version=1)
            life.collect()
            assert life.effects_of(ActivateFlows)[-1].rules == (VersionedRule(REDIRECT_RULE, version),)
            life.struck()
            life.decide(reauth.reauthorise_all)
            life.collect()
            life.answered(redirect_grant())
            life.struck()
            life.collect()
            life.struck()

    def test_restrict(self) -> None:
        """The rules of the restriction that the catalogue knows go in as Gy rules, in one request."""
        life = online(restrict_grant("restrict-1", "unknown", "restrict-2"))
        life.use("rule1", 1000)
        life.collect()
        versioned = (VersionedRule("restrict-1", 1), VersionedRule("restrict-2", 1))
        assert life.effects == [ActivateFlows(teids=TEIDS, gy=True, rules=versioned)]

    def test_traffic_that_a_restriction_lets_through_may_be_charged(self) -> None:
        """A rule of a restriction counts on what its definition says, like any other."""
        life = started(
            situation(ocs("rule1", 1), ocs("restrict-1", 2)),
            credits_=[restrict_grant("restrict-1"), grant("2")],
            installs=static("rule1"),
        )
        life.use("rule1", 1000)
        life.collect()
        life.use("restrict-1", 70)
        assert life.credit("2").used_tx == 70

    def test_a_restriction_to_nothing_that_is_known(self) -> None:
        """Pipelined is asked even if no rule is known, for the default drop flow (credit.md section 6)."""
        life = online(restrict_grant("unknown"))
        life.use("rule1", 1000)
        life.collect()
        assert life.effects == [ActivateFlows(teids=TEIDS, gy=True)]

    def test_terminate(self) -> None:
        """The session ends, and what was begun before is awaited; reference: ChargingGrantTest.test_get_action."""
        life = online(terminate_grant("1"), grant("2"))
        life.use("rule1", 1000)
        life.use("rule2", 1000)
        life.collect()
        assert (life.state(), life.session.head.reason) == (State.CLOSING, "QUOTA_EXHAUSTED")
        assert life.in_flight() == {1}
        life.final_usage_in()
        assert life.effects_of(TerminateSession) == []
        life.answered(grant("2"))
        assert life.effects_of(TerminateSession) == [TerminateSession()]

    @pytest.mark.parametrize("other", [redirect_grant("2"), restrict_grant("restrict-1", key="2")])
    def test_nothing_goes_up_once_the_session_is_over(self, other: CreditAnswer) -> None:
        """If one credit ends the session, the final action of another is not taken any more."""
        life = online(terminate_grant("1"), other)
        life.use("rule1", 1000)
        life.use("rule2", 1000)
        life.collect()
        assert life.state() is State.CLOSING
        assert life.effects_of(ActivateFlows) == []
        assert all(rule.gy is None for rule in life.session.rules.values())

    @pytest.mark.parametrize("action", list(FinalAction))
    def test_the_operator_may_not_want_it(self, action: FinalAction) -> None:
        """With terminate_service_when_quota_exhausted off a used-up TERMINATE goes on; the other actions are taken."""
        at = situation(ocs("rule1", 1), free("restrict-1"), terminate_service_when_quota_exhausted=False)
        answer = grant(is_final=True, final_action=action, restrict_rules=("restrict-1",), redirect=SERVER)
        life = started(at, credits_=[answer], installs=static("rule1"))
        life.use("rule1", 5000)
        life.collect()
        assert (life.state(), life.in_flight()) == (State.ACTIVE, frozenset())
        assert (life.effects == []) == (action is FinalAction.TERMINATE)


def test_nothing_to_do_about_the_traffic() -> None:
    """A credit whose traffic is to go on as it is asks for nothing."""
    life = online(grant())
    before = life.session
    life.decide(lambda draft: report.act(draft, "1", Action.CONTINUE, life.at))
    assert life.session is before


class TestReactivation:
    """New quota after service was held back."""

    def test_static_rules_and_those_of_the_credit(self) -> None:
        """Flows come up with new versions: all static rules, and the dynamic ones of the credit; not those scheduled.

        reference: LocalEnforcerTest.test_final_unit_activation_and_canceling.
        """
        life = started(
            situation(ocs("rule1", 1), free("restrict-1")),
            credits_=[restrict_grant("restrict-1", total=1024), grant("2")],
            installs=[
                *static("rule1"),
                *dynamic(ocs("dynamic-1", 1), ocs("dynamic-2", 2)),
                *dynamic(ocs("later", 1), lifetime=Lifetime(NOW_MS + 10**6)),
            ],
        )
        life.use("rule1", 1024)
        life.collect()
        life.struck()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        assert life.credit().service is Service.RESTRICTED
        life.answered(grant(total=4096))
        assert life.effects == [DeactivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("restrict-1", 2),))]
        life.struck()
        life.collect()
        versioned = (VersionedRule("rule1", 2), VersionedRule("dynamic-1", 2))
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=versioned)]
        assert (life.credit().service, life.credit().suspended) == (Service.ENABLED, False)

    def test_static_rules_of_others_too_but_for_what_is_held_back(self) -> None:
        """Every static rule comes up, but none that is removed, and none of a credit that is suspended."""
        life = started(
            situation(*(ocs(f"rule{number}", number) for number in range(1, 4)), free("rule4"), free("rule5")),
            credits_=[redirect_grant("1"), grant("2"), failure(4012, "3")],
            installs=static("rule1", "rule2", "rule3", "rule4", "rule5"),
        )
        removal = reauth.PolicyChange(remove=("rule5",))
        life.decide(lambda draft: reauth.change_policy(draft, removal, life.at))
        life.use("rule1", 1000)
        life.collect()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(grant("1"))
        life.struck()
        life.collect()
        (up,) = life.effects_of(ActivateFlows)
        assert [rule.id for rule in up.rules] == ["rule1", "rule2", "rule4"]

    def test_lifetimes_are_kept(self) -> None:
        """A rule that is brought up again still ends when it was to end (known problem G16)."""
        lifetime = Lifetime(NOW_MS - 5, NOW_MS + 5000)
        life = started(
            situation(ocs("rule1", 1)),
            credits_=[redirect_grant()],
            installs=[*static("rule1", lifetime=lifetime), *dynamic(ocs("dynamic-1", 1), lifetime=lifetime)],
        )
        life.use("rule1", 1000)
        life.collect()
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        life.collect()
        life.answered(grant())
        life.collect()
        for rule_id in ("rule1", "dynamic-1"):
            installed = life.rule(rule_id).gx
            assert installed is not None
            assert (installed.lifetime, life.rule(rule_id).version) == (lifetime, 2)
        life.struck()
        life.later(5000)
        life.tick()
        (down,) = life.effects_of(DeactivateFlows)
        assert set(down.rules) == {VersionedRule("rule1", 3), VersionedRule("dynamic-1", 3)}


class TestDue:
    """Whether a session has to be looked at."""

    def test_a_session_that_awaits_its_final_usage(self) -> None:
        """A released session is always looked at: a table without it completes its end."""
        life = online()
        assert not report.due(life.session, life.at)
        life.release()
        assert report.due(life.session, life.at)
        life.final_usage_in()
        assert not report.due(life.session, life.at)

    def test_sessions_of_other_kinds_have_nothing_due(self) -> None:
        """An active session that is none of a gateway's has no usage to report."""
        head = Head(state=State.ACTIVE, created_at_ms=NOW_MS)
        assert not report.due(Session(key="s", type="stream", scope="s", head=head), situation())

    @pytest.mark.parametrize("used", [0, 799, 800])
    def test_usage(self, used: int) -> None:
        """A credit or a monitor at its threshold is due."""
        charged, monitored = online(grant()), online(monitors=[monitor_grant("m1")])
        charged.use("rule1", used)
        monitored.use("rule3", used)
        assert report.due(charged.session, charged.at) is (used == 800)
        assert report.due(monitored.session, monitored.at) is (used == 800)

    @pytest.mark.parametrize("service", list(Service))
    def test_pending_service(self, service: Service) -> None:
        """A service whose action is still to be taken is due."""
        life = online(grant())
        life.decide(lambda draft: draft.set("credits", "1", service=service))
        assert report.due(life.session, life.at) is service.startswith("NEEDS_")

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("state", list(RevalidationState))
    def test_revalidation(self, state: RevalidationState, number: int) -> None:
        """A revalidation is due once its time has come, and not while the request of it or the last is in flight."""
        life = online()
        life.decide(lambda draft: draft.set("gateway", revalidation=Revalidation(state, NOW_MS, number)))
        assert report.due(life.session, life.at) is (state is RevalidationState.READY and not number)


def test_a_monitor_cycle() -> None:
    """Three legs; zero on one announces the end; after over-use there is one last report, and the monitor goes.

    reference: SessionStateTest.test_monitor_cycle.
    """
    life = started(
        situation(pcrf("rule1", "m1")),
        monitors=[monitor_grant("m1", granted=GrantedUnits(3000, 2000, 2000))],
        installs=static("rule1"),
    )
    life.use("rule1", 2000, 1000)
    life.collect()
    life.answered(monitors=[monitor_grant("m1", granted=GrantedUnits(0, 100, 200))])
    life.collect()
    assert life.in_flight() == frozenset()
    life.use("rule1", 4000, 2000)
    life.collect()
    assert life.monitor("m1").in_flight == Report(2, 2000, 1000, "USAGE_REPORT", last=True)
    life.answered(monitors=[monitor_grant("m1")])
    assert life.session.monitors == {}


def test_a_rule_monitor_is_removed() -> None:
    """Used up, a zero grant, one more octet: a last report of it, and the monitor goes.

    reference: SessionStateTest.test_remove_monitor.
    """
    life = started(situation(pcrf("rule1", "m1")), monitors=[monitor_grant("m1")], installs=static("rule1"))
    life.use("rule1", 1000)
    life.collect()
    life.answered(monitors=[monitor_grant("m1", 0)])
    life.use("rule1", 1001)
    life.collect()
    assert life.monitor("m1").in_flight == Report(2, 1, 0, "USAGE_REPORT", last=True)
    life.answered()
    assert life.session.monitors == {}


def test_the_session_monitor_ends() -> None:
    """The monitor of the whole session reports at 80 percent, then once more, and its key is forgotten.

    reference: SessionStateTest.test_session_level_key.
    """
    life = started(
        situation(free("rule1")),
        monitors=[monitor_grant("whole", 8000, level=Level.SESSION_LEVEL)],
        installs=static("rule1"),
    )
    life.use("rule1", 5000, 2000)
    life.collect()
    assert life.monitor("whole").in_flight == Report(1, 5000, 2000, "USAGE_REPORT")
    life.answered(monitors=[monitor_grant("whole", 0, level=Level.SESSION_LEVEL)])
    life.use("rule1", 6001, 2001)
    life.collect()
    assert life.monitor("whole").in_flight == Report(2, 1001, 1, "USAGE_REPORT", last=True)
    life.answered()
    assert (life.session.monitors, life.gateway.session_monitor) == ({}, "")


def test_a_rule_of_both_reports_to_both() -> None:
    """Usage of a rule that OCS and PCRF count is reported to each."""
    life = started(
        situation(both("rule1", 1, "m1")), credits_=[grant()], monitors=[monitor_grant("m1")], installs=static("rule1")
    )
    life.use("rule1", 1000, 5)
    life.collect()
    for quota in (life.credit(), life.monitor("m1")):
        assert quota.in_flight is not None
        assert (quota.in_flight.tx, quota.in_flight.rx) == (1000, 5)
