"""`sessiond.client` watches a real daemon, also one that is killed and comes back (requirement X3)."""

import asyncio
import signal
import socket
from pathlib import Path

import pytest

from sessiond.client import connect
from tests.blackbox.streams import AioClient, create, end, streams
from tests.store.servers import Server

pytestmark = pytest.mark.blackbox


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


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
