"""The memory store keeps the store contract."""

import pytest

from sessiond.app.ports.store import Create
from sessiond.core.errors import OutOfRange
from sessiond.store.memory import MemoryStore
from sessiond.testing.store_contract import StoreContract, everything, session


class TestMemoryStore(StoreContract):
    """Every clause, in memory."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        """Give an empty store."""
        return MemoryStore()

    @pytest.fixture
    def rival(self, store: MemoryStore) -> MemoryStore:
        """Give the same store: there is one process."""
        return store


async def test_the_last_changes_are_kept() -> None:
    """The oldest changes go; who begins with the oldest one is told of those that are left."""
    store = MemoryStore(kept=3)
    begin = (await store.changes()).position
    await store.write([Create(session(f"sms-{number}")) for number in range(5)])
    with pytest.raises(OutOfRange):
        await store.changes(begin)
    for position in ("", begin):
        told = await everything(store, position, from_oldest=True)
        assert [one.change.after.key for one in told] == ["sms-2", "sms-3", "sms-4"]
