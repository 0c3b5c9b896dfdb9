"""Who may write: an exclusive daemon that takes over shuts the one before it out, wherever the session lies."""

import asyncio

import pytest

from sessiond.app.ports.store import Conflict, Create, Delete, Stored, Update, Write
from sessiond.core.errors import Fenced
from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import SCOPE, session, touch
from tests.store.conftest import Open
from tests.store.servers import ClusterOfThree, Server

KEY = session().key
STALE: list[Write] = [
    Create(session(f"{SCOPE}-2")),
    Create(session("IMSI7-7")),
    Update(KEY, 1, touch()),
    Delete(KEY, 1),
]


async def test_a_daemon_that_was_taken_over_writes_nothing(place: Server | ClusterOfThree, open_store: Open) -> None:
    """Every write of the old owner fails, also of a session that the new one has never seen."""
    old = await open_store(place.url)
    await old.write([Create(session())])
    new = await open_store(place.url)
    for write in STALE:
        old.fenced.clear()  # else it would not even try
        with pytest.raises(Fenced) as error:
            await old.write([write])
        assert error.value.reason == "STORE_TAKEN_OVER"
        assert old.fenced.is_set()
    assert [stored async for stored in new.load()] == [Stored(session(), 1)]
    assert await new.write([Update(KEY, 1, touch())]) != [Conflict()]


async def test_a_daemon_that_was_taken_over_reads_nothing(valkey: Server, open_store: Open) -> None:
    """What the old owner has in memory is not true any more."""
    valkey.flush()
    old = await open_store(valkey.url)
    await old.write([Create(session())])
    await open_store(valkey.url)
    with pytest.raises(Fenced):
        await old.write([Delete(KEY, 1)])
    for reading in (old.get(KEY), old.find(SCOPE), anext(old.load()), old.write([])):
        with pytest.raises(Fenced):
            await reading


async def test_an_idle_daemon_notices_that_it_was_taken_over(valkey: Server, open_store: Open) -> None:
    """The old owner hears of it although it has nothing to write."""
    valkey.flush()
    old = await open_store(valkey.url, watch_s=0.01)
    await open_store(valkey.url)
    async with asyncio.timeout(5):
        await old.fenced.wait()


async def test_a_new_owner_sees_every_write_that_was_acknowledged(valkey: Server, open_store: Open) -> None:
    """A take-over in the middle of writing: what the old owner was told is there, and nothing else comes."""
    valkey.flush()
    for round_ in range(20):
        old = await open_store(valkey.url)
        writing = asyncio.create_task(_write_until_fenced(old, f"IMSI{round_}-1"))
        new = await open_store(valkey.url)
        acknowledged = await writing
        stored = await new.get(f"IMSI{round_}-1")
        assert (stored.revision if stored else 0) == acknowledged


async def test_daemons_that_share_are_shut_out_together(valkey: Server, open_store: Open) -> None:
    """Daemons that share do not shut each other out; an exclusive one shuts out all of them, and they it."""
    valkey.flush()
    first, second = await open_store(valkey.url, exclusive=False), await open_store(valkey.url, exclusive=False)
    await first.write([Create(session())])
    assert await second.write([Update(KEY, 1, touch())]) != [Conflict()]
    owner = await open_store(valkey.url)
    for shared in (first, second):
        with pytest.raises(Fenced):
            await shared.write([Create(session("sms-1"))])
    third = await open_store(valkey.url, exclusive=False)
    with pytest.raises(Fenced):
        await owner.write([Create(session("sms-2"))])
    assert [stored.session.key async for stored in third.load()] == [KEY]


async def _write_until_fenced(store: RedisStore, key: str) -> int:
    """Write as long as it goes; return the last revision that was acknowledged."""
    revision = 0
    try:
        await store.write([Create(session(key))])
        revision = 1
        while True:
            await store.write([Update(key, revision, touch())])
            revision += 1
    except Fenced:
        return revision
