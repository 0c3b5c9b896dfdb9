"""What the policy controller is asked and told, and what its answers mean."""

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import structs

from sessiond.app.ports.peers import UsageReport
from sessiond.core.charging import ChargingCredit, CreditAnswer, FinalAction, RedirectServer, UpdateReason
from sessiond.core.credit import Report
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.monitors import Level, Monitor, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, RequestedUnits
from sessiond.core.rules import RuleInstall, Teids
from sessiond.core.session import (
    Context,
    DestinationHosts,
    Gateway,
    Rat,
    Revalidation,
    RevalidationState,
    Session,
    WlanContext,
)
from sessiond.pb.magma.lte import monitoring_pb2, session_proxy_pb2
from sessiond.southbound.policy import messages
from sessiond.translate.rules import policy_rule_from_wire
from tests.southbound import recorded
from tests.southbound.recorded import HOSTS, SUBSCRIBER, content

UPDATED = f"{SUBSCRIBER}-458604"
USAGE_REPORT = "USAGE_REPORT"
MAX_BYTES = 3 * 2**20


def reporting(**changes: Any) -> Session:
    """Return the session of the recorded update: credit 1 in request 3, monitor mk_rule in request 4."""
    charge = ChargingCredit(
        used_tx=50001,
        used_rx=40000,
        in_flight=Report(3, 50001, 40000, UpdateReason.QUOTA_EXHAUSTED, RequestedUnits(total=90001)),
    )
    monitor = Monitor(
        level=Level.PCC_RULE_LEVEL,
        used_tx=50000,
        used_rx=50001,
        in_flight=Report(4, 50000, 50001, USAGE_REPORT),
    )
    return recorded.session(UPDATED, credits={"1": charge}, monitors={"mk_rule": monitor}, **changes)


def report(session: Session, *numbers: int) -> UsageReport:
    """Return a report of the requests of these numbers."""
    return UsageReport(session, frozenset(numbers))


def only(reports: Sequence[UsageReport]) -> session_proxy_pb2.UpdateSessionRequest:
    """Return the one request that carries these reports."""
    ((_, request),) = messages.update_requests(reports, MAX_BYTES)
    return request


def carrier_wifi(session: Session) -> Session:
    """Return the session as it would be over carrier wifi."""
    wlan = WlanContext(mac_addr_binary=b"\x0f\x10\x2e\x12\x3a\x55", mac_addr="0f:10:2e:12:3a:55")
    context = Context(subscriber=SUBSCRIBER, rat=Rat.WLAN, ue_ipv4="10.0.0.9", wlan=wlan)
    return structs.replace(session, context=context)


def test_creation_is_asked_as_recorded() -> None:
    """The question has contexts, units and time zone as the reference sends them."""
    session = recorded.session(f"{SUBSCRIBER}-756521", teids=Teids(), gateway=Gateway())
    request = messages.create_request(session, 10_000_000, 0)
    assert content(request) == content(recorded.request("create", session_proxy_pb2.CreateSessionRequest))
    assert request.HasField("access_timezone")


@pytest.mark.parametrize("minutes", [-570, 60])
def test_time_zone_is_told_in_minutes(minutes: int) -> None:
    """The offset is that of local time, east of UTC."""
    request = messages.create_request(recorded.session("a-1"), 1, minutes)
    assert request.access_timezone.offset_minutes == minutes


def test_time_zone_is_not_told_unless_wanted() -> None:
    """Without an offset the message has no time zone at all."""
    assert not messages.create_request(recorded.session("a-1"), 1, None).HasField("access_timezone")


def test_creation_over_carrier_wifi_has_the_context_of_wifi() -> None:
    """The access of a session decides which context goes along."""
    request = messages.create_request(carrier_wifi(recorded.session("a-1")), 1, None)
    assert request.rat_specific_context.WhichOneof("context") == "wlan_context"
    assert request.rat_specific_context.wlan_context.mac_addr == "0f:10:2e:12:3a:55"


def test_answer_to_a_creation() -> None:
    """Credits and monitors come in order, static rules before dynamic ones."""
    answer = messages.policy_answer(recorded.response("create", session_proxy_pb2.CreateSessionResponse))
    assert answer.credits == (
        CreditAnswer(key="1", granted=GrantedUnits(total=100_000)),
        CreditAnswer(key="3", granted=GrantedUnits(tx=50_000, rx=60_000)),
        CreditAnswer(key="9", success=False, result_code=5031),
    )
    granted = GrantedUnits(total=70_000)
    assert answer.monitors == (MonitorAnswer(key="mk_dyn", level=Level.PCC_RULE_LEVEL, granted=granted),)
    static = ["static_ocs", "static_nt", "static_pcrf", "static_rg9", "no_such_rule"]
    assert [install.id for install in answer.installs] == [*static, "dyn_ocs", "dyn_pcrf"]
    assert answer.installs[0] == RuleInstall("static_ocs")
    assert answer.installs[5].rule is not None
    assert answer.installs[5].rule.rating_group == 3
    assert (answer.hosts, answer.online, answer.revalidation_at_ms) == (HOSTS, True, None)


def test_final_unit_of_an_answer() -> None:
    """A final unit comes with its action and where to redirect."""
    answer = messages.policy_answer(recorded.response("create_final", session_proxy_pb2.CreateSessionResponse))
    (charge,) = answer.credits
    assert (charge.is_final, charge.final_action) == (True, FinalAction.REDIRECT)
    assert charge.redirect == RedirectServer("URL", "http://portal.test/top-up")


def test_monitors_that_were_not_set_up_are_left_out() -> None:
    """A refused monitor, and an answer about rules only, bring no monitor."""
    granted = monitoring_pb2.UsageMonitoringCredit(monitoring_key=b"refused")
    response = session_proxy_pb2.CreateSessionResponse(
        usage_monitors=[
            session_proxy_pb2.UsageMonitoringUpdateResponse(success=False, credit=granted),
            session_proxy_pb2.UsageMonitoringUpdateResponse(success=True),
        ]
    )
    assert messages.policy_answer(response).monitors == ()


@pytest.mark.parametrize(
    ("triggers", "expected"),
    [([], None), ([monitoring_pb2.USAGE_REPORT], None), ([monitoring_pb2.REVALIDATION_TIMEOUT], 1_700_000_000_500)],
)
def test_revalidation_is_armed_by_its_trigger(
    triggers: list[monitoring_pb2.EventTrigger.ValueType], expected: int | None
) -> None:
    """A revalidation time counts only with the event trigger that wants it."""
    at = Timestamp(seconds=1_700_000_000, nanos=500_000_000)
    response = session_proxy_pb2.CreateSessionResponse(event_triggers=triggers, revalidation_time=at)
    assert messages.policy_answer(response).revalidation_at_ms == expected


def test_usage_is_reported_as_recorded() -> None:
    """Credits and monitors in flight go out with number, reason, context and Diameter hosts."""
    request = only([report(reporting(), 3, 4)])
    assert content(request) == content(recorded.request("update", session_proxy_pb2.UpdateSessionRequest))


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_p4_a_request_is_as_large_as_a_peer_takes(spare: int) -> None:
    """Sessions go together as long as the whole is no larger than that; what is larger by itself goes alone."""
    small, large = report(reporting(), 3), report(reporting(), 3, 4)
    size = only([small, small]).ByteSize() + spare
    parts = messages.update_requests([small, small, large, small, small, small], size)
    sizes = [2, 1, 2, 1] if spare >= 0 else [1] * 6
    found = list(parts)
    assert [len(part) for part, _ in found] == sizes
    assert [len(request.updates) for _, request in found] == sizes
    assert sum(len(request.usage_monitors) for _, request in found) == 1
    assert all(request.ByteSize() <= size or len(part) == 1 for part, request in found)


def test_nothing_makes_no_request() -> None:
    """Without reports there is nothing to be sent."""
    assert list(messages.update_requests([], MAX_BYTES)) == []


def test_units_asked_for_are_always_part_of_a_report() -> None:
    """A final unit asks for nothing, and says so."""
    charge = ChargingCredit(is_final=True, in_flight=Report(1, 5, 5, UpdateReason.REAUTH_REQUIRED))
    request = only([report(recorded.session("a-1", credits={"1": charge}), 1)])
    assert request.updates[0].usage.HasField("requested_units")


@pytest.mark.parametrize(("numbers", "expected"), [([3], (1, 0)), ([4], (0, 1)), ([5], (0, 0)), ([], (0, 0))])
def test_only_requests_of_the_report_go_out(numbers: list[int], expected: tuple[int, int]) -> None:
    """What is in flight under another number is somebody else's to send."""
    request = only([report(reporting(), *numbers)])
    assert (len(request.updates), len(request.usage_monitors)) == expected


def test_quotas_that_are_not_in_flight_are_not_reported() -> None:
    """A session is not reported as a whole."""
    session = recorded.session("a-1", credits={"1": ChargingCredit(used_tx=5)}, monitors={"mk": Monitor(used_tx=5)})
    assert only([report(session, 1)]) == session_proxy_pb2.UpdateSessionRequest()


def test_service_of_a_credit_is_named() -> None:
    """A credit of a service within a rating group is reported under both."""
    charge = ChargingCredit(in_flight=Report(1, 5, 6, UpdateReason.VALIDITY_TIMER_EXPIRED))
    request = only([report(recorded.session("a-1", credits={"7/42": charge}), 1)])
    usage = request.updates[0].usage
    assert (usage.charging_key, usage.service_identifier.value) == (7, 42)


def test_revalidation_is_a_question_without_usage() -> None:
    """A revalidation that is sent goes out with its trigger and its number, and nothing used."""
    sent = Revalidation(RevalidationState.SENT, 1_700_000_000_000, 5)
    session = recorded.session("a-1", gateway=Gateway(hosts=HOSTS, revalidation=sent))
    (update,) = only([report(session, 5)]).usage_monitors
    assert content(update) == {
        "session_id": "a-1",
        "request_number": 5,
        "sid": SUBSCRIBER,
        "ue_ipv4": "192.168.128.11",
        "tgpp_ctx": {"gx_dest_host": "pcrf.test", "gy_dest_host": "ocs.test"},
        "event_trigger": "REVALIDATION_TIMEOUT",
        "charging_characteristics": "0800",
    }


@pytest.mark.parametrize(("number", "asked"), [(5, [5]), (4, []), (0, [])])
@pytest.mark.parametrize("state", list(RevalidationState))
def test_revalidation_goes_by_its_number(state: RevalidationState, number: int, asked: list[int]) -> None:
    """Only a revalidation that has its number goes out, whether or not the time for the next one is known or come."""
    session = recorded.session("a-1", gateway=Gateway(revalidation=Revalidation(state, 0, number)))
    request = only([report(session, 5)])
    assert [update.request_number for update in request.usage_monitors] == asked


def test_carrier_wifi_is_reported_by_hardware_address() -> None:
    """Over wifi the device is named by its address, and there is nothing of LTE in a report."""
    request = only([report(carrier_wifi(reporting()), 3, 4)])
    assert request.updates[0].hardware_addr == b"\x0f\x10\x2e\x12\x3a\x55"
    assert request.updates[0].imei == ""
    assert request.usage_monitors[0].hardware_addr == b"\x0f\x10\x2e\x12\x3a\x55"
    assert request.usage_monitors[0].rat_type == 1


def test_answer_to_a_report() -> None:
    """What is said about a session comes back under its key, with the numbers that were asked."""
    response = recorded.response("update", session_proxy_pb2.UpdateSessionResponse)
    answers = messages.update_answers([report(reporting(), 3, 4)], response)
    granted = GrantedUnits(total=100_000)
    monitor = MonitorAnswer(key="mk_rule", level=Level.PCC_RULE_LEVEL, granted=granted)
    assert answers == {
        UPDATED: UpdateAnswer(
            numbers=frozenset({3, 4}),
            credits=(CreditReply(answer=CreditAnswer(key="1", granted=granted), hosts=HOSTS),),
            monitors=(MonitorReply(answer=monitor, hosts=HOSTS),),
        )
    }


def test_every_report_gets_an_answer() -> None:
    """A session that the answer does not mention gets an empty one, so that its usage becomes due again."""
    other = structs.replace(reporting(), key="a-2")
    response = recorded.response("update", session_proxy_pb2.UpdateSessionResponse)
    answers = messages.update_answers([report(reporting(), 3, 4), report(other, 1)], response)
    assert answers["a-2"] == UpdateAnswer(numbers=frozenset({1}))


@pytest.mark.parametrize(
    ("session_id", "sid", "taken"),
    [
        (UPDATED, SUBSCRIBER, True),
        (UPDATED, "", True),
        (UPDATED, "IMSI999", False),
        ("", SUBSCRIBER, False),
        ("IMSI001010000000001-1", SUBSCRIBER, False),
    ],
)
def test_answers_for_nobody_are_dropped(session_id: str, sid: str, taken: bool) -> None:
    """What names no session of the report, or another subscriber, is not about any of them."""
    response = session_proxy_pb2.UpdateSessionResponse(
        responses=[session_proxy_pb2.CreditUpdateResponse(session_id=session_id, sid=sid, charging_key=1)],
        usage_monitor_responses=[session_proxy_pb2.UsageMonitoringUpdateResponse(session_id=session_id, sid=sid)],
    )
    (answer,) = messages.update_answers([report(reporting(), 3)], response).values()
    assert (len(answer.credits), len(answer.monitors)) == (taken, taken)


def test_rule_changes_come_with_a_monitoring_answer() -> None:
    """An answer under a monitoring key brings rules to remove and to install, and when to ask again."""
    dynamic = session_proxy_pb2.UsageMonitoringUpdateResponse(
        session_id=UPDATED,
        success=True,
        result_code=2001,
        rules_to_remove=["old"],
        event_triggers=[monitoring_pb2.REVALIDATION_TIMEOUT],
        revalidation_time=Timestamp(seconds=1_700_000_000),
    )
    dynamic.static_rules_to_install.add(rule_id="static", deactivation_time=Timestamp(seconds=5))
    dynamic.dynamic_rules_to_install.add().policy_rule.id = "dynamic"
    response = session_proxy_pb2.UpdateSessionResponse(usage_monitor_responses=[dynamic])
    (reply,) = messages.update_answers([report(reporting(), 4)], response)[UPDATED].monitors
    assert (reply.answer, reply.hosts, reply.remove, reply.result_code) == (None, None, ("old",), 2001)
    assert [(install.id, install.rule is None) for install in reply.installs] == [("static", True), ("dynamic", False)]
    assert reply.installs[0].lifetime.deactivation_ms == 5000
    assert reply.installs[1].rule == policy_rule_from_wire(dynamic.dynamic_rules_to_install[0].policy_rule)
    assert reply.revalidation_at_ms == 1_700_000_000_000


def test_end_is_reported_as_recorded() -> None:
    """The end has everything that was not reported, and asks for what a report would."""
    charge = ChargingCredit(
        granted=GrantedUnits(total=100_000),
        allowed_total=200_000,
        floor_total=100_000,
        used_tx=194_000,
        used_rx=184_000,
        reported_tx=45_000,
        reported_rx=40_000,
    )
    monitor = Monitor(level=Level.PCC_RULE_LEVEL, used_tx=120, used_rx=240)
    gateway = Gateway(request_number=2, hosts=HOSTS)
    key = f"{SUBSCRIBER}-677258"
    session = recorded.session(key, gateway=gateway, credits={"1": charge}, monitors={"mk_rule": monitor})
    expected = recorded.request("terminate", session_proxy_pb2.SessionTerminateRequest)
    assert content(messages.terminate_request(session)) == content(expected)


def test_end_mentions_quotas_of_which_nothing_is_left() -> None:
    """A credit and a monitor without new usage have their entry in the end; a final unit asks for nothing."""
    charge = ChargingCredit(is_final=True, granted=GrantedUnits(total=10), used_tx=10, reported_tx=10)
    request = messages.terminate_request(recorded.session("a-1", credits={"1": charge}, monitors={"mk": Monitor()}))
    assert content(request.credit_usages[0]) == {"charging_key": 1, "type": "TERMINATED"}
    assert request.credit_usages[0].HasField("requested_units")
    assert content(request.monitor_usages[0]) == {"monitoring_key": "bWs="}


def test_end_over_carrier_wifi_has_the_hardware_address() -> None:
    """Over wifi the device is named by its address."""
    assert messages.terminate_request(carrier_wifi(reporting())).hardware_addr == b"\x0f\x10\x2e\x12\x3a\x55"


def test_end_of_a_stale_session_has_its_names_only() -> None:
    """Of a session from before a restart, nothing is known but subscriber and id."""
    request = messages.terminate_stale_request(SUBSCRIBER, "a-1")
    assert content(request) == {"session_id": "a-1", "common_context": {"sid": {"id": SUBSCRIBER}}}


@pytest.mark.parametrize("part", ["context", "gateway"])
def test_other_sessions_are_never_reported(part: str) -> None:
    """A session that is none of the gateway's is a mistake of ours."""
    session = structs.replace(reporting(), **{part: None})
    with pytest.raises(TypeError, match="not a gateway session"):
        messages.terminate_request(session)


def test_partial_hosts_are_taken_as_they_are() -> None:
    """An answer that names one Diameter host names no other."""
    response = session_proxy_pb2.UpdateSessionResponse()
    response.responses.add(session_id=UPDATED, charging_key=1).tgpp_ctx.gy_dest_host = "ocs2.test"
    (reply,) = messages.update_answers([report(reporting(), 3)], response)[UPDATED].credits
    assert reply.hosts == DestinationHosts("", "ocs2.test")
