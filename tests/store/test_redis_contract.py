"""The Redis store keeps the store contract, on every kind of server, alone and shared."""

from typing import Any

import pytest

from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import StoreContract
from tests.store.conftest import Open, emptied
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

    @pytest.fixture(params=["valkey", "redis"])
    def place(self, request: pytest.FixtureRequest) -> Any:
        """Give each kind of single node in turn."""
        return emptied(request)

    @pytest.fixture
    async def store(self, place: Server | ClusterOfThree, open_store: Open) -> RedisStore:
        """Give an empty store."""
        return await open_store(place.url, exclusive=False)

    @pytest.fixture
    async def rival(self, store: RedisStore, place: Server | ClusterOfThree, open_store: Open) -> RedisStore:
        """Give the store of another daemon."""
        return await open_store(place.url, exclusive=False)


class TestSharedCluster:
    """The clauses about several writers, for daemons that share a cluster."""

    test_another_way = StoreContract.test_another_way_leads_to_the_same_sessions
    test_one_of_two_writers = StoreContract.test_one_of_two_writers_wins
    test_no_change_is_lost = StoreContract.test_no_change_of_two_writers_is_lost
    test_claims = StoreContract.test_of_many_that_want_a_claim_one_has_it
    test_names = StoreContract.test_names_are_the_same_from_everywhere
    test_load = StoreContract.test_load_yields_everything_once

    @pytest.fixture
    async def store(self, cluster: ClusterOfThree, open_store: Open) -> RedisStore:
        """Give an empty store."""
        cluster.flush()
        return await open_store(cluster.url, exclusive=False)

    @pytest.fixture
    async def rival(self, store: RedisStore, cluster: ClusterOfThree, open_store: Open) -> RedisStore:
        """Give the store of another daemon."""
        return await open_store(cluster.url, exclusive=False)
