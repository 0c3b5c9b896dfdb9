"""Servers and stores for the tests of this folder; each worker of a parallel run has its own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from sessiond.store.redis import RedisStore
from tests.store.servers import ClusterOfThree, Server, binary_of, closing_down
from tests.store.stores import opened

Open: TypeAlias = Callable[..., Awaitable[RedisStore]]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a Valkey."""
    server = Server(binary_of("valkey"), tmp_path_factory.mktemp("valkey"))
    with closing_down(server):
        yield server.start()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a Redis."""
    server = Server(binary_of("redis"), tmp_path_factory.mktemp("redis"))
    with closing_down(server):
        yield server.start()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfThree]:
    """Give a cluster of three Valkeys."""
    nodes = ClusterOfThree(binary_of("cluster"), tmp_path_factory.mktemp("cluster"))
    with closing_down(nodes):
        yield nodes.start()


@pytest.fixture(params=["valkey", "redis", "cluster"])
def place(request: pytest.FixtureRequest) -> Any:
    """Give each kind of server in turn, empty."""
    return emptied(request)


def emptied(request: pytest.FixtureRequest) -> Any:
    """Return the server that a fixture is asked for by its parameter, emptied."""
    found = request.getfixturevalue("redis_server" if request.param == "redis" else request.param)
    found.flush()
    return found


@pytest.fixture
async def open_store() -> AsyncIterator[Open]:
    """Give a way to open stores that are closed after the test."""
    async with AsyncExitStack() as stack:

        async def open_one(url: str, **options: Any) -> RedisStore:
            store = await opened(url, **options)
            stack.push_async_callback(store.close)
            return store

        yield open_one
