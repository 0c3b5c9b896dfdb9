"""Processes of a run: waited for, started again, stopped."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from sessiond.simulator.processes import Child, Kept, tail

READY_THEN_WAIT = "import time; print('starting'); print('ready', flush=True); time.sleep(60)"


def python(code: str) -> list[str]:
    """Return the command that runs this code."""
    return [sys.executable, "-c", code]


def is_ready(line: bytes) -> bool:
    """Whether a line says so."""
    return line == b"ready"


async def test_a_child_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """Its lines are in the log by then; SIGTERM ends it."""
    log = tmp_path / "log"
    child = await Child.start(python(READY_THEN_WAIT), log, is_ready)
    assert await child.ready(30)
    assert log.read_text(encoding="utf-8") == "starting\nready\n"
    assert await child.stop() == -signal.SIGTERM


async def test_a_child_that_dies_is_not_ready(tmp_path: Path) -> None:
    """Nobody waits for the limit, and the log says what it said at last."""
    log = tmp_path / "log"
    child = await Child.start(python("import sys; sys.exit('no such thing')"), log, is_ready)
    assert not await child.ready(30)
    assert await child.stop() == 1
    assert tail(log) == "no such thing"


async def test_a_child_that_says_nothing_is_not_ready(tmp_path: Path) -> None:
    """The limit ends the wait."""
    child = await Child.start(python("import time; time.sleep(60)"), tmp_path / "log", is_ready)
    assert not await child.ready(0.1)
    await child.stop()


async def test_a_kept_process_comes_back(tmp_path: Path) -> None:
    """Killed, it is started again; cancelled, it is stopped for good."""
    pids: asyncio.Queue[int] = asyncio.Queue()
    kept = Kept(python(READY_THEN_WAIT), tmp_path / "log", is_ready, pids.put_nowait)
    task = asyncio.create_task(kept.run())
    first = await asyncio.wait_for(pids.get(), 30)
    os.kill(first, signal.SIGKILL)
    second = await asyncio.wait_for(pids.get(), 30)
    assert second != first
    assert kept.restarts == 1
    task.cancel()
    await asyncio.wait({task})
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


async def test_a_process_that_never_comes_up_is_given_up(tmp_path: Path) -> None:
    """It is not started for ever."""
    starts: list[int] = []
    kept = Kept(python("raise SystemExit(3)"), tmp_path / "log", is_ready, starts.append, pause_s=0)
    await asyncio.wait_for(kept.run(), 60)
    assert 1 < len(starts) < 10


def test_a_log_that_is_not_there_has_no_tail(tmp_path: Path) -> None:
    """The user is told so."""
    assert tail(tmp_path / "log") == "(no log was written)"
