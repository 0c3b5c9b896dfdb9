"""The Redis store keeps the store contract, on every kind of server, alone and shared."""

import pytest

from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import StoreContract
from tests.store.conftest import Open
from tests.store.servers import ClusterOfThree, Server


class TestExclusive(StoreContract):
    """Every clause, for the one daemon that owns the sessions."""

    @pytest.fixture
    async def store(self, place: Server | ClusterOfThree, open_store: Open) -> RedisStore:
        """Give an empty store."""
        return await open_store(place.url)

    @pytest.fixture
    def rival(self, store: RedisStore) -> RedisStore:
        """Give the same store: there is one owner."""
        return store


class TestShared(StoreContract):
    """Every clause, for several daemons that share the sessions."""

    @pytest.fixture
    async def store(self, place: Server | ClusterOfThree, open_store: Open) -> RedisStore:
        """Give an empty store."""
        return await open_store(place.url, exclusive=False)

    @pytest.fixture
    async def rival(self, store: RedisStore, place: Server | ClusterOfThree, open_store: Open) -> RedisStore:
        """Give the store of another daemon."""
        return await open_store(place.url, exclusive=False)
