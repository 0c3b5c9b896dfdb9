"""What a person finds in Redis with redis-cli, and what Redis does by itself."""

import asyncio
from typing import Any

import msgspec
import pytest

from sessiond.app.ports.store import Create, Delete, Stored, Update
from sessiond.core.errors import FailedPrecondition
from sessiond.core.update import Change, UpdateCriteria, apply
from sessiond.store import codec
from sessiond.store.redis import RedisStore
from sessiond.store.redis_keys import SLOTS, Shards, names_of, scope_name, slot_of_scope
from sessiond.testing.store_contract import SCOPE, session, touch
from tests.store.conftest import Open
from tests.store.servers import ClusterOfThree, Server
from tests.store.stores import built

KEY = f"{SCOPE}-483920"
NAME = f"session:{{{SCOPE}}}-483920"
DAY_MS = 86_400_000


@pytest.fixture
async def store(valkey: Server, open_store: Open) -> RedisStore:
    """Give an empty store."""
    valkey.flush()
    return await open_store(valkey.url)


async def test_a_session_is_a_hash_that_can_be_read(store: RedisStore, valkey: Server) -> None:
    """Each part of a session is a field with its JSON."""
    await store.write([Create(session(KEY))])
    with valkey.client() as client:
        fields: Any = client.hgetall(NAME)
        assert (fields["key"], fields["type"], fields["scope"]) == (KEY, "lte", SCOPE)
        assert (fields["format"], fields["revision"], fields["number"]) == ("1", "1", "1")
        assert fields["head"].startswith('{"state":"ACTIVE"')
        assert '"used_tx":1' in fields["monitor:m"]
        assert client.zrange(f"session-scope:{{{SCOPE}}}", 0, -1) == [KEY]
        assert client.type("session-epoch") == "hash"
        assert {key.partition(":")[0] for key in client.scan_iter()} == {
            "session", "session-scope", "session-index", "session-owner", "session-epoch", "session-feed",
        }  # fmt: skip


async def test_a_change_writes_the_part_it_touches(store: RedisStore, valkey: Server) -> None:
    """A usage update writes one field, not the session."""
    await store.write([Create(session(KEY))])
    with valkey.client() as client:
        client.hset(NAME, "head", "as it was")
        await store.write([Update(KEY, 1, UpdateCriteria({("monitors", "m"): Change({"used_tx": 4})}))])
        assert client.hget(NAME, "head") == "as it was"
        assert '"used_tx":5' in str(client.hget(NAME, "monitor:m"))


async def test_a_session_that_is_gone_leaves_only_a_tombstone(store: RedisStore, valkey: Server) -> None:
    """After a removal nothing is left but the operations, and these not for ever."""
    await store.write([Create(session(KEY))])
    await store.write([Delete(KEY, 1)])
    with valkey.client() as client:
        left = set(client.scan_iter("session*")) - set(client.scan_iter("session-owner:*"))
        assert left == {f"session-gone:{{{SCOPE}}}-483920", "session-epoch", "session-feed"}
        assert 0 < client.pttl(f"session-gone:{{{SCOPE}}}-483920") <= DAY_MS


async def test_the_index_has_the_next_deadline(store: RedisStore, valkey: Server) -> None:
    """Sessions are listed by the moment at which they next want to be looked at; inf: never."""
    await store.write([Create(session(KEY)), Create(session("sms-1"))])
    change = UpdateCriteria({("gateway", ""): Change(set={"decide_by_ms": 1_700_000_000_000})})
    await store.write([Update(KEY, 1, change)])
    shards = Shards(cluster=False)
    with valkey.client() as client:
        assert client.zscore(shards.index(slot_of_scope(SCOPE)), KEY) == 1_700_000_000_000
        assert client.zscore(shards.index(slot_of_scope("sms-1")), "sms-1") == float("inf")


async def test_redis_forgets_only_what_nobody_looks_after(valkey: Server, open_store: Open) -> None:
    """A session has a time to live of weeks, which a daemon puts off long before it is over."""
    valkey.flush()
    store = await open_store(valkey.url)
    await store.write([Create(session(KEY)), Create(session("sms-1"))])
    with valkey.client() as client:
        assert client.pttl(NAME) > 29 * DAY_MS
        assert client.pttl(f"session-scope:{{{SCOPE}}}") > 59 * DAY_MS
        client.pexpire(NAME, DAY_MS)
        client.delete("session:{sms-1}")
        await store._keep()
        assert client.pttl(NAME) > 29 * DAY_MS
        assert client.exists("session-scope:{sms-1}") == 0
    assert [stored.session.key async for stored in (await open_store(valkey.url)).load()] == [KEY]


async def test_writes_that_wait_together_travel_together(store: RedisStore, valkey: Server) -> None:
    """A hundred writes of a hundred callers are read by the server in a few pieces."""
    await store.write([Create(session("sms-0"))])
    with valkey.client() as client:
        before = _reads(client)
        await asyncio.gather(*(store.write([Create(session(f"sms-{number}"))]) for number in range(1, 101)))
        assert _reads(client) - before < 12


async def test_a_session_of_an_older_format_is_written_anew(
    valkey: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first change of a session that an older version has stored writes it wholly in the present format."""
    valkey.flush()
    await (await open_store(valkey.url)).write([Create(session(KEY))])
    with valkey.client() as client:
        client.hset(NAME, "monitor:m", "of format 1")
        client.hset(NAME, "meter:m", str(client.hget(NAME, "monitor:m")))
        monkeypatch.setattr(codec, "FORMAT", 2)
        monkeypatch.setattr(codec, "UPGRADES", {1: _upgraded})
        for exclusive in (True, False):
            store = await open_store(valkey.url, exclusive=exclusive)
            assert await store.get(KEY) == Stored(session(KEY), 1)
        (written,) = await store.write([Update(KEY, 1, touch())])
        assert written == Stored(apply(session(KEY), touch()), 2)
        assert (client.hget(NAME, "format"), client.hexists(NAME, "meter:m")) == ("2", False)
        assert await (await open_store(valkey.url)).get(KEY) == written


@pytest.mark.parametrize(
    ("field", "reason"), [("format", "STORED_FORMAT_NEWER"), ("head", "STORED_SESSION_UNREADABLE")]
)
async def test_what_cannot_be_read_is_refused(valkey: Server, open_store: Open, field: str, reason: str) -> None:
    """A daemon does not begin to work on a store that it understands by half."""
    valkey.flush()
    await (await open_store(valkey.url)).write([Create(session(KEY))])
    with valkey.client() as client:
        client.hset(NAME, field, "2")
        shared = await open_store(valkey.url, exclusive=False)
        store = built(valkey.url)
        for work in (store.open(), shared.get(KEY), shared.find(SCOPE), anext(shared.load())):
            with pytest.raises(FailedPrecondition) as error:
                await work
            assert error.value.reason == reason
        await store.close()
        assert client.exists(NAME) == 1


async def test_a_session_in_the_wrong_scope_is_refused(store: RedisStore) -> None:
    """The scope of a session follows from its key; another one is a mistake of ours."""
    with pytest.raises(ValueError, match="scope"):
        await store.write([Create(msgspec.structs.replace(session(KEY), scope="elsewhere"))])


@pytest.mark.parametrize("key", [KEY, "sms-7", "}", "a}b{c", "%7D", "{}", "sm\N{LATIN SMALL LETTER SHARP S}"])
def test_all_keys_of_a_session_lie_in_its_slot(key: str, cluster: ClusterOfThree) -> None:
    """The server computes the slots as we do, of every key that a write touches."""
    names, shards = names_of(key), Shards(cluster=True)
    scope = SCOPE if key == KEY else key
    ours = [names.session, names.scope, names.gone]
    ours += [part(names.slot) for part in (shards.index, shards.owner, shards.feed)]
    with cluster.nodes[0].client() as client:
        slots: list[int] = [client.cluster("keyslot", name) for name in ours]
    assert slots == [names.slot] * 6
    assert (names.slot, names.scope) == (slot_of_scope(scope), scope_name(scope))


def test_every_slot_has_a_shard() -> None:
    """A cluster has a shard for every slot, a single node has few; no slot is without one."""
    for cluster in (True, False):
        shards = Shards(cluster=cluster)
        assert {shards.index(slot) for slot in range(SLOTS)} == {shards.index(slot) for slot in shards.slots()}
        assert len({shards.owner(slot) for slot in shards.slots()}) == shards.count


def _upgraded(fields: codec.Fields) -> codec.Fields:
    """Return fields of format 2, in which meters are called monitors."""
    meter = codec.encode(session(KEY))[b"monitor:m"]
    return {name: text for name, text in fields.items() if name != b"meter:m"} | {b"monitor:m": meter}


def _reads(client: Any) -> int:
    """Return how often the server has read from a connection."""
    return int(client.info("stats")["total_reads_processed"])
