"""The events that eventd hears: names, keys and amounts (southbound.md 5)."""

from typing import Any

import pytest
from msgspec import structs

from sessiond.core import events
from sessiond.core.credit import CreditLimit
from sessiond.core.decide import answer
from sessiond.core.monitors import MonitorAction
from sessiond.core.rules import PolicyRule
from sessiond.core.session import Session
from tests.core.builders import (
    KEY,
    NOW_MS,
    SUBSCRIBER,
    Life,
    both,
    free,
    grant,
    lte_context,
    monitor_grant,
    ocs,
    pcrf,
    situation,
    started,
    static,
    wlan_context,
)

WHO = {
    "imsi": SUBSCRIBER,
    "session_id": KEY,
    "ip_addr": "192.168.128.11",
    "ipv6_addr": "fd00::1",
    "apn": "magma.ipv4",
    "mac_addr": "",
}
ACCESS = {
    "imei": "3570310000000010",
    "spgw_ip": "10.0.2.1",
    "user_location": " 82 00 f1",
    "charging_characteristics": "0800",
}
LTE = lte_context(ue_ipv6="fd00::1")


def session() -> Session:
    """Return an LTE session with both addresses."""
    return started(situation(), context=LTE).session


def using(*rules: PolicyRule, octets: tuple[tuple[int, int], ...]) -> Life:
    """Return a session that used so much, up and down, under each of these rules."""
    unlimited = grant("1", limit=CreditLimit.INFINITE_METERED)
    life = started(
        situation(*rules),
        credits_=[unlimited],
        monitors=[monitor_grant("m1", 10**9)],
        installs=static(*(rule.id for rule in rules)),
    )
    for rule, (tx, rx) in zip(rules, octets, strict=True):
        life.use(rule.id, tx, rx)
    return life


@pytest.mark.parametrize(
    ("rules", "octets", "charging", "monitoring"),
    [
        ([free("rule1")], ((2000, 1000),), (0, 0), (0, 0)),
        ([ocs("rule1", 1)], ((2000, 1000),), (2000, 1000), (0, 0)),
        ([both("rule1", 1, "m1")], ((2000, 1000),), (2000, 1000), (2000, 1000)),
        ([both("rule1", 1, "m1"), pcrf("rule2", "m1")], ((1000, 10), (500, 5)), (1000, 10), (1500, 15)),
    ],
    ids=["no_key", "charging_key", "both_keys", "shared_key"],
)
def test_totals_by_who_counts(
    rules: list[PolicyRule], octets: Any, charging: tuple[int, int], monitoring: tuple[int, int]
) -> None:
    """Each quota counts once, whatever number of rules it has; traffic that nobody tracks counts nowhere.

    reference: SessionStateTest.test_get_total_credit_usage_single_rule_no_key,
    test_get_total_credit_usage_single_rule_single_key, test_get_total_credit_usage_single_rule_multiple_key,
    test_get_total_credit_usage_multiple_rule_shared_key.
    """
    value = events.session_terminated(using(*rules, octets=octets).session).value
    assert (value["charging_tx"], value["charging_rx"]) == charging
    assert (value["monitoring_tx"], value["monitoring_rx"]) == monitoring
    assert value["total_tx"] == charging[0] + monitoring[0]
    assert value["total_rx"] == charging[1] + monitoring[1]


def test_monitors_that_have_gone_are_left_out() -> None:
    """What a monitor counted that reported for the last time before the end is not in it, as in the reference."""
    life = using(pcrf("rule1", "m1"), octets=((700, 70),))
    life.answered(monitors=[])
    life.decide(lambda draft: answer.take_monitor(draft, monitor_grant("m1", action=MonitorAction.DISABLE)))
    life.collect()
    life.answered()
    assert life.session.monitors == {}
    life.decide(lambda draft: answer.take_monitor(draft, monitor_grant("m1", 10**9)))
    life.use("rule1", 1000, 100)
    value = events.session_terminated(life.session).value
    assert (value["monitoring_tx"], value["monitoring_rx"]) == (300, 30)
    assert (value["total_tx"], value["total_rx"]) == (300, 30)


def test_g11_one_entry_for_each_credit() -> None:
    """Every credit has its volumes under the names they are, and the times of its first and last usage.

    reference: SessionStateTest.test_get_charging_credit_summaries, test_session_credit.test_get_credit_summary.
    """
    life = started(
        situation(ocs("rule1", 1), ocs("rule2", 2, service_identifier=7)),
        credits_=[grant("1", 10_000), grant("2/7", 10_000)],
        installs=static("rule1", "rule2"),
    )
    life.use("rule1", 1000, 500)
    life.later(1000)
    life.use("rule1", 2000, 1000)
    life.use("rule2", 4000, 2000)
    assert events.session_terminated(life.session).value["list_of_service_data"] == [
        {
            "rating_group": 1,
            "data_volume_uplink": 2000,
            "data_volume_downlink": 1000,
            "time_of_first_usage": NOW_MS // 1000,
            "time_of_last_usage": NOW_MS // 1000 + 1,
            "service_condition_change": 512,
        },
        {
            "rating_group": 2,
            "service_identifier": 7,
            "data_volume_uplink": 4000,
            "data_volume_downlink": 2000,
            "time_of_first_usage": NOW_MS // 1000 + 1,
            "time_of_last_usage": NOW_MS // 1000 + 1,
            "service_condition_change": 512,
        },
    ]


def test_creation() -> None:
    """A session whose rules are in force says who and where it is, and since when."""
    event = events.session_created(session())
    assert (event.type, event.tag) == ("session_created", SUBSCRIBER)
    assert event.value == {**WHO, **ACCESS, "msisdn": "5550100001", "pdp_start_time": NOW_MS // 1000}


def test_creation_that_failed() -> None:
    """A session that never was has no id, only a reason."""
    event = events.session_create_failure(wlan_context(), "no")
    assert (event.type, event.tag) == ("session_create_failure", SUBSCRIBER)
    assert event.value == {
        "imsi": SUBSCRIBER,
        "apn": "wifi",
        "failure_reason": "no",
        "mac_addr": "0f:10:2e:12:3a:55",
    }


def test_updates() -> None:
    """A report says what it was about, by rating group and service or by monitoring key."""
    updates = [
        events.charging_update("1", "QUOTA_EXHAUSTED"),
        events.charging_update("2/7", "REAUTH_REQUIRED"),
        events.monitor_update("m1"),
    ]
    said = [
        {"rating_group": 1, "update_reason": "QUOTA_EXHAUSTED"},
        {"rating_group": 2, "service_identifier": 7, "update_reason": "REAUTH_REQUIRED"},
        {"monitoring_key": "m1", "update_reason": "USAGE_REPORT"},
    ]
    done, failed = (
        events.session_updated(session(), updates),
        events.session_update_failure(session(), updates, "Socket closed"),
    )
    assert (done.type, done.tag, done.value) == ("session_updated", SUBSCRIBER, {**WHO, "list_of_updates": said})
    reason = "UpdateSession request to FeG/PolicyDB failed: Socket closed"
    assert (failed.type, failed.tag) == ("session_update_failure", "")
    assert failed.value == {**WHO, "list_of_updates": said, "failure_reason": reason}


def test_end() -> None:
    """The end says all that the beginning did, when it was, and how much was used."""
    life = started(situation(), context=LTE)
    life.later(90_500)
    life.release()
    event = events.session_terminated(life.session)
    assert (event.type, event.tag) == ("session_terminated", SUBSCRIBER)
    nothing = dict.fromkeys(("total_tx", "total_rx", "charging_tx", "charging_rx", "monitoring_tx", "monitoring_rx"), 0)
    assert event.value == {
        **WHO,
        **ACCESS,
        **nothing,
        "msisdn": "5550100001",
        "pdp_start_time": NOW_MS // 1000,
        "pdp_end_time": NOW_MS // 1000 + 90,
        "duration": 90,
        "cause_for_rec_closing": 0,
        "record_sequence_number": 1,
        "list_of_service_data": [],
    }


def test_what_carrier_wifi_has_not() -> None:
    """Keys that do not apply are there and empty."""
    value = events.session_created(started(situation(), context=wlan_context()).session).value
    assert {name: value[name] for name in ACCESS} == dict.fromkeys(ACCESS, "")
    assert value["mac_addr"] == "0f:10:2e:12:3a:55"


def test_other_sessions_have_no_such_events() -> None:
    """A session that is none of a gateway's is a mistake of ours."""
    with pytest.raises(TypeError):
        events.session_created(structs.replace(session(), context=None))
