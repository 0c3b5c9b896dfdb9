"""Quotas: grants, requests, credits and monitors, as the core understands them."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.charging import CreditAnswer, FinalAction, RedirectServer
from sessiond.core.credit import CreditLimit
from sessiond.core.monitors import Level, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, RequestedUnits
from sessiond.pb.magma.lte import credit_pb2, monitoring_pb2, policy_pb2, session_proxy_pb2
from sessiond.translate import units
from sessiond.translate.scalars import MAX_VOLUME, named, octets_of, text_of, time_ms, timestamp

OCTETS = st.integers(0, MAX_VOLUME)


@given(st.builds(GrantedUnits, *[st.none() | OCTETS] * 3))
def test_grant_survives_the_wire(granted: GrantedUnits) -> None:
    """A leg that is part of a grant with 0 octets is not the same as one that is not."""
    assert units.granted_units_from_wire(units.granted_units_to_wire(granted)) == granted


@given(st.builds(RequestedUnits, OCTETS, OCTETS, OCTETS))
def test_request_survives_the_wire(requested: RequestedUnits) -> None:
    """What is asked for is sent as it is."""
    assert units.requested_units_from_wire(units.requested_units_to_wire(requested)) == requested


def test_leg_that_is_not_valid_is_not_granted() -> None:
    """A volume without validity is nothing."""
    wire = credit_pb2.GrantedUnits(
        total=credit_pb2.CreditUnit(is_valid=False, volume=5), tx=credit_pb2.CreditUnit(is_valid=True)
    )
    assert units.granted_units_from_wire(wire) == GrantedUnits(tx=0)


def test_grant_of_everything_is_held() -> None:
    """A grant of all octets there are does not become a sum that nothing can store."""
    wire = credit_pb2.GrantedUnits(total=credit_pb2.CreditUnit(is_valid=True, volume=2**64 - 1))
    assert units.granted_units_from_wire(wire).total == MAX_VOLUME


@pytest.mark.parametrize(("identifier", "expected"), [(None, "7"), (0, "7"), (42, "7/42")])
def test_key_of_a_credit(identifier: int | None, expected: str) -> None:
    """A credit is named by its rating group, and its service if it has one."""
    message = session_proxy_pb2.CreditUpdateResponse(charging_key=7)
    if identifier is not None:
        message.service_identifier.CopyFrom(policy_pb2.ServiceIdentifier(value=identifier))
    assert units.credit_key_from_wire(message.charging_key, message.service_identifier) == expected


def test_answer_of_the_ocs() -> None:
    """Everything that the OCS says about a credit is understood; its validity is in seconds."""
    wire = session_proxy_pb2.CreditUpdateResponse(
        success=True,
        charging_key=7,
        service_identifier=policy_pb2.ServiceIdentifier(value=42),
        result_code=2001,
        limit_type=credit_pb2.INFINITE_METERED,
        credit=credit_pb2.ChargingCredit(
            validity_time=3600,
            is_final=True,
            final_action=credit_pb2.ChargingCredit.RESTRICT_ACCESS,
            granted_units=credit_pb2.GrantedUnits(rx=credit_pb2.CreditUnit(is_valid=True, volume=9)),
            redirect_server=credit_pb2.RedirectServer(
                redirect_address_type=credit_pb2.RedirectServer.SIP_URI, redirect_server_address="sip:a.test"
            ),
            restrict_rules=["one", "two"],
        ),
    )
    assert units.credit_answer_from_wire(wire) == CreditAnswer(
        key="7/42",
        result_code=2001,
        limit=CreditLimit.INFINITE_METERED,
        granted=GrantedUnits(rx=9),
        is_final=True,
        final_action=FinalAction.RESTRICT_ACCESS,
        redirect=RedirectServer("SIP_URI", "sip:a.test"),
        restrict_rules=("one", "two"),
        validity_ms=3_600_000,
    )


def test_answer_with_nothing_in_it() -> None:
    """An empty answer is a failure that grants nothing."""
    answer = units.credit_answer_from_wire(session_proxy_pb2.CreditUpdateResponse())
    assert answer == CreditAnswer(key="0", success=False)


def test_names_that_are_unknown_here() -> None:
    """Numbers that a newer peer may send are taken for the first of their kind."""
    wire = session_proxy_pb2.CreditUpdateResponse(
        limit_type=credit_pb2.CreditLimitType.ValueType(9),
        credit=credit_pb2.ChargingCredit(
            final_action=credit_pb2.ChargingCredit.FinalAction.ValueType(9),
            redirect_server=credit_pb2.RedirectServer(
                redirect_address_type=credit_pb2.RedirectServer.RedirectAddressType.ValueType(9)
            ),
        ),
    )
    answer = units.credit_answer_from_wire(wire)
    assert (answer.limit, answer.final_action) == (CreditLimit.FINITE, FinalAction.TERMINATE)
    assert answer.redirect == RedirectServer("IPV4", "")


@pytest.mark.parametrize("action", MonitorAction)
@pytest.mark.parametrize("level", Level)
def test_answer_of_the_pcrf(action: MonitorAction, level: Level) -> None:
    """A monitoring key is any octets; level and action have their names."""
    wire = monitoring_pb2.UsageMonitoringCredit(
        monitoring_key=b"mk\xfe",
        level=units.level_to_wire(level),
        action=monitoring_pb2.UsageMonitoringCredit.Action.Value(action.name),
        granted_units=credit_pb2.GrantedUnits(total=credit_pb2.CreditUnit(is_valid=True, volume=5)),
    )
    expected = MonitorAnswer(key="mk\xfe", level=level, action=action, granted=GrantedUnits(total=5))
    assert units.monitor_answer_from_wire(wire) == expected


@pytest.mark.parametrize(
    ("triggers", "seconds", "expected"),
    [([17], 5, 5000), ([33, 17], 5, 5000), ([33], 5, None), ([], 5, None), ([17], 0, None)],
)
def test_revalidation_needs_its_trigger_and_a_time(triggers: list[int], seconds: int, expected: int | None) -> None:
    """Without a time there is nothing to wait for, and asking at once would be asked for again at once."""
    assert units.revalidation_at_ms(triggers, Timestamp(seconds=seconds)) == expected


@given(st.binary())
def test_octets_survive_as_text(octets: bytes) -> None:
    """Every octet is a character, and the other way round."""
    assert octets_of(text_of(octets)) == octets


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_survive_the_wire(at_ms: int) -> None:
    """Times are exact to the millisecond; 0 is none."""
    sent = timestamp(at_ms)
    assert (sent is None) == (at_ms == 0)
    assert time_ms(sent or Timestamp()) == at_ms


def test_name_that_the_core_does_not_have() -> None:
    """A number with a name on the wire, but none in the core, is taken for the default."""
    number = monitoring_pb2.USAGE_REPORT
    assert named(monitoring_pb2.EventTrigger.Name, number, Level, Level.PCC_RULE_LEVEL) is Level.PCC_RULE_LEVEL
