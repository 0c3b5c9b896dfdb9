"""What an operator is shown of a session: every part of it, as a message of sessiond.v1."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from sessiond.core.charging import FinalAction, ReAuth, RedirectServer, Service
from sessiond.core.credit import CreditLimit, Tracking
from sessiond.core.decide import release
from sessiond.core.decide.usage import DROP_RULE, UsageRecord
from sessiond.core.effects import SavedEffect
from sessiond.core.errors import InvalidArgument
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level
from sessiond.core.quantity import GrantedUnits
from sessiond.core.rules import Bearer, Catalogue, Lifetime, Teids
from sessiond.core.session import DestinationHosts, GivenTime, Head, Identity, Session, Stream
from sessiond.northbound.native import messages
from sessiond.northbound.native.session_messages import session_to_wire
from sessiond.pb.magma.lte import policy_pb2
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_policy_pb2
from sessiond.translate.rules import policy_rule_from_wire
from tests.core.builders import (
    KEY,
    NOW_MS,
    SUBSCRIBER,
    Life,
    asked,
    both,
    catalogue,
    dynamic,
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
    wlan_context,
)

NOW = "2023-11-14T22:13:20Z"
"""NOW_MS, as proto JSON has it."""


def policy_of(life: Life, known: Catalogue | None = None) -> admin_service_pb2.GetSessionPolicyResponse:
    """Return what is shown of a session; the catalogue is that of its situation."""
    return messages.session_policy(life.session, life.at.catalogue if known is None else known, {})


def rule_of(life: Life, rule_id: str, known: Catalogue | None = None) -> session_policy_pb2.SessionRule:
    """Return what is shown of one rule."""
    (rule,) = (rule for rule in policy_of(life, known).rules if rule.id == rule_id)
    return rule


def shown(message: Any) -> dict[str, Any]:
    """Return a message as the object that an operator's tool shows."""
    fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    fields.get("session", fields).pop("etag", None)
    return fields


class TestSession:
    """The session itself."""

    def test_an_lte_session(self) -> None:
        """Who it is, where it is, and what it moved."""
        life = started(situation(ocs("web", 1)), credits_=[grant()], installs=static("web"))
        life.use("web", 10, 20)
        assert shown(session_to_wire(life.session)) == {
            "key": KEY,
            "type": "lte",
            "origin": "SESSION_ORIGIN_GATEWAY",
            "namespace": "default",
            "subscriber": SUBSCRIBER,
            "msisdn": "5550100001",
            "state": "SESSION_STATE_ACTIVE",
            "create_time": NOW,
            "activate_time": NOW,
            "traffic": {"bytes_sent": "10", "bytes_received": "20"},
            "gateway": {
                "apn": "magma.ipv4",
                "radio_access": "TGPP_LTE",
                "ipv4_address": "192.168.128.11",
                "bearer_id": 5,
                "enb_teid": 4097,
                "agw_teid": 8193,
                "imei": "3570310000000010",
            },
        }

    def test_a_carrier_wifi_session(self) -> None:
        """The device is known by its hardware address."""
        life = started(situation(), context=wlan_context())
        gateway = session_to_wire(life.session).gateway
        assert (gateway.radio_access, gateway.mac_address) == ("TGPP_WLAN", "0f:10:2e:12:3a:55")

    def test_a_stream_session(self) -> None:
        """Whose it is, what its owner says about it, and to what it is tied, in this order."""
        identity = Identity(data_source="Car1", identifier="lap", version=3, utc_offset=GivenTime(3600, 500), number=9)
        session = Session(
            key="s",
            type="stream",
            scope="s",
            head=Head(state=State.ACTIVE, created_at_ms=NOW_MS, activated_at_ms=NOW_MS),
            identity=identity,
            stream=Stream(),
            details={"track": "Spa", "laps": 44, "tyres": ["soft", {"age": 1.5}], "wet": False},
            associates={"2": "b", "10": "a"},
        )
        assert shown(session_to_wire(session)) == {
            "key": "s",
            "type": "stream",
            "origin": "SESSION_ORIGIN_STREAM_API",
            "namespace": "default",
            "data_source": "Car1",
            "identifier": "lap",
            "version": 3,
            "utc_offset": "3600.000000500s",
            "details": {"track": "Spa", "laps": 44.0, "tyres": ["soft", {"age": 1.5}], "wet": False},
            "associate_keys": ["b", "a"],
            "state": "SESSION_STATE_ACTIVE",
            "create_time": NOW,
            "activate_time": NOW,
        }

    @pytest.mark.parametrize(
        ("reason", "wire"),
        [
            ("ENDED", session_pb2.END_REASON_CLIENT),
            ("REPLACED", session_pb2.END_REASON_REPLACED),
            ("ABORTED", session_pb2.END_REASON_POLICY),
            ("PERMANENT_FAILURE", session_pb2.END_REASON_POLICY),
            ("QUOTA_EXHAUSTED", session_pb2.END_REASON_QUOTA_EXHAUSTED),
            ("WALLET_EXHAUSTED", session_pb2.END_REASON_QUOTA_EXHAUSTED),
            ("FLOWS_REFUSED", session_pb2.END_REASON_ENFORCEMENT_FAILED),
            ("DRAINED", session_pb2.END_REASON_OPERATOR),
        ],
    )
    def test_why_it_ended(self, reason: str, wire: int) -> None:
        """The reason is one of few, with words beside it."""
        life = started(situation())
        life.release(reason)
        message = session_to_wire(life.session)
        assert (message.end_reason, message.state) == (wire, session_pb2.SESSION_STATE_CLOSING)
        assert message.end_message
        life.final_usage_in()
        assert session_to_wire(life.session).end_time.seconds == NOW_MS // 1000

    def test_a_reason_nobody_has_named(self) -> None:
        """The word itself is better than nothing."""
        life = started(situation())
        life.release("SOMETHING_NEW")
        message = session_to_wire(life.session)
        assert (message.end_reason, message.end_message) == (session_pb2.END_REASON_UNSPECIFIED, "SOMETHING_NEW")

    @pytest.mark.parametrize("state", list(State))
    def test_every_state_has_a_name_on_the_wire(self, state: State) -> None:
        """The states of the core are those of the API."""
        session = Session(key="s", type="ussd", scope="s", head=Head(state=state, created_at_ms=NOW_MS))
        assert session_pb2.SessionState.Name(session_to_wire(session).state) == f"SESSION_STATE_{state}"


class TestRules:
    """The rules of a session."""

    def test_a_static_rule(self) -> None:
        """It is shown with its versions, its lifetime, what it counts on, what it carried, and its definition."""
        at = situation(both("web", 7, "mk\xff"))
        lifetime = Lifetime(0, NOW_MS + 1000)
        life = started(at, credits_=[grant("7")], installs=static("web", lifetime=lifetime))
        life.count(UsageRecord("web", 1, 10, 20, dropped_tx=1), UsageRecord("web", 1, 1, 2, ipv6=True))
        rule = shown(rule_of(life, "web"))
        assert rule.pop("definition") == {
            "id": "web",
            "ratingGroup": 7,
            "monitoringKey": "bWv/",
            "trackingType": "OCS_AND_PCRF",
        }
        assert rule == {
            "id": "web",
            "kind": "RULE_KIND_STATIC",
            "state": "RULE_STATE_ACTIVE",
            "version": 1,
            "last_reported_version": 1,
            "deactivation_time": "2023-11-14T22:13:21Z",
            "rating_group": 7,
            "monitoring_key": "mk\\xff",
            "tracking": "OCS_AND_PCRF",
            "usage": [{"version": 1, "tx_bytes": "11", "rx_bytes": "22", "dropped_tx_bytes": "1"}],
        }

    def test_a_dynamic_rule(self) -> None:
        """It is shown with the definition it came with, its service and its bearer."""
        wire = policy_pb2.PolicyRule(id="call", priority=5, qos=policy_pb2.FlowQos(qci=policy_pb2.FlowQos.QCI_1))
        wire.service_identifier.value = 3
        life = started(situation(), installs=dynamic(policy_rule_from_wire(wire)))
        rule = rule_of(life, "call")
        assert rule.state == session_policy_pb2.RULE_STATE_WAITING_FOR_BEARER
        life.decide(lambda draft: draft.set("rules", "call", bearer=Bearer(6, Teids(1, 2))))
        rule = rule_of(life, "call")
        assert (rule.kind, rule.state) == (session_policy_pb2.RULE_KIND_DYNAMIC, session_policy_pb2.RULE_STATE_ACTIVE)
        assert (rule.bearer_id, rule.service_identifier, rule.definition["priority"]) == (6, 3, 5)

    def test_a_static_rule_that_the_catalogue_has_lost(self) -> None:
        """It is shown without a definition."""
        life = started(situation(ocs("web", 1)), credits_=[grant()], installs=static("web"))
        rule = rule_of(life, "web", {})
        assert (rule.kind, rule.HasField("definition")) == (session_policy_pb2.RULE_KIND_STATIC, False)

    def test_a_scheduled_rule(self) -> None:
        """It is shown with the time of its activation, and has no version yet."""
        life = started(situation(free("later")), installs=static("later", lifetime=Lifetime(NOW_MS + 1000)))
        rule = rule_of(life, "later")
        assert (rule.state, rule.version) == (session_policy_pb2.RULE_STATE_SCHEDULED, 0)
        assert rule.activation_time.ToMilliseconds() == NOW_MS + 1000

    @pytest.mark.parametrize("held", [{"suspended": True}, {"blocked": True}])
    def test_a_rule_without_quota(self, held: dict[str, Any]) -> None:
        """It is suspended as long as its credit is held back."""
        life = started(situation(ocs("web", 1)), credits_=[grant()], installs=static("web"))
        life.decide(lambda draft: draft.set("credits", "1", **held))
        assert rule_of(life, "web").state == session_policy_pb2.RULE_STATE_SUSPENDED

    @pytest.mark.parametrize(
        ("known", "kind"),
        [
            (catalogue(ocs("web", 1)), session_policy_pb2.RULE_KIND_STATIC),
            ({}, session_policy_pb2.RULE_KIND_DYNAMIC),
        ],
    )
    def test_a_removed_rule(self, known: Catalogue, kind: int) -> None:
        """It stays with its versions; what it was is known as far as the catalogue tells."""
        life = started(situation(ocs("web", 1)), credits_=[grant()], installs=static("web"))
        life.decide(lambda draft: release.forget_rule(draft, "web"))
        rule = rule_of(life, "web", known)
        assert (rule.kind, rule.state, rule.version) == (kind, session_policy_pb2.RULE_STATE_REMOVED, 2)

    def test_final_actions_are_rules_of_their_own(self) -> None:
        """A redirection is shown as what it is; a restriction beside the rule of the same id that is installed."""
        life = started(situation(), credits_=[redirect_grant(total=10)])
        life.decide(lambda draft: draft.set("credits", "1", service=Service.NEEDS_DEACTIVATION))
        life.collect()
        rule = rule_of(life, "redirect")
        assert rule.kind == session_policy_pb2.RULE_KIND_FINAL_ACTION
        assert shown(rule.definition)["redirect"]["serverAddress"] == "http://portal.test/top-up"
        life.decide(lambda draft: draft.set("rules", "redirect", gy=None))
        rule = rule_of(life, "redirect")
        assert rule.kind == session_policy_pb2.RULE_KIND_FINAL_ACTION
        assert rule.state == session_policy_pb2.RULE_STATE_REMOVED

        life = started(situation(free("walled")), credits_=[restrict_grant("walled")], installs=static("walled"))
        life.decide(lambda draft: draft.set("rules", "walled", gy=free("walled")))
        assert [(rule.id, session_policy_pb2.RuleKind.Name(rule.kind)) for rule in policy_of(life).rules] == [
            ("walled", "RULE_KIND_STATIC"),
            ("walled", "RULE_KIND_FINAL_ACTION"),
        ]

    def test_what_no_rule_let_pass(self) -> None:
        """Dropped octets stand under the name that pipelined gives them."""
        life = started(situation())
        life.count(UsageRecord(DROP_RULE, 0, 0, 0, dropped_tx=5, dropped_rx=6))
        rule = shown(rule_of(life, DROP_RULE))
        assert rule == {
            "id": DROP_RULE,
            "kind": "RULE_KIND_STATIC",
            "state": "RULE_STATE_ACTIVE",
            "usage": [{"dropped_tx_bytes": "5", "dropped_rx_bytes": "6"}],
        }
        life.release()
        assert rule_of(life, DROP_RULE).state == session_policy_pb2.RULE_STATE_REMOVED

    def test_versions_of_an_earlier_session_are_no_rules_of_this_one(self) -> None:
        """What was only taken over to count versions on is not shown."""
        earlier = started(situation(ocs("web", 1)), credits_=[grant()], installs=static("web")).session
        assert list(policy_of(asked(situation(), present=[earlier])).rules) == []


class TestQuotas:
    """Credits and monitors."""

    def test_a_credit_with_all_its_buckets(self) -> None:
        """Everything that is known of a quota is shown, and its buckets add up."""
        life = started(
            situation(ocs("web", 1)), credits_=[grant("1", 1000, validity_ms=60_000)], installs=static("web")
        )
        life.use("web", 500, 400)
        life.collect()
        life.use("web", 510, 420)
        (credit,) = policy_of(life).credits
        assert shown(credit) == {
            "rating_group": 1,
            "quota": {
                "limit_type": "LIMIT_TYPE_FINITE",
                "tracking_type": "TRACKING_TYPE_TOTAL_ONLY",
                "buckets": {
                    "used_tx": "510",
                    "used_rx": "420",
                    "allowed_total": "1000",
                    "reporting_tx": "500",
                    "reporting_rx": "400",
                    "unreported_tx": "10",
                    "unreported_rx": "20",
                },
                "last_grant": {"total": "1000"},
                "in_flight_request_number": 1,
                "first_usage_time": NOW,
                "last_usage_time": NOW,
            },
            "validity_time": "2023-11-14T22:14:20Z",
            "service_state": "SERVICE_STATE_ENABLED",
            "re_auth_state": "RE_AUTH_STATE_NOT_NEEDED",
        }
        life.answered(grant("1", 2000))
        buckets = policy_of(life).credits[0].quota.buckets
        assert (buckets.reported_tx, buckets.reporting_tx, buckets.unreported_tx) == (500, 0, 10)
        assert (buckets.allowed_total, buckets.floor_total) == (3000, 1000)

    @pytest.mark.parametrize("limit", list(CreditLimit))
    @pytest.mark.parametrize("tracking", list(Tracking))
    def test_every_limit_and_tracking_has_a_name(self, limit: CreditLimit, tracking: Tracking) -> None:
        """Limits and tracked legs of the core are those of the API."""
        life = started(situation(), credits_=[grant()])
        life.decide(lambda draft: draft.set("credits", "1", limit=limit, tracking=tracking))
        quota = policy_of(life).credits[0].quota
        assert session_policy_pb2.LimitType.Name(quota.limit_type) == f"LIMIT_TYPE_{limit}"
        expected = "UNSPECIFIED" if tracking is Tracking.UNSET else tracking
        assert session_policy_pb2.TrackingType.Name(quota.tracking_type) == f"TRACKING_TYPE_{expected}"

    @pytest.mark.parametrize("service", list(Service))
    @pytest.mark.parametrize("reauth", list(ReAuth))
    def test_every_state_of_a_service_has_a_name(self, service: Service, reauth: ReAuth) -> None:
        """States of service and re-authorisation of the core are those of the API."""
        life = started(situation(), credits_=[grant()])
        life.decide(lambda draft: draft.set("credits", "1", service=service, reauth=reauth))
        credit = policy_of(life).credits[0]
        assert session_policy_pb2.ServiceState.Name(credit.service_state) == f"SERVICE_STATE_{service}"
        assert session_policy_pb2.ReAuthState.Name(credit.re_auth_state) == f"RE_AUTH_STATE_{reauth}"

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, {"final_action": 0, "redirect_address": "", "restrict_rule_ids": []}),
            (
                {"is_final": True, "final_action": FinalAction.TERMINATE},
                {"final_action": session_policy_pb2.FINAL_ACTION_TERMINATE},
            ),
            (
                {"is_final": True, "final_action": FinalAction.REDIRECT, "redirect": RedirectServer("IPV4", "1.2.3.4")},
                {"final_action": session_policy_pb2.FINAL_ACTION_REDIRECT, "redirect_address": "1.2.3.4"},
            ),
            (
                {"is_final": True, "final_action": FinalAction.RESTRICT_ACCESS, "restrict_rules": ("a", "b")},
                {"final_action": session_policy_pb2.FINAL_ACTION_RESTRICT_ACCESS, "restrict_rule_ids": ["a", "b"]},
            ),
            ({"suspended": True, "blocked": True}, {"suspended": True, "blocked": True}),
        ],
    )
    def test_what_happens_when_it_is_used_up(self, fields: dict[str, Any], expected: dict[str, Any]) -> None:
        """The final action is shown once the final unit is granted, with where it leads."""
        life = started(situation(), credits_=[grant()])
        life.decide(lambda draft: draft.set("credits", "1", **fields))
        credit = policy_of(life).credits[0]
        assert {name: getattr(credit, name) for name in expected} == expected

    def test_credits_are_in_the_order_of_their_numbers(self) -> None:
        """Rating groups are sorted as numbers, then services within them."""
        life = started(situation(), credits_=[grant("10"), grant("9/2"), grant("9"), grant("9/11")])
        keys = [
            (c.rating_group, c.service_identifier, c.HasField("service_identifier")) for c in policy_of(life).credits
        ]
        assert keys == [(9, 0, False), (9, 2, True), (9, 11, True), (10, 0, False)]

    def test_monitors(self) -> None:
        """A monitor is shown with its level, its quota and whether its end is near."""
        monitors = [
            monitor_grant("caf\xc3\xa9", level=Level.SESSION_LEVEL),
            monitor_grant("b\xff", granted=GrantedUnits(tx=5)),
        ]
        life = started(situation(pcrf("rule1", "b\xff")), monitors=monitors, installs=static("rule1"))
        life.use("rule1", 6)
        life.decide(lambda draft: draft.set("monitors", "b\xff", last_report=True))
        shown_monitors = policy_of(life).monitors
        assert [
            (m.monitoring_key, m.session_level, m.last_report, m.quota.exhausted, m.quota.buckets.used_tx)
            for m in shown_monitors
        ] == [("b\\xff", False, True, True, 6), ("café", True, False, False, 6)]
        assert shown(shown_monitors[0].quota.last_grant) == {"tx": "5"}


class TestWaiting:
    """Timers, and what peers must still be told."""

    def test_timers_come_earliest_first(self) -> None:
        """Each has its kind, its subject and its time."""
        life = started(
            situation(free("later")),
            credits_=[grant(validity_ms=2000)],
            installs=static("later", lifetime=Lifetime(NOW_MS + 1000)),
            revalidation_at_ms=NOW_MS + 3000,
        )
        policy = policy_of(life)
        assert [shown(timer) for timer in policy.timers] == [
            {"kind": "TIMER_KIND_RULE_ACTIVATION", "subject": "later", "due_time": "2023-11-14T22:13:21Z"},
            {"kind": "TIMER_KIND_CREDIT_VALIDITY", "subject": "1", "due_time": "2023-11-14T22:13:22Z"},
            {"kind": "TIMER_KIND_REVALIDATION", "due_time": "2023-11-14T22:13:23Z"},
        ]
        assert list(policy.event_triggers) == ["REVALIDATION_TIMEOUT"]

    def test_requests_without_an_answer(self) -> None:
        """Reports in flight stand with their numbers, effects with peer and method, the oldest first."""
        life = started(situation(ocs("web", 1)), credits_=[grant()], installs=static("web"))
        life.use("web", 900)
        life.collect()
        life.release("ENDED", notify=True)
        policy = policy_of(life)
        assert [
            (pending.id, pending.peer, pending.method, pending.request_number, pending.in_flight)
            for pending in policy.pending_requests
        ] == [
            ("report-1", "policy", "/magma.lte.CentralSessionController/UpdateSession", 1, True),
            ("000002", "pipelined", "/magma.lte.Pipelined/DeactivateFlows", 0, False),
            ("000003", "access", "/magma.lte.SpgwService/DeleteBearer", 0, False),
        ]
        assert policy.next_request_number == 2
        life.answered(grant())
        life.final_usage_in()
        (*_, last) = policy_of(life).pending_requests
        assert (last.method.rpartition("/")[2], last.request_number) == ("TerminateSession", 2)

    def test_an_effect_that_is_held_back(self) -> None:
        """It is shown with the time before which it is not carried out."""
        life = started(situation(), keep_effects=True)
        (effect_id,) = life.session.effects
        life.decide(lambda draft: draft.set("effects", effect_id, not_before_ms=NOW_MS + 500))
        (pending,) = policy_of(life).pending_requests
        assert pending.next_attempt_time.ToMilliseconds() == NOW_MS + 500

    def test_every_effect_has_a_method(self) -> None:
        """No effect is missing in the table of methods."""
        assert set(messages.METHODS) == set(SavedEffect.__subclasses__())

    def test_diameter_hosts(self) -> None:
        """The hosts that answered are shown."""
        life = started(situation(), hosts=DestinationHosts("pcrf.test", "ocs.test"))
        hosts = policy_of(life).diameter_hosts
        assert (hosts.gx_host, hosts.gy_host) == ("pcrf.test", "ocs.test")

    def test_sessions_of_other_kinds(self) -> None:
        """They have nothing beneath."""
        session = Session(key="s", type="ussd", scope="s", head=Head(state=State.ACTIVE, created_at_ms=NOW_MS))
        policy = messages.session_policy(session, {}, {})
        assert shown(policy) == {
            "session": {
                "key": "s",
                "type": "ussd",
                "origin": "SESSION_ORIGIN_NATIVE",
                "namespace": "default",
                "state": "SESSION_STATE_ACTIVE",
                "create_time": NOW,
            },
            "diameter_hosts": {},
        }


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (admin_service_pb2.SetLogLevelRequest(), (None, 0)),
        (admin_service_pb2.SetLogLevelRequest(level=admin_service_pb2.LOG_LEVEL_DEBUG), ("DEBUG", 0)),
        (
            admin_service_pb2.SetLogLevelRequest(level=admin_service_pb2.LOG_LEVEL_FATAL, duration=Duration(seconds=2)),
            ("FATAL", 2000),
        ),
        (
            admin_service_pb2.SetLogLevelRequest(duration=Duration(nanos=1_500_000)),
            (None, 1),
        ),
    ],
)
def test_log_level_wanted(request_: admin_service_pb2.SetLogLevelRequest, expected: tuple[str | None, int]) -> None:
    """A level by name, none for the configured one, and the milliseconds it is wanted for."""
    assert messages.log_level_from_wire(request_) == expected


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (admin_service_pb2.SetLogLevelRequest(level=admin_service_pb2.LogLevel.ValueType(99)), "level"),
        (admin_service_pb2.SetLogLevelRequest(duration=Duration()), "duration"),
        (admin_service_pb2.SetLogLevelRequest(duration=Duration(seconds=-5)), "duration"),
        (admin_service_pb2.SetLogLevelRequest(duration=Duration(seconds=31 * 86400)), "duration"),
        (admin_service_pb2.SetLogLevelRequest(duration=Duration(seconds=2**62)), "duration"),
    ],
)
def test_log_level_that_cannot_be(request_: admin_service_pb2.SetLogLevelRequest, field: str) -> None:
    """What makes no sense is refused by the name of its field."""
    with pytest.raises(InvalidArgument) as caught:
        messages.log_level_from_wire(request_)
    assert caught.value.field == field
