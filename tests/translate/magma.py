"""Entries of a Magma gateway's table of sessions, written as its sessiond writes them.

Octets become characters, texts are escaped as JSON wants it and no further, and only the whole becomes octets again.
"""

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from sessiond.pb.magma.lte import credit_pb2, policy_pb2, qos_pb2, session_context_pb2, subscriber_pb2

SUBSCRIBER = "IMSI001010000000042"
KEY = f"{SUBSCRIBER}-483920"
NEVER = "9223372036854775807"
LOCATION = bytes(range(256))
"""Every octet that there is."""


def text(value: Any) -> str:
    """Return a value as JSON within JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def octets(message: Message) -> str:
    """Return the octets of a message, one character each."""
    return message.SerializeToString().decode("latin-1")


def entry(*sessions: Any) -> bytes:
    """Return the value of a field of the table."""
    return text([text(session) for session in sessions]).encode("latin-1", "backslashreplace")


def units(total: int = 0) -> credit_pb2.GrantedUnits:
    """Return a grant."""
    return credit_pb2.GrantedUnits(total=credit_pb2.CreditUnit(is_valid=True, volume=total))


def credit(used: tuple[int, int] = (700, 200), reported: tuple[int, int] = (400, 100), **fields: Any) -> dict[str, Any]:
    """Return a quota: granted 1000 and then 2000, of which this was used and reported."""
    buckets = {str(number): "0" for number in range(12)}
    buckets |= {"0": str(used[0]), "1": str(used[1]), "2": "3000", "7": str(reported[0]), "8": str(reported[1])}
    buckets |= {"9": "1000"}
    return {
        "reporting": False,
        "credit_limit_type": 0,
        "buckets": buckets,
        "grant_tracking_type": 0,
        "received_granted_units": octets(units(2000)),
        "report_last_credit": False,
        "time_of_first_usage": "1700000100",
        "time_of_last_usage": "1700000200",
        **fields,
    }


def grant(quota: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return what the gateway knows of a charging credit."""
    final = {"final_action": 0, "redirect_server": "", "restrict_rules": []}
    return {
        "is_final": False,
        "final_action_info": text(final),
        "expiry_time": NEVER,
        "reauth_state": 0,
        "service_state": 0,
        "credit": text(quota or credit()),
        "suspended": False,
        **fields,
    }


def pool(*grants: tuple[int, int, dict[str, Any]]) -> str:
    """Return the credits by rating group and service identifier."""
    keys = [{"rating_group": str(group), "service_identifier": str(identifier)} for group, identifier, _ in grants]
    return text(
        {
            "credit_keys": keys,
            "credit_map": {f"{group}{identifier}": text(value) for group, identifier, value in grants},
        }
    )


def statistics(**rules: tuple[int, int, dict[int, tuple[int, int]]]) -> str:
    """Return, by rule: its version, the one reported last, and the octets up and down of each version."""
    return text(
        {
            "policy_stats_keys": list(rules),
            "policy_stats_map": {
                rule: {
                    "current_version": current,
                    "last_reported_version": last,
                    "stats_keys": [str(version) for version in volumes],
                    "stats_map": {
                        str(version): text({"tx": str(tx), "rx": str(rx), "dropped_tx": "0", "dropped_rx": "3"})
                        for version, (tx, rx) in volumes.items()
                    },
                }
                for rule, (current, last, volumes) in rules.items()
            },
        }
    )


def context(subscriber: str = SUBSCRIBER, ue_ipv4: str = "10.0.0.42", **fields: Any) -> dict[str, str]:
    """Return the configuration of an LTE session."""
    common = session_context_pb2.CommonSessionContext(
        sid=subscriber_pb2.SubscriberID(id=subscriber),
        ue_ipv4=ue_ipv4,
        apn="internet",
        msisdn=b"4915100000042",
        rat_type=session_context_pb2.TGPP_LTE,
        teids=session_context_pb2.Teids(enb_teid=0xFFFFFFF0, agw_teid=77),
        **fields,
    )
    lte = session_context_pb2.LTESessionContext(
        imei="353490", bearer_id=5, user_location=LOCATION, qos_info=qos_pb2.QosInformationRequest(qos_class_id=9)
    )
    specific = session_context_pb2.RatSpecificContext(lte_context=lte)
    return {"common_context": octets(common), "rat_specific_context": octets(specific)}


def session(subscriber: str = SUBSCRIBER, number: int = 483920, **fields: Any) -> dict[str, Any]:
    """Return a session in force with a static and a dynamic rule, a credit and a monitor."""
    monitor = {"credit": text(credit((50, 60), (0, 0))), "level": 1}
    return {
        "fsm_state": 0,
        "config": text(context(subscriber)),
        "charging_pool": pool((1, 0, grant())),
        "monitor_map": text({"monitor_keys": ["m\xfc"], "monitor_map": {"m\xfc": text(monitor)}}),
        "session_level_key": "",
        "imsi": subscriber,
        "session_id": f"{subscriber}-{number}",
        "shard_id": 3,
        "subscriber_quota_state": 0,
        "create_session_response": "",
        "tgpp_context": octets(session_context_pb2.TgppContext(gx_dest_host="pcrf", gy_dest_host="ocs")),
        "revalidation_time": "",
        "pdp_start_time": "1700000000",
        "pdp_end_time": "0",
        "request_number": "4",
        "pending_event_triggers": text({"event_trigger_keys": [], "event_trigger_map": {}}),
        "bearer_id_by_policy": text([]),
        "policy_version_and_stats": statistics(web=(2, 2, {0: (0, 0), 1: (300, 100), 2: (400, 100)})),
        "static_rule_ids": ["web"],
        "dynamic_rules": [octets(dynamic())],
        "gy_dynamic_rules": [],
        "pdr_list": [],
        **fields,
    }


def dynamic(name: str = "dyn", **fields: Any) -> policy_pb2.PolicyRule:
    """Return a dynamic rule that counts on the monitor."""
    return policy_pb2.PolicyRule(
        id=name, monitoring_key=b"m\xfc", tracking_type=policy_pb2.PolicyRule.ONLY_PCRF, priority=7, **fields
    )


def without(stored: dict[str, Any], *members: str) -> dict[str, Any]:
    """Return a session that lacks something."""
    return {name: value for name, value in stored.items() if name not in members}


def many(count: int) -> Sequence[tuple[str, bytes]]:
    """Return fields of the table, a session each."""
    subscribers = [f"IMSI00101{number:010d}" for number in range(1, count + 1)]
    return [(subscriber, entry(session(subscriber))) for subscriber in subscribers]
