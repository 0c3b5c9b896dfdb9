"""Access: what a session may do, reach and use. Decided here, enforced on every call; who may call: `core.callers`.

A session never gets more than it was made with: its access can only be narrowed, and a session made on behalf of
another one (its parent) has nothing that the other has not, now or later.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from msgspec import Struct

from sessiond.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied, ResourceExhausted

DEFAULT_NAMESPACE: Final = "default"
"""The namespace of sessions of which nobody said another one, those of the other surfaces among them."""
EXECUTIONS: Final = "executions"
"""The resource that every authorised execution uses one of."""
MOST_ABOVE: Final = 8
"""How long a line of sessions can be, each of which acts for the next."""
MOST_NAMES: Final = 256
LONGEST_NAME: Final = 128
LARGEST: Final = 2**63 - 1
"""The most of a resource that can be counted."""

Item = TypeVar("Item")

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_NAME: Final = re.compile(r"[^*\s]+\*?|\*")


class Permissions(Struct, frozen=True, gc=False, kw_only=True):
    """What a session may do; all off unless its profile or its maker turns it on."""

    execute_functions: bool = False
    compose_functions: bool = False
    read_across_sessions: bool = False
    write_across_sessions: bool = False


class Isolation(Struct, frozen=True, gc=False, kw_only=True):
    """What a session may reach beside its own namespace; a trailing `*` in a function stands for any ending."""

    readable_namespaces: tuple[str, ...] = ()
    writable_namespaces: tuple[str, ...] = ()
    allowed_functions: tuple[str, ...] = ()
    """Those it may execute; none: all."""
    denied_functions: tuple[str, ...] = ()
    barrier: bool = False
    """No other session reaches this one or those below it, whatever the other's permissions are."""


class Access(Struct, frozen=True, gc=False):
    """What a session may do and reach."""

    permissions: Permissions = Permissions()
    isolation: Isolation = Isolation()


class Quota(Struct, frozen=True, gc=False):
    """How much of one resource a session may use over its life, and what it has used."""

    limit: int
    used: int = 0


class Operation(StrEnum):
    """What somebody wants to do in a session."""

    EXECUTE = "EXECUTE"
    COMPOSE = "COMPOSE"
    READ = "READ"
    WRITE = "WRITE"


PERMISSION_FOR: Final[dict[Operation, str]] = {
    Operation.EXECUTE: "execute_functions",
    Operation.COMPOSE: "compose_functions",
    Operation.READ: "read_across_sessions",
    Operation.WRITE: "write_across_sessions",
}
"""The permission that an operation needs; reading and writing what is a session's own needs none."""


class Place(Struct, frozen=True, gc=False):
    """Where a session stands: its key and namespace, its access, and the keys and accesses of those above it."""

    key: str
    namespace: str
    access: Access
    above: tuple["Place", ...] = ()
    """Its parent, the parent of that, and so on."""


# -- narrowing


def covers(wide: str, narrow: str) -> bool:
    """Whether a name, which may end in `*`, stands for all that another one stands for."""
    return narrow.startswith(wide[:-1]) if wide.endswith("*") else narrow == wide


def excess(limit: Access, wanted: Access) -> Iterator[str]:
    """Yield the paths of the fields in which an access goes beyond another one."""
    for name in Permissions.__struct_fields__:
        if getattr(wanted.permissions, name) and not getattr(limit.permissions, name):
            yield f"session.permissions.{name}"
    for name in ("readable_namespaces", "writable_namespaces"):
        if not set(getattr(wanted.isolation, name)) <= set(getattr(limit.isolation, name)):
            yield f"session.isolation.{name}"
    allowed, nothing = limit.isolation.allowed_functions, "*" in wanted.isolation.denied_functions
    if allowed and not nothing and not _all_covered(allowed, wanted.isolation.allowed_functions):
        yield "session.isolation.allowed_functions"


def check_narrowing(before: Access, after: Access) -> None:
    """Refuse a change of a session's access that widens it, by the path of the field that does."""
    wider = [*excess(before, after), *_given_up(before.isolation, after.isolation)]
    if wider:
        text = "what a session may do and reach can only be narrowed"
        raise PermissionDenied("PERMISSION_DENIED", text, field=wider[0])


def _given_up(before: Isolation, after: Isolation) -> Iterator[str]:
    """Yield the paths of the fields in which what keeps a session apart is given up."""
    if not all(any(covers(new, old) for new in after.denied_functions) for old in before.denied_functions):
        yield "session.isolation.denied_functions"
    if before.barrier and not after.barrier:
        yield "session.isolation.barrier"


def check_quotas(before: Mapping[str, Quota], after: Mapping[str, int]) -> None:
    """Refuse limits that are higher than a session has, or left out; a resource without a limit may get one."""
    for resource, quota in before.items():
        if resource not in after or after[resource] > quota.limit:
            text = f"the quota of {resource} is {quota.limit} and can only be lowered"
            raise PermissionDenied("PERMISSION_DENIED", text, field=f"session.quotas.{resource}")


def check_delegation(parent: Access, wanted: Access) -> None:
    """Refuse what a session is to have on behalf of another one that has not got it itself."""
    if beyond := next(excess(parent, wanted), None):
        text = "a session cannot have what the session it acts for has not"
        raise PermissionDenied("PERMISSION_DENIED", text, field=beyond)


def check_quotas_delegated(parent: Mapping[str, Quota], wanted: Mapping[str, int]) -> None:
    """Refuse a quota that is higher than that of the session it is for."""
    for resource, quota in parent.items():
        if wanted.get(resource, 0) > quota.limit:
            text = f"the session it acts for has a quota of {quota.limit}"
            raise PermissionDenied("PERMISSION_DENIED", text, field=f"session.quotas.{resource}")


def check_association(barrier: Access, other: Access) -> None:
    """Refuse to tie a session to one with a barrier that has not got all that the other has."""
    if barrier.isolation.barrier and (beyond := next(excess(barrier, other), None)):
        raise _violation(f"the other session has more, {beyond}, and nothing comes through the barrier of this one")


def meet(one: Access, other: Access) -> Access:
    """Return what two accesses both allow; the barrier is that of the first."""
    permissions = Permissions(**{
        name: getattr(one.permissions, name) and getattr(other.permissions, name)
        for name in Permissions.__struct_fields__
    })  # fmt: skip
    mine, theirs = one.isolation, other.isolation
    allowed = _common(mine.allowed_functions, theirs.allowed_functions)
    denied = tuple(dict.fromkeys((*mine.denied_functions, *theirs.denied_functions)))
    if not allowed and mine.allowed_functions:
        allowed, denied = mine.allowed_functions, (*denied, "*")  # nothing in common, and none would mean all
    return Access(
        permissions=permissions,
        isolation=Isolation(
            readable_namespaces=_in_both(mine.readable_namespaces, theirs.readable_namespaces),
            writable_namespaces=_in_both(mine.writable_namespaces, theirs.writable_namespaces),
            allowed_functions=allowed,
            denied_functions=denied,
            barrier=mine.barrier,
        ),
    )


def _all_covered(limit: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a list of names, none of which would mean all, stays within another one."""
    return bool(wanted) and all(any(covers(wide, narrow) for wide in limit) for narrow in wanted)


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    if not (one and other):
        return one or other
    narrow = [name for name in one if any(covers(wide, name) for wide in other)]
    return tuple(dict.fromkeys((*narrow, *(name for name in other if any(covers(wide, name) for wide in one)))))


def _in_both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in one if name in other)


# -- authorising


def check_permission(place: Place, operation: Operation, target: Place | None) -> None:
    """Refuse an operation for which a session, or one above it, has no permission; a target is another session."""
    if target is None and operation in {Operation.READ, Operation.WRITE}:
        return
    needed = PERMISSION_FOR[operation]
    for session in (place, *place.above):
        if not getattr(session.access.permissions, needed):
            raise PermissionDenied("PERMISSION_DENIED", f"session {session.key} has no permission {needed}")


def check_isolation(place: Place, operation: Operation, function: str, target: Place | None) -> None:
    """Refuse what isolation forbids a session, or one above it."""
    if target is not None:
        _check_reach(place, operation, target)
    elif operation in {Operation.EXECUTE, Operation.COMPOSE}:
        for session in (place, *place.above):
            if not allows(session.access.isolation, function):
                raise _violation(f"session {session.key} may not use the function {function}")


def allows(isolation: Isolation, function: str) -> bool:
    """Whether a function may be used."""
    allowed = isolation.allowed_functions
    if allowed and not any(covers(name, function) for name in allowed):
        return False
    return not any(covers(name, function) for name in isolation.denied_functions)


def _check_reach(place: Place, operation: Operation, target: Place) -> None:
    """Refuse a target in a namespace that is closed, or behind a barrier."""
    field = "readable_namespaces" if operation is Operation.READ else "writable_namespaces"
    for session in (place, *place.above):
        if target.namespace not in {session.namespace, *getattr(session.access.isolation, field)}:
            raise _violation(f"session {session.key} does not reach the namespace {target.namespace}")
    within = {session.key for session in (place, *place.above)}
    for session in (target, *target.above):
        if session.access.isolation.barrier and session.key not in within:
            raise _violation(f"session {session.key} has a barrier")


def _violation(text: str) -> PermissionDenied:
    return PermissionDenied("POLICY_VIOLATION", text)


def check_usage(quotas: Mapping[str, Quota], usage: Mapping[str, int]) -> None:
    """Refuse usage for which a quota has not enough left; what has no quota has no limit."""
    for resource, amount in usage.items():
        quota = quotas.get(resource)
        if quota is not None and quota.used + amount > quota.limit:
            text = f"the quota of {resource} is {quota.limit}, of which {quota.used} are used: no {amount} more"
            raise ResourceExhausted("QUOTA_EXCEEDED", text, field=f"usage.{resource}")


def remaining(*quotas: Mapping[str, Quota]) -> dict[str, int]:
    """Return what is left of each resource, where several quotas hold the least of them."""
    left: dict[str, int] = {}
    for resource, quota in (item for held in quotas for item in held.items()):
        least = max(0, quota.limit - quota.used)
        left[resource] = min(least, left.get(resource, least))
    return left


# -- what is wanted


def check_namespace(namespace: str, field: str) -> str:
    """Return a namespace that can be one; refuse others by field path."""
    if not _NAMESPACE.fullmatch(namespace):
        text = f"{namespace[:70]!r} is no namespace: 1 to 64 letters, digits, dots, underscores and hyphens"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field=field)
    return namespace


def check_isolation_wanted(isolation: Isolation) -> None:
    """Refuse lists that are too long, and names that are none."""
    for field in ("readable_namespaces", "writable_namespaces"):
        for name in _not_too_many(getattr(isolation, field), field):
            check_namespace(name, f"session.isolation.{field}")
    for field in ("allowed_functions", "denied_functions"):
        for name in _not_too_many(getattr(isolation, field), field):
            if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
                text = (
                    f"{name[:40]!r} is no function: up to {LONGEST_NAME} characters without spaces, `*` only at the end"
                )
                raise InvalidArgument("INVALID_CONFIGURATION", text, field=f"session.isolation.{field}")


def check_quotas_wanted(quotas: Mapping[str, int]) -> None:
    """Refuse quotas that cannot be counted."""
    for resource, limit in _not_too_many(quotas.items(), "quotas"):
        if not _NAME.fullmatch(resource) or resource.endswith("*") or len(resource) > LONGEST_NAME:
            raise InvalidArgument("INVALID_CONFIGURATION", f"{resource[:40]!r} is no resource", field="session.quotas")
        if limit > LARGEST:
            text = f"a quota is at most {LARGEST}"
            raise InvalidArgument("INVALID_CONFIGURATION", text, field=f"session.quotas.{resource}")


def _not_too_many(items: Iterable[Item], field: str) -> list[Item]:
    found = list(items)
    if len(found) > MOST_NAMES:
        path = "session.quotas" if field == "quotas" else f"session.isolation.{field}"
        text = f"{len(found)} entries, more than {MOST_NAMES}"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field=path)
    return found


# -- acting for another


def check_depth(above: int) -> None:
    """Refuse a session that would stand too deep."""
    if above > MOST_ABOVE:
        text = f"a session can have at most {MOST_ABOVE} sessions above it"
        raise FailedPrecondition("TOO_DEEP", text)
