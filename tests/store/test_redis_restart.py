"""The server is started again, loses data, or cannot write: the store says so, and goes on when it can."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.app.ports.store import Conflict, Create, Delete, Deleted, Stored, Update
from sessiond.core.errors import Unavailable
from sessiond.core.update import apply
from sessiond.store import redis as redis_store
from sessiond.store import redis_lane
from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import SCOPE, session, touch
from tests.store.conftest import Open
from tests.store.servers import Server, binary_of, closing_down
from tests.store.stores import built

KEY = session().key
NAME = f"session:{{{SCOPE}}}-1"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try more often to reach a store that is away."""
    monkeypatch.setattr(redis_lane, "LAST_PAUSE_S", 0.05)


@pytest.fixture(params=["valkey", "redis"])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Give a server of each kind to one test, which may spoil it; it keeps its data when it is started again."""
    server = Server(binary_of(request.param), tmp_path / "own", "--appendonly", "yes", "--appendfsync", "always")
    with closing_down(server):
        yield server.start()


@pytest.fixture
async def store(own_server: Server, open_store: Open) -> RedisStore:
    """Give a store with one session."""
    store = await open_store(own_server.url, watch_s=0.02)
    await store.write([Create(session())])
    return store


async def test_a_server_that_starts_again(
    store: RedisStore, own_server: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is gone, writes are unavailable; then they go on, and what was acknowledged is there."""
    own_server.stop()
    monkeypatch.setattr(redis_store, "OPERATION_S", 0.3)
    with pytest.raises(Unavailable):
        await store.write([Update(KEY, 1, touch())])
    monkeypatch.setattr(redis_store, "OPERATION_S", 2.0)
    assert await store.get("sms-1") is None
    await asyncio.to_thread(own_server.start)
    stored = await _get(store)
    assert stored is not None
    assert await store.write([Update(KEY, stored.revision, touch())]) != [Conflict()]
    expected = await store.get(KEY)
    assert await (await open_store(own_server.url)).get(KEY) == expected


async def test_a_daemon_that_starts_before_its_server(tmp_path: Path) -> None:
    """A store that is not there yet is waited for."""
    server = Server(binary_of("valkey"), tmp_path)
    store = built(server.url)
    opening = asyncio.create_task(store.open())
    try:
        await asyncio.wait([opening], timeout=0.2)
        assert not opening.done()
        await asyncio.to_thread(server.start)
        await opening
        assert await store.write([Create(session())]) == [Stored(session(), 1)]
    finally:
        await store.close()
        server.stop()


async def test_a_server_that_has_lost_everything_gets_it_back(
    store: RedisStore, own_server: Server, open_store: Open
) -> None:
    """The owner has all sessions in memory: what was acknowledged is not lost with the server's disk."""
    await store.write([Update(KEY, 1, touch()), Create(session(f"{SCOPE}-2")), Create(session("sms-1"))])
    expected = [await store.find(SCOPE), await store.find("sms-1")]
    own_server.flush()
    with own_server.client() as client:
        while client.exists(NAME, "session:{sms-1}", "session-epoch") < 3:  # noqa: ASYNC110, the server tells nobody
            await asyncio.sleep(0.01)
    assert isinstance((await store.write([Create(session("sms-2"))]))[0], Stored)
    again = await open_store(own_server.url)
    assert [await again.find(SCOPE), await again.find("sms-1")] == expected
    assert store._commands.epoch < again._commands.epoch


@pytest.mark.parametrize("lost", ["all of it", "the last changes"])
async def test_a_session_that_the_server_has_lost_comes_back(
    store: RedisStore, own_server: Server, open_store: Open, lost: str
) -> None:
    """A failover can lose what was acknowledged last; the next write finds out, and puts it back first."""
    await store.write([Update(KEY, 1, touch())])
    with own_server.client() as client:
        if lost == "all of it":
            client.delete(NAME)
        else:
            client.hset(NAME, "revision", "1")
    assert await store.write([Update(KEY, 2, touch())]) == [Conflict()]
    expected = Stored(apply(session(), touch()), 2)
    assert await store.find(SCOPE) == [expected]
    assert await (await open_store(own_server.url)).find(SCOPE) == [expected]


async def test_a_session_that_somebody_has_changed_by_hand_is_taken(store: RedisStore, own_server: Server) -> None:
    """What Redis has is true if it is newer than what we know."""
    with own_server.client() as client:
        client.hset(NAME, "revision", "7")
        client.hset(NAME, "type", "wlan")
    assert await store.write([Update(KEY, 1, touch())]) == [Conflict()]
    stored = await store.get(KEY)
    assert stored is not None
    assert (stored.revision, stored.session.type) == (7, "wlan")


async def test_a_server_out_of_memory(store: RedisStore, own_server: Server) -> None:
    """What cannot be stored is refused at once and wholly; what makes room is still possible."""
    with own_server.client() as client:
        client.config_set("maxmemory", "1")
        for write in (Update(KEY, 1, touch()), Create(session(f"{SCOPE}-2"))):
            with pytest.raises(Unavailable, match="out of memory"):
                await store.write([write])
        assert client.hget(NAME, "revision") == "1"
        assert client.zrange(f"session-scope:{{{SCOPE}}}", 0, -1) == [KEY]
        assert await store.write([Delete(KEY, 1)]) == [Deleted()]
        assert client.exists(NAME) == 0
        client.config_set("maxmemory", "0")
    assert await store.write([Create(session())]) == [Stored(session(), 1)]


async def test_a_server_that_became_a_replica(store: RedisStore, own_server: Server) -> None:
    """A replica writes nothing; when it is a primary again, the write goes on."""
    with own_server.client() as client:
        client.replicaof("127.0.0.1", "1")
        writing = asyncio.create_task(store.write([Update(KEY, 1, touch())]))
        await asyncio.wait([writing], timeout=0.2)
        assert not writing.done()
        assert client.hget(NAME, "revision") == "1"
        client.replicaof("NO", "ONE")
    assert await writing == [Stored(apply(session(), touch()), 2)]


async def _get(store: RedisStore) -> Stored | None:
    """Return the session as soon as the store is back."""
    while True:
        try:
            return await store.get(KEY)
        except Unavailable:
            continue
