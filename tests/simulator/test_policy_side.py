"""OCS and PCRF: quotas, accounts that run dry, repeated reports, and the books."""

from typing import Any

import pytest

from sessiond.pb.magma.lte.credit_pb2 import (
    FINITE,
    INFINITE_METERED,
    ChargingCredit,
    CreditUsage,
    RedirectServer,
)
from sessiond.pb.magma.lte.monitoring_pb2 import (
    PCC_RULE_LEVEL,
    REVALIDATION_TIMEOUT,
    SESSION_LEVEL,
    UsageMonitoringCredit,
    UsageMonitorUpdate,
)
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule, ServiceIdentifier
from sessiond.pb.magma.lte.session_context_pb2 import CommonSessionContext
from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    CreditUpdateResponse,
    CreditUsageUpdate,
    SessionTerminateRequest,
    UpdateSessionRequest,
    UsageMonitoringUpdateRequest,
    UsageMonitoringUpdateResponse,
)
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator.policy import PolicySide, Refused
from tests.simulator.scenes import ADDRESS, SUBSCRIBER, simulation

SESSION = f"{SUBSCRIBER}-1"
RULES = "[{id: internet, rating_group: 1}, {id: video, rating_group: 2, monitoring_key: month}, {id: portal}]"


def a_side(quotas: str = "[]", monitors: str = "[]", more: str = "") -> PolicySide:
    """Return a policy side on which everyone has one plan."""
    rules = "static_rules: [internet], dynamic_rules: [video]"
    plan = f"{{name: only, {rules}, quotas: {quotas}, monitors: {monitors} {more}}}"
    return PolicySide(simulation(rules=RULES, plans=f"[{plan}]", subscribers="{others: only}"))


def create(side: PolicySide, session: str = SESSION) -> CreateSessionResponse:
    """Open a session."""
    common = CommonSessionContext(sid=SubscriberID(id=SUBSCRIBER), ue_ipv4=ADDRESS, apn="magma.ipv4")
    return side.create(CreateSessionRequest(session_id=session, common_context=common))


def charge(
    side: PolicySide, number: int, tx: int, rx: int = 0, session: str = SESSION, **usage: Any
) -> CreditUpdateResponse:
    """Report usage of rating group 1 and return the answer."""
    report = CreditUsageUpdate(
        session_id=session,
        request_number=number,
        usage=CreditUsage(bytes_tx=tx, bytes_rx=rx, **{"charging_key": 1, **usage}),
        common_context=CommonSessionContext(sid=SubscriberID(id=SUBSCRIBER)),
    )
    (answer,) = side.update(UpdateSessionRequest(updates=[report])).responses
    return answer


def watch(side: PolicySide, number: int, tx: int, key: bytes = b"month") -> UsageMonitoringUpdateResponse:
    """Report usage under a monitoring key and return the answer."""
    report = UsageMonitoringUpdateRequest(
        session_id=SESSION,
        request_number=number,
        sid=SUBSCRIBER,
        update=UsageMonitorUpdate(monitoring_key=key, bytes_tx=tx),
    )
    (answer,) = side.update(UpdateSessionRequest(usage_monitors=[report])).usage_monitor_responses
    return answer


def granted(answer: CreditUpdateResponse) -> tuple[int, bool]:
    """Return the volume of a grant and whether it is the last."""
    assert answer.credit.granted_units.total.is_valid
    return answer.credit.granted_units.total.volume, answer.credit.is_final


def test_a_session_gets_its_plan() -> None:
    """The first answer names the static rules, sends the dynamic ones whole, and grants the first quota."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, validity_s: 60}]", "[{key: month, grant_bytes: 500}]")
    answer = create(side)
    assert (answer.session_id, answer.online) == (SESSION, True)
    assert [install.rule_id for install in answer.static_rules] == ["internet"]
    (dynamic,) = [install.policy_rule for install in answer.dynamic_rules]
    assert (dynamic.id, dynamic.rating_group, dynamic.monitoring_key) == ("video", 2, b"month")
    assert dynamic.tracking_type == PolicyRule.OCS_AND_PCRF
    (credit,) = answer.credits
    assert (credit.success, credit.sid, credit.session_id, credit.charging_key) == (True, SUBSCRIBER, SESSION, 1)
    assert (granted(credit), credit.credit.validity_time, credit.limit_type) == ((1000, False), 60, FINITE)
    (monitor,) = answer.usage_monitors
    assert (monitor.success, monitor.credit.monitoring_key, monitor.credit.level) == (True, b"month", PCC_RULE_LEVEL)
    assert monitor.credit.granted_units.total.volume == 500
    assert answer.tgpp_ctx.gy_dest_host


def test_a_repeated_creation_gets_the_same_answer() -> None:
    """A create whose answer was lost does not grant twice."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, total_bytes: 1500}]")
    assert create(side) == create(side)
    assert side.sessions[SESSION].credits["1"].granted == 1000


def test_a_plan_can_refuse_the_session() -> None:
    """A failure code on the plan is what the PCRF would say to everyone."""
    with pytest.raises(Refused, match="5003"):
        create(a_side(more=", failure_code: 5003"))


def test_who_has_no_plan_is_refused() -> None:
    """Without a plan for others, only the listed subscribers get sessions."""
    side = PolicySide(simulation(plans="[{name: a}]"))
    with pytest.raises(Refused, match="5030"):
        create(side)


def test_a_quota_is_refilled_without_end() -> None:
    """An account without total grants the same again in each answer."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000}]")
    create(side)
    assert [granted(charge(side, number, 800)) for number in (1, 2, 3)] == [(1000, False)] * 3
    meter = side.sessions[SESSION].credits["1"]
    assert (meter.reported_tx, meter.granted) == (2400, 4000)


def test_the_last_of_an_account_is_a_final_unit() -> None:
    """Grants never add up to more than the account has; the one that empties it says what follows."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, total_bytes: 2500}]")
    assert granted(create(side).credits[0]) == (1000, False)
    assert granted(charge(side, 1, 800)) == (1000, False)
    last = charge(side, 2, 900)
    assert granted(last) == (500, True)
    assert last.credit.final_action == ChargingCredit.TERMINATE


def test_over_use_counts_on_the_account() -> None:
    """What was used beyond the grant is gone for the next one, as the gateway writes it off too."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, total_bytes: 2500}]")
    create(side)
    assert granted(charge(side, 1, 2200)) == (300, True)
    assert granted(charge(side, 2, 900)) == (0, True)


def test_an_account_smaller_than_a_grant_is_final_at_once() -> None:
    """The first answer is the final unit if there is no more."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, total_bytes: 400}]")
    assert granted(create(side).credits[0]) == (400, True)


def test_dry_redirects() -> None:
    """The final unit carries the address to redirect to."""
    dry = "{action: redirect, url: 'http://portal.example/'}"
    side = a_side(f"[{{rating_group: 1, grant_bytes: 1000, total_bytes: 1000, when_dry: {dry}}}]")
    credit = create(side).credits[0].credit
    assert (credit.is_final, credit.final_action) == (True, ChargingCredit.REDIRECT)
    assert credit.redirect_server == RedirectServer(
        redirect_address_type=RedirectServer.URL, redirect_server_address="http://portal.example/"
    )


def test_dry_restricts() -> None:
    """The final unit names the rules that remain."""
    dry = "{action: restrict, rules: [portal]}"
    side = a_side(f"[{{rating_group: 1, grant_bytes: 1000, total_bytes: 1000, when_dry: {dry}}}]")
    credit = create(side).credits[0].credit
    assert (credit.final_action, list(credit.restrict_rules)) == (ChargingCredit.RESTRICT_ACCESS, ["portal"])


def test_dry_refuses() -> None:
    """Without a final unit an empty account is refused with its result code; until then it grants what it has."""
    side = a_side(
        "[{rating_group: 1, grant_bytes: 1000, total_bytes: 1500, when_dry: {action: refuse, result_code: 4012}}]"
    )
    create(side)
    assert granted(charge(side, 1, 800)) == (500, False)
    answer = charge(side, 2, 700)
    assert (answer.success, answer.result_code) == (False, 4012)
    assert side.sessions[SESSION].credits["1"].reported_tx == 1500


def test_a_quota_can_be_refused_from_the_start() -> None:
    """A failure code on a quota is all that is said about it."""
    answer = create(a_side("[{rating_group: 1, failure_code: 5031}]")).credits[0]
    assert (answer.success, answer.result_code, answer.credit.granted_units.total.is_valid) == (False, 5031, False)


def test_an_infinite_quota_has_no_grant() -> None:
    """The limit type says that it cannot run out."""
    side = a_side("[{rating_group: 1, limit: infinite_metered}]")
    credit = create(side).credits[0]
    assert (credit.limit_type, credit.credit.HasField("granted_units")) == (INFINITE_METERED, False)
    assert charge(side, 1, 10**12).limit_type == INFINITE_METERED
    assert side.sessions[SESSION].credits["1"].unlimited


def test_a_service_within_a_rating_group_has_its_own_quota() -> None:
    """Reports with a service identifier find the quota of that service."""
    side = a_side("[{rating_group: 1, grant_bytes: 10}, {rating_group: 1, service_identifier: 7, grant_bytes: 20}]")
    create(side)
    answer = charge(side, 1, 5, service_identifier=ServiceIdentifier(value=7))
    assert (granted(answer), answer.service_identifier.value) == ((20, False), 7)
    assert {key: meter.reported_tx for key, meter in side.sessions[SESSION].credits.items()} == {"1": 0, "1/7": 5}


def test_a_repeated_report_is_counted_once() -> None:
    """The same session, number and key get the same answer again, and it is noted that they came again."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, total_bytes: 2500}]")
    create(side)
    assert charge(side, 1, 800) == charge(side, 1, 800)
    books = side.sessions[SESSION]
    assert (books.credits["1"].reported_tx, books.credits["1"].granted, books.repeats) == (800, 2000, 1)


def test_the_same_number_under_another_key_is_another_report() -> None:
    """All reports of one session and moment share a number."""
    side = a_side("[{rating_group: 1, grant_bytes: 10}, {rating_group: 2, grant_bytes: 10}]")
    create(side)
    charge(side, 1, 5)
    charge(side, 1, 6, charging_key=2)
    books = side.sessions[SESSION]
    assert ({key: meter.reported_tx for key, meter in books.credits.items()}, books.repeats) == ({"1": 5, "2": 6}, 0)


def test_usage_of_a_group_that_nobody_granted_is_refused() -> None:
    """A rating group outside the plan cannot be rated; the session names it again when it ends."""
    side = a_side()
    create(side)
    answer = charge(side, 1, 5, charging_key=9)
    assert (answer.success, answer.result_code, answer.session_id) == (False, 5031, SESSION)
    side.terminate(SessionTerminateRequest(session_id=SESSION, credit_usages=[CreditUsage(charging_key=9, bytes_tx=5)]))
    assert side.sessions[SESSION].credits["9"].reported_tx == 5


def test_a_permanent_failure_has_not_taken_the_usage() -> None:
    """With a result code of 5xxx the report was not accepted, so that it may come again."""
    dry = "{action: refuse, result_code: 5003}"
    side = a_side(f"[{{rating_group: 1, grant_bytes: 1000, total_bytes: 1000, when_dry: {dry}}}]")
    create(side)
    answer = charge(side, 1, 1000)
    assert (answer.success, answer.result_code) == (False, 5003)
    assert side.sessions[SESSION].credits["1"].reported_tx == 0


def test_usage_of_an_unknown_session_is_refused() -> None:
    """As a server that has lost the session would: result code 5002, with the session named."""
    answer = charge(a_side(), 1, 5)
    assert (answer.success, answer.result_code, answer.session_id, answer.sid) == (False, 5002, SESSION, SUBSCRIBER)
    monitor = watch(a_side(), 1, 5)
    assert (monitor.success, monitor.result_code, monitor.session_id) == (False, 5002, SESSION)


def test_two_sessions_share_the_account_of_their_subscriber() -> None:
    """What one session holds, the other cannot get; what it gives back at its end, the other can."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000, total_bytes: 1500}]")
    create(side)
    other = f"{SUBSCRIBER}-2"
    assert granted(create(side, other).credits[0]) == (500, True)
    side.terminate(
        SessionTerminateRequest(session_id=SESSION, credit_usages=[CreditUsage(charging_key=1, bytes_tx=100)])
    )
    assert granted(charge(side, 1, 400, session=other)) == (900, True)


def test_a_monitor_is_refilled_and_runs_out() -> None:
    """The PCRF grants until the total is given out, then nothing, which ends the monitor."""
    side = a_side(monitors="[{key: month, grant_bytes: 500, total_bytes: 700}]")
    create(side)
    assert watch(side, 1, 400).credit.granted_units.total.volume == 200
    assert not side.sessions[SESSION].monitors["month"].ended
    last = watch(side, 2, 300).credit
    assert (last.granted_units.total.is_valid, last.granted_units.total.volume) == (True, 0)
    assert side.sessions[SESSION].monitors["month"].ended


def test_a_monitor_of_the_session_says_so() -> None:
    """The level is in the answer, and in the books for the balance."""
    side = a_side(monitors="[{key: all, level: session, grant_bytes: 500}]")
    assert create(side).usage_monitors[0].credit.level == SESSION_LEVEL
    assert side.sessions[SESSION].session_monitors == {"all"}


def test_a_repeated_monitoring_report_is_counted_once() -> None:
    """As with charging."""
    side = a_side(monitors="[{key: month, grant_bytes: 500}]")
    create(side)
    assert watch(side, 1, 400) == watch(side, 1, 400)
    books = side.sessions[SESSION]
    assert (books.monitors["month"].reported_tx, books.repeats) == (400, 1)


def test_a_key_that_nobody_watches_is_disabled() -> None:
    """The gateway is told to stop watching it."""
    side = a_side()
    create(side)
    assert watch(side, 1, 5, b"other").credit.action == UsageMonitoringCredit.DISABLE


def test_a_question_about_rules_is_answered_without_a_quota() -> None:
    """A revalidation changes nothing."""
    side = a_side()
    create(side)
    asked = UsageMonitoringUpdateRequest(
        session_id=SESSION, request_number=1, sid=SUBSCRIBER, event_trigger=REVALIDATION_TIMEOUT
    )
    (answer,) = side.update(UpdateSessionRequest(usage_monitors=[asked])).usage_monitor_responses
    assert (answer.success, answer.HasField("credit"), answer.session_id) == (True, False, SESSION)


def test_the_last_usage_is_booked() -> None:
    """The end of a session brings the rest of all its accounts."""
    side = a_side("[{rating_group: 1, grant_bytes: 1000}]", "[{key: month, grant_bytes: 500}]")
    create(side)
    charge(side, 1, 800)
    request = SessionTerminateRequest(
        session_id=SESSION,
        common_context=CommonSessionContext(sid=SubscriberID(id=SUBSCRIBER)),
        credit_usages=[CreditUsage(charging_key=1, bytes_tx=50, bytes_rx=70)],
        monitor_usages=[UsageMonitorUpdate(monitoring_key=b"month", bytes_rx=30)],
    )
    answer = side.terminate(request)
    assert (answer.sid, answer.session_id) == (SUBSCRIBER, SESSION)
    side.terminate(request)
    books = side.sessions[SESSION]
    assert (books.terminated, books.updates, books.repeats) == (True, 1, 1)
    assert (books.credits["1"].reported_tx, books.credits["1"].reported_rx) == (850, 70)
    assert (books.monitors["month"].reported_tx, books.monitors["month"].reported_rx) == (0, 30)


def test_the_end_of_an_unknown_session_is_answered() -> None:
    """session_proxy always says OK to the end of a session (southbound.md 1.5)."""
    answer = a_side().terminate(SessionTerminateRequest(session_id=SESSION))
    assert answer.session_id == SESSION
