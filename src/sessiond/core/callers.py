"""Callers: who makes a call, and whose sessions it may read and change."""

from typing import Final

from msgspec import Struct

from sessiond.core.access import DEFAULT_NAMESPACE, Isolation, covers
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound, PermissionDenied
from sessiond.core.session import Session


class Caller(Struct, frozen=True, gc=False):
    """Who makes a call: the namespaces whose sessions it may change and read; a name may end in `*`."""

    name: str
    writable: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    """Beside those that are writable."""
    operator: bool = False
    """Whether it may run the daemon."""

    def may_write(self, namespace: str) -> bool:
        """Whether sessions of a namespace are this caller's to make and to change."""
        return any(covers(name, namespace) for name in self.writable)

    def may_read(self, namespace: str) -> bool:
        """Whether sessions of a namespace are shown to this caller; what is sensitive in them only if it may write."""
        return self.may_write(namespace) or any(covers(name, namespace) for name in self.readable)


EVERYBODY: Final = Caller("", writable=("*",), operator=True)
"""Who calls where nobody is asked who he is."""


def namespace_of(session: Session | Draft) -> str:
    """Return the namespace that a session belongs to."""
    identity = session.identity
    return (identity.namespace if identity else "") or DEFAULT_NAMESPACE


def check_reading(caller: Caller, key: str, namespace: str) -> None:
    """Refuse to show a session; what may not be seen is said not to be there, so that nothing can be learnt of it."""
    if not caller.may_read(namespace):
        raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")


def check_writing(caller: Caller, key: str, namespace: str) -> None:
    """Refuse to change a session that is not the caller's."""
    check_reading(caller, key, namespace)
    if not caller.may_write(namespace):
        raise PermissionDenied("PERMISSION_DENIED", f"{caller.name} may only read sessions of namespace {namespace}")


def check_operator(caller: Caller) -> None:
    """Refuse what is for operators."""
    if not caller.operator:
        raise PermissionDenied("PERMISSION_DENIED", f"{caller.name} is no operator")


def home(caller: Caller, default: str = DEFAULT_NAMESPACE) -> str:
    """Return the namespace of a session for which none is wanted: the default, or the caller's first own."""
    if caller.may_write(default):
        return default
    return next((name for name in caller.writable if not name.endswith("*")), default)


def check_creation(caller: Caller, namespace: str, isolation: Isolation) -> None:
    """Refuse a session in a namespace that is not the caller's, or that reaches what the caller does not."""
    if not caller.may_write(namespace):
        text = f"{caller.name} has no sessions in namespace {namespace}"
        raise PermissionDenied("PERMISSION_DENIED", text, field="session.namespace")
    for field, reaches in (("readable_namespaces", caller.may_read), ("writable_namespaces", caller.may_write)):
        for name in getattr(isolation, field):
            if not reaches(name):
                text = f"{caller.name} does not reach the namespace {name} itself"
                raise PermissionDenied("PERMISSION_DENIED", text, field=f"session.isolation.{field}")
