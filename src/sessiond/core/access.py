"""Access: what a session may do, what it may reach, and how much it may use (requirements L4 and L5)."""

from msgspec import Struct


class Permissions(Struct, frozen=True, kw_only=True):
    """What a session may do; everything is off unless its profile or its owner turns it on."""

    execute_functions: bool = False
    compose_functions: bool = False
    read_across_sessions: bool = False
    write_across_sessions: bool = False


class Isolation(Struct, frozen=True, kw_only=True):
    """What a session may reach beside its own namespace; a trailing `*` in a function stands for any ending."""

    readable_namespaces: tuple[str, ...] = ()
    writable_namespaces: tuple[str, ...] = ()
    allowed_functions: tuple[str, ...] = ()
    """Empty: all."""
    denied_functions: tuple[str, ...] = ()
    barrier: bool = False
    """Sessions tied to it get nothing through it that they do not have themselves."""


class Access(Struct, frozen=True):
    """The rights of one session; they can only be narrowed."""

    permissions: Permissions = Permissions()
    isolation: Isolation = Isolation()


class Quota(Struct, frozen=True):
    """How much of one resource a session may use over its life, and has used, in the unit of the resource."""

    limit: int
    used: int = 0
