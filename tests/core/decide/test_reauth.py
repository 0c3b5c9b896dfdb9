"""Requests of the policy side: re-authorise credits, change rules and monitors (rpc.md 2)."""

from functools import partial

import pytest

from sessiond.core.charging import ReAuth, Service
from sessiond.core.credit import Report
from sessiond.core.decide import reauth
from sessiond.core.decide.reauth import PolicyChange, ReAuthResult
from sessiond.core.effects import ActivateFlows, DeactivateFlows, VersionedRule
from sessiond.core.errors import NotFound
from sessiond.core.monitors import Level, MonitorAction
from sessiond.core.session import Revalidation, RevalidationState
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    free,
    grant,
    monitor_grant,
    ocs,
    situation,
    started,
    static,
)


def two_credits() -> Life:
    """Return a session with two credits and a rule for each."""
    return started(
        situation(ocs("rule1", 1), ocs("rule2", 2), free("rule3")),
        credits_=[grant("1", 1500), grant("2", 1024)],
        installs=static("rule1", "rule2"),
    )


def one(life: Life, key: str = "1") -> ReAuthResult:
    """Have one credit re-authorised."""
    return life.decide(partial(reauth.reauthorise_credit, key=key))


class TestOneCredit:
    """ChargingReAuth of a single service."""

    def test_it_reports_only_what_is_new(self) -> None:
        """While a report is in flight nothing is needed; after it only the usage since then is reported.

        reference: SessionStateTest.test_reauth_key.
        """
        life = two_credits()
        life.use("rule1", 1000, 500)
        life.collect()
        assert one(life) is ReAuthResult.UPDATE_NOT_NEEDED
        life.answered(grant("1", 1024))
        assert one(life) is ReAuthResult.UPDATE_INITIATED
        life.use("rule1", 1002, 501)
        life.collect()
        report = life.credit().in_flight
        assert report is not None
        assert (report.tx, report.rx, report.reason) == (2, 1, "REAUTH_REQUIRED")
        assert life.credit().reauth is ReAuth.PROCESSING

    def test_an_unknown_credit_begins_without_service(self) -> None:
        """A credit never heard of is asked for with the next table, and knows no validity time (known problem G8)."""
        life = two_credits()
        assert one(life, "9/3") is ReAuthResult.UPDATE_INITIATED
        new = life.credit("9/3")
        assert (new.service, new.reauth, new.expires_at_ms) == (Service.DISABLED, ReAuth.REQUIRED, None)

    def test_twice_before_the_table(self) -> None:
        """A second request before the report went out asks for nothing more."""
        life = two_credits()
        one(life)
        before = life.session
        assert one(life) is ReAuthResult.UPDATE_INITIATED
        assert life.session == before

    def test_a_service_is_not_its_rating_group(self) -> None:
        """Only the credit that is named is re-authorised (known problem G4)."""
        life = started(situation(), credits_=[grant("1"), grant("1/7")])
        one(life, "1/7")
        assert (life.credit("1").reauth, life.credit("1/7").reauth) == (ReAuth.NOT_NEEDED, ReAuth.REQUIRED)


class TestAllCredits:
    """ChargingReAuth of the entire session."""

    def test_every_idle_credit(self) -> None:
        """All credits that are not being reported; none if all are; reference: SessionStateTest.test_reauth_all."""
        life = two_credits()
        life.use("rule1", 1500)
        life.collect()
        assert life.decide(reauth.reauthorise_all) is ReAuthResult.UPDATE_INITIATED
        assert [charge.reauth for charge in life.session.credits.values()] == [ReAuth.NOT_NEEDED, ReAuth.REQUIRED]
        life.collect()
        assert life.credit("2").in_flight == Report(2, 0, 0, "REAUTH_REQUIRED")
        assert life.decide(reauth.reauthorise_all) is ReAuthResult.UPDATE_NOT_NEEDED

    def test_without_credits(self) -> None:
        """A session without credits needs no update."""
        assert started(situation()).decide(reauth.reauthorise_all) is ReAuthResult.UPDATE_NOT_NEEDED


@pytest.mark.parametrize("closed", [False, True])
def test_a_session_that_is_over_is_not_found(closed: bool) -> None:
    """Neither credits nor rules of a released session are changed.

    reference: LocalEnforcerTest.test_rar_session_not_found.
    """
    life = two_credits()
    life.release()
    if closed:
        life.final_usage_in()
    before = life.session
    assert one(life) is ReAuthResult.SESSION_NOT_FOUND
    assert one(life, "9") is ReAuthResult.SESSION_NOT_FOUND
    assert life.decide(reauth.reauthorise_all) is ReAuthResult.SESSION_NOT_FOUND
    with pytest.raises(NotFound):
        life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(installs=static("rule3")), life.at))
    assert life.session is before


class TestPolicy:
    """PolicyReAuth."""

    def test_everything_at_once(self) -> None:
        """Monitors, the time to ask again, removals and installs; what nobody knows is named.

        reference: LocalEnforcerTest.test_revalidation_timer_on_rar.
        """
        life = two_credits()
        wanted = PolicyChange(
            remove=("rule1",),
            installs=static("rule3", "unknown"),
            monitors=(monitor_grant("m1", 2048), monitor_grant("whole", 5, level=Level.SESSION_LEVEL)),
            revalidation_at_ms=NOW_MS + 5,
        )
        assert life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at)) == ["unknown"]
        assert life.effects == [
            DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 2),)),
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule3", 1),)),
        ]
        assert (life.monitor("m1").allowed_total, life.gateway.session_monitor) == (2048, "whole")
        assert life.gateway.revalidation == Revalidation(RevalidationState.PENDING, NOW_MS + 5)
        assert life.gateway.request_number == 1

    def test_no_credit_is_asked_for(self) -> None:
        """Rules of a policy request are installed without looking for a credit (rpc.md 2.2)."""
        life = started(situation(ocs("rule9", 9)), online=True)
        wanted = PolicyChange(installs=static("rule9"))
        life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at))
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule9", 1),))]

    def test_a_monitor_in_flight_keeps_its_report(self) -> None:
        """A grant that answers no report adds quota and acknowledges nothing."""
        life = started(
            situation(free("rule1")),
            monitors=[monitor_grant("whole", level=Level.SESSION_LEVEL)],
            installs=static("rule1"),
        )
        life.use("rule1", 1000)
        life.collect()
        wanted = PolicyChange(monitors=(monitor_grant("whole", level=Level.SESSION_LEVEL),))
        life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at))
        assert (life.monitor("whole").allowed_total, life.monitor("whole").reported_tx) == (2000, 0)
        assert life.in_flight() == {1}

    def test_disable(self) -> None:
        """A monitor that is disabled by request reports once more with the next table."""
        life = started(situation(), monitors=[monitor_grant("m1")])
        wanted = PolicyChange(monitors=(monitor_grant("m1", action=MonitorAction.DISABLE),))
        life.decide(lambda draft: reauth.change_policy(draft, wanted, life.at))
        life.collect()
        assert life.monitor("m1").in_flight == Report(1, 0, 0, "USAGE_REPORT", last=True)

    def test_nothing(self) -> None:
        """A request that changes nothing writes nothing."""
        life = two_credits()
        before = life.session
        assert life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(), life.at)) == []
        assert life.session is before
