"""Working set: sessions in memory, by key, scope and name, with what is counted on them between two writes."""

from collections.abc import Iterator, Sequence

from sessiond.app.ports.store import Account, Stored
from sessiond.core import names
from sessiond.core.decide.meter import folded
from sessiond.core.session import Session


class WorkingSet:
    """Holds sessions with their revisions; those of a scope stay in the order in which they came."""

    def __init__(self) -> None:
        self._by_key: dict[str, Account] = {}
        self._by_scope: dict[str, tuple[Account, ...]] = {}
        self._by_name: dict[str, dict[str, Account]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Stored]:
        """Yield what is there now, whatever changes in between."""
        return map(_stored, list(self._by_key.values()))

    def get(self, key: str) -> Stored | None:
        """Return one session."""
        account = self._by_key.get(key)
        return _stored(account) if account is not None else None

    def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        return [_stored(account) for account in self._by_scope.get(scope, ())]

    def account(self, key: str) -> Account | None:
        """Return one session with its meter; what is counted may not be in it yet."""
        return self._by_key.get(key)

    def accounts(self, scope: str) -> Sequence[Account]:
        """Return the sessions of a scope with their meters; what is counted may not be in them yet."""
        return self._by_scope.get(scope, ())

    def named(self, name: str) -> list[Stored]:
        """Return the sessions that bear a name, by age."""
        bearers = self._by_name.get(name, {})
        return sorted(map(_stored, bearers.values()), key=lambda stored: names.age(stored.session))

    def holder(self, session: Session) -> str:
        """Return the key of another session that has a claim of this one; empty if nobody has."""
        for name in names.claims(session):
            for key in self._by_name.get(name, ()):
                if key != session.key:
                    return key
        return ""

    def put(self, stored: Stored, *, behind: bool = False) -> None:
        """Take a session, in place of what was known of it."""
        session = stored.session
        if (account := self._by_key.get(session.key)) is None:
            account = self._by_key[session.key] = Account(session, stored.revision, None, behind)
            self._by_scope[session.scope] = (*self._by_scope.get(session.scope, ()), account)
            self._enter(account)
            return
        is_renamed = names.renamed(account.session, session)
        if is_renamed:
            self._strike_off(account.session)
        account.session, account.revision, account.meter, account.behind = session, stored.revision, None, behind
        if is_renamed:
            self._enter(account)

    def drop_oldest(self) -> None:
        """Forget the session that has been here longest."""
        self.drop(next(iter(self._by_key)))

    def drop(self, key: str) -> None:
        """Forget a session, if it is known."""
        account = self._by_key.pop(key, None)
        if account is None:
            return
        scope, account.meter = account.session.scope, None
        left = tuple(other for other in self._by_scope[scope] if other is not account)
        if left:
            self._by_scope[scope] = left
        else:
            del self._by_scope[scope]
        self._strike_off(account.session)

    def _enter(self, account: Account) -> None:
        for name in names.names(account.session):
            self._by_name.setdefault(name, {})[account.session.key] = account

    def _strike_off(self, session: Session) -> None:
        for name in names.names(session):
            bearers = self._by_name[name]
            del bearers[session.key]
            if not bearers:
                del self._by_name[name]


def saved(account: Account) -> None:
    """Take note that what was counted on an account is written."""
    account.revision += 1
    account.behind = True
    if account.meter is not None:
        account.meter.unsaved = False


def _stored(account: Account) -> Stored:
    """Return a session as it is with all that was counted."""
    meter = account.meter
    if meter is not None and meter.unfolded:
        account.session = folded(account.session, meter.counted())
        account.behind, meter.unfolded = True, False
    return Stored(account.session, account.revision)
