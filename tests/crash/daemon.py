"""The real daemon with a fuse: its own wiring builds it, but the store and the peers it is given may kill it at a step.

`python -m tests.crash.daemon` is a nursery: it has imported the program, reads one order per line, and forks a daemon
for each, which saves the time that imports take. It prints the number of the process.
"""

import asyncio
import ctypes
import inspect
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, cast

import msgspec

import sessiond.store.redis
import sessiond.store.redis_link
import sessiond.store.redis_scripts  # noqa: F401, imported here once instead of in every daemon
from sessiond.app.ports.clock import Clock
from sessiond.app.ports.peers import Peers
from sessiond.app.ports.store import Count, Counted, Create, Deleted, Store, Stored, Update, Write, Written
from sessiond.core.update import apply
from sessiond.daemon import peers as real_peers
from sessiond.daemon import run, stores, wiring
from sessiond.daemon.config import Config
from sessiond.daemon.metrics import Metrics
from tests.crash.steps import Fuse

TURNS: Final = 3
"""So many turns of the loop bring a write to the socket."""
HASTY: Final = "answers before it has written"
UNFENCED: Final = "writes though another has taken over"
LATE_S: Final = 0.05
PR_SET_PDEATHSIG: Final = 1
"""prctl(2): which signal comes when the parent dies."""


class Order(msgspec.Struct, frozen=True):
    """What a daemon is to be: its configuration, where its log goes (a Unix socket), and when it dies.

    `sabotage` is what it does wrong, so that it can be seen that somebody notices.
    """

    config: str
    log: str
    step: str = ""
    count: int = 0
    sabotage: str = ""


class FusedStore:
    """A store that tells a fuse how far it is; all the rest is that of the store it stands for."""

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        found = await self._store.get(key)
        self._fuse.reached("read.after")
        return found

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        found = await self._store.find(scope)
        self._fuse.reached("read.after")
        return found

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes."""
        self._fuse.reached("write.before")
        if self._fuse.is_last("write.sent"):
            sent = asyncio.ensure_future(self._store.write(writes))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            self._fuse.reached("write.sent")
            return await sent
        self._fuse.reached("write.sent")
        written = await self._store.write(writes)
        self._fuse.reached("write.after")
        return written

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        async for stored in self._store.load():
            self._fuse.reached("load.during")
            yield stored
        self._fuse.reached("load.after")


class HastyStore(FusedStore):
    """A store that says that it has written before it has."""

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Promise to carry out writes; counts are carried out."""
        if any(isinstance(write, Count) for write in writes):
            return await super().write(writes)
        promised = [await self._promised(write) for write in writes]
        self._late = asyncio.get_running_loop().create_task(self._write_late(writes))
        return promised

    async def _promised(self, write: Write | Count) -> Written | Counted:
        match write:
            case Count():
                return Counted()
            case Create(session):
                return Stored(session, 1)
            case Update(key, revision, criteria) if (stored := await self._store.get(key)) is not None:
                return Stored(apply(stored.session, criteria), revision + 1)
            case _:
                return Deleted()

    async def _write_late(self, writes: Sequence[Write | Count]) -> None:
        await asyncio.sleep(LATE_S)
        await self._store.write(writes)


class FusedPeer:
    """A peer that tells a fuse of every call to it, before and after."""

    def __init__(self, peer: object, name: str, fuse: Fuse, forgotten: str) -> None:
        self._peer = peer
        self._name = name
        self._fuse = fuse
        self._forgotten = forgotten
        """The call that is never made; it has an answer all the same."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._peer, name)
        if not inspect.iscoroutinefunction(value):
            return value

        async def call(*args: Any) -> Any:
            await self._fuse.hold()
            self._fuse.reached(f"{self._name}.{name}.before")
            answer = None if self._forgotten == f"{self._name}.{name}" else await value(*args)
            self._fuse.reached(f"{self._name}.{name}.after")
            return answer

        return call


def unfence(store: Any) -> None:
    """Let a store write in an epoch that nobody ends, and not look whether somebody has."""

    async def look_away() -> None:
        pass

    store._commands.epoch = 10**9
    store._check_epoch = look_away


def lay(fuse: Fuse, sabotage: str) -> None:
    """Give the wiring of this process a store, peers and a count of answers that tell the fuse."""
    kind = HastyStore if sabotage == HASTY else FusedStore

    async def fused_store(config: Config, path: Path, clock: Clock, stack: AsyncExitStack) -> stores.Opened:
        opened = await stores.open_store(config, path, clock, stack)
        if sabotage == UNFENCED:
            unfence(opened.store)
        return msgspec.structs.replace(opened, store=cast("Store", kind(opened.store, fuse)))

    def fused_peers(config: Config, stack: AsyncExitStack) -> Peers:
        peers = real_peers.connect(config, stack)
        fused: dict[str, Any] = {
            name: FusedPeer(peer, name, fuse, sabotage)
            for name in Peers.__struct_fields__
            if name != "without" and (peer := getattr(peers, name)) is not None
        }
        return Peers(**fused, without=peers.without)

    class FusedMetrics(Metrics):
        def rpc_answered(self, method: str, code: str, seconds: float) -> None:
            super().rpc_answered(method, code, seconds)
            fuse.answered()

    replace: Callable[[str, object], None] = wiring.__dict__.__setitem__
    replace("open_store", fused_store)
    replace("connect", fused_peers)
    replace("Metrics", FusedMetrics)


def live(order: Order) -> int:
    """Be a daemon, for as long as the nursery lives."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = socket.socket(socket.AF_UNIX)
    log.connect(order.log)
    for descriptor in (0, 1, 2):
        os.dup2(log.fileno(), descriptor)
    log.close()
    if order.step or order.sabotage:
        lay(Fuse(order.step, order.count), order.sabotage)
    status = run.run(Path(order.config))
    sys.stderr.write(f'{{"event": "exit", "status": {status}}}\n')
    sys.stderr.flush()
    return status


def main() -> None:
    """Fork a daemon for every order, until there are no more; nobody waits for them."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            os._exit(live(msgspec.json.decode(line, type=Order)))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
