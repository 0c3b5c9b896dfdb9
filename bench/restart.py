#!/usr/bin/env python3
"""What a restart costs: from the beginning of the load to ready, beside a bare pipeline that fetches and decodes.

    bench/restart.py [--sessions 10000] [--rounds 5] [--url redis://127.0.0.1:6379/15] [--profile FILE]

Each session is one of a gateway with two rules and two credits. The daemon and its yardstick take turns, each in a
process of its own; both read the same hashes. `load` is from the first question to the store until every listener
accepts calls; `process` is from the start of the process until it says that it is ready, imports and all. Without a URL
a Valkey is started; with one, that database is EMPTIED.
"""

import argparse
import asyncio
import cProfile
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time
from types import MappingProxyType
from typing import NamedTuple

import redis
import redis.asyncio
import structlog
import uvloop
from msgspec import structs

sys.path.insert(0, str(Path(__file__).parents[1]))

from sessiond.app.ports.store import Create
from sessiond.core.session import Session
from sessiond.daemon.config import load
from sessiond.daemon.wiring import Daemon
from sessiond.store import codec
from tests.core.builders import grant, lte_context, ocs, situation, started, static
from tests.store.servers import Server, binary_of
from tests.store.stores import opened

ROOT = Path(__file__).parents[1]
SESSIONS, ROUNDS, PAGE, BOUND = 10_000, 5, 200, 3.0
OURS = {b"revision", b"operations", b"number"}
"""The fields of a hash that are not the session's."""


class Sample(NamedTuple):
    """One round, in seconds of wall time: the load of the daemon, its yardstick, and what else is worth knowing."""

    measured: float
    yardstick: float
    notes: Mapping[str, float] = MappingProxyType({})


def filled(url: str, count: int) -> None:
    """Put sessions into an empty store."""
    at = situation(ocs("web", 1), ocs("video", 2))
    one = started(at, credits_=[grant("1"), grant("2")], installs=static("web", "video")).session

    def session(number: int) -> Session:
        subscriber = f"IMSI00101{number:010d}"
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        context = structs.replace(lte_context(), subscriber=subscriber, ue_ipv4=address)
        return structs.replace(one, key=f"{subscriber}-{number}", scope=subscriber, context=context)

    async def fill() -> None:
        store = await opened(url)
        for start in range(0, count, PAGE):
            await store.write([Create(session(number)) for number in range(start, min(start + PAGE, count))])
        await store.close()

    asyncio.run(fill())


def daemon(config: Path, profile: str = "") -> dict[str, float]:
    """Start a daemon in this process; return what it took to be ready."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

    async def start() -> dict[str, float]:
        started = Daemon(load(config), config)
        profiler = cProfile.Profile()
        wall, cpu = perf_counter(), process_time()
        if profile:
            profiler.enable()
        await started.start()
        profiler.disable()
        took = {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
        if profile:
            profiler.dump_stats(profile)
        await started.close()
        return took

    return uvloop.run(start())


def bare(url: str) -> dict[str, float]:
    """Fetch and decode the same hashes with nothing but the client's pipeline."""

    async def fetch() -> dict[str, float]:
        client = redis.asyncio.Redis.from_url(url)
        keys = [key async for key in client.scan_iter("session:*", count=PAGE)]
        wall, cpu = perf_counter(), process_time()
        for start in range(0, len(keys), PAGE):
            pipeline = client.pipeline(transaction=False)
            for key in keys[start : start + PAGE]:
                pipeline.hgetall(key)
            for fields in await pipeline.execute():
                codec.decode({name: text for name, text in fields.items() if name not in OURS})
        took = {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
        await client.aclose()
        return took

    return uvloop.run(fetch())


def process(config: Path) -> float:
    """Return how long a daemon takes from the start of its process until it says that it is ready."""
    began = perf_counter()
    command = [sys.executable, "-m", "sessiond", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if json.loads(line).get("event") == "ready":
                took = perf_counter() - began
                running.terminate()
                break
        else:
            raise SystemExit("the daemon ended before it was ready")
        running.stderr.read()
    return took


def samples(url: str, folder: Path, count: int = SESSIONS, rounds: int = ROUNDS) -> Iterator[Sample]:
    """Fill the store and measure: the daemon and its yardstick take turns."""
    config = folder / "sessiond.yml"
    config.write_text(
        f"server: {{listen: '127.0.0.1:0'}}\nmetrics: {{listen: null}}\nstore: {{url: '{url}'}}\nlog_level: INFO\n",
        encoding="utf-8",
    )
    filled(url, count)
    for _ in range(rounds):
        yardstick, measured = _worker("bare", url), _worker("daemon", str(config))
        notes = {"process_s": process(config), "cpu_s": measured["cpu_s"], "yardstick_cpu_s": yardstick["cpu_s"]}
        yield Sample(measured["wall_s"], yardstick["wall_s"], notes)


def _worker(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    took: dict[str, float] = json.loads(done.stdout)
    return took


def table(found: Sequence[Sample], count: int) -> str:
    """Return what was measured, in words."""
    ratios = sorted(sample.measured / sample.yardstick for sample in found)
    middle = {name: statistics.median(sample.notes[name] for sample in found) for name in found[0].notes}
    measured = statistics.median(sample.measured for sample in found)
    yardstick = statistics.median(sample.yardstick for sample in found)
    return (
        f"{count} sessions: load to ready {measured:.2f} s ({middle['cpu_s']:.2f} s of CPU),"
        f" bare pipeline {yardstick:.2f} s ({middle['yardstick_cpu_s']:.2f} s of CPU),"
        f" process start to ready {middle['process_s']:.2f} s\n"
        f"ratio: {statistics.median(ratios):.2f}, of CPU {middle['cpu_s'] / middle['yardstick_cpu_s']:.2f}"
        f" (of {', '.join(f'{ratio:.2f}' for ratio in ratios)}; at most {BOUND:g})"
    )


def main() -> None:
    """Run on the server of the command line, or on one of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--url", help="a Redis; its database is emptied")
    parser.add_argument("--profile", metavar="FILE", help="write a profile of one load there, and measure nothing")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = options.url
        if not url:
            server = Server(binary_of("valkey"), folder / "valkey").start()
            stack.callback(server.stop)
            url = server.url
        _empty(url)
        if options.profile:
            next(samples(url, folder, options.sessions, 1))
            daemon(folder / "sessiond.yml", options.profile)
            return
        found = []
        for sample in samples(url, folder, options.sessions, options.rounds):
            found.append(sample)
            print(f"  {sample.measured:.2f} s / {sample.yardstick:.2f} s", flush=True)
        print(table(found, options.sessions))


def _empty(url: str) -> None:
    redis.Redis.from_url(url).flushdb()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["bare", where]:
            print(json.dumps(bare(where)))
        case ["daemon", where]:
            print(json.dumps(daemon(Path(where))))
        case _:
            main()
