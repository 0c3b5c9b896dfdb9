"""Working set: sessions in memory, by key and by scope."""

from collections.abc import Iterator

from sessiond.app.ports.store import Stored


class WorkingSet:
    """Holds sessions with their revisions; those of a scope stay in the order in which they came."""

    def __init__(self) -> None:
        self._by_key: dict[str, Stored] = {}
        self._by_scope: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Stored]:
        """Yield what is there now, whatever changes in between."""
        return iter(list(self._by_key.values()))

    def get(self, key: str) -> Stored | None:
        """Return one session."""
        return self._by_key.get(key)

    def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        return [self._by_key[key] for key in self._by_scope.get(scope, ())]

    def put(self, stored: Stored) -> None:
        """Take a session, in place of what was known of it."""
        session = stored.session
        if session.key not in self._by_key:
            self._by_scope.setdefault(session.scope, {})[session.key] = None
        self._by_key[session.key] = stored

    def drop_oldest(self) -> None:
        """Forget the session that has been here longest."""
        self.drop(next(iter(self._by_key)))

    def drop(self, key: str) -> None:
        """Forget a session, if it is known."""
        stored = self._by_key.pop(key, None)
        if stored is None:
            return
        keys = self._by_scope[stored.session.scope]
        del keys[key]
        if not keys:
            del self._by_scope[stored.session.scope]
