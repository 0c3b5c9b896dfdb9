"""`sessiond.client` watches a real daemon, also one that is killed and comes back (requirement X3)."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sessiond.client import connect
from tests.blackbox.streams import AioClient, create, end, streams
from tests.store.servers import Server, free_port

pytestmark = pytest.mark.blackbox


async def test_no_gap_and_no_repetition(tmp_path: Path, one_valkey: Server) -> None:
    """The daemon is killed in the middle of many creations: each session that was made is told of once."""
    listen, made = f"127.0.0.1:{free_port()}", list[str]()
    async with streams(tmp_path, server={"listen": listen}, store={"url": one_valkey.url}) as daemon:
        async with connect(listen, timeout_s=60) as client, client.watch("type = stream", kinds=["CREATED"]) as events:
            maker = AioClient(listen)
            made += [await create(maker, "Car") for _ in range(50)]
            seen = [(await anext(events)).session.key for _ in range(20)]
            await daemon.process.stop(signal.SIGKILL)
            await daemon.process.start()
            again = AioClient(listen)
            made += [await create(again, "Car") for _ in range(50)]
            async with asyncio.timeout(30):
                seen += [(await anext(events)).session.key for _ in range(80)]
            assert sorted(seen) == sorted(made)
            token = events.token
        more = await create(again, "Car")
        await end(again, more)
        async with connect(listen) as client, client.watch("type = stream", token=token) as events:
            told = [await anext(events) for _ in range(3)]
            assert {one.session.key for one in told} == {more}
            assert [one.kind for one in told] == ["CREATED", "ACTIVATED", "CLOSED"]
        await maker.close()
        await again.close()


@pytest.mark.parametrize("who", ["the same daemon", "its next run", "its fellow"])
async def test_a_place_amid_the_events_of_one_write(who: str, tmp_path: Path, one_valkey: Server) -> None:
    """X3: wherever another process goes on, it misses nothing; the events of the change it is amid come once more."""
    in_memory, fellow = who == "the same daemon", who == "its fellow"
    store = {"url": "memory:"} if in_memory else {"url": one_valkey.url, "exclusive": not fellow}
    (tmp_path / "b").mkdir()
    one_valkey.flush()
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(streams(tmp_path, store=store, support_stateless=not in_memory))
        maker = AioClient(daemon.process.address)
        async with connect(daemon.process.address) as client, client.watch("type = stream") as events:
            begin = events.token
            keys = [await create(maker, "Car") for _ in range(3)]
            await end(maker, keys[0])
            told = [(await anext(events), events.token) for _ in range(7)]
        await maker.close()
        if who == "its next run":
            await daemon.process.stop(signal.SIGKILL)
            await daemon.process.start()
        elif fellow:
            daemon = await stack.enter_async_context(streams(tmp_path / "b", store=store, support_stateless=True))
        everything = [(event.kind, event.session.key) for event, _ in told]
        changes = [keys.index(key) if kind != "CLOSED" else len(keys) for kind, key in everything]
        async with connect(daemon.process.address) as client, asyncio.timeout(30):
            for seen, token in enumerate([begin, *(token for _, token in told[:-1])]):
                first = changes.index(changes[seen])
                async with client.watch("type = stream", token=token) as events:
                    again = [await anext(events) for _ in everything[first:]]
                assert [(event.kind, event.session.key) for event in again] == everything[first:]


async def test_a_snapshot_comes_first(tmp_path: Path) -> None:
    """What there is, that this is all, and then what happens."""
    async with streams(tmp_path) as daemon, connect(daemon.process.address) as client:
        maker = AioClient(daemon.process.address)
        keys = {await create(maker, "Car"), await create(maker, "Car")}
        async with client.watch(snapshot=True) as events:
            there = [await anext(events) for _ in range(3)]
            await end(maker, min(keys))
            closed = await anext(events)
        assert {one.session.key for one in there[:2]} == keys
        assert [one.kind for one in there] == ["EXISTS", "EXISTS", "SNAPSHOT_COMPLETE"]
        assert (closed.kind, closed.session.key) == ("CLOSED", min(keys))
        await maker.close()
