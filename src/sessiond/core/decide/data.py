"""Data: what owners of native sessions keep with them, merged shallowly, and held to the size that profiles allow."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import msgspec

from sessiond.core.draft import Draft
from sessiond.core.errors import InvalidArgument, ResourceExhausted
from sessiond.core.profiles import Profile

LONGEST_NAME: Final = 128
"""Characters in the name of an entry."""
MOST_DEPTH: Final = 32
"""How deep values may lie within each other."""


def merge(draft: Draft, details: Mapping[str, Any], profile: Profile) -> None:
    """Put entries in place of those of the same name, the others stay; None takes the entry of that name away."""
    known = draft.details
    for name, value in details.items():
        if value is None:
            if name in known:
                draft.remove("details", name)
        elif name not in known or known[name] != value or type(known[name]) is not type(value):
            draft.put("details", name, value)
    check_details(draft.details, profile)


def check_details(details: Mapping[str, Any], profile: Profile) -> None:
    """Refuse details that are larger than a session of this profile may have."""
    for name, value in details.items():
        if not 0 < len(name) <= LONGEST_NAME:
            text = f"the name of an entry has 1 to {LONGEST_NAME} characters"
            raise InvalidArgument("FIELD_TOO_LONG", text, field=f"session.details.{name[:LONGEST_NAME]}")
        if not isinstance(value, str) and (flaw := _flaw(value, MOST_DEPTH)):
            raise InvalidArgument("FIELD_INVALID", flaw, field=f"session.details.{name}")
    if (most := profile.most_data_octets) and (octets := len(msgspec.json.encode(details))) > most:
        text = f"the details have {octets} octets as JSON, and may have {most}"
        raise ResourceExhausted("QUOTA_EXCEEDED", text, field="session.details")


def _flaw(value: Any, left: int) -> str:
    """Return why a value cannot be kept; nothing, if it can."""
    if isinstance(value, float) and not isfinite(value):
        return "JSON has no infinite numbers, and none that are not numbers"
    if not isinstance(value, Mapping | list | tuple):
        return ""
    if not left:
        return f"values lie within each other at most {MOST_DEPTH} deep"
    inner = value.values() if isinstance(value, Mapping) else value
    return next((flaw for one in inner if (flaw := _flaw(one, left - 1))), "")
