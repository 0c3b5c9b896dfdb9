#!/usr/bin/env python3
"""What a write to the store costs, alone and together with others, and what a restart has to load.

    bench/store.py [--sessions 10000] [--url redis://127.0.0.1:6379/15] [--shared]

Without a URL a Valkey is started for it; with one, that database is EMPTIED. CPU time is that of this process alone.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import msgspec
import redis
import structlog
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from sessiond.app.ports.store import Conflict, Create, Store, Update
from sessiond.core.ids import scope_of
from sessiond.core.session import Session
from sessiond.core.update import Change, UpdateCriteria
from sessiond.store import codec
from sessiond.store.redis_keys import names_of
from tests.store.formats import example
from tests.store.servers import Server, binary_of
from tests.store.stores import opened

PAGE = 200
USAGE = UpdateCriteria({("credits", "1"): Change({"used_tx": 10, "used_rx": 3}, {"last_usage_s": 1_700_000_009})})


async def measured(what: str, count: int, work: Awaitable[Any]) -> Any:
    """Print what a piece of work costs per session."""
    wall, cpu = perf_counter(), process_time()
    result = await work
    cpu, wall = process_time() - cpu, perf_counter() - wall
    print(f"{what:28} {wall / count * 1e6:8.1f} us  {cpu / count * 1e6:8.1f} us of CPU   {wall:6.2f} s for {count}")
    return result


async def create(store: Store, sessions: Sequence[Session]) -> None:
    """Create sessions, many in a call."""
    for start in range(0, len(sessions), PAGE):
        await store.write([Create(session) for session in sessions[start : start + PAGE]])


async def update(store: Store, keys: Sequence[str], revision: int, callers: int) -> None:
    """Change sessions, one in a call, with so many callers at once."""

    async def one_caller(own: Sequence[str]) -> None:
        for key in own:
            assert await store.write([Update(key, revision, USAGE)]) != [Conflict()]

    await asyncio.gather(*(one_caller(keys[number::callers]) for number in range(callers)))


async def update_many(store: Store, keys: Sequence[str], revision: int) -> None:
    """Change sessions, many in a call, as a usage table does."""
    for start in range(0, len(keys), PAGE):
        await store.write([Update(key, revision, USAGE) for key in keys[start : start + PAGE]])


async def load(url: str, *, exclusive: bool) -> None:
    """Do what a restart does."""
    store = await opened(url, exclusive=exclusive)
    assert [stored async for stored in store.load()]
    await store.close()


async def bare(url: str, keys: Sequence[str]) -> None:
    """Fetch and decode the same hashes with nothing but the client's pipeline."""
    client = redis.asyncio.Redis.from_url(url)
    for start in range(0, len(keys), PAGE):
        pipeline = client.pipeline(transaction=False)
        for key in keys[start : start + PAGE]:
            pipeline.hgetall(names_of(key).session)
        for fields in await pipeline.execute():
            codec.decode(
                {name: text for name, text in fields.items() if name not in {b"revision", b"operations", b"number"}}
            )
    await client.aclose()


async def run(url: str, count: int, *, exclusive: bool) -> None:
    """Measure everything once."""
    keys = [f"IMSI00101{number:010d}-{number}" for number in range(count)]
    some = msgspec.structs.replace(example(), effects={})
    sessions = [msgspec.structs.replace(some, key=key, scope=scope_of(key)) for key in keys]
    store = await opened(url, exclusive=exclusive)
    await measured(f"create, {PAGE} in a call", count, create(store, sessions))
    await measured("update, 1 caller", count // 5, update(store, keys[: count // 5], 1, 1))
    for number, callers in enumerate((10, 100), 1):
        part = keys[number * count // 5 : (number + 1) * count // 5]
        await measured(f"update, {callers} callers", len(part), update(store, part, 1, callers))
    part = keys[3 * count // 5 :]
    await measured(f"update, {PAGE} in a call", len(part), update_many(store, part, 1))
    await store.close()
    await measured("open and load", count, load(url, exclusive=exclusive))
    await measured("a bare pipeline, decoded", count, bare(url, keys))


def main() -> None:
    """Run on the server of the command line, or on one of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--url", help="a Redis; its database is emptied")
    parser.add_argument("--shared", action="store_true", help="as one of several daemons")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder:
        server = None if options.url else Server(binary_of("valkey"), Path(folder)).start()
        url = options.url or (server.url if server else "")
        redis.Redis.from_url(url).flushdb()
        try:
            uvloop.run(run(url, options.sessions, exclusive=not options.shared))
        finally:
            if server is not None:
                server.stop()


if __name__ == "__main__":
    main()
