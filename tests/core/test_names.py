"""Names: what a session is found by beside its key and its scope."""

import msgspec
import pytest

from sessiond.core import names
from sessiond.core.lifecycle import State
from sessiond.core.session import Head, Identity, Peer, Session
from sessiond.testing.store_contract import session as gateway_session

CALL = Session(
    key="k",
    type="ussd",
    scope="k",
    head=Head(state=State.ACTIVE, created_at_ms=7),
    identity=Identity(data_source="boat", msisdn="+15550100001", number=3),
)


def in_state(state: State) -> Session:
    """Return the session in a state."""
    return msgspec.structs.replace(CALL, head=msgspec.structs.replace(CALL.head, state=state))


def known_as(**fields: str) -> Session:
    """Return the session with another identity."""
    assert CALL.identity is not None
    return msgspec.structs.replace(CALL, identity=msgspec.structs.replace(CALL.identity, **fields))


def test_a_session_has_a_name_for_its_data_source_and_one_for_its_number() -> None:
    """The list of the data source, and the claim of type and number."""
    assert names.names(CALL) == ("data-source:boat", "msisdn:ussd:+15550100001")


def test_a_session_between_nodes_has_a_name_for_the_address_of_the_other() -> None:
    """Beside its number, if it has one, or alone."""
    assert names.claims(msgspec.structs.replace(CALL, peer=Peer(address="n:1"))) == (
        "msisdn:ussd:+15550100001",
        "peer:ussd:n:1",
    )
    assert names.claims(msgspec.structs.replace(known_as(msisdn=""), peer=Peer(address="n:1"))) == ("peer:ussd:n:1",)
    assert names.claims(msgspec.structs.replace(known_as(msisdn=""), peer=Peer())) == ()


def test_without_data_source_and_number_there_are_no_names() -> None:
    """An identity alone names nobody; nor does a gateway session, which has no identity."""
    assert names.names(known_as(data_source="", msisdn="")) == ()
    assert names.names(gateway_session()) == names.lists(gateway_session()) == names.claims(gateway_session()) == ()


@pytest.mark.parametrize("state", State)
def test_who_is_over_claims_nothing(state: State) -> None:
    """In all states before the end the claim stands; the list of the data source has ended sessions too."""
    is_over = state in {State.CLOSING, State.CLOSED}
    assert names.claims(in_state(state)) == (() if is_over else ("msisdn:ussd:+15550100001",))
    assert names.lists(in_state(state)) == ("data-source:boat",)


def test_a_change_can_take_a_name_but_not_give_one() -> None:
    """The end frees the claim; another number, or a first one, is refused; a name for people is none of these."""
    names.check_change(CALL, in_state(State.CLOSED))
    names.check_change(CALL, known_as(identifier="a name for people"))
    names.check_change(CALL, CALL)
    with pytest.raises(ValueError, match="peer:ussd:n:1"):
        names.check_change(CALL, msgspec.structs.replace(CALL, peer=Peer(address="n:1")))
    with pytest.raises(ValueError, match="msisdn:ussd:\\+2"):
        names.check_change(CALL, known_as(msisdn="+2"))


def test_age_is_by_creation_then_by_number() -> None:
    """Sessions of one moment are told apart by their number, and those without one by their key."""
    assert names.age(CALL) == (7, 3, "k")
    assert names.age(gateway_session())[1] == 0
