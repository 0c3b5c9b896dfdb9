"""The recorded traffic of a production gateway, if it lies beside this checkout; with each kind of store."""

import asyncio
import sys
from asyncio.subprocess import PIPE, STDOUT, create_subprocess_exec
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.store.servers import Server, binary_of

pytestmark = [pytest.mark.blackbox, pytest.mark.slow, pytest.mark.timeout(300)]

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
ATTEMPTS = 3
PORT_TAKEN = "cannot listen on"
"""The tool looks for free ports for the daemon and lets go of them; another test may be given one before it starts."""
AT_ONCE = 5
"""A scenario mostly waits for timers, so that many can run at once."""


async def replayed(scenario: str, slots: asyncio.Semaphore, *options: str) -> str:
    """Replay a scenario; return what is wrong, or nothing."""
    output = ""
    for _ in range(ATTEMPTS):
        async with slots:
            status, output = await replay(scenario, *options)
        if status == 0:
            return ""
        if PORT_TAKEN not in output:
            break
    return output


async def replay(scenario: str, *options: str) -> tuple[int | None, str]:
    """Run the tool on one scenario; return its exit status and what it says."""
    daemon = f"{sys.executable} -m sessiond --config {{config}}"
    command = [sys.executable, "replay.py", scenario, "--command", daemon, *options]
    process = await create_subprocess_exec(*command, cwd=GOLDEN, stdout=PIPE, stderr=STDOUT, start_new_session=True)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it stops its daemon then
            await process.wait()
    return process.returncode, output.decode()


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no recorded traffic in ../shared/golden beside this checkout")
@pytest.mark.parametrize("store", ["memory", "valkey", "redis"])
async def test_recorded_traffic_is_answered_as_it_should_be(store: str, tmp_path: Path) -> None:
    """Every recorded scenario passes: each answer, and each message to a peer in its place."""
    scenarios = sorted(path.stem for path in GOLDEN.glob("[0-9]*.json"))
    assert scenarios
    slots = asyncio.Semaphore(AT_ONCE)
    with databases(store, tmp_path) as url:
        outcomes = await asyncio.gather(
            *(replayed(scenario, slots, *url(number)) for number, scenario in enumerate(scenarios))
        )
    assert {name: wrong for name, wrong in zip(scenarios, outcomes, strict=True) if wrong} == {}


@contextmanager
def databases(store: str, folder: Path) -> Iterator[Callable[[int], list[str]]]:
    """Give the options of a store for the scenario of a number: in Redis, a database of its own, which is emptied."""
    if store == "memory":
        yield lambda _: []
        return
    server = Server(binary_of(store), folder, "--databases", "100")
    try:
        port = server.start().port
        yield lambda number: ["--store", "redis", "--redis-url", f"redis://127.0.0.1:{port}/{number}"]
    finally:
        server.stop()
