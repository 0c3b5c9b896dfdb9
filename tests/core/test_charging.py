"""Charging credits: the decision tables of credit.md sections 5 and 6."""

from itertools import product
from typing import Any

import msgspec
import pytest

from sessiond.core import charging, credit
from sessiond.core.charging import (
    Action,
    ChargingCredit,
    CreditAnswer,
    FinalAction,
    ReAuth,
    RedirectServer,
    Service,
    UpdateReason,
    Verdict,
)
from sessiond.core.credit import CreditLimit, Report, Tracking
from sessiond.core.quantity import GrantedUnits, RequestedUnits, Volume
from sessiond.core.update import applied
from tests.core.builders import NOW_MS, failure, grant, redirect_grant, restrict_grant, terminate_grant

IN_FLIGHT = Report(4, 1000, 1000, UpdateReason.QUOTA_EXHAUSTED)


def of(*answers: CreditAnswer, used: int = 0, **fields: Any) -> ChargingCredit:
    """Return a credit that these answers made, of which something is used."""
    first, *others = answers
    current = charging.opened(first, NOW_MS)
    current = applied(current, credit.used(current, used, 0, NOW_MS // 1000))
    for answer in others:
        current = after(current, answer, taken=False)
    return msgspec.structs.replace(current, **fields)


def after(current: ChargingCredit, answer: CreditAnswer, *, taken: bool = True) -> ChargingCredit:
    """Return a credit after an answer."""
    after: ChargingCredit = applied(current, charging.answered(current, answer, NOW_MS, taken=taken, terminates=True))
    return after


class TestVerdict:
    """Validity of an answer, credit.md section 5."""

    @pytest.mark.parametrize(
        ("answer", "verdict"),
        [
            (failure(5000), Verdict.INVALID),
            (failure(5999), Verdict.INVALID),
            (failure(4000), Verdict.TRANSIENT),
            (failure(4999), Verdict.TRANSIENT),
            (failure(0), Verdict.INVALID),
            (failure(3999), Verdict.INVALID),
            (failure(6000), Verdict.INVALID),
            (failure(4012, limit=CreditLimit.INFINITE_METERED), Verdict.TRANSIENT),
            (failure(5030, limit=CreditLimit.INFINITE_METERED), Verdict.INVALID),
            (grant(total=None, limit=CreditLimit.INFINITE_METERED), Verdict.VALID),
            (grant(total=None, limit=CreditLimit.INFINITE_UNMETERED), Verdict.VALID),
            (grant(total=None), Verdict.INVALID),
            (grant(total=0), Verdict.VALID),
            (grant(granted=GrantedUnits(rx=0)), Verdict.VALID),
            (terminate_grant(total=None), Verdict.VALID),
            (failure(4012, is_final=True), Verdict.TRANSIENT),
            (grant(result_code=4012), Verdict.VALID),
        ],
    )
    def test_how_an_answer_is_taken(self, answer: CreditAnswer, verdict: Verdict) -> None:
        """The result code comes first, then whether the answer grants anything.

        reference: SessionStateTest.test_empty_gsu_credit_grant, LocalEnforcerTest.test_init_no_credit.
        """
        assert charging.verdict(answer) is verdict


class TestOpened:
    """The first answer for a credit."""

    def test_a_grant_opens_a_credit(self) -> None:
        """What is granted is allowed; without a validity time it holds for ever."""
        new = charging.opened(grant(total=1024), NOW_MS)
        assert (new.allowed_total, new.expires_at_ms, new.service) == (1024, None, Service.ENABLED)

    def test_a_validity_time_counts_from_now(self) -> None:
        """A credit is valid for as long as the answer says."""
        assert charging.opened(grant(validity_ms=32_000), NOW_MS).expires_at_ms == NOW_MS + 32_000

    def test_a_limit_is_kept(self) -> None:
        """An infinite credit needs no quota; reference: LocalEnforcerTest.test_init_infinite_metered_credit."""
        new = charging.opened(grant(total=None, limit=CreditLimit.INFINITE_METERED), NOW_MS)
        assert (new.limit, new.allowed_total) == (CreditLimit.INFINITE_METERED, 0)

    def test_a_redirect_server_is_kept(self) -> None:
        """A final unit brings its server; reference: SessionStateTest.test_final_credit_redirect_install."""
        new = charging.opened(redirect_grant(), NOW_MS)
        assert (new.is_final, new.final_action) == (True, FinalAction.REDIRECT)
        assert new.redirect == RedirectServer("URL", "http://portal.test/top-up")

    def test_restrict_rules_are_kept(self) -> None:
        """A final unit brings its rules; reference: SessionStateTest.test_final_restrict_credit_install."""
        new = charging.opened(restrict_grant("restrict-1"), NOW_MS)
        assert (new.final_action, new.restrict_rules) == (FinalAction.RESTRICT_ACCESS, ("restrict-1",))

    def test_a_final_unit_of_nothing(self) -> None:
        """A final grant of zero settles no leg, and any use ends it.

        reference: SessionStateTest.test_zero_gsu_credit_grant.
        """
        new = of(terminate_grant(granted=GrantedUnits(0, 0, 0)), used=100)
        assert (new.tracking, charging.should_deactivate(new, terminates=True)) == (Tracking.UNSET, True)


class TestAnswered:
    """An answer for a credit that is known."""

    def test_a_valid_answer_takes_the_report(self) -> None:
        """What was in flight is reported, and the grant is added."""
        new = after(of(grant(), used=2000, in_flight=Report(4, 2000, 0, "")), grant())
        assert (new.reported_tx, new.in_flight, new.allowed_total) == (2000, None, 3000)

    @pytest.mark.parametrize("code", [4000, 4012, 4999])
    def test_a_transient_failure_takes_the_report(self, code: int) -> None:
        """The usage is known to the OCS although it grants nothing now."""
        new = after(of(grant(), used=2000, in_flight=Report(4, 2000, 0, "")), failure(code))
        assert (new.reported_tx, new.in_flight) == (2000, None)

    @pytest.mark.parametrize("answer", [failure(0), failure(3001), grant(total=None)])
    def test_an_invalid_answer_does_not_take_the_report(self, answer: CreditAnswer) -> None:
        """Usage that the OCS did not take is unreported again, and nothing of the answer is applied."""
        new = after(of(grant(validity_ms=5), used=2000, in_flight=Report(4, 2000, 0, "")), answer)
        assert (new.reported_tx, new.in_flight, credit.unreported(new)) == (0, None, Volume(2000, 0))
        assert (new.granted, new.expires_at_ms) == (GrantedUnits(1000), NOW_MS + 5)

    def test_an_answer_to_another_request_leaves_the_report_in_flight(self) -> None:
        """A grant that does not answer the report adds quota and acknowledges nothing."""
        new = after(of(grant(), used=2000, in_flight=Report(4, 2000, 0, "")), grant(), taken=False)
        assert (new.reported_tx, new.in_flight, new.allowed_total) == (0, Report(4, 2000, 0, ""), 3000)

    def test_an_earlier_final_unit_is_forgotten_but_for_its_details(self) -> None:
        """The next grant decides anew whether it is final; server and rules of an earlier one are kept."""
        new = after(of(redirect_grant()), grant())
        assert (new.is_final, new.redirect) == (False, RedirectServer("URL", "http://portal.test/top-up"))
        again = after(new, terminate_grant())
        assert (again.final_action, again.redirect) == (FinalAction.TERMINATE, new.redirect)

    @pytest.mark.parametrize("answer", [grant(), failure(4012)])
    def test_re_authorisation_ends_with_the_answer(self, answer: CreditAnswer) -> None:
        """An answer that is not invalid settles a re-authorisation.

        reference: SessionStateTest.test_reauth_new_key.
        """
        assert after(of(grant(), reauth=ReAuth.PROCESSING), answer).reauth is ReAuth.NOT_NEEDED

    @pytest.mark.parametrize("reauth", [ReAuth.REQUIRED, ReAuth.NOT_NEEDED])
    def test_a_re_authorisation_not_yet_sent_stays(self, reauth: ReAuth) -> None:
        """An answer to something else does not settle a re-authorisation that is still to be reported."""
        assert after(of(grant(), reauth=reauth), grant()).reauth is reauth

    @pytest.mark.parametrize("service", [service for service in Service if service is not Service.ENABLED])
    def test_new_quota_brings_service_again(self, service: Service) -> None:
        """A service that was held back is to be activated when there is quota."""
        assert after(of(grant(), used=2000, service=service), grant()).service is Service.NEEDS_ACTIVATION

    @pytest.mark.parametrize("service", list(Service))
    def test_no_quota_brings_no_service(self, service: Service) -> None:
        """A grant of zero leaves the service as it is.

        reference: LocalEnforcerTest.test_no_credit_reauth_with_redirected_suspended_credit.
        """
        assert after(of(grant(), used=2000, service=service), grant(total=0)).service is service

    @pytest.mark.parametrize("service", list(Service))
    def test_a_transient_failure_brings_no_service(self, service: Service) -> None:
        """A service that is to be suspended is not activated in the same breath, whatever is left of its quota."""
        assert after(of(grant(), used=10, service=service), failure(4012)).service is service

    def test_a_final_unit_that_is_used_up_already(self) -> None:
        """Over-used credit, then a final grant of zero: the report is taken and the service ends at once.

        reference: SessionStateTest.test_multiple_final_action_empty_grant.
        """
        current = of(grant(granted=GrantedUnits(3000, 2000, 2000)), used=4000, in_flight=Report(1, 4000, 0, ""))
        new = after(current, terminate_grant(granted=GrantedUnits(0, 0, 0)))
        assert (new.reported_tx, new.service) == (4000, Service.NEEDS_DEACTIVATION)

    def test_a_final_unit_of_zero_ends_a_redirected_service(self) -> None:
        """A redirected credit that gets TERMINATE and no quota ends.

        reference: LocalEnforcerTest.test_terminate_credit_reauth_with_redirected_suspended_credit.
        """
        current = of(redirect_grant(), used=1000, service=Service.REDIRECTED)
        assert after(current, terminate_grant(total=0)).service is Service.NEEDS_DEACTIVATION


class TestShouldDeactivate:
    """When a final action is to be taken, credit.md section 5.2."""

    @pytest.mark.parametrize(
        ("answer", "used", "terminates", "expected"),
        [
            (terminate_grant(), 1000, True, True),
            (terminate_grant(), 999, True, False),
            (terminate_grant(), 1000, False, False),
            (grant(), 1000, True, False),
            (redirect_grant(), 1000, False, True),
            (redirect_grant(), 999, True, False),
            (restrict_grant("r"), 1000, False, True),
        ],
    )
    def test_a_used_up_final_unit(self, answer: CreditAnswer, used: int, terminates: bool, expected: bool) -> None:
        """Only a final unit that is used up ends service; TERMINATE only if the operator wants it.

        reference: ChargingGrantTest.test_should_deactivate_service.
        """
        assert charging.should_deactivate(of(answer, used=used), terminates=terminates) is expected

    @pytest.mark.parametrize("service", list(Service))
    def test_terminate_repeats_and_the_others_do_not(self, service: Service) -> None:
        """Redirection and restriction are for a service that is enabled; TERMINATE holds in any state."""
        terminate = of(terminate_grant(), used=1000, service=service)
        redirect = of(redirect_grant(), used=1000, service=service)
        assert charging.should_deactivate(terminate, terminates=True)
        assert charging.should_deactivate(redirect, terminates=True) is (service is Service.ENABLED)


FINAL = {action: msgspec.structs.replace(terminate_grant(), final_action=action) for action in FinalAction}


class TestAction:
    """What is to be done about the traffic of a credit, credit.md section 6."""

    @pytest.mark.parametrize(
        ("answer", "service", "expected"),
        [
            (grant(), Service.NEEDS_ACTIVATION, (Action.ACTIVATE, Service.ENABLED)),
            (FINAL[FinalAction.REDIRECT], Service.NEEDS_ACTIVATION, (Action.ACTIVATE, Service.ENABLED)),
            (grant(), Service.NEEDS_DEACTIVATION, (Action.TERMINATE, Service.DISABLED)),
            (FINAL[FinalAction.TERMINATE], Service.NEEDS_DEACTIVATION, (Action.TERMINATE, Service.DISABLED)),
            (FINAL[FinalAction.REDIRECT], Service.NEEDS_DEACTIVATION, (Action.REDIRECT, Service.REDIRECTED)),
            (
                FINAL[FinalAction.RESTRICT_ACCESS],
                Service.NEEDS_DEACTIVATION,
                (Action.RESTRICT_ACCESS, Service.RESTRICTED),
            ),
            (grant(), Service.NEEDS_SUSPENSION, (Action.CONTINUE, Service.DISABLED)),
            (FINAL[FinalAction.TERMINATE], Service.NEEDS_SUSPENSION, (Action.CONTINUE, Service.DISABLED)),
            (FINAL[FinalAction.REDIRECT], Service.NEEDS_SUSPENSION, (Action.REDIRECT, Service.REDIRECTED)),
            (
                FINAL[FinalAction.RESTRICT_ACCESS],
                Service.NEEDS_SUSPENSION,
                (Action.RESTRICT_ACCESS, Service.RESTRICTED),
            ),
        ],
    )
    def test_what_a_state_asks_for(
        self, answer: CreditAnswer, service: Service, expected: tuple[Action, Service]
    ) -> None:
        """Each pending state has its action and the state after it.

        reference: ChargingGrantTest.test_get_action, test_get_action_redirect, test_get_action_restrict.
        """
        assert charging.action(of(answer, service=service)) == expected

    @pytest.mark.parametrize(("action", "service"), list(product(FinalAction, Service)))
    def test_an_action_is_taken_once(self, action: FinalAction, service: Service) -> None:
        """After an action the state asks for nothing more."""
        current = of(FINAL[action], service=service)
        _, settled = charging.action(current)
        assert charging.action(msgspec.structs.replace(current, service=settled)) == (Action.CONTINUE, settled)


class TestDue:
    """Which update is due, credit.md section 6: the first that applies."""

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({}, UpdateReason.QUOTA_EXHAUSTED),
            ({"in_flight": IN_FLIGHT}, None),
            ({"in_flight": IN_FLIGHT, "reauth": ReAuth.REQUIRED}, None),
            ({"in_flight": IN_FLIGHT, "expires_at_ms": 1}, None),
            ({"is_final": True}, None),
            ({"reauth": ReAuth.REQUIRED, "is_final": True}, UpdateReason.REAUTH_REQUIRED),
            ({"reauth": ReAuth.REQUIRED, "expires_at_ms": 1}, UpdateReason.REAUTH_REQUIRED),
            ({"reauth": ReAuth.PROCESSING}, UpdateReason.QUOTA_EXHAUSTED),
            ({"expires_at_ms": NOW_MS}, UpdateReason.VALIDITY_TIMER_EXPIRED),
            ({"expires_at_ms": NOW_MS - 50_000, "is_final": True}, UpdateReason.VALIDITY_TIMER_EXPIRED),
            ({"expires_at_ms": NOW_MS, "suspended": True}, UpdateReason.VALIDITY_TIMER_EXPIRED),
            ({"expires_at_ms": NOW_MS + 1}, UpdateReason.QUOTA_EXHAUSTED),
            ({"suspended": True}, None),
            ({"suspended": True, "reauth": ReAuth.REQUIRED}, UpdateReason.REAUTH_REQUIRED),
            ({"limit": CreditLimit.INFINITE_METERED}, None),
            ({"limit": CreditLimit.INFINITE_METERED, "expires_at_ms": 1}, UpdateReason.VALIDITY_TIMER_EXPIRED),
        ],
    )
    def test_the_order_of_reasons(self, fields: dict[str, Any], reason: UpdateReason | None) -> None:
        """In flight, re-authorisation, validity, final, exhaustion.

        reference: ChargingGrantTest.test_get_update_type.
        """
        assert charging.due(of(grant(), used=2000, **fields), NOW_MS, 0.8) is reason

    def test_nothing_is_due_below_the_threshold(self) -> None:
        """Less than 80 percent of a grant is reported to nobody."""
        assert charging.due(of(grant(), used=799), NOW_MS, 0.8) is None
        assert charging.due(of(grant(), used=799), NOW_MS, 0.7) is UpdateReason.QUOTA_EXHAUSTED


class TestEmptyAnswers:
    """An OCS that has nothing to give is not asked with every table (known problem G7)."""

    def asked(self, times: int, used: int = 2000) -> ChargingCredit:
        """Return a credit that was asked for and got nothing so many times in a row."""
        current = of(grant(), used=used)
        for _ in range(times):
            current = after(current, grant(total=0))
        return current

    @pytest.mark.parametrize(
        ("times", "pause_ms"), [(1, 0), (2, 4000), (3, 8000), (4, 16_000), (6, 60_000), (50, 60_000)]
    )
    def test_it_is_asked_later_and_later(self, times: int, pause_ms: int) -> None:
        """From the second answer on there is a pause, which doubles up to a minute."""
        current = self.asked(times)
        assert current.ask_again_at_ms == NOW_MS + pause_ms
        assert charging.due(current, NOW_MS + pause_ms, 0.8) is UpdateReason.QUOTA_EXHAUSTED
        assert charging.due(current, current.ask_again_at_ms - 1, 0.8) is None

    def test_it_is_not_asked_if_nothing_new_was_used(self) -> None:
        """Without traffic there is nothing to report and nothing to ask for."""
        current = msgspec.structs.replace(self.asked(1), reported_tx=2000)
        assert charging.due(current, NOW_MS + 10**9, 0.8) is None
        assert charging.due(msgspec.structs.replace(current, used_tx=2001), NOW_MS, 0.8) is not None

    @pytest.mark.parametrize("reason", [{"reauth": ReAuth.REQUIRED}, {"expires_at_ms": NOW_MS}])
    def test_other_reasons_do_not_wait(self, reason: dict[str, Any]) -> None:
        """A re-authorisation or the end of the validity is reported at once."""
        assert charging.due(msgspec.structs.replace(self.asked(9), **reason), NOW_MS, 0.8) is not None

    @pytest.mark.parametrize(
        "answer", [grant(), grant(granted=GrantedUnits(0, 5)), terminate_grant(total=0), failure(4012, is_final=True)]
    )
    def test_any_other_answer_ends_the_pause(self, answer: CreditAnswer) -> None:
        """Quota on any leg, or a final unit, is an answer: the count begins anew."""
        assert after(self.asked(5), answer).empty_answers == 0

    @pytest.mark.parametrize("answer", [failure(0), failure(3002), grant(total=None)])
    def test_an_answer_that_is_none_leaves_it(self, answer: CreditAnswer) -> None:
        """A rejection says nothing about quota."""
        assert after(self.asked(5), answer).empty_answers == 5


class TestWithoutQuota:
    """A credit that is used up while the OCS is silent (known problem G6)."""

    @pytest.mark.parametrize(
        ("current", "grace_ms", "block_at_ms"),
        [
            (of(grant(), used=1000), 3000, NOW_MS + 3000),
            (of(grant(), used=999), 3000, 0),
            (of(grant(), used=1000), 0, 0),
            (of(terminate_grant(), used=1000), 3000, 0),
            (of(grant(), used=1000, block_at_ms=7), 3000, 7),
            (of(grant(limit=CreditLimit.INFINITE_METERED), used=1000), 3000, 0),
        ],
    )
    def test_it_is_blocked_after_a_while(self, current: ChargingCredit, grace_ms: int, block_at_ms: int) -> None:
        """The time counts from when the last octet was used; 0 is never; a final unit has its own action."""
        assert applied(current, charging.without_quota(current, NOW_MS, grace_ms)).block_at_ms == block_at_ms

    @pytest.mark.parametrize(
        ("answer", "block_at_ms"),
        [(grant(), 0), (redirect_grant(total=0), 0), (grant(total=0), 7), (failure(4012), 7)],
    )
    def test_quota_or_a_final_unit_ends_the_wait(self, answer: CreditAnswer, block_at_ms: int) -> None:
        """An answer with quota, or with an action of its own, takes the block away; one with nothing does not."""
        assert after(of(grant(), used=1000, block_at_ms=7), answer).block_at_ms == block_at_ms


@pytest.mark.parametrize(
    ("fields", "held"),
    [
        ({}, False),
        ({"suspended": True}, True),
        ({"blocked": True}, True),
        ({"service": Service.DISABLED}, False),
        ({"service": Service.REDIRECTED}, False),
    ],
)
def test_whose_flows_stay_down(fields: dict[str, Any], held: bool) -> None:
    """Flows of a credit that is suspended or blocked are not brought up; one that is only asked for holds none down."""
    assert charging.held(of(grant(), **fields)) is held


class TestReported:
    """What goes out, and what comes back if it was not carried out."""

    @pytest.mark.parametrize(
        ("answer", "wanted"), [(grant(), RequestedUnits(800)), (terminate_grant(), RequestedUnits())]
    )
    def test_a_final_unit_asks_for_nothing(self, answer: CreditAnswer, wanted: RequestedUnits) -> None:
        """An update asks for what was used of the grant, unless the grant was the last."""
        current = of(answer, used=800)
        new = applied(current, charging.reported(current, 3, UpdateReason.VALIDITY_TIMER_EXPIRED))
        assert new.in_flight == Report(3, 800, 0, "VALIDITY_TIMER_EXPIRED", wanted)

    @pytest.mark.parametrize("reason", list(UpdateReason))
    def test_a_re_authorisation_is_on_its_way(self, reason: UpdateReason) -> None:
        """Only the update that says so begins a re-authorisation."""
        current = of(grant(), reauth=ReAuth.REQUIRED)
        new = applied(current, charging.reported(current, 3, reason))
        expected = ReAuth.PROCESSING if reason is UpdateReason.REAUTH_REQUIRED else ReAuth.REQUIRED
        assert new.reauth is expected

    @pytest.mark.parametrize(
        ("in_flight", "before", "reauth"),
        [
            (IN_FLIGHT, ReAuth.PROCESSING, ReAuth.REQUIRED),
            (IN_FLIGHT, ReAuth.NOT_NEEDED, ReAuth.NOT_NEEDED),
            (None, ReAuth.PROCESSING, ReAuth.PROCESSING),
        ],
    )
    def test_what_was_not_carried_out_is_due_again(
        self, in_flight: Report | None, before: ReAuth, reauth: ReAuth
    ) -> None:
        """Usage is unreported again and a re-authorisation is required again, if they were in flight."""
        current = of(grant(), used=2000, in_flight=in_flight, reauth=before)
        new = applied(current, charging.unanswered(current))
        assert (new.in_flight, new.reauth, new.reported_tx) == (None, reauth, 0)
