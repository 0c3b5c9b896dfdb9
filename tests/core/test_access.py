"""Access: it can only shrink, and every operation is held against it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sessiond.core.access import (
    LARGEST,
    MOST_ABOVE,
    Access,
    Isolation,
    Operation,
    Permissions,
    Place,
    Quota,
    allows,
    check_association,
    check_delegation,
    check_depth,
    check_isolation,
    check_isolation_wanted,
    check_namespace,
    check_narrowing,
    check_permission,
    check_quotas,
    check_quotas_delegated,
    check_quotas_wanted,
    check_usage,
    covers,
    excess,
    meet,
    remaining,
)
from sessiond.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    SessionError,
)

ALL = Permissions(execute_functions=True, compose_functions=True, read_across_sessions=True, write_across_sessions=True)
FUNCTIONS = ("a", "a.b", "a.b.c", "b", "")
_PATTERNS = st.lists(st.sampled_from(["a", "a*", "a.b", "a.b*", "a.b.c", "b", "b*", "*"]), max_size=3).map(tuple)
_NAMESPACES = st.lists(st.sampled_from(["one", "two", "three"]), max_size=3, unique=True).map(tuple)
accesses = st.builds(
    Access,
    st.builds(Permissions, **dict.fromkeys(Permissions.__struct_fields__, st.booleans())),
    st.builds(
        Isolation,
        readable_namespaces=_NAMESPACES,
        writable_namespaces=_NAMESPACES,
        allowed_functions=_PATTERNS,
        denied_functions=_PATTERNS,
        barrier=st.booleans(),
    ),
)


def access(permissions: Permissions = ALL, **isolation: Any) -> Access:
    """Return an access."""
    return Access(permissions, Isolation(**isolation))


def place(key: str = "me", namespace: str = "mine", *above: Place, allowed: Access | None = None) -> Place:
    """Return where a session stands that may do everything."""
    return Place(key, namespace, allowed or access(), above)


def refused(call: Callable[[], object]) -> SessionError:
    """Return the error of a call."""
    with pytest.raises(SessionError) as caught:
        call()
    return caught.value


def test_a_star_stands_for_any_ending() -> None:
    """What a name covers is what it stands for, and no more."""
    assert covers("a*", "a")
    assert covers("a*", "a.b*")
    assert covers("*", "anything")
    assert not covers("a.b*", "a*")
    assert not covers("a", "a.b")
    assert not covers("a", "a*")


@pytest.mark.parametrize(
    ("isolation", "function", "may"),
    [
        (Isolation(), "pay", True),
        (Isolation(allowed_functions=("pay*",)), "pay.out", True),
        (Isolation(allowed_functions=("pay",)), "pay.out", False),
        (Isolation(denied_functions=("pay*",)), "pay.out", False),
        (Isolation(allowed_functions=("pay*",), denied_functions=("pay.out",)), "pay.in", True),
        (Isolation(allowed_functions=("pay*",), denied_functions=("pay.out",)), "pay.out", False),
    ],
)
def test_functions_are_allowed_and_denied_by_name(isolation: Isolation, function: str, may: bool) -> None:
    """Denied wins over allowed, and no list allows all."""
    assert allows(isolation, function) is may


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        (access(Permissions()), access(Permissions(compose_functions=True)), "session.permissions.compose_functions"),
        (access(), access(readable_namespaces=("x",)), "session.isolation.readable_namespaces"),
        (access(), access(writable_namespaces=("x",)), "session.isolation.writable_namespaces"),
        (access(allowed_functions=("a",)), access(), "session.isolation.allowed_functions"),
        (access(allowed_functions=("a",)), access(allowed_functions=("a*",)), "session.isolation.allowed_functions"),
        (access(denied_functions=("a*",)), access(denied_functions=("a",)), "session.isolation.denied_functions"),
        (access(barrier=True), access(barrier=False), "session.isolation.barrier"),
    ],
)
def test_access_is_not_widened(before: Access, after: Access, field: str) -> None:
    """Each way to get more is refused by the path of its field; the way back is allowed."""
    error = refused(lambda: check_narrowing(before, after))
    assert isinstance(error, PermissionDenied)
    assert (error.reason, error.field) == ("PERMISSION_DENIED", field)
    check_narrowing(after, before)


@given(accesses, accesses)
def test_what_two_allow_is_within_both(one: Access, other: Access) -> None:
    """The meet of two accesses goes beyond neither, and lets no function be used that one of them forbids."""
    both = meet(one, other)
    assert list(excess(one, both)) == []
    assert list(excess(other, both)) == []
    for function in FUNCTIONS:
        expected = allows(one.isolation, function) and allows(other.isolation, function)
        assert allows(both.isolation, function) == expected


@given(accesses, accesses, accesses)
def test_narrowing_adds_up(one: Access, two: Access, three: Access) -> None:
    """Two narrowings one after the other are one; an access is always within itself."""
    check_narrowing(one, one)
    steps = [(one, two), (two, three)]
    if all(not _widens(*step) for step in steps):
        assert not _widens(one, three)


def _widens(before: Access, after: Access) -> bool:
    try:
        check_narrowing(before, after)
    except PermissionDenied:
        return True
    return False


@given(accesses, accesses)
def test_what_is_delegated_allows_no_more(parent: Access, child: Access) -> None:
    """What passes the check of a delegation permits nothing that the parent does not."""
    if list(excess(parent, child)):
        refused(lambda: check_delegation(parent, child))
        return
    check_delegation(parent, child)
    for name in Permissions.__struct_fields__:
        assert getattr(parent.permissions, name) or not getattr(child.permissions, name)


@pytest.mark.parametrize("operation", list(Operation))
def test_an_operation_needs_its_permission(operation: Operation) -> None:
    """Without it the operation is refused, whether the session lacks it or one above it."""
    target = place("other") if operation in {Operation.READ, Operation.WRITE} else None
    nothing = Access()
    check_permission(place(), operation, target)
    for poor in (place(allowed=nothing), place("me", "mine", place("parent", allowed=nothing))):
        error = refused(lambda poor=poor: check_permission(poor, operation, target))  # type: ignore[misc]
        assert error.reason == "PERMISSION_DENIED"


@pytest.mark.parametrize("operation", [Operation.READ, Operation.WRITE])
def test_what_is_its_own_needs_no_permission(operation: Operation) -> None:
    """A session reads and changes what belongs to itself."""
    own = place(allowed=Access())
    check_permission(own, operation, None)
    check_isolation(own, operation, "", None)


@pytest.mark.parametrize("operation", [Operation.EXECUTE, Operation.COMPOSE])
def test_functions_are_held_against_every_session_above(operation: Operation) -> None:
    """What a session above may not use, the one below may not either."""
    check_isolation(place(), operation, "pay", None)
    parent = place("parent", allowed=access(denied_functions=("pay",)))
    error = refused(lambda: check_isolation(place("me", "mine", parent), operation, "pay", None))
    assert isinstance(error, PermissionDenied)
    assert (error.reason, "parent" in error.text) == ("POLICY_VIOLATION", True)


def test_another_namespace_is_reached_only_if_it_is_named() -> None:
    """Reading and writing have lists of their own; the own namespace is always reached."""
    theirs = place("other", "theirs")
    reader = place(allowed=access(readable_namespaces=("theirs",)))
    check_isolation(reader, Operation.READ, "", theirs)
    check_isolation(place(), Operation.WRITE, "", place("other"))
    assert refused(lambda: check_isolation(reader, Operation.WRITE, "", theirs)).reason == "POLICY_VIOLATION"
    assert refused(lambda: check_isolation(place(), Operation.READ, "", theirs)).reason == "POLICY_VIOLATION"
    below = structs.replace(reader, above=(place("parent"),))
    assert refused(lambda: check_isolation(below, Operation.READ, "", theirs)).reason == "POLICY_VIOLATION"


def test_nobody_comes_through_a_barrier() -> None:
    """A barrier keeps others out of a session and of all below it; those below it do come to it."""
    walled = place("walled", allowed=access(barrier=True))
    inside = place("inside", "mine", walled)
    for target in (walled, inside):
        assert refused(lambda target=target: check_isolation(place(), Operation.READ, "", target)).reason == (  # type: ignore[misc]
            "POLICY_VIOLATION"
        )
    check_isolation(inside, Operation.READ, "", walled)
    check_isolation(place("twin", "mine", walled), Operation.WRITE, "", inside)


def test_usage_is_held_against_quotas() -> None:
    """What fits is allowed to the last unit; what has no quota has no limit."""
    quotas = {"executions": Quota(3, 2), "bytes": Quota(0)}
    check_usage(quotas, {"executions": 1, "sheep": LARGEST})
    error = refused(lambda: check_usage(quotas, {"executions": 2}))
    assert isinstance(error, ResourceExhausted)
    assert (error.reason, error.field) == ("QUOTA_EXCEEDED", "usage.executions")
    assert refused(lambda: check_usage(quotas, {"bytes": 1})).reason == "QUOTA_EXCEEDED"
    assert remaining({**quotas, "packets": Quota(1, 5)}) == {"executions": 1, "bytes": 0, "packets": 0}
    assert remaining({"sms": Quota(9)}, {"sms": Quota(9, 5), "bytes": Quota(7)}) == {"sms": 4, "bytes": 7}


def test_quotas_are_only_lowered() -> None:
    """A limit that is raised or left out is refused; a new one, and a lower one, is not."""
    before = {"executions": Quota(3, 2)}
    check_quotas(before, {"executions": 1, "bytes": 7})
    for after in ({"executions": 4}, {}):
        error = refused(lambda after=after: check_quotas(before, after))  # type: ignore[misc]
        assert (error.reason, error.field) == ("PERMISSION_DENIED", "session.quotas.executions")


def test_quotas_are_no_higher_than_those_above() -> None:
    """A limit above that of the session it is for is refused; where there is none above, any is allowed."""
    above = {"executions": Quota(3, 2)}
    check_quotas_delegated(above, {"executions": 3, "bytes": 9})
    check_quotas_delegated(above, {})
    error = refused(lambda: check_quotas_delegated(above, {"executions": 4}))
    assert (error.reason, error.field) == ("PERMISSION_DENIED", "session.quotas.executions")


def test_nothing_wider_is_tied_to_a_barrier() -> None:
    """Without a barrier anything is; behind one, only what has no more."""
    poor, rich = access(Permissions()), access()
    check_association(poor, rich)
    check_association(access(barrier=True), poor)
    walled = access(Permissions(), barrier=True)
    assert refused(lambda: check_association(walled, rich)).reason == "POLICY_VIOLATION"


@pytest.mark.parametrize("name", ["a", "a-b_c.D9", "x" * 64])
def test_namespaces(name: str) -> None:
    """Letters, digits, dots, underscores and hyphens."""
    assert check_namespace(name, "namespace") == name


@pytest.mark.parametrize("name", ["", "-", "a b", "a/", "*", "x" * 65, "é", "a."])
def test_what_is_no_namespace(name: str) -> None:
    """Anything else is refused by its field."""
    error = refused(lambda: check_namespace(name, "session.namespace"))
    assert isinstance(error, InvalidArgument)
    assert (error.reason, error.field) == ("INVALID_CONFIGURATION", "session.namespace")


@pytest.mark.parametrize(
    ("isolation", "field"),
    [
        (Isolation(readable_namespaces=("*",)), "session.isolation.readable_namespaces"),
        (Isolation(allowed_functions=("a*b",)), "session.isolation.allowed_functions"),
        (Isolation(allowed_functions=("",)), "session.isolation.allowed_functions"),
        (Isolation(denied_functions=("a b",)), "session.isolation.denied_functions"),
        (Isolation(denied_functions=("x" * 129,)), "session.isolation.denied_functions"),
        (Isolation(denied_functions=("x",) * 257), "session.isolation.denied_functions"),
    ],
)
def test_isolation_that_makes_no_sense(isolation: Isolation, field: str) -> None:
    """It is refused by the path of its field."""
    error = refused(lambda: check_isolation_wanted(isolation))
    assert (error.reason, error.field) == ("INVALID_CONFIGURATION", field)


def test_isolation_that_makes_sense() -> None:
    """Names, names with an ending left open, and all."""
    check_isolation_wanted(
        Isolation(readable_namespaces=("a",), allowed_functions=("a.b*", "*"), denied_functions=("c",))
    )


@pytest.mark.parametrize(
    ("quotas", "field"),
    [
        ({"": 1}, "session.quotas"),
        ({"a*": 1}, "session.quotas"),
        ({"x" * 129: 1}, "session.quotas"),
        ({"bytes": LARGEST + 1}, "session.quotas.bytes"),
        ({str(number): 1 for number in range(257)}, "session.quotas"),
    ],
)
def test_quotas_that_make_no_sense(quotas: dict[str, int], field: str) -> None:
    """They are refused by the path of their field."""
    error = refused(lambda: check_quotas_wanted(quotas))
    assert (error.reason, error.field) == ("INVALID_CONFIGURATION", field)


def test_quotas_that_make_sense() -> None:
    """Any name, up to the largest number."""
    check_quotas_wanted({"executions": 0, "sms": LARGEST})


def test_a_line_of_sessions_has_an_end() -> None:
    """So many may stand above a session, and no more."""
    check_depth(MOST_ABOVE)
    error = refused(lambda: check_depth(MOST_ABOVE + 1))
    assert isinstance(error, FailedPrecondition)
    assert error.reason == "TOO_DEEP"
