"""Callers: what each may read and change."""

from collections.abc import Callable

import pytest

from sessiond.core.access import Isolation
from sessiond.core.callers import (
    EVERYBODY,
    Caller,
    check_creation,
    check_operator,
    check_reading,
    check_writing,
    home,
    namespace_of,
)
from sessiond.core.decide.native import NewSession, new_session
from sessiond.core.errors import NotFound, PermissionDenied, SessionError
from sessiond.core.profiles import Profile
from tests.core.builders import situation, started

BILLING = Caller("billing", writable=("billing", "pay-*"), readable=("ussd",))


def refused(call: Callable[[], object]) -> SessionError:
    """Return the error of a call."""
    with pytest.raises(SessionError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("namespace", "reads", "writes"),
    [("billing", True, True), ("pay-2", True, True), ("ussd", True, False), ("voice", False, False)],
)
def test_a_caller_has_its_namespaces(namespace: str, reads: bool, writes: bool) -> None:
    """Those it may change it may read too."""
    assert (BILLING.may_read(namespace), BILLING.may_write(namespace)) == (reads, writes)
    assert EVERYBODY.may_read(namespace)
    assert EVERYBODY.may_write(namespace)


def test_what_may_not_be_seen_is_not_there() -> None:
    """A session of a closed namespace is not found, for reading and for writing alike."""
    check_reading(BILLING, "k", "ussd")
    check_writing(BILLING, "k", "billing")
    for check in (check_reading, check_writing):
        error = refused(lambda check=check: check(BILLING, "k", "voice"))  # type: ignore[misc]
        assert isinstance(error, NotFound)
        assert (error.reason, error.text) == ("SESSION_NOT_FOUND", "there is no session k")


def test_what_may_only_be_seen_is_not_changed() -> None:
    """A session of a namespace that is only readable says so."""
    error = refused(lambda: check_writing(BILLING, "k", "ussd"))
    assert isinstance(error, PermissionDenied)
    assert error.reason == "PERMISSION_DENIED"


def test_every_session_has_a_namespace() -> None:
    """Those of which nobody said one, and those of other surfaces, have the default one."""
    for namespace, expected in (("", "default"), ("billing", "billing")):
        wanted = NewSession(type="ussd", namespace=namespace)
        assert namespace_of(new_session("k", wanted, Profile(), None, situation())) == expected
    assert namespace_of(started(situation(), credits_=[]).session) == "default"


def test_operators() -> None:
    """Who is none may not run the daemon."""
    check_operator(EVERYBODY)
    assert refused(lambda: check_operator(BILLING)).reason == "PERMISSION_DENIED"


def test_a_session_is_at_home_where_its_maker_is() -> None:
    """Without a wish it comes into the default namespace, or into the first of the caller's own."""
    assert home(EVERYBODY) == "default"
    assert home(EVERYBODY, "calls") == "calls"
    assert home(BILLING) == "billing"
    assert home(Caller("x", writable=("a-*",))) == "default"


@pytest.mark.parametrize(
    ("namespace", "isolation", "field"),
    [
        ("ussd", Isolation(), "session.namespace"),
        ("billing", Isolation(readable_namespaces=("ussd", "voice")), "session.isolation.readable_namespaces"),
        ("billing", Isolation(writable_namespaces=("ussd",)), "session.isolation.writable_namespaces"),
    ],
)
def test_a_session_reaches_no_further_than_its_maker(namespace: str, isolation: Isolation, field: str) -> None:
    """More is refused by the path of the field."""
    error = refused(lambda: check_creation(BILLING, namespace, isolation))
    assert isinstance(error, PermissionDenied)
    assert (error.reason, error.field) == ("PERMISSION_DENIED", field)


def test_a_session_reaches_as_far_as_its_maker() -> None:
    """What the maker reaches, the session may too."""
    isolation = Isolation(readable_namespaces=("ussd", "pay-1"), writable_namespaces=("pay-1",))
    check_creation(BILLING, "billing", isolation)
