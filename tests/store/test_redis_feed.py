"""The feed of changes in Redis: what is in it, how long, and that every write is told of once, whatever happens."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from sessiond.app.ports.store import Create, Delete, Update
from sessiond.core.errors import OutOfRange
from sessiond.core.update import Change, Put, UpdateCriteria
from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import SCOPE, StoreContract, everything, session
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import ClusterOfThree, Server

KEY = f"{SCOPE}-483920"


class TestSharedCluster:
    """The clauses about changes, for daemons that share a cluster."""

    test_changes = StoreContract.test_changes_of_another_are_told_too
    test_changes_go_on = StoreContract.test_changes_go_on_after_any_position

    @pytest.fixture
    async def store(self, cluster: ClusterOfThree, open_store: Open) -> RedisStore:
        """Give an empty store."""
        cluster.flush()
        return await open_store(cluster.url, exclusive=False)

    @pytest.fixture
    async def rival(self, store: RedisStore, cluster: ClusterOfThree, open_store: Open) -> RedisStore:
        """Give the store of another daemon."""
        return await open_store(cluster.url, exclusive=False)


@pytest.fixture
async def store(valkey: Server, open_store: Open) -> RedisStore:
    """Give an empty store."""
    valkey.flush()
    return await open_store(valkey.url)


@pytest.fixture
async def proxy(valkey: Server) -> AsyncIterator[FaultProxy]:
    """Give a way to an empty store that can go wrong."""
    valkey.flush()
    async with FaultProxy(valkey.port) as proxy:
        yield proxy
        proxy.heal()


async def test_a_change_can_be_read(store: RedisStore, valkey: Server) -> None:
    """An entry of the feed has who wrote what when, what was before, and the session without its hidden parts."""
    change = UpdateCriteria({("details", "a"): Put("new"), ("monitors", "m"): Change({"used_tx": 4})})
    await store.write([Create(replace(session(KEY), details={"a": "old"}))])
    await store.write([Update(KEY, 1, change)])
    with valkey.client() as client:
        entries: Any = client.xrange("session-feed")
        fields = entries[-1][1]
        note = json.loads(fields.pop("note"))
        assert (note["verb"], note["put"], note["drop"]) == ("CHANGE", {"detail:a": "old"}, [])
        assert fields["detail:a"] == '"new"'
        assert set(fields) == {"key", "type", "scope", "format", "revision", "head", "context", "gateway", "detail:a"}


async def test_a_feed_keeps_the_last_changes(store: RedisStore, valkey: Server) -> None:
    """The oldest changes go; who wants to go on from there is told so, and is told nothing else."""
    begin = (await store.changes()).position
    for start in range(0, 10_300, 100):
        await store.write([Create(session(f"sms-{start + number}")) for number in range(100)])
    with valkey.client() as client:
        entries: Any = client.xrange("session-feed")
        assert 10_000 <= len(entries) < 10_300
        with pytest.raises(OutOfRange) as error:
            await store.changes(begin)
        assert error.value.reason == "RESUME_TOKEN_EXPIRED"
        assert (await store.changes(entries[0][0])).told[0].position == entries[1][0]
        for position in ("", begin):
            assert (await store.changes(position, from_oldest=True)).told[0].position == entries[0][0]


async def test_a_server_that_lost_its_feed_says_so(store: RedisStore, valkey: Server) -> None:
    """Who was told of everything so far cannot go on after the server has lost its data: there may be a gap."""
    await store.write([Create(session(KEY))])
    position = (await store.changes()).position
    valkey.flush()
    with pytest.raises(OutOfRange):
        await store.changes(position)
    assert (await store.changes((await store.changes()).position)).told == []


async def test_what_slots_keep_is_told_from_the_oldest_on(open_store: Open, cluster: ClusterOfThree) -> None:
    """A busy slot of a cluster keeps its last changes, others all of theirs; what is gone can be passed over."""
    cluster.flush()
    store = await open_store(cluster.url)
    begin = (await store.changes()).position
    await store.write([Create(session(key)) for key in (KEY, "quiet-1")])
    for revision in range(1, 400):
        await store.write([Update(KEY, revision, UpdateCriteria({("details", "a"): Put(revision)}))])
    told = await everything(store, at_least=1, from_oldest=True)
    while told[-1].change.revision < 400:
        told += await everything(store, told[-1].position)
    revisions = [one.change.revision for one in told if one.change.after.key == KEY]
    assert revisions == list(range(revisions[0], 401))
    assert 1 < revisions[0] <= 400 - 64
    assert "quiet-1" in {one.change.after.key for one in told}
    with pytest.raises(OutOfRange):
        await everything(store, begin, 1)


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_lost_reply_is_told_of_once(proxy: FaultProxy, open_store: Open, exclusive: bool) -> None:
    """A write that is repeated because its reply was lost is one change to those who watch."""
    store = await open_store(proxy.url, exclusive=exclusive)
    begin = (await store.changes()).position
    proxy.lose_reply(b"CREATE")
    await store.write([Create(session(KEY))])
    proxy.lose_reply(b"DELETE")
    await store.write([Delete(KEY, 1)])
    told = (await store.changes(begin)).told
    assert [(one.change.revision, one.change.removed) for one in told] == [(1, False), (2, True)]


async def test_changes_of_a_daemon_that_died_are_told(
    open_store: Open, cluster: ClusterOfThree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written by a daemon that died before it put it in order is told once the next one has started."""
    cluster.flush()
    store = await open_store(cluster.url)
    begin = (await store.changes()).position
    await store.write([Create(session(f"IMSI{number}-1")) for number in range(20)])
    first = await everything(store, begin, 20)
    monkeypatch.setattr(store.feed, "written", list)
    await store.write([Create(session(f"IMSI{number}-1")) for number in range(20, 40)])
    after = await open_store(cluster.url)
    told = await everything(after, begin, 40)
    assert told[:20] == [replace(one, own=False) for one in first]
    assert {one.change.after.key for one in told[20:]} == {f"IMSI{number}-1" for number in range(20, 40)}
