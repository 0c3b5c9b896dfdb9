"""What the configuration means to sessions of each type: the built-in profiles, but for what the file says."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import structs

from sessiond.core.access import Access, Permissions, Quota
from sessiond.core.profiles import BUILT_IN, Profile
from sessiond.core.session import Options
from sessiond.daemon import config

_SPANS: Final = {
    "ttl_s": "ttl_ms",
    "idle_limit_s": "idle_timeout_ms",
    "maximum_duration_s": "max_duration_ms",
    "confirm_within_s": "confirm_within_ms",
    "key_rotation_interval_s": "key_rotation_interval_ms",
    "activate_within_s": "activate_within_ms",
    "resumption_age_s": "resumption_age_ms",
    "retention_after_end_s": "retention_after_end_ms",
}
"""Keys of the file in seconds, and the fields in milliseconds that they are."""
_USED_UP: Final = ("executions", "bytes")
"""The quotas that are used up; the others only limit what is there at a time."""


def profiles_of(keys: config.Keys) -> dict[str, Profile]:
    """Return how sessions behave, by type: as built in, but for what the file says."""
    types = BUILT_IN.keys() | keys.profiles.keys()
    return {name: _profile(BUILT_IN.get(name, Profile()), keys.profiles.get(name, config.Profile())) for name in types}


def _profile(built_in: Profile, said: config.Profile) -> Profile:
    """Return a profile with what the file says of it."""
    fields: dict[str, Any] = {
        field: seconds * 1000 for key, field in _SPANS.items() if (seconds := getattr(said, key)) is not None
    }
    if said.retention_newest is not None:
        fields["retention_newest"] = said.retention_newest
    if said.permissions is not None:
        allowed = Permissions(**dict.fromkeys(said.permissions, True))
        fields["access"] = Access(allowed, built_in.access.isolation)
    fields["options"] = _options(built_in.options, said.settings)
    fields["quotas"] = _quotas(built_in.quotas, said.quotas)
    if said.quotas.associates is not None:
        fields["most_associates"] = said.quotas.associates
    if said.quotas.data_bytes is not None:
        fields["most_data_octets"] = said.quotas.data_bytes
    return structs.replace(built_in, **fields)


def _options(built_in: Options, said: config.ProfileSettings) -> Options:
    given = {name: value for name in said.__struct_fields__ if (value := getattr(said, name)) is not None}
    return structs.replace(built_in, **given) if given else built_in


def _quotas(built_in: Mapping[str, Quota], said: config.Quotas) -> Mapping[str, Quota]:
    """Return the quotas of a new session; 0 in the file is no limit, which is no quota."""
    given = {name: value for name in _USED_UP if (value := getattr(said, name)) is not None}
    kept = {name: quota for name, quota in built_in.items() if name not in given}
    return {**kept, **{name: Quota(limit) for name, limit in given.items() if limit}}
