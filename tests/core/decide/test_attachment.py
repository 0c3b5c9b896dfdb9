"""After a restart: which sessions the access side still knows."""

from typing import Any

import pytest
from msgspec import structs

from sessiond.core.decide.attachment import Attachment, Attachments, can_be_asked_about, not_attached
from sessiond.core.draft import Draft
from sessiond.core.effects import DeactivateFlows, DeleteBearer
from sessiond.core.lifecycle import State
from sessiond.core.session import Context, Rat, Session
from tests.core.builders import lte_context, ocs, situation, started, static, wlan_context

AT = situation(ocs("video", 1))
SUBSCRIBER = lte_context().subscriber
V6 = "2001:db8:1:2::7"


def session(context: Context | None = None) -> Session:
    """Return a session in force."""
    return started(AT, installs=static("video"), context=context).session


def known(stands: Session, *, tells_ipv6: bool = True, **fields: Any) -> bool:
    """Whether a session stands by an answer with one attachment of its subscriber."""
    return Attachments([Attachment(subscriber=SUBSCRIBER, **fields)], tells_ipv6=tells_ipv6).has(stands)


def test_an_answer_that_does_not_name_the_subscriber_does_not_know_the_session() -> None:
    """Neither an empty answer nor one about others."""
    assert not Attachments([]).has(session())
    assert not Attachments([Attachment(subscriber="IMSI9", apn=lte_context().apn)]).has(session())


def test_the_session_id_decides_alone() -> None:
    """An attachment that names a session is of that one, whatever else is the same."""
    one = session()
    assert known(one, session_id=one.key)
    assert not known(one, session_id=f"{SUBSCRIBER}-1", apn=lte_context().apn, ue_ipv4=lte_context().ue_ipv4)


def test_an_address_decides_over_the_access_point() -> None:
    """A device that has another address by now is in another session."""
    context = lte_context(ue_ipv4="10.0.0.1", apn="internet")
    assert known(session(context), ue_ipv4="10.0.0.1", apn="other")
    assert not known(session(context), ue_ipv4="10.0.0.2", apn="internet")
    assert not known(session(context), ue_ipv6=V6, apn="internet")
    both = structs.replace(context, ue_ipv6=V6)
    assert known(session(both), ue_ipv6=V6)
    assert known(session(both), ue_ipv4="10.0.0.1")


def test_of_an_ipv6_address_the_prefix_counts() -> None:
    """The second half of its address is the device's own matter; text that is no address is none."""
    context = lte_context(ue_ipv4="", ue_ipv6=V6)
    assert known(session(context), ue_ipv6="2001:db8:1:2::")
    assert known(session(context), ue_ipv6="2001:0db8:0001:0002:ffff::1")
    assert not known(session(context), ue_ipv6="2001:db8:1:3::7")
    assert not known(session(context), ue_ipv6="not an address")


def test_without_an_address_the_access_point_decides() -> None:
    """On either side."""
    assert known(session(lte_context(apn="internet")), apn="internet")
    assert not known(session(lte_context(apn="internet")), apn="other")
    nowhere = session(lte_context(ue_ipv4="", ue_ipv6="", apn="internet"))
    assert known(nowhere, ue_ipv4="10.0.0.9", apn="internet")
    assert not known(nowhere, ue_ipv4="10.0.0.9", apn="other")


def test_who_does_not_tell_ipv6_says_nothing_about_who_has_nothing_else() -> None:
    """A session that has an IPv4 address too is among those that are told."""
    only_ipv6 = session(lte_context(ue_ipv4="", ue_ipv6=V6))
    assert Attachments([], tells_ipv6=False).has(only_ipv6)
    assert not Attachments([], tells_ipv6=True).has(only_ipv6)
    assert not Attachments([], tells_ipv6=False).has(session())


def test_a_session_of_no_gateway_is_nobody_elses_to_know() -> None:
    """It has no context, and stands."""
    assert Attachments([]).has(structs.replace(session(), context=None, gateway=None))


@pytest.mark.parametrize("state", State)
def test_active_lte_sessions_are_asked_about(state: State) -> None:
    """One that begins or ends is left to its timers; carrier wifi and other sessions have no MME."""
    one = session()
    in_state = structs.replace(one, head=structs.replace(one.head, state=state))
    assert can_be_asked_about(in_state) is (state is State.ACTIVE)
    assert not can_be_asked_about(structs.replace(one, context=None))
    wifi = session(wlan_context())
    assert wifi.context is not None
    assert wifi.context.rat is Rat.WLAN
    assert not can_be_asked_about(wifi)


def test_a_session_that_is_not_attached_is_released() -> None:
    """Its flows come down, its final usage is awaited, and the access side, which does not know it, is not told."""
    draft = Draft(session())
    assert not_attached(draft, AT)
    assert (draft.head.state, draft.head.reason) == (State.CLOSING, "NOT_ATTACHED")
    assert any(isinstance(effect, DeactivateFlows) and effect.everything for effect in draft.effects.values())
    assert not any(isinstance(effect, DeleteBearer) for effect in draft.effects.values())
    assert draft.gateway.decide_by_ms


def test_a_session_that_ends_anyway_is_left_alone() -> None:
    """Its reason stays that of its end."""
    draft = Draft(session())
    not_attached(draft, AT)
    again = Draft(draft.session())
    assert not not_attached(again, AT)
    assert not again.criteria()
