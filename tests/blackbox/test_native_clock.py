"""The clock of the machine is set while the daemon runs (requirement W4): time is what the clock says."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.blackbox.harness import Daemon
from tests.blackbox.native import NativeDaemon, state_of
from tests.blackbox.watching import watching
from tests.store.servers import Server

pytestmark = pytest.mark.blackbox

HOUR_S: Final = 3600
TTL: Final = Duration(seconds=HOUR_S)
MACHINE: Final = """
import time
from pathlib import Path

ahead, now = Path({ahead!r}), time.time
time.time = lambda: now() + float(ahead.read_text())
"""
"""What Python runs first (sitecustomize): a clock that is set by a file."""

Set = Callable[[float], None]


@pytest.fixture(params=["memory", "valkey"])
async def machine(
    request: pytest.FixtureRequest, tmp_path: Path, one_valkey: Server
) -> AsyncIterator[tuple[NativeDaemon, Set]]:
    """Give a daemon, and what sets its clock so many seconds ahead of ours."""
    ahead, next_ahead = tmp_path / "ahead", tmp_path / "next"

    def set_clock(seconds: float) -> None:
        next_ahead.write_text(str(seconds))
        next_ahead.rename(ahead)

    set_clock(0)
    (tmp_path / "sitecustomize.py").write_text(MACHINE.format(ahead=str(ahead)))
    url = one_valkey.url if request.param == "valkey" else "memory:"
    daemon = NativeDaemon(tmp_path, {"store": {"url": url}})
    daemon.process = Daemon(daemon.file, daemon.changes, {"PYTHONPATH": str(tmp_path)})
    try:
        await daemon.process.start()
        yield daemon, set_clock
        assert daemon.process.failures() == []
    finally:
        await daemon.close()


async def test_w4_a_step_forward(machine: tuple[NativeDaemon, Set]) -> None:
    """What has expired by the new time ends by itself, and nothing else does."""
    daemon, set_clock = machine
    client = daemon.client()
    short, long = await client.create("sms", ttl=TTL), await client.create("sms", ttl=Duration(seconds=3 * HOUR_S))
    async with watching(daemon.process.address) as watcher:
        set_clock(2 * HOUR_S)
        assert await watcher.told(1) == [(short.key, "EXPIRED CLOSED")]
    assert (await client.missing(short.key)).reason == "SESSION_EXPIRED"
    assert state_of(await client.get(long.key)) == "ACTIVE"


async def test_w4_a_step_back(machine: tuple[NativeDaemon, Set]) -> None:
    """Nothing ends before its time has come again; then all does, in its order."""
    daemon, set_clock = machine
    client = daemon.client()
    set_clock(HOUR_S)
    late = await client.create("sms", ttl=TTL)
    set_clock(0)
    early = await client.create("sms", ttl=TTL)
    assert late.create_time.ToSeconds() >= early.create_time.ToSeconds() + HOUR_S - 60
    async with watching(daemon.process.address) as watcher:
        set_clock(HOUR_S + HOUR_S / 2)
        assert await watcher.told(1) == [(early.key, "EXPIRED CLOSED")]
        assert state_of(await client.get(late.key, peek=True)) == "ACTIVE"
        set_clock(2 * HOUR_S + 60)
        assert await watcher.told(1) == [(late.key, "EXPIRED CLOSED")]
    assert (await client.missing(late.key)).reason == "SESSION_EXPIRED"
