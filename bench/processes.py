"""The processes of a benchmark: what is measured has one core for itself, everything else shares the other.

CPU time is what the kernel has counted for a process; it is robust where machines are shared and peers share the cores.
"""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

MEASURED_CORE: Final = 0
OTHER_CORE: Final = 1
_QUIET_S: Final = 0.3
_QUIET_SHARE: Final = 0.03
"""A process that uses no more of a core than this for so long has done what it had to do."""
_LOOKS: Final = 200


class Measured:
    """A process under measurement."""

    def __init__(self, pid: int, address: str = "") -> None:
        self.pid = pid
        self.address = address

    @property
    def cpu_s(self) -> float:
        """The CPU time of all its threads so far, as the scheduler counts (clock_getcpuclockid(3))."""
        return time.clock_gettime((~self.pid << 3) | 2)

    @property
    def memory_bytes(self) -> int:
        """What it has in memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak_memory_bytes(self) -> int:
        """The most that it ever had in memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (text,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        return int(text) * 1024

    async def quiet(self) -> float:
        """Wait until it has nothing to do any more; return its CPU time then."""
        for _ in range(_LOOKS):
            before = self.cpu_s
            await asyncio.sleep(_QUIET_S)
            if (after := self.cpu_s) - before < _QUIET_SHARE * _QUIET_S:
                return after
        raise RuntimeError(f"process {self.pid} does not come to rest")


def pin(core: int, pid: int = 0) -> None:
    """Keep a process, or the calling one, on one core, if the machine has it."""
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(pid, {core})


@asynccontextmanager
async def program(*arguments: str, core: int) -> AsyncIterator[Measured]:
    """Run a program that says on standard error, in a line of JSON with the event `ready`, where it listens."""
    process = await create_subprocess_exec(
        sys.executable, *arguments, stderr=PIPE, stdout=DEVNULL, preexec_fn=lambda: pin(core), limit=2**24
    )
    assert process.stderr is not None
    reader = process.stderr
    said: list[str] = []

    async def listening() -> str:
        while line := (await reader.readline()).decode():
            said.append(line)
            if line.startswith("{") and (fields := json.loads(line)).get("event") == "ready":
                return str(fields["listen"])
        raise RuntimeError(f"{' '.join(arguments)} did not start: {''.join(said)}")

    async def drain() -> None:
        while line := await reader.readline():
            said.append(line.decode())

    draining: asyncio.Task[None] | None = None
    try:
        address = await listening()
        draining = asyncio.create_task(drain())
        yield Measured(process.pid, address)
        if process.returncode is not None:
            raise RuntimeError(f"{' '.join(arguments)} has died: {''.join(said[-20:])}")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if draining is not None:
            await draining


@asynccontextmanager
async def daemon(folder: Path, *, core: int = MEASURED_CORE, **keys: Any) -> AsyncIterator[Measured]:
    """Run sessiond on a core, with this configuration."""
    listen = {"listen": "127.0.0.1:0"}
    config: Mapping[str, Any] = {"server": listen, "metrics": listen, **keys}
    path = folder / "sessiond.yml"
    path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    async with program("-m", "sessiond", "--config", str(path), core=core) as process:
        yield process


@asynccontextmanager
async def echo() -> AsyncIterator[Measured]:
    """Run the yardstick of calls on the measured core."""
    async with program(str(Path(__file__).parent / "echo.py"), core=MEASURED_CORE) as process:
        yield process


@asynccontextmanager
async def peers(*arguments: str) -> AsyncIterator[Measured]:
    """Run everybody a gateway talks to, on the other core."""
    async with program(str(Path(__file__).parent / "peers.py"), *arguments, core=OTHER_CORE) as process:
        yield process


def rules_file(folder: Path, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Write static rules; return the section of the configuration that names them."""
    path = folder / "rules.json"
    path.write_text(json.dumps({"rules": list(rules)}), encoding="utf-8")
    return {"policies": {"file": str(path)}}
