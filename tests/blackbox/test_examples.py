"""The examples for users work against a real daemon."""

import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from contextlib import suppress
from pathlib import Path

import pytest

from tests.blackbox.streams import AioClient, StreamDaemon, create, end, streams
from tests.house.tree import ROOT

pytestmark = pytest.mark.blackbox


async def words(process: Process, count: int) -> list[list[str]]:
    """Return the words of the next lines that a program prints."""
    assert process.stdout is not None
    return [(await process.stdout.readline()).decode().split() for _ in range(count)]


async def followed(daemon: StreamDaemon, monitor: Process) -> None:
    """Let things happen, and find them on the dashboard."""
    assert monitor.stderr is not None
    client = AioClient(daemon.process.address)
    assert await monitor.stderr.readline() == b"following\n"
    key = await create(client, "Car", identifier="Monza")
    await end(client, key)
    await client.close()
    listed, started, ended = await words(monitor, 3)
    assert listed[0] == "known"
    assert started[:4] == ["started", key, "Session", "Monza"]
    assert ended[:2] == ["ended", key]


async def test_the_stream_monitor_shows_what_happens(tmp_path: Path) -> None:
    """It lists what is there, prints a line for each session that begins or ends, and leaves on Ctrl-C."""
    async with streams(tmp_path) as daemon:
        client = AioClient(daemon.process.address)
        await create(client, "Car")
        await client.close()
        program = str(ROOT / "examples" / "stream_monitor.py")
        monitor = await create_subprocess_exec(
            sys.executable, program, "Car", "--address", daemon.process.address, stdout=PIPE, stderr=PIPE
        )
        try:
            await followed(daemon, monitor)
            monitor.send_signal(signal.SIGINT)
            assert await monitor.wait() == 0
        finally:
            with suppress(ProcessLookupError):
                monitor.kill()
            await monitor.communicate()
