"""Secrets: what is sensitive in sessions is sealed before it becomes part of one, and opened for who may see it.

So it is sealed wherever sessions go: in memory, in the store, in the feed of changes, in lists and events.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, structs

from sessiond.app.ports.vault import Vault
from sessiond.core.decide.change import Wanted
from sessiond.core.decide.native import NewSession
from sessiond.core.draft import Draft
from sessiond.core.secrecy import check_values, place_of_detail, sensitive
from sessiond.core.session import Session


class Secrets:
    """Seals and opens the sensitive details of sessions."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def sealed_new(self, key: str, wanted: NewSession) -> NewSession:
        """Return what is wanted of a new session, with what is sensitive sealed."""
        if not wanted.sensitive_details:
            return wanted
        check_values(wanted.details, wanted.sensitive_details)
        sealed = {name: self._seal(key, name, wanted.details[name]) for name in _among(wanted.details, wanted)}
        return structs.replace(wanted, details={**wanted.details, **sealed})

    def sealed(self, draft: Draft, wanted: Wanted) -> Wanted:
        """Return what is to be changed, with what is sensitive after that sealed; what is not any more is opened."""
        before = draft.options.sensitive_details
        after = before if wanted.sensitive_details is UNSET else wanted.sensitive_details
        if not (before or after):
            return wanted
        given: Mapping[str, Any] = {} if wanted.details is UNSET else wanted.details
        check_values(given, after)
        details, kept = dict(given), {} if wanted.only_these_details else draft.details
        for name in after:
            if details.get(name) is not None:
                details[name] = self._seal(draft.key, name, details[name])
            elif name not in details and name not in before and name in kept:
                details[name] = self._seal(draft.key, name, kept[name])
        for name in before:
            if name not in after and name not in details and name in kept:
                details[name] = self._open(draft.key, name, kept[name])
        return structs.replace(wanted, details=details) if details else wanted

    def opened(self, session: Session) -> dict[str, Any]:
        """Return what is sensitive in a session in clear, by name."""
        names = sensitive(session)
        return {name: self._open(session.key, name, session.details[name]) for name in names if name in session.details}

    def _seal(self, key: str, name: str, value: Any) -> str:
        return self._vault.seal(place_of_detail(key, name), msgspec.json.encode(value))

    def _open(self, key: str, name: str, sealed: str) -> Any:
        return msgspec.json.decode(self._vault.open(place_of_detail(key, name), sealed))


def _among(details: Mapping[str, Any], wanted: NewSession) -> list[str]:
    return [name for name in wanted.sensitive_details if name in details]
