"""The store contract as tests: one suite for every store, which never asks whom it talks to.

Subclass `StoreContract` in a test module of yours and give it a fixture `store` that yields an empty store. The clauses
are numbered in `sessiond.app.ports.store`.
"""

from sessiond.app.ports.store import Conflict, Create, Delete, Deleted, Store, Stored, Update, Write
from sessiond.core.credit import Report
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Monitor
from sessiond.core.quantity import RequestedUnits
from sessiond.core.session import Context, Gateway, Head, Session
from sessiond.core.update import Change, Put, Remove, UpdateCriteria, apply

SCOPE = "IMSI001010000000001"


def session(key: str = f"{SCOPE}-1", scope: str = SCOPE, created_at_ms: int = 1) -> Session:
    """Return a small gateway session."""
    return Session(
        key=key,
        type="lte",
        scope=scope,
        head=Head(state=State.ACTIVE, created_at_ms=created_at_ms),
        context=Context(subscriber=scope),
        gateway=Gateway(),
        monitors={"m": Monitor(used_tx=1, in_flight=Report(1, 1, 0, "USAGE_REPORT", RequestedUnits()))},
    )


def touch(tx: int = 5) -> UpdateCriteria:
    """Return a change that adds, sets, puts and removes."""
    return UpdateCriteria(
        {
            ("monitors", "m"): Change({"used_tx": tx}, {"last_report": True}),
            ("monitors", "n"): Put(Monitor(used_rx=7)),
            ("rules", "none"): Remove(),
            ("gateway", ""): Change({"request_number": 1}),
        }
    )


class StoreContract:
    """The clauses, in their order."""

    async def test_get_returns_what_the_last_write_left(self, store: Store) -> None:
        """Clause 1: a session that was stored is read back; one that was not is None."""
        assert await store.get(session().key) is None
        await store.write([Create(session())])
        assert await store.get(session().key) == Stored(session(), 1)

    async def test_find_returns_a_scope_in_order_of_creation(self, store: Store) -> None:
        """Clause 2: the sessions of a scope come in the order of their creation, without those of others."""
        first, second, other = session(f"{SCOPE}-9"), session(f"{SCOPE}-2", created_at_ms=2), session("x-1", "x")
        await store.write([Create(first), Create(other), Create(second)])
        assert [stored.session for stored in await store.find(SCOPE)] == [first, second]
        assert await store.find("nobody") == []

    async def test_create_needs_a_free_key(self, store: Store) -> None:
        """Clause 3: a second session of the same key is a conflict and changes nothing."""
        assert await store.write([Create(session())]) == [Stored(session(), 1)]
        assert await store.write([Create(session(created_at_ms=9))]) == [Conflict()]
        assert await store.get(session().key) == Stored(session(), 1)

    async def test_update_counts_the_revision_up(self, store: Store) -> None:
        """Clause 4: a change of the present revision is written, and the revision counts up by one."""
        await store.write([Create(session())])
        (written,) = await store.write([Update(session().key, 1, touch())])
        assert written == Stored(apply(session(), touch()), 2)
        assert await store.get(session().key) == written

    async def test_delete_removes(self, store: Store) -> None:
        """Clause 4: a session is removed, from its scope too."""
        await store.write([Create(session())])
        assert await store.write([Delete(session().key, 1)]) == [Deleted()]
        assert await store.get(session().key) is None
        assert await store.find(SCOPE) == []

    async def test_a_stale_revision_changes_nothing(self, store: Store) -> None:
        """Clause 5: a write of another revision, or of a session that is not there, is a conflict."""
        await store.write([Create(session())])
        await store.write([Update(session().key, 1, touch())])
        before = await store.get(session().key)
        stale: list[Write] = [Update(session().key, 1, touch()), Delete(session().key, 1), Update("none", 1, touch())]
        assert await store.write([*stale, Delete("none", 1)]) == [Conflict()] * 4
        assert await store.get(session().key) == before

    async def test_writes_of_one_call_are_independent(self, store: Store) -> None:
        """Clause 6: answers come in order, and a conflict in the middle holds nobody back."""
        other = session(f"{SCOPE}-2")
        answers = await store.write([Create(session()), Update("none", 1, touch()), Create(other)])
        assert answers == [Stored(session(), 1), Conflict(), Stored(other, 1)]

    async def test_no_writes_are_fine(self, store: Store) -> None:
        """Clause 6: nothing to write gives no answers."""
        assert await store.write([]) == []

    async def test_changes_are_applied_as_the_core_applies_them(self, store: Store) -> None:
        """Clause 7: after many changes the stored session is the one that `apply` makes of them."""
        await store.write([Create(session())])
        expected = session()
        for revision in range(1, 6):
            await store.write([Update(session().key, revision, touch(revision))])
            expected = apply(expected, touch(revision))
        assert await store.get(session().key) == Stored(expected, 6)

    async def test_load_yields_everything_once(self, store: Store) -> None:
        """Clause 8: all sessions are loaded, each once."""
        everyone = [session(f"IMSI{number}-1", f"IMSI{number}") for number in range(25)]
        await store.write([Create(one) for one in everyone])
        loaded = [stored async for stored in store.load()]
        assert sorted(loaded, key=_key) == sorted((Stored(one, 1) for one in everyone), key=_key)


def _key(stored: Stored) -> str:
    return stored.session.key
