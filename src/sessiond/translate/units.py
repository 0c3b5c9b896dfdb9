"""Quotas: what is granted, asked for and used, for charging credits and for usage monitors."""

from collections.abc import Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.charging import CreditAnswer, FinalAction, RedirectServer
from sessiond.core.credit import CreditLimit
from sessiond.core.ids import credit_key
from sessiond.core.monitors import Level, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, RequestedUnits
from sessiond.pb.magma.lte import credit_pb2, monitoring_pb2, policy_pb2, session_proxy_pb2
from sessiond.translate.scalars import meanings, named, text_of, time_ms, volume

_FINAL_ACTIONS: Final = meanings(credit_pb2.ChargingCredit.FinalAction.items(), FinalAction)
_LIMITS: Final = meanings(credit_pb2.CreditLimitType.items(), CreditLimit)
_ADDRESS_TYPES: Final = {number: name for name, number in credit_pb2.RedirectServer.RedirectAddressType.items()}
_MONITOR_ACTIONS = monitoring_pb2.UsageMonitoringCredit.Action


def granted_units_from_wire(units: credit_pb2.GrantedUnits) -> GrantedUnits:
    """Return a grant; a leg that is not valid is not part of it, whatever its volume."""
    return GrantedUnits(_granted(units.total), _granted(units.tx), _granted(units.rx))


def granted_units_to_wire(units: GrantedUnits) -> credit_pb2.GrantedUnits:
    """Return the message of a grant, with the legs that are part of it."""
    return credit_pb2.GrantedUnits(total=_grant(units.total), tx=_grant(units.tx), rx=_grant(units.rx))


def requested_units_from_wire(units: credit_pb2.RequestedUnits) -> RequestedUnits:
    """Return what is asked for."""
    return RequestedUnits(volume(units.total), volume(units.tx), volume(units.rx))


def requested_units_to_wire(units: RequestedUnits) -> credit_pb2.RequestedUnits:
    """Return the message of what is asked for."""
    return credit_pb2.RequestedUnits(total=units.total, tx=units.tx, rx=units.rx)


def credit_key_from_wire(charging_key: int, service_identifier: policy_pb2.ServiceIdentifier) -> str:
    """Return the key of the credit that a rating group and a service name; no service and service 0 are the same."""
    return credit_key(charging_key, service_identifier.value or None)


def credit_answer_from_wire(response: session_proxy_pb2.CreditUpdateResponse) -> CreditAnswer:
    """Return what the OCS says about one credit."""
    granted = response.credit
    return CreditAnswer(
        key=credit_key_from_wire(response.charging_key, response.service_identifier),
        success=response.success,
        result_code=response.result_code,
        limit=_LIMITS.get(response.limit_type, CreditLimit.FINITE),
        granted=granted_units_from_wire(granted.granted_units),
        is_final=granted.is_final,
        final_action=_FINAL_ACTIONS.get(granted.final_action, FinalAction.TERMINATE),
        redirect=redirect_server_from_wire(granted.redirect_server),
        restrict_rules=tuple(granted.restrict_rules),
        validity_ms=granted.validity_time * 1000,
    )


def monitor_answer_from_wire(granted: monitoring_pb2.UsageMonitoringCredit) -> MonitorAnswer:
    """Return what the PCRF says about one monitoring key."""
    return MonitorAnswer(
        key=text_of(granted.monitoring_key),
        level=named(monitoring_pb2.MonitoringLevel.Name, granted.level, Level, Level.SESSION_LEVEL),
        action=named(_MONITOR_ACTIONS.Name, granted.action, MonitorAction, MonitorAction.CONTINUE),
        granted=granted_units_from_wire(granted.granted_units),
    )


def level_to_wire(level: Level) -> monitoring_pb2.MonitoringLevel.ValueType:
    """Return the number of what a monitor counts."""
    return monitoring_pb2.MonitoringLevel.Value(level.name)


def revalidation_at_ms(triggers: Iterable[int], at: Timestamp) -> int | None:
    """Return when the policy is to be asked again: only if REVALIDATION_TIMEOUT is wanted, and at a time."""
    if monitoring_pb2.REVALIDATION_TIMEOUT not in triggers:
        return None
    return time_ms(at) or None


def _granted(unit: credit_pb2.CreditUnit) -> int | None:
    return volume(unit.volume) if unit.is_valid else None


def _grant(octets: int | None) -> credit_pb2.CreditUnit | None:
    return None if octets is None else credit_pb2.CreditUnit(is_valid=True, volume=octets)


def redirect_server_from_wire(server: credit_pb2.RedirectServer) -> RedirectServer:
    """Return where redirected traffic goes."""
    return RedirectServer(_ADDRESS_TYPES.get(server.redirect_address_type, "IPV4"), server.redirect_server_address)
