"""Profiles: how sessions of a type behave; the built-in ones are what sessiond.yml can override (requirement L2)."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sessiond.core.access import Access, Permissions, Quota
from sessiond.core.session import Options

_HOUR_MS: Final = 3_600_000
_WEEK_MS: Final = 7 * 24 * _HOUR_MS


class Profile(Struct, frozen=True, kw_only=True):
    """How sessions of one type behave; 0 means no limit.

    What a session is given when it is made (times, access, options, quotas) is its own from then on. What limits it or
    follows its end is asked of the profile of the moment.
    """

    ttl_ms: int = 0
    """How long after its creation it expires, if its owner says nothing."""
    idle_timeout_ms: int = 0
    max_duration_ms: int = 0
    """Its owner may ask for less, never for more."""
    confirm_within_ms: int = 0
    """How long it is pending, to be confirmed by its activation, before it is withdrawn; 0: nobody needs to confirm."""
    key_rotation_interval_ms: int = 0
    activate_within_ms: int = 0
    """How long two nodes may shake hands; 0: a session that is left inactive waits for ever."""
    resumption_age_ms: int = 24 * _HOUR_MS
    """How long after its key was made a session can be resumed by token."""
    access: Access = Access()
    options: Options = Options()
    quotas: Mapping[str, Quota] = {}
    most_associates: int = 0
    most_data_octets: int = 0
    """The most that its details may have as JSON."""
    retention_after_end_ms: int = _WEEK_MS
    """How long a session can be looked at after its end."""
    retention_newest: int = 10_000
    """How many ended sessions of one data source are kept; those go first that ended first."""


_WORKFLOW: Final = Profile(ttl_ms=_HOUR_MS, most_associates=100, most_data_octets=65_536)
_EXECUTION: Final = Profile(
    ttl_ms=_HOUR_MS,
    max_duration_ms=24 * _HOUR_MS,
    access=Access(Permissions(execute_functions=True, compose_functions=True)),
    most_associates=8,
    most_data_octets=65_536,
)
_PEER: Final = Profile(idle_timeout_ms=300_000, activate_within_ms=30_000, most_associates=100, most_data_octets=65_536)

OF_OTHER_SURFACES: Final = frozenset({"stream", "lte", "wlan"})
"""The types whose sessions are not made through our own API."""
BUILT_IN: Final[dict[str, Profile]] = {
    "ussd": _WORKFLOW,
    "voice": _WORKFLOW,
    "sms": _WORKFLOW,
    "payment": _WORKFLOW,
    "execution": _EXECUTION,
    "peer": _PEER,
    **dict.fromkeys(sorted(OF_OTHER_SURFACES), Profile()),
}
