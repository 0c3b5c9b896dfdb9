"""Changes: what owners of native sessions may say anew; what is not said stays."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType, structs

from sessiond.core.access import (
    Access,
    Isolation,
    Permissions,
    Quota,
    check_isolation_wanted,
    check_narrowing,
    check_quotas,
    check_quotas_wanted,
)
from sessiond.core.callers import namespace_of
from sessiond.core.decide import data
from sessiond.core.decide.native import held
from sessiond.core.draft import Draft
from sessiond.core.errors import InvalidArgument
from sessiond.core.profiles import Profile
from sessiond.core.session import GivenTime, Options
from sessiond.core.situation import Situation


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be changed; times in unix milliseconds, spans in milliseconds, 0: without end."""

    same: Mapping[str, str] = {}
    """What is said again and cannot be changed, by field."""
    identifier: str | UnsetType = UNSET
    version: int | UnsetType = UNSET
    utc_offset: GivenTime | UnsetType | None = UNSET
    details: Mapping[str, Any] | UnsetType = UNSET
    """Entries to put in place of those of the same name; None takes one away."""
    only_these_details: bool = False
    """Entries that are not named go."""
    sensitive_details: tuple[str, ...] | UnsetType = UNSET
    expire_at_ms: int | UnsetType = UNSET
    ttl_ms: int | UnsetType = UNSET
    max_duration_ms: int | UnsetType = UNSET
    idle_timeout_ms: int | UnsetType = UNSET
    options: Options | UnsetType = UNSET
    """How it is run from now on, but for what its owner says elsewhere."""
    permissions: Permissions | UnsetType = UNSET
    isolation: Isolation | UnsetType = UNSET
    quotas: Mapping[str, int | None] | UnsetType = UNSET
    """New limits by resource; None takes one away."""


_KNOWN: Final[Mapping[str, Callable[[Draft], str]]] = {
    "type": lambda draft: draft.type,
    "namespace": namespace_of,
    "parent_key": lambda draft: draft.identity.parent if draft.identity is not None else "",
}
"""How fields that cannot be changed are read, where they are not in the identity by their own name."""


def change(draft: Draft, wanted: Wanted, profile: Profile, at: Situation) -> None:
    """Change a native session; what contradicts itself or the profile is refused."""
    _check_same(draft, wanted)
    _change_identity(draft, wanted)
    _change_limits(draft, wanted, at)
    _change_options(draft, wanted)
    _change_access(draft, wanted)
    if wanted.details is not UNSET:
        details = wanted.details
        if wanted.only_these_details:
            details = {**dict.fromkeys(draft.details), **details}
        data.merge(draft, details, profile)


def _check_same(draft: Draft, wanted: Wanted) -> None:
    """Refuse another value of what cannot be changed."""
    for field, value in wanted.same.items():
        known = _KNOWN[field](draft) if field in _KNOWN else getattr(draft.identity, field, "")
        if value != known:
            text = f"{field} is {known!r} and cannot be changed"
            raise InvalidArgument("FIELD_IMMUTABLE", text, field=f"session.{field}")


def _change_options(draft: Draft, wanted: Wanted) -> None:
    if wanted.options is not UNSET:
        names = ("auto_expire", "execution_logging", "performance_monitoring")
        _set(draft, "options", draft.options, **{name: getattr(wanted.options, name) for name in names})
    _set(draft, "options", draft.options, sensitive_details=wanted.sensitive_details)


def _change_access(draft: Draft, wanted: Wanted) -> None:
    """Narrow what a session may do, reach and use; what would widen it is refused."""
    before = draft.access
    after = Access(
        before.permissions if wanted.permissions is UNSET else wanted.permissions,
        before.isolation if wanted.isolation is UNSET else wanted.isolation,
    )
    if after != before:
        check_isolation_wanted(after.isolation)
        check_narrowing(before, after)
        draft.put("access", "", after)
    if wanted.quotas is not UNSET:
        limits = {resource: limit for resource, limit in wanted.quotas.items() if limit is not None}
        check_quotas_wanted(limits)
        check_quotas(draft.quotas, limits)
        for resource, limit in limits.items():
            known = draft.quotas.get(resource)
            if known is None:
                draft.put("quotas", resource, Quota(limit))
            elif known.limit != limit:
                draft.set("quotas", resource, limit=limit)


def _change_identity(draft: Draft, wanted: Wanted) -> None:
    said = {"identifier": wanted.identifier, "version": wanted.version, "utc_offset": wanted.utc_offset}
    _set(draft, "identity", draft.identity, **said)


def _change_limits(draft: Draft, wanted: Wanted, at: Situation) -> None:
    """Change when time ends the session; its maximum duration can only be lowered, and holds every other time."""
    before, created_at_ms = draft.limits, draft.head.created_at_ms
    max_duration_ms = before.max_duration_ms
    if wanted.max_duration_ms is not UNSET:
        max_duration_ms = wanted.max_duration_ms
        if before.max_duration_ms and not 0 < max_duration_ms <= before.max_duration_ms:
            raise _contradiction("the maximum duration can only be lowered", "max_duration")
    expire_at_ms = before.expire_at_ms
    if wanted.expire_at_ms is not UNSET and wanted.ttl_ms is not UNSET:
        raise _contradiction("expire_time and ttl exclude each other", "ttl")
    if wanted.expire_at_ms is not UNSET:
        expire_at_ms = wanted.expire_at_ms
        if 0 < expire_at_ms <= at.now_ms:
            raise _contradiction("that time is over: end the session to have it over", "expire_time")
    elif wanted.ttl_ms is not UNSET:
        expire_at_ms = at.now_ms + wanted.ttl_ms
    expire_at_ms = held(expire_at_ms, max_duration_ms, created_at_ms)
    after = structs.replace(
        before,
        expire_at_ms=expire_at_ms,
        max_duration_ms=max_duration_ms,
        idle_timeout_ms=before.idle_timeout_ms if wanted.idle_timeout_ms is UNSET else wanted.idle_timeout_ms,
    )
    if after != before:
        draft.put("limits", "", after)


def _set(draft: Draft, part: str, before: Struct | None, **said: Any) -> None:
    """Set the fields of a part that are said, and differ."""
    changed = {name: value for name, value in said.items() if value is not UNSET and value != getattr(before, name)}
    if changed:
        draft.set(part, **changed)


def _contradiction(text: str, field: str) -> InvalidArgument:
    return InvalidArgument("INVALID_CONFIGURATION", text, field=f"session.{field}")
