"""A cluster: sessions go on while slots move, and a node that is away takes only its own sessions with it."""

import asyncio

import pytest

from sessiond.app.ports.store import Conflict, Create, Stored, Update
from sessiond.core.errors import Unavailable
from sessiond.core.update import Change, UpdateCriteria
from sessiond.store import redis as redis_store
from sessiond.store import redis_lane, redis_link
from sessiond.store.redis import RedisStore
from sessiond.store.redis_keys import slot_of_scope
from sessiond.testing.store_contract import session
from tests.store.conftest import Open
from tests.store.servers import NODES, ClusterOfThree

CHANGE = UpdateCriteria({("monitors", "m"): Change({"used_tx": 1})})


@pytest.fixture
async def store(cluster: ClusterOfThree, open_store: Open) -> RedisStore:
    """Give an empty store."""
    cluster.flush()
    return await open_store(cluster.url)


async def test_sessions_are_spread_over_the_nodes(store: RedisStore, cluster: ClusterOfThree) -> None:
    """Each node has a part of the sessions, and of the lists."""
    await store.write([Create(session(f"IMSI{number}-1")) for number in range(60)])
    for node in cluster.nodes:
        with node.client() as client:
            assert len(list(client.scan_iter("session:*", 1000))) > 5
            assert len(list(client.scan_iter("session-index:*", 1000))) > 5


async def test_a_slot_that_moves(store: RedisStore, cluster: ClusterOfThree) -> None:
    """A counter is added to all the time while its slot goes from node to node and back; it is exact."""
    key = "IMSI1-1"
    await store.write([Create(session(key))])
    slot = slot_of_scope("IMSI1")
    home = cluster.home_of(slot)
    moving = asyncio.create_task(asyncio.to_thread(_move_about, cluster, slot, home))
    added = 0
    while not moving.done() or added < 20:
        added += await _add(store, key)
    await moving
    stored = await store._fetch(key)
    assert stored == await store.get(key)
    assert stored is not None
    assert (stored.session.monitors["m"].used_tx, stored.revision) == (1 + added, 1 + added)


async def test_a_session_that_has_moved_before_its_slot(
    cluster: ClusterOfThree, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session is read where it is; it cannot be changed as long as its lists are elsewhere, and then it can."""
    cluster.flush()
    store = await open_store(cluster.url, exclusive=False)
    await store.write([Create(session("IMSI1-1"))])
    slot = slot_of_scope("IMSI1")
    giver, taker = cluster.home_of(slot), (cluster.home_of(slot) + 1) % NODES
    cluster.begin_to_move(slot, giver, taker, "session:{IMSI1}-1")
    assert await store.get("IMSI1-1") == Stored(session("IMSI1-1"), 1)
    monkeypatch.setattr(redis_store, "OPERATION_S", 0.3)
    assert await _outcome(store, "IMSI1-1") == "STORE_UNAVAILABLE"
    monkeypatch.undo()
    cluster.move(slot, giver, taker)
    assert await _outcome(store, "IMSI1-1") == "done"
    cluster.move(slot, taker, giver)
    assert await _outcome(store, "IMSI1-1") == "done"


async def test_a_node_that_is_away(store: RedisStore, cluster: ClusterOfThree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions of the other nodes are not held up, and its own go on when it is back."""
    keys = {cluster.home_of(slot_of_scope(f"IMSI{number}")): f"IMSI{number}-1" for number in range(20)}
    await store.write([Create(session(key)) for key in keys.values()])
    for module, name, seconds in ((redis_lane, "ATTEMPT_S", 0.2), (redis_lane, "LAST_PAUSE_S", 0.05)):
        monkeypatch.setattr(module, name, seconds)
    away = cluster.nodes[1]
    away.freeze()
    try:
        for module in (redis_link, redis_store):
            monkeypatch.setattr(module, "OPERATION_S", 0.5)
        outcomes = await asyncio.gather(*(_outcome(store, keys[node]) for node in range(NODES)))
        assert outcomes == ["done", "STORE_UNAVAILABLE", "done"]
    finally:
        away.thaw()
    monkeypatch.undo()
    while await _outcome(store, keys[1]) != "done":
        pass


async def _outcome(store: RedisStore, key: str) -> str:
    """Return how a change of a session ends."""
    try:
        stored = await store.get(key)
        assert stored is not None
        (written,) = await store.write([Update(key, stored.revision, CHANGE)])
    except Unavailable as error:
        return error.reason
    return "done" if isinstance(written, Stored) else "conflict"


async def _add(store: RedisStore, key: str) -> int:
    """Add to a counter; return how often it was done."""
    stored = await store.get(key)
    assert stored is not None
    return int(await store.write([Update(key, stored.revision, CHANGE)]) != [Conflict()])


def _move_about(cluster: ClusterOfThree, slot: int, home: int) -> None:
    """Move a slot to the next node and home again, a few times, as `redis-cli --cluster reshard` does."""
    for _ in range(3):
        for giver, taker in ((home, (home + 1) % NODES), ((home + 1) % NODES, home)):
            cluster.move(slot, giver, taker)
