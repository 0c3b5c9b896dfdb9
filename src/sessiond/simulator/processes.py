"""Processes of ours: started, listened to, started again when they die, and stopped."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

CHUNK: Final = 65536
TAIL_LINES: Final = 20
STOP_LIMIT_S: Final = 10.0
RESTART_PAUSE_S: Final = 0.5
RESTARTS_WITHOUT_READY: Final = 5


class Child:
    """A running process; what it writes goes to a file, and line by line to who waits for one."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, is_ready: Callable[[bytes], bool]) -> None:
        self.pid = process.pid
        self.exited: asyncio.Task[int] = asyncio.create_task(process.wait())
        self._process = process
        self._log = log
        self._is_ready = is_ready
        self._ready = asyncio.Event()
        self._copying = asyncio.create_task(self._copy())

    @classmethod
    async def start(cls, command: Sequence[str], log: Path, is_ready: Callable[[bytes], bool]) -> "Child":
        """Start a process in a group of its own: a Ctrl-C is for us, and we stop it in our time."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        return cls(process, log, is_ready)

    async def ready(self, limit_s: float) -> bool:
        """Wait for the line that says it is ready; False if it died before, or took too long."""
        waiting = asyncio.create_task(self._ready.wait())
        await asyncio.wait({waiting, self.exited}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return self._ready.is_set()

    async def stop(self) -> int:
        """Ask it to end, make it end if it does not; return its exit status."""
        self._signal(signal.SIGTERM)
        await asyncio.wait({self.exited}, timeout=STOP_LIMIT_S)
        self._signal(signal.SIGKILL)
        await self._copying
        return await self.exited

    def _signal(self, number: signal.Signals) -> None:
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _copy(self) -> None:
        with _opened(self._log) as log:
            rest = b""
            while self._process.stdout is not None and (chunk := await self._process.stdout.read(CHUNK)):
                log.write(chunk)
                *lines, rest = (rest + chunk).split(b"\n")
                if any(map(self._is_ready, lines)):
                    self._ready.set()


class Kept:
    """A process that is started again whenever it dies, as systemd would."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        is_ready: Callable[[bytes], bool],
        on_start: Callable[[int], None],
        pause_s: float = RESTART_PAUSE_S,
    ) -> None:
        self.restarts = 0
        self._pause_s = pause_s
        self._command, self._log, self._is_ready, self._on_start = command, log, is_ready, on_start
        self._child: Child | None = None

    async def run(self) -> None:
        """Keep it running until cancelled; give up when it does not come up any more."""
        in_vain = 0
        try:
            while in_vain <= RESTARTS_WITHOUT_READY:
                self._child = await Child.start(self._command, self._log, self._is_ready)
                self._on_start(self._child.pid)
                in_vain = 0 if await self._child.ready(STOP_LIMIT_S) else in_vain + 1
                await asyncio.wait({self._child.exited})
                self.restarts += 1
                await asyncio.sleep(self._pause_s)
        finally:
            if self._child is not None:
                await self._child.stop()


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log was written)"
    return "\n".join(lines[-TAIL_LINES:])


def _opened(log: Path) -> BinaryIO:
    return log.open("ab", buffering=0)
