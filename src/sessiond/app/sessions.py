"""The native use cases: one method each, over the one registry; sessions of every kind are found here."""

from sessiond.app.ports.store import Store
from sessiond.core.errors import NotFound
from sessiond.core.session import Session


class SessionManager:
    """What a client of our own API can ask for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def session(self, key: str) -> Session:
        """Return a session of any kind by its key."""
        stored = await self._store.get(key)
        if stored is None:
            raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
        return stored.session
