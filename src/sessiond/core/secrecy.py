"""Secrecy: details that are nobody else's business. In a session they are sealed; here is how they are shown."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sessiond.core.errors import InvalidArgument
from sessiond.core.session import Session

MASK: Final = "***"
"""What stands for a value that is not shown."""


def sensitive(session: Session) -> tuple[str, ...]:
    """Return the names of the details of a session that are sensitive, there or not."""
    return session.options.sensitive_details if session.options is not None else ()


def shown(session: Session) -> Mapping[str, Any]:
    """Return the details of a session as everybody may see them."""
    names = sensitive(session)
    if not names:
        return session.details
    return {name: MASK if name in names else value for name, value in session.details.items()}


def place_of_detail(key: str, name: str) -> str:
    """Return the place that a sealed detail belongs to."""
    return f"{key} details {name}"


def place_of_secret(key: str) -> str:
    """Return the place that the sealed secret of a session belongs to."""
    return f"{key} secret"


def check_values(details: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse a sensitive value that is only what stands for one: it was read, and is sent back."""
    for name in names:
        if details.get(name) == MASK:
            text = f"{MASK} stands for a value that is not shown; leave it out, or give the value"
            raise InvalidArgument("INVALID_CONFIGURATION", text, field=f"session.details.{name}")
