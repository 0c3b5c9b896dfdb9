"""What a restart costs: from the beginning of the load to ready, beside a bare pipeline that fetches and decodes.

Each session is one of a gateway with two rules and two credits. The daemon and its yardstick take turns, each in a
process of its own (`python -m bench.restart daemon|bare WHERE`); both read the same hashes. The load is from the first
question to the store until every listener accepts calls; `process s` is from the start of the process until it says
that it is ready, imports and all.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import Final

import redis
import redis.asyncio
import structlog
import uvloop
from msgspec import structs

from bench import stores
from bench.processes import MEASURED_CORE, pin
from bench.rows import Better, Plan, Row, Sample
from sessiond.app.ports.store import Create
from sessiond.core.session import Session
from sessiond.daemon.config import load
from sessiond.daemon.wiring import Daemon
from sessiond.store import codec
from tests.core.builders import grant, lte_context, ocs, situation, started, static
from tests.store.stores import opened

ROOT: Final = Path(__file__).parents[1]
SESSIONS: Final = 10_000
PAGE: Final = 200
OURS: Final = {b"revision", b"operations", b"number"}
"""The fields of a hash that are not the session's."""


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


def daemon(config: Path) -> dict[str, float]:
    """Start a daemon in this process; return what it took to be ready."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))

    async def start() -> dict[str, float]:
        started = Daemon(load(config), config)
        wall, cpu = perf_counter(), process_time()
        await started.start()
        took = {"wall_s": perf_counter() - wall, "cpu_s": process_time() - cpu}
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
        pin(MEASURED_CORE, running.pid)
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


async def restart(plan: Plan) -> AsyncIterator[Row]:
    """Fill a store and measure: the daemon and its yardstick take turns."""
    count = plan.count(SESSIONS)
    config = plan.folder / "sessiond.yml"
    found: list[Sample] = []
    async with AsyncExitStack() as stack:
        url = (await stores.server(stack, plan)).url
        config.write_text(
            f"server: {{listen: '127.0.0.1:0'}}\nmetrics: {{listen: null}}\nstore: {{url: '{url}'}}\n", encoding="utf-8"
        )
        await asyncio.to_thread(filled, url, count)
        for number in range(plan.rounds):
            plan.progress(f"restart with {count:,} sessions: round {number + 1} of {plan.rounds}")
            yardstick, measured = _worker("bare", url), _worker("daemon", str(config))
            notes = {"process s": process(config), "CPU s": measured["cpu_s"], "bare CPU s": yardstick["cpu_s"]}
            found.append(Sample(measured["wall_s"], yardstick["wall_s"], notes))
    yield Row(f"restart, {count:,} sessions to ready", Better.LESS, 3, "x bare fetch and decode", "s", tuple(found))


def _worker(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.restart", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    took: dict[str, float] = json.loads(done.stdout)
    return took


if __name__ == "__main__":
    pin(MEASURED_CORE)
    match sys.argv[1:]:
        case ["bare", where]:
            print(json.dumps(bare(where)))
        case ["daemon", where]:
            print(json.dumps(daemon(Path(where))))
        case _:
            sys.exit(__doc__)
