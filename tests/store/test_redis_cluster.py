"""A cluster: sessions go on while slots move, and a node that is away takes only its own sessions with it."""

import asyncio
from typing import Any

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
from tests.store.servers import NODES, SLOTS, ClusterOfThree, wait_until

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
    home = _node_of(slot)
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
    giver, taker = _node_of(slot), (_node_of(slot) + 1) % NODES
    _begin_to_move(cluster, slot, giver, taker, "session:{IMSI1}-1")
    assert await store.get("IMSI1-1") == Stored(session("IMSI1-1"), 1)
    monkeypatch.setattr(redis_store, "OPERATION_S", 0.3)
    assert await _outcome(store, "IMSI1-1") == "STORE_UNAVAILABLE"
    monkeypatch.undo()
    _move(cluster, slot, giver, taker)
    assert await _outcome(store, "IMSI1-1") == "done"
    _move(cluster, slot, taker, giver)
    assert await _outcome(store, "IMSI1-1") == "done"


async def test_a_node_that_is_away(store: RedisStore, cluster: ClusterOfThree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sessions of the other nodes are not held up, and its own go on when it is back."""
    keys = {_node_of(slot_of_scope(f"IMSI{number}")): f"IMSI{number}-1" for number in range(20)}
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


def _node_of(slot: int) -> int:
    """Return the number of the node that has a slot at first."""
    return next(number for number in range(NODES) if slot < (number + 1) * SLOTS // NODES)


def _move_about(cluster: ClusterOfThree, slot: int, home: int) -> None:
    """Move a slot to the next node and home again, a few times, as `redis-cli --cluster reshard` does."""
    for _ in range(3):
        for giver, taker in ((home, (home + 1) % NODES), ((home + 1) % NODES, home)):
            _move(cluster, slot, giver, taker)


def _begin_to_move(cluster: ClusterOfThree, slot: int, giver: int, taker: int, *names: str) -> None:
    """Announce that a slot moves, and move these keys of it."""
    clients: list[Any] = [node.client() for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
    clients[taker].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[giver])
    clients[giver].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[taker])
    for name in names:
        clients[giver].execute_command("MIGRATE", "127.0.0.1", cluster.nodes[taker].port, name, 0, 5000)


def _move(cluster: ClusterOfThree, slot: int, giver: int, taker: int) -> None:
    """Move a slot, and wait until all nodes know."""
    _begin_to_move(cluster, slot, giver, taker)
    clients: list[Any] = [node.client() for node in cluster.nodes]
    taker_id, port = clients[taker].execute_command("CLUSTER", "MYID"), cluster.nodes[taker].port
    while names := clients[giver].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
        for name in names:
            clients[giver].execute_command("MIGRATE", "127.0.0.1", port, name, 0, 5000)
    for client in (clients[taker], clients[giver]):
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", taker_id)
    wait_until(lambda: all(_owner(client, slot) == port for client in clients), "agreement about the slot")


def _owner(client: Any, slot: int) -> int:
    """Return the port of the node that has a slot, as another one knows it."""
    ranges = client.execute_command("CLUSTER", "SLOTS")
    return next(int(owner[1]) for first, last, owner, *_ in ranges if first <= slot <= last)
