"""What anybody may say about a session that is no gateway's: its name, its details, the sessions tied to it."""

from collections.abc import Container, Mapping
from typing import Any

from sessiond.core.draft import Draft
from sessiond.core.errors import InvalidArgument, ResourceExhausted
from sessiond.core.profiles import Profile


def identify(draft: Draft, identifier: str) -> None:
    """Give a session another name; an empty one is none."""
    if identifier and draft.identity is not None and identifier != draft.identity.identifier:
        draft.set("identity", identifier=identifier)


def describe(draft: Draft, details: Mapping[str, Any]) -> None:
    """Merge details key by key; those that are not named stay."""
    known = draft.details
    for key, value in details.items():
        if key not in known or known[key] != value:
            draft.put("details", key, value)


def associate(draft: Draft, key: str) -> None:
    """Tie a session to this one, after those that are; it need not exist, and may be tied more than once."""
    draft.put("associates", next_number(draft.associates), key)


def tie(draft: Draft, key: str, profile: Profile) -> None:
    """Tie a session to a native one, after those that are; twice changes nothing, and itself or too many is refused."""
    check_associate(draft.key, (key,), "associate_key")
    if key in draft.associates.values():
        return
    if profile.most_associates and len(draft.associates) >= profile.most_associates:
        text = f"a {draft.type} session has at most {profile.most_associates} associates"
        raise ResourceExhausted("QUOTA_EXCEEDED", text, field="associate_key")
    associate(draft, key)


def check_associate(key: str, associates: Container[str], field: str) -> None:
    """Refuse to tie a session to itself."""
    if key in associates:
        raise InvalidArgument("ASSOCIATE_IS_SELF", "a session is no associate of itself", field=field)


def numbered(keys: tuple[str, ...]) -> dict[str, str]:
    """Return associates in their order, by running number."""
    return {str(number): key for number, key in enumerate(keys, start=1)}


def next_number(associates: Mapping[str, str]) -> str:
    """Return the running number after the last one."""
    return str(int(next(reversed(list(associates)), "0")) + 1)
