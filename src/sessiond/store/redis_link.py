"""Link: the way to a Redis of any kind. It finds the node for a command, and bounds how long anybody waits."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError

from sessiond.core.errors import Unavailable
from sessiond.store.redis_keys import SLOTS, Shards
from sessiond.store.redis_lane import ATTEMPT_S, MAX_WAITING, Call, Lane, fail

OPERATION_S: Final = 2.0
"""How long an operation waits for the store: twice an attempt, and a little."""
REDIRECTIONS: Final = 5
REST_S: Final = 0.1
"""How long a cluster that contradicts itself is left alone."""

_OURS: Final = {
    "retry": Retry(NoBackoff(), 0),  # a command is repeated by who knows what that means
    "protocol": 2,  # all that is needed, and no notifications in between
    "socket_timeout": None,  # an attempt has a deadline as a whole
    "socket_connect_timeout": None,
    "health_check_interval": 0,
}
"""What the URL cannot change about a connection."""

Address: TypeAlias = tuple[str, int]
Command: TypeAlias = tuple[int | None, tuple[Any, ...]]
"""The slot (None: any node) and what is sent."""


class Link(ABC):
    """Takes commands, and gives their replies or `Unavailable`."""

    def __init__(self, *, cluster: bool) -> None:
        self.shards = Shards(cluster=cluster)

    @abstractmethod
    def submit(self, call: Call) -> None:
        """Send a command to its node; it is repeated until somebody answers it or nobody waits for it."""

    @abstractmethod
    def unavailable(self, slot: int | None) -> Unavailable:
        """Return what those are told who wait in vain for the node of this slot."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections."""

    def send(self, command: Command) -> Call:
        """Send a command; its reply is awaited by the caller."""
        call = _call(command)
        self.submit(call)
        return call

    async def ask(self, slot: int | None, *args: Any) -> Any:
        """Return the reply to a command that may be carried out more than once."""
        (reply,) = await self.ask_all([(slot, args)])
        return reply

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to commands that may be carried out more than once."""
        calls = [self.send(command) for command in commands]
        try:
            async with asyncio.timeout(OPERATION_S):
                return await asyncio.gather(*(call.reply for call in calls))
        except TimeoutError:
            late = [call.slot for call in calls if call.reply.cancelled()]
            raise self.unavailable(late[0] if late else None) from None
        finally:
            for call in calls:
                call.reply.cancel()

    async def ask_in_pages(self, commands: Sequence[Command], size: int) -> list[Any]:
        """Return the replies to many commands that may be carried out more than once, so many in one go."""
        replies: list[Any] = []
        for start in range(0, len(commands), size):
            replies += await self.ask_all(commands[start : start + size])
        return replies


class SingleNode(Link):
    """The way to a server that stands alone, or to the primary behind one address."""

    def __init__(self, connect: Callable[[], AbstractConnection], scripts: Sequence[str]) -> None:
        super().__init__(cluster=False)
        self._lane = Lane(connect, scripts, _not_here, self._again)

    def submit(self, call: Call) -> None:
        """Send a command to the one node."""
        self._lane.submit(call)

    def unavailable(self, slot: int | None) -> Unavailable:
        """Return what those are told who wait in vain."""
        del slot
        return self._lane.unavailable()

    async def close(self) -> None:
        """Let go of the connection."""
        await self._lane.close()

    def _again(self, lane: Lane, calls: list[Call]) -> None:
        for call in calls:
            lane.submit(call)


class Cluster(Link):
    """The way to a Redis Cluster: knows which node has which slot, and learns it anew when a node says or shows so."""

    def __init__(self, connect: Callable[[Address], AbstractConnection], seed: Address, scripts: Sequence[str]) -> None:
        super().__init__(cluster=True)
        self._connect = connect
        self._seed = seed
        self._scripts = scripts
        self._lanes: dict[Address, Lane] = {}
        self._node_of: list[Address] = []
        self._homeless: list[Call] = []
        self._learning: asyncio.Task[None] | None = None
        self._refusal = ""
        self._closed = False

    def submit(self, call: Call) -> None:
        """Send a command to the node of its slot."""
        if self._node_of:
            self._lane(self._node_of[call.slot or 0]).submit(call)
        elif len(self._homeless) < MAX_WAITING:
            self._homeless.append(call)
            self._learn()
        else:
            fail(call, self.unavailable(call.slot))

    def unavailable(self, slot: int | None) -> Unavailable:
        """Return what those are told who wait in vain for the node of this slot."""
        if self._refusal:
            return Unavailable("STORE_REFUSED", self._refusal)
        return self._lane(self._node_of[slot or 0] if self._node_of else self._seed).unavailable()

    async def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        self._give_up()
        for lane in self._lanes.values():
            await lane.close()

    def _lane(self, address: Address) -> Lane:
        if address not in self._lanes:
            self._lanes[address] = Lane(
                lambda: self._connect(address), self._scripts, self._redirect, lambda _, calls: self._park(calls)
            )
        return self._lanes[address]

    def _redirect(self, call: Call, error: AskError) -> None:
        """Send a command to the node that another one names; one that is sent about without end is parked."""
        call.redirected += 1
        node = (error.host or self._seed[0], error.port)
        if call.redirected > REDIRECTIONS:
            call.redirected = 0
            self._park([call])
        elif isinstance(error, MovedError):
            if self._node_of:
                self._node_of[error.slot_id] = node
            self._learn()
            self._lane(node).submit(call)
        else:
            call.asking = True
            self._lane(node).submit(call)

    def _park(self, calls: list[Call]) -> None:
        """Keep commands until it is known anew which node has which slot."""
        self._homeless.extend(calls)
        self._learn()

    def _learn(self) -> None:
        if self._closed:
            self._give_up()
        elif self._learning is None or self._learning.done():
            self._learning = asyncio.get_running_loop().create_task(self._learn_nodes())

    async def _learn_nodes(self) -> None:
        """Ask one node after the other, those that work first, until one knows."""
        while True:
            nodes = dict.fromkeys([*self._node_of, self._seed])
            for address in sorted(nodes, key=lambda address: self._lane(address).failing):
                if node_of := await self._map_of(address):
                    self._node_of = node_of
                    await self._close_lanes()
                    homeless, self._homeless = self._homeless, []
                    for call in homeless:
                        self.submit(call)
                    return
            if self._refusal:
                self._give_up()
            await asyncio.sleep(REST_S)

    def _give_up(self) -> None:
        """Tell those that wait that it makes no sense."""
        homeless, self._homeless = self._homeless, []
        for call in homeless:
            fail(call, self.unavailable(call.slot))

    async def _map_of(self, address: Address) -> list[Address]:
        """Return the node of each slot, as one node knows it; nothing if it does not answer or does not know all."""
        call = _call((None, ("CLUSTER", "SLOTS")))
        self._lane(address).submit(call)
        try:
            async with asyncio.timeout(ATTEMPT_S):
                ranges = await call.reply
        except RuntimeError as error:
            self._refusal = f"the store is no cluster: {error}"
            return []
        except Unavailable as error:
            self._refusal = error.text if error.reason == "STORE_REFUSED" else ""
            return []
        except TimeoutError:
            return []
        self._refusal = ""
        nodes: dict[int, Address] = {}
        for first, last, (host, port, *_), *_ in ranges:
            node = ((host or b"").decode() or address[0], port)
            nodes.update(dict.fromkeys(range(first, last + 1), node))
        return [nodes[slot] for slot in range(SLOTS)] if len(nodes) == SLOTS else []

    async def _close_lanes(self) -> None:
        """Let go of nodes that have no slot any more."""
        used = {*self._node_of, self._seed}
        for address in [address for address, lane in self._lanes.items() if address not in used and lane.idle]:
            await self._lanes.pop(address).close()


def connect(url: str, scripts: Sequence[str]) -> Link:
    """Return the way to the Redis of this URL, which will know these scripts; raise ValueError if it makes no sense."""
    cluster = "+cluster" in url.partition("://")[0]
    options: dict[str, Any] = dict(parse_url(url.replace("+cluster", "", 1) if cluster else url))
    kind: type[AbstractConnection] = options.pop("connection_class", Connection)

    def connection(**address: Any) -> AbstractConnection:
        return kind(**{**options, **_OURS, **address})

    try:
        connection()
    except TypeError as error:
        raise ValueError(f"an option of the URL is not known: {error}") from error
    if not cluster:
        return SingleNode(connection, scripts)
    seed = (options.get("host", "localhost"), options.get("port", 6379))
    return Cluster(lambda node: connection(host=node[0], port=node[1], db=0), seed, scripts)


def _call(command: Command) -> Call:
    slot, args = command
    return Call(pack_command(args), slot, asyncio.get_running_loop().create_future())


def _not_here(call: Call, error: AskError) -> None:
    del error
    text = "the store is a node of a cluster: its URL must begin with redis+cluster://"
    fail(call, Unavailable("STORE_REFUSED", text))
