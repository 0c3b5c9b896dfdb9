"""Profiles: how sessions of a type behave; the built-in ones are what sessiond.yml can override."""

from typing import Final

from msgspec import Struct

_WEEK_MS: Final = 7 * 86_400_000


class Profile(Struct, frozen=True, kw_only=True):
    """How sessions of one type behave; 0 means no limit."""

    retention_after_end_ms: int = _WEEK_MS
    """How long a session can be looked at after its end."""
    retention_newest: int = 10_000
    """How many ended sessions of one data source are kept; those go first that ended first."""


BUILT_IN: Final[dict[str, Profile]] = {"stream": Profile()}
