"""A whole gateway for a while: the daemon, pipelined as a process of its own, and the other peers in this one.

What is shown of a session is what the peers around the daemon know of it; the daemon itself is not asked.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Final

from msgspec import structs

from sessiond.simulator import balance, state_file
from sessiond.simulator.access import State
from sessiond.simulator.config import Plans, Simulation, members
from sessiond.simulator.peers import NAMES, Peers
from sessiond.simulator.processes import Child, Kept, tail
from sessiond.simulator.run_directory import RunDirectory, free_addresses
from sessiond.simulator.switch import SwitchState

READY_LIMIT_S: Final = 30.0
END_LIMIT_S: Final = 20.0
"""How long the last reports may take: the daemon gives up waiting for usage after 5 s, then may have to try again."""
POLL_S: Final = 0.1


class Failed(Exception):
    """The run cannot begin or go on; the text is for the user."""


class Gateway:
    """One run; `say` gets a line whenever something happens that a user wants to know."""

    def __init__(
        self, simulation: Simulation, folder: RunDirectory, now_s: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        daemon, pipelined, metrics = free_addresses(3)
        self.simulation = structs.replace(simulation, sessiond=daemon)
        self.plans = Plans(simulation)
        self.peers = Peers(self.simulation, now_s)
        self._say = say
        self._addresses = {"pipelined": pipelined}
        self._metrics = metrics
        self._daemon: Child | None = None
        self._pipelined: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start everything, and wait until the daemon is ready."""
        await self.peers.open([name for name in NAMES if name != "pipelined"])
        self._addresses.update(self.peers.addresses)
        self._write_files()
        self._daemon = await Child.start(
            [sys.executable, "-m", "sessiond", "--config", str(self.folder.daemon_config)],
            self.folder.daemon_log,
            is_ready_line,
        )
        self._say(f"sessiond: process {self._daemon.pid} at {self.simulation.sessiond}, log {self.folder.daemon_log}")
        if not await self._daemon.ready(READY_LIMIT_S):
            raise Failed(f"sessiond did not get ready\n{tail(self.folder.daemon_log)}")
        self._pipelined = asyncio.create_task(self._kept_pipelined().run())

    async def attach(self) -> None:
        """Attach everyone; one who is refused without its plan saying so fails the run."""
        devices = await self.peers.mme.attach_all(
            [subscriber for subscriber, _ in members(self.simulation.subscribers)]
        )
        for device in devices:
            plan = self.plans.of(device.subscriber)
            if device.state is State.REFUSED and plan is not None and not plan.failure_code:
                raise Failed(f"{device.subscriber} could not attach: {device.why}")

    async def broken(self) -> None:
        """Wait until daemon or pipelined is gone for good, and raise that."""
        running: list[asyncio.Task[Any]] = [] if self._pipelined is None else [self._pipelined]
        if self._daemon is not None:
            running.append(self._daemon.exited)
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if self._daemon is not None and self._daemon.exited.done():
            raise Failed(f"sessiond died with status {self._daemon.exited.result()}\n{tail(self.folder.daemon_log)}")
        raise Failed(f"pipelined does not come up any more\n{tail(self.folder.pipelined_log)}")

    async def end_sessions(self) -> None:
        """Detach everyone and wait until the policy side has the last usage of every session, or for long enough."""
        await self.peers.mme.detach_all()
        for _ in range(int(END_LIMIT_S / POLL_S)):
            if all(books.terminated for books in self.peers.policy.sessions.values()):
                return
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """Stop everything, in reverse order."""
        if self._pipelined is not None:
            self._pipelined.cancel()
            await asyncio.wait({self._pipelined})
        if self._daemon is not None and not self._daemon.exited.done():
            status = await self._daemon.stop()
            if status:
                self._say(f"sessiond: ended with status {status}")
        await self.peers.close()

    def switch(self) -> SwitchState:
        """Return what the switch has carried so far."""
        return state_file.read(self.folder.switch) or SwitchState(epoch=0, counted_until=0.0)

    def balance(self) -> list[balance.Line]:
        """Return the books of the policy side against the ledger of the switch."""
        return balance.lines(self.peers.policy.sessions.values(), self.switch().ledger)

    def _write_files(self) -> None:
        peers, listen = self._addresses, self.simulation.sessiond
        self.folder.write_daemon_config(self.simulation, addresses_of_peers(peers), listen, self._metrics)
        self.folder.write_pipelined_config(self.simulation, peers["pipelined"], peers["mobilityd"])

    def _kept_pipelined(self) -> Kept:
        command = [sys.executable, "-m", "sessiond", "simulate", "peers", "--only", "pipelined"]
        return Kept(
            [*command, "--config", str(self.folder.pipelined_config)],
            self.folder.pipelined_log,
            is_address_line,
            lambda pid: self._say(f"pipelined: process {pid}; kill -9 it, it comes back and nothing is lost"),
        )


def addresses_of_peers(addresses: dict[str, str]) -> dict[str, str]:
    """Return the peers of an LTE gateway as sessiond.yml has them; the AAA server is for carrier wifi."""
    return {name: address for name, address in addresses.items() if name != "aaa"}


def is_ready_line(line: bytes) -> bool:
    """Whether a line of the daemon's log says that it accepts calls."""
    return _as_json(line).get("event") == "ready"


def is_address_line(line: bytes) -> bool:
    """Whether a line of `simulate peers` says where the peers listen."""
    return "pipelined" in _as_json(line)


def _as_json(line: bytes) -> dict[str, object]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
