"""Daemons that come and go: one process each, whose log is read as it is written."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.crash.daemon import Order
from tests.store.servers import free_port

ROOT = Path(__file__).parents[2]
START_S = 20.0


class Life:
    """One daemon from its start to its death, and all it has said."""

    def __init__(self) -> None:
        self.pid = 0
        self.lines: list[dict[str, Any]] = []
        self.noise: list[str] = []
        self.dead = asyncio.Event()
        self.ready = asyncio.Event()
        """Set when it is ready or dead."""

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, if it is still there to take one."""
        if not self.dead.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def address(self) -> str:
        """Where its services are, once it is ready."""
        return str(self.said("ready")[0]["listen"])

    def surprises(self) -> list[str]:
        """Return what it has said of things that nobody has thought of."""
        return [str(line) for line in self.lines if "exception" in line] + self.noise

    def said(self, event: str) -> list[dict[str, Any]]:
        """Return its log lines of an event."""
        return [line for line in self.lines if line.get("event") == event]

    async def read(self, log: asyncio.StreamReader, other_end: asyncio.StreamWriter) -> None:
        """Read its log to the end, which is its own."""
        with suppress(ConnectionError):
            while text := await log.readline():
                try:
                    self.lines.append(json.loads(text))
                except ValueError:
                    self.noise.append(text.decode(errors="replace"))
                if self.lines and self.lines[-1].get("event") == "ready":
                    self.ready.set()
        other_end.close()
        self.dead.set()
        self.ready.set()


class Nursery:
    """Starts daemons, one after the other, of the configuration in a file."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._socket = config.with_name(f"log-{free_port()}.sock")
        self._process: Process | None = None
        self._reading: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self._connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._take, self._socket, limit=2**24)
        command = (sys.executable, "-m", "tests.crash.daemon")
        self._process = await create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
        async with asyncio.timeout(START_S):
            await asyncio.gather(*self._reading)  # daemons do not outlive who forked them
        if self._server is not None:
            self._server.close()

    async def start(self, step: str = "", count: int = 0, sabotage: str = "") -> Life:
        """Start a daemon that dies when it reaches a step for the n-th time; it is not ready yet."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._connected = asyncio.get_running_loop().create_future()
        order = Order(str(self._config), str(self._socket), step, count, sabotage)
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        life = Life()
        async with asyncio.timeout(START_S):
            life.pid = int(await self._process.stdout.readline())
            log = await self._connected
        self._reading.append(asyncio.create_task(life.read(*log)))
        return life

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connected.set_result((reader, writer))
