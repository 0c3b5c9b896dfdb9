"""The memory store keeps the store contract."""

import pytest

from sessiond.store.memory import MemoryStore
from sessiond.testing.store_contract import StoreContract


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
