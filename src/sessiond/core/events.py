"""The events that eventd hears of a gateway session: names and keys as their consumers know them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sessiond.core import credit
from sessiond.core.charging import ChargingCredit
from sessiond.core.credit import Quota
from sessiond.core.effects import LogEvent
from sessiond.core.ids import credit_key_parts
from sessiond.core.quantity import Volume
from sessiond.core.session import Context, LteContext, Session

CREATE_REFUSED: Final = "Failed to initialize session in SessionProxy/PolicyDB"
SERVICE_CONDITION_CHANGE: Final = 512
USAGE_REPORT: Final = "USAGE_REPORT"
REVALIDATION_TIMEOUT: Final = "REVALIDATION_TIMEOUT"

Update = dict[str, Any]


def session_created(session: Session) -> LogEvent:
    """Return the event of a session whose rules are in force."""
    context = _context(session)
    value = {**_who(session, context), **_access(context), "pdp_start_time": session.head.created_at_ms // 1000}
    return LogEvent("session_created", value, context.subscriber)


def session_create_failure(context: Context, reason: str) -> LogEvent:
    """Return the event of a session that did not come to be."""
    value = {
        "imsi": context.subscriber,
        "apn": context.apn,
        "failure_reason": reason,
        "mac_addr": _mac_addr(context),
    }
    return LogEvent("session_create_failure", value, context.subscriber)


def session_updated(session: Session, updates: Iterable[Update]) -> LogEvent:
    """Return the event of an answered usage report."""
    return LogEvent("session_updated", _updates(session, updates), _context(session).subscriber)


def session_update_failure(session: Session, updates: Iterable[Update], status_text: str) -> LogEvent:
    """Return the event of a usage report that was not carried out; its consumers know it without a tag."""
    reason = f"UpdateSession request to FeG/PolicyDB failed: {status_text}"
    return LogEvent("session_update_failure", {**_updates(session, updates), "failure_reason": reason})


def session_terminated(session: Session) -> LogEvent:
    """Return the event of a session that is over, with all it used.

    A monitor that reported for the last time before is not in it: consumers know it that way (recording 06).
    """
    context = _context(session)
    charging, monitoring = _sum(session.credits), _sum(session.monitors)
    start_s, end_s = session.head.created_at_ms // 1000, session.head.closing_at_ms // 1000
    value = {
        **_who(session, context),
        **_access(context),
        "total_tx": charging.tx + monitoring.tx,
        "total_rx": charging.rx + monitoring.rx,
        "charging_tx": charging.tx,
        "charging_rx": charging.rx,
        "monitoring_tx": monitoring.tx,
        "monitoring_rx": monitoring.rx,
        "pdp_start_time": start_s,
        "pdp_end_time": end_s,
        "duration": end_s - start_s,
        "cause_for_rec_closing": 0,
        "record_sequence_number": 1,
        "list_of_service_data": [_service_data(key, charge) for key, charge in session.credits.items()],
    }
    return LogEvent("session_terminated", value, context.subscriber)


def charging_update(key: str, reason: str) -> Update:
    """Return how an update event names one charging report."""
    return {**_credit_name(key), "update_reason": reason}


def monitor_update(key: str) -> Update:
    """Return how an update event names one monitoring report."""
    return {"monitoring_key": key, "update_reason": USAGE_REPORT}


def _context(session: Session) -> Context:
    if session.context is None:
        raise TypeError(f"session {session.key} is not a gateway session")
    return session.context


def _who(session: Session, context: Context) -> dict[str, Any]:
    return {**_address(session, context), "msisdn": context.msisdn}


def _address(session: Session, context: Context) -> dict[str, Any]:
    return {
        "imsi": context.subscriber,
        "session_id": session.key,
        "ip_addr": context.ue_ipv4,
        "ipv6_addr": context.ue_ipv6,
        "apn": context.apn,
        "mac_addr": _mac_addr(context),
    }


def _access(context: Context) -> dict[str, Any]:
    lte = context.lte or LteContext()
    return {
        "imei": lte.imei,
        "spgw_ip": lte.spgw_ipv4,
        "user_location": "".join(f" {byte:02x}" for byte in lte.user_location),
        "charging_characteristics": lte.charging_characteristics,
    }


def _mac_addr(context: Context) -> str:
    return context.wlan.mac_addr if context.wlan else ""


def _updates(session: Session, updates: Iterable[Update]) -> dict[str, Any]:
    return {**_address(session, _context(session)), "list_of_updates": list(updates)}


def _sum(quotas: Mapping[str, Quota]) -> Volume:
    return Volume(sum(quota.used_tx for quota in quotas.values()), sum(quota.used_rx for quota in quotas.values()))


def _service_data(key: str, charge: ChargingCredit) -> dict[str, Any]:
    return {
        **_credit_name(key),
        "data_volume_uplink": credit.used_on(charge, "tx"),
        "data_volume_downlink": credit.used_on(charge, "rx"),
        "time_of_first_usage": charge.first_usage_s,
        "time_of_last_usage": charge.last_usage_s,
        "service_condition_change": SERVICE_CONDITION_CHANGE,
    }


def _credit_name(key: str) -> dict[str, Any]:
    rating_group, identifier = credit_key_parts(key)
    name = {"rating_group": rating_group}
    return name if identifier is None else {**name, "service_identifier": identifier}
