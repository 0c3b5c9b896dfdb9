"""Secrecy: what is sensitive is shown by a mask."""

import pytest

from sessiond.core.decide.native import NewSession, new_session
from sessiond.core.errors import InvalidArgument
from sessiond.core.profiles import Profile
from sessiond.core.secrecy import check_values, place_of_detail, place_of_secret, sensitive, shown
from sessiond.core.session import Session
from tests.core.builders import situation, started


def made(*names: str) -> Session:
    """Return a session with some sensitive details."""
    wanted = NewSession(type="ussd", details={"pin": "sealed", "step": "1"}, sensitive_details=names)
    return new_session("k", wanted, Profile(), None, situation())


def test_what_is_sensitive_has_a_mask() -> None:
    """The other entries are shown as they are; what is not there is not made up."""
    assert shown(made("pin", "none")) == {"pin": "***", "step": "1"}
    assert shown(made()) == {"pin": "sealed", "step": "1"}
    assert sensitive(made("pin")) == ("pin",)
    gateway = started(situation(), credits_=[]).session
    assert (sensitive(gateway), shown(gateway)) == ((), {})


def test_a_mask_is_no_value() -> None:
    """It is refused by the path of its entry, if that is sensitive."""
    check_values({"pin": "1234", "step": "***"}, ["pin", "none"])
    with pytest.raises(InvalidArgument) as caught:
        check_values({"pin": "***"}, ["pin"])
    assert caught.value.field == "session.details.pin"


def test_places_differ() -> None:
    """A seal for one session or name is none for another."""
    places = {place_of_detail("k", "a"), place_of_detail("k", "b"), place_of_detail("j", "a"), place_of_secret("k")}
    assert len(places) == 4
