"""The folder of one run: the files that daemon and pipelined are started with, their logs, the state of the switch."""

import fcntl
import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import yaml
from msgspec import structs

from sessiond.simulator.config import Simulation, dump
from sessiond.simulator.rules import policy_file


class InUse(Exception):
    """Another run has this folder."""


class RunDirectory:
    """The names of the files of a run; whoever holds the folder has it alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.daemon_config = path / "sessiond.yml"
        self.daemon_log = path / "sessiond.log"
        self.policies = path / "policies.json"
        self.pipelined_config = path / "pipelined.yml"
        self.pipelined_log = path / "pipelined.log"
        self.switch = path / "switch.json"
        self._lock: IO[str] | None = None

    def take(self) -> None:
        """Make the folder ours, and empty of what an earlier run left."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InUse(f"another simulation is running in {self.path}") from error
        for old in (self.daemon_log, self.pipelined_log, self.switch):
            old.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let others have the folder; its files stay to be looked at."""
        if self._lock is not None:
            self._lock.close()

    def write_daemon_config(self, simulation: Simulation, peers: Mapping[str, str], listen: str, metrics: str) -> None:
        """Write what the daemon is started with."""
        self.policies.write_text(json.dumps(policy_file(simulation), indent=1), encoding="utf-8")
        keys = {
            "server": {"listen": listen},
            "store": {"url": "memory:"},
            "policies": {"file": self.policies.name},
            "peers": dict(peers),
            "metrics": {"listen": metrics},
            "gx_gy_relay_enabled": True,
            "send_access_timezone": True,
            "session_force_termination_timeout_ms": 5000,
        }
        self.daemon_config.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")

    def write_pipelined_config(self, simulation: Simulation, listen: str, mobilityd: str) -> None:
        """Write what pipelined is started with: the same simulation, with the addresses of this run."""
        of_this_run = structs.replace(
            simulation,
            listen=structs.replace(simulation.listen, pipelined=listen),
            data_plane=structs.replace(
                simulation.data_plane, state_file=str(self.switch.resolve()), mobilityd=mobilityd
            ),
        )
        self.pipelined_config.write_text(dump(of_this_run), encoding="utf-8")


def free_addresses(count: int) -> list[str]:
    """Return loopback addresses whose ports nobody has; they differ, as all are held until all are found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
