"""The Redis store when something goes wrong on the way: bounded waits, nothing twice, nothing lost, recovery alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import pytest
from msgspec import Struct

from sessiond.app.ports.store import Conflict, Create, Delete, Deleted, Store, Stored, Update, Write
from sessiond.core.errors import Unavailable
from sessiond.core.update import Change, UpdateCriteria, apply
from sessiond.store import redis as redis_store
from sessiond.store import redis_lane, redis_link
from sessiond.store.redis import RedisStore
from sessiond.testing.store_contract import SCOPE, session, touch
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import Server

ATTEMPT_S: Final = 0.08
OPERATION_S: Final = 0.2
GRACE_S: Final = 0.8
"""What a slow machine may add to a deadline."""

Break: TypeAlias = Callable[[FaultProxy], None]
KEY: Final = session().key
WRITES: Final[list[Write]] = [Create(session(f"{SCOPE}-2")), Update(KEY, 1, touch()), Delete(KEY, 1)]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try more often to reach a store that is away."""
    monkeypatch.setattr(redis_lane, "LAST_PAUSE_S", 0.05)


@contextmanager
def brisk() -> Iterator[None]:
    """Wait less for a store, in proportion, while it is certain that it does not answer."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (redis_lane, redis_link, redis_store):
            for name, seconds in (("ATTEMPT_S", ATTEMPT_S), ("OPERATION_S", OPERATION_S)):
                if hasattr(module, name):
                    patch.setattr(module, name, seconds)
        yield


class Line(Struct, eq=False):
    """A store with one session, and the proxy and the server that it talks to."""

    store: RedisStore
    proxy: FaultProxy
    server: Server


@asynccontextmanager
async def laid(server: Server, open_store: Open, *, exclusive: bool) -> AsyncIterator[Line]:
    """Lay a line from a store with one session, through a proxy, to a server."""
    server.flush()
    async with FaultProxy(server.port) as proxy:
        store = await open_store(proxy.url, exclusive=exclusive)
        await store.write([Create(session())])
        yield Line(store, proxy, server)
        proxy.heal()


@pytest.fixture
async def line(valkey: Server, open_store: Open) -> AsyncIterator[Line]:
    """Give the line of an exclusive store."""
    async with laid(valkey, open_store, exclusive=True) as line:
        yield line


@pytest.fixture(params=[True, False], ids=["exclusive", "shared"])
async def any_line(request: pytest.FixtureRequest, valkey: Server, open_store: Open) -> AsyncIterator[Line]:
    """Give the line of each kind of store in turn."""
    async with laid(valkey, open_store, exclusive=request.param) as line:
        yield line


BREAKS: Final[dict[str, Break]] = {
    "refuses": lambda proxy: proxy.cut(refuse=True),
    "swallows replies": FaultProxy.swallow,
    "closes by half": FaultProxy.half_close,
    "is too slow": lambda proxy: setattr(proxy, "delay_s", 5.0),
}


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("write", WRITES, ids=lambda write: type(write).__name__)
async def test_a_write_is_unavailable_in_time(line: Line, name: str, write: Write) -> None:
    """Whatever the fault, the caller hears in time that nobody knows, and when to ask again."""
    BREAKS[name](line.proxy)
    error = await _unavailable_in_time(line.store.write([write]))
    assert (error.reason, error.retry_after_ms > 0) == ("STORE_UNAVAILABLE", True)


@pytest.mark.parametrize("name", BREAKS)
async def test_the_store_recovers_alone(any_line: Line, name: str) -> None:
    """When the fault is over, the same store goes on, and has not done anything twice or by half."""
    BREAKS[name](any_line.proxy)
    await _unavailable_in_time(any_line.store.write([Update(KEY, 1, touch(5))]))
    any_line.proxy.heal()
    stored = await _get(any_line.store)
    assert stored is not None
    assert (stored.revision, stored.session.monitors["m"].used_tx) in {(1, 1), (2, 6)}
    (written,) = await any_line.store.write([Update(KEY, stored.revision, touch(5))])
    assert isinstance(written, Stored)
    assert written.session.monitors["m"].used_tx == stored.session.monitors["m"].used_tx + 5


async def test_a_failed_read_is_not_no_session(any_line: Line) -> None:
    """A read that the store does not answer is unknown; one that memory can answer is answered."""
    any_line.proxy.cut(refuse=True)
    if any_line.store._exclusive:
        assert await any_line.store.get(KEY) == Stored(session(), 1)
        return
    for reading in (any_line.store.get(KEY), any_line.store.find(SCOPE), _load(any_line.store)):
        await _unavailable_in_time(reading)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: type(write).__name__)
async def test_a_write_that_was_not_sent_is_not_carried_out(any_line: Line, write: Write) -> None:
    """Who was told `Unavailable` while the store was out of reach does not find it done later on."""
    any_line.proxy.cut(refuse=True)
    await _unavailable_in_time(any_line.store.write([Create(session("IMSI7-1"))]))
    await _unavailable_in_time(any_line.store.write([write]))
    any_line.proxy.heal()
    assert [stored.revision for stored in await _find(any_line.store)] == [1]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: type(write).__name__)
async def test_a_lost_reply_is_nobodys_trouble(any_line: Line, write: Write) -> None:
    """A write whose reply is lost is repeated and recognised: done once, and answered as done."""
    any_line.proxy.lose_reply(_verb(write))
    (written,) = await any_line.store.write([write])
    assert not isinstance(written, Conflict)
    key = write.session.key if isinstance(write, Create) else write.key
    assert await any_line.store.get(key) == (None if isinstance(written, Deleted) else written)
    with any_line.server.client() as client:
        assert client.exists(f"session:{{{SCOPE}}}-{key[-1]}") == (not isinstance(written, Deleted))


async def test_many_lost_replies_count_nothing_twice(any_line: Line) -> None:
    """A counter that is added to while replies get lost is exact."""
    for number in range(30):
        if number % 3:
            any_line.proxy.lose_reply(b"CHANGE")
        stored = await any_line.store.get(KEY)
        assert stored is not None
        change = UpdateCriteria({("monitors", "m"): Change({"used_tx": 10})})
        assert await any_line.store.write([Update(KEY, stored.revision, change)]) != [Conflict()]
    after = await any_line.store.get(KEY)
    assert after is not None
    assert (after.revision, after.session.monitors["m"].used_tx) == (31, 301)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: type(write).__name__)
async def test_what_became_of_a_write_is_settled(any_line: Line, write: Write) -> None:
    """After `Unavailable`, reads are so too until it is known; then they say what is true for good."""
    any_line.proxy.swallow()
    await _unavailable_in_time(any_line.store.write([write]))
    await _unavailable_in_time(any_line.store.find(SCOPE))
    any_line.proxy.heal()
    found = {stored.session.key: stored.revision for stored in await _find(any_line.store)}
    assert found == {Create: {KEY: 1, f"{SCOPE}-2": 1}, Update: {KEY: 2}, Delete: {}}[type(write)]
    with any_line.server.client() as client:
        assert client.zrange(f"session-scope:{{{SCOPE}}}", 0, -1) == list(found)


async def test_a_writer_that_goes_away_leaves_nothing_in_doubt(any_line: Line) -> None:
    """A write whose caller is cancelled is settled too."""
    any_line.proxy.delay_s = 0.05
    any_line.proxy.heard.clear()
    task = asyncio.create_task(any_line.store.write([Update(KEY, 1, touch())]))
    await any_line.proxy.heard.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [stored.revision for stored in await any_line.store.find(SCOPE)] == [2]


async def test_a_frozen_server(line: Line) -> None:
    """A server that is stopped where it is, is unavailable; it goes on where it was."""
    line.server.freeze()
    try:
        await _unavailable_in_time(line.store.write([Update(KEY, 1, touch())]))
    finally:
        line.server.thaw()
    stored = await _get(line.store)
    assert stored is not None
    assert await line.store.write([Delete(KEY, stored.revision)]) == [Deleted()]


ERRORS: Final = [
    b"-LOADING Redis is loading the dataset in memory",
    b"-READONLY You can't write against a read only replica.",
    b"-OOM command not allowed when used memory > 'maxmemory'.",
    b"-ERR Error running script (call to f_1): @user_script:39: @user_script: 39: -OOM command not allowed",
    b"-ERR Error running script (call to f_1): @user_script: 39: -READONLY You can't write against a replica.",
    b"-MISCONF Errors writing to the AOF file: No space left on device",
    b"-NOREPLICAS Not enough good replicas to write.",
    b"-BUSY Valkey is busy running a script.",
    b"-CLUSTERDOWN The cluster is down",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"-TRYAGAIN Multiple keys request during rehashing of slot",
    b"-NOSCRIPT No matching script.",
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.decode()[:60])
async def test_an_error_that_passes(line: Line, error: bytes) -> None:
    """A server that cannot do its work now is unavailable, with the reason, until it can."""
    line.proxy.error = error
    refusal = await _unavailable_in_time(line.store.write([Update(KEY, 1, touch())]))
    assert refusal.reason == "STORE_UNAVAILABLE"
    line.proxy.heal()
    after = await _get(line.store)
    assert after is not None
    assert after in (Stored(session(), 1), Stored(apply(session(), touch()), 2))  # it may have been under way just then
    assert await line.store.write([Delete(KEY, after.revision)]) == [Deleted()]


REFUSALS: Final = [
    b"-NOAUTH Authentication required.",
    b"-WRONGPASS invalid username-password pair or user is disabled.",
    b"-NOPERM this user has no permissions to run the 'evalsha' command",
    b"-MOVED 3999 127.0.0.1:6381",
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: error.decode()[:20])
async def test_a_refusal_is_for_the_operator(line: Line, error: bytes) -> None:
    """A server that does not want us is not waited for; the reason says that somebody must act."""
    line.proxy.error = error
    refusal = await _unavailable_in_time(line.store.write([Update(KEY, 1, touch())]))
    assert refusal.reason == "STORE_REFUSED"
    line.proxy.heal()
    assert await _get(line.store) == Stored(session(), 1)


async def test_scripts_that_are_flushed_are_loaded_again(line: Line) -> None:
    """A server that has forgotten our scripts is given them again."""
    with line.server.client() as client:
        client.script_flush()
    assert isinstance((await line.store.write([Update(KEY, 1, touch())]))[0], Stored)


async def test_a_store_too_far_behind_takes_no_more(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded: further operations are unavailable at once."""
    monkeypatch.setattr(redis_lane, "MAX_WAITING", 5)
    line.server.freeze()
    try:
        waiting = [asyncio.create_task(line.store.write([Create(session(f"IMSI{n}-1"))])) for n in range(20)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        texts = [str(task.exception()) for task in done]
        assert any("operations wait for it" in text for text in texts)
    finally:
        line.server.thaw()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_closing_waits_for_nobody(line: Line) -> None:
    """A store that is closed while the server is away tells those that wait."""
    line.proxy.swallow()
    line.proxy.heard.clear()
    writing = asyncio.create_task(line.store.write([Update(KEY, 1, touch())]))
    await line.proxy.heard.wait()
    await line.store.close()
    with pytest.raises(Unavailable):
        await writing


async def _unavailable_in_time(work: Any) -> Unavailable:
    """Return the error of an operation that must fail within its deadline."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with brisk(), pytest.raises(Unavailable) as error:
        await work
    assert loop.time() - began < OPERATION_S + GRACE_S
    return error.value


async def _get(store: Store) -> Stored | None:
    """Return the session as soon as the store is back."""
    while True:
        try:
            return await store.get(KEY)
        except Unavailable:
            continue


async def _find(store: Store) -> list[Stored]:
    """Return the sessions of the scope as soon as the store is back."""
    while True:
        try:
            return await store.find(SCOPE)
        except Unavailable:
            continue


async def _load(store: Store) -> list[Stored]:
    return [stored async for stored in store.load()]


def _verb(write: Write) -> bytes:
    return {Create: b"CREATE", Update: b"CHANGE", Delete: b"DELETE"}[type(write)]
