"""Names of sessions, subscribers and credits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import InvalidArgument
from sessiond.core.ids import SESSION_NUMBERS, check_subscriber, credit_key, credit_key_parts, scope_of, session_id

GROUPS = st.integers(0, 2**32 - 1)


@given(st.text("0123456789", min_size=1, max_size=15))
def test_a_subscriber_is_imsi_and_up_to_15_digits(digits: str) -> None:
    """TS 23.003 clause 2.2: a well-formed subscriber id is taken as it is."""
    assert check_subscriber(f"IMSI{digits}", "sid.id") == f"IMSI{digits}"


@pytest.mark.parametrize(
    "subscriber",
    [
        "001010000000001",
        "IMSI",
        "IMSI0010100000000012",
        "imsi001010000000001",
        "IMSI00101000000000x",
        "IMSI001010000000001\n",
        " IMSI001010000000001",
        "IMSI001010000000001-7",
        "IMSI\N{ARABIC-INDIC DIGIT ONE}",
        "IMSI00\N{DEVANAGARI DIGIT ONE}",
    ],
)
def test_a_malformed_subscriber_is_refused(subscriber: str) -> None:
    """What is not IMSI and ASCII digits is refused, with the field it came in."""
    with pytest.raises(InvalidArgument) as refusal:
        check_subscriber(subscriber, "common_context.sid.id")
    assert (refusal.value.reason, refusal.value.field) == ("SUBSCRIBER_ID_MALFORMED", "common_context.sid.id")


def test_an_empty_subscriber_is_refused() -> None:
    """A missing id has a reason of its own."""
    with pytest.raises(InvalidArgument) as refusal:
        check_subscriber("", "sid.id")
    assert (refusal.value.reason, refusal.value.field) == ("SUBSCRIBER_ID_MISSING", "sid.id")


def test_a_long_subscriber_is_not_repeated_whole() -> None:
    """A refusal quotes what came, but not without end."""
    with pytest.raises(InvalidArgument) as refusal:
        check_subscriber("IMSI" + "1" * 10_000, "sid.id")
    assert len(refusal.value.text) < 200


@given(st.integers(0, SESSION_NUMBERS - 1))
def test_a_session_id_is_subscriber_dash_number(number: int) -> None:
    """Session_proxy finds the subscriber before the one dash (reference: rpc.md 0.1)."""
    subscriber, dash, rest = session_id("IMSI001010000000001", number).partition("-")
    assert (subscriber, dash, int(rest), str(number)) == ("IMSI001010000000001", "-", number, rest)


@given(st.integers(0, SESSION_NUMBERS - 1))
def test_sessions_of_a_subscriber_have_its_scope(number: int) -> None:
    """All gateway sessions of a subscriber are kept together, under the subscriber's name."""
    assert scope_of(session_id("IMSI001010000000001", number)) == "IMSI001010000000001"


@pytest.mark.parametrize(
    "key", ["IMSI001010000000001", "IMSI001010000000001-1234567", "IMSI1-", "IMSI-1", "sms-7", "IMSI1-1\n", ""]
)
def test_any_other_session_has_a_scope_of_its_own(key: str) -> None:
    """A key that is not that of a gateway session is its own scope."""
    assert scope_of(key) == key


@given(GROUPS, st.none() | st.integers(1, 2**32 - 1))
def test_a_credit_key_has_its_parts(rating_group: int, identifier: int | None) -> None:
    """Rating group and service identifier are read back exactly: no two credits share a key."""
    assert credit_key_parts(credit_key(rating_group, identifier)) == (rating_group, identifier)


@given(GROUPS)
def test_service_identifier_zero_is_none(rating_group: int) -> None:
    """An absent identifier and 0 are the same credit, as on the wire."""
    assert credit_key(rating_group, 0) == credit_key(rating_group) == str(rating_group)
