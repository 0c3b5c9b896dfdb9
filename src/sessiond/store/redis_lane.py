"""Lane: one connection to one node. Commands that wait together travel in one pipeline.

A command whose reply was lost is sent again by the lane, for as long as anybody waits for it. That is right for every
command that goes this way: reads and scripts that recognise what they have done before.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from msgspec import Struct
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AskError, RedisError

from sessiond.core.errors import Unavailable
from sessiond.store.redis_replies import REFUSALS, REPLIES, Meaning, meaning

log = structlog.get_logger(__name__)

ATTEMPT_S: Final = 0.8
"""How long a pipeline may take, with connecting; then the connection is given up and the commands go on a new one."""
BATCH: Final = 200
"""Commands in one pipeline: beyond this many they hardly get cheaper."""
MAX_WAITING: Final = 10_000
FIRST_PAUSE_S: Final = 0.02
LAST_PAUSE_S: Final = 1.0
RETRY_AFTER_MS: Final = 1000
ANOTHER_TIME_S: Final = 0.05
"""When a command is sent again that the server could not carry out while it could others."""

_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


class Call(Struct, eq=False):
    """A command on its way: its octets, its slot (None: any node), and who waits for the reply."""

    octets: bytes
    slot: int | None
    reply: "asyncio.Future[Any]"
    unanswered: int = 0
    """How often it was sent without a reply; above 0, it may have been carried out."""
    asking: bool = False
    """Whether it follows a slot that is just moving to another node."""
    redirected: int = 0
    """How often a node sent it to another one."""


class Lane:
    """Sends commands to one node and gives each its reply.

    `elsewhere` is given a command that belongs to another node, `stranded` the commands that wait after a failure; both
    see to it that they are submitted again.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractConnection],
        scripts: Sequence[str],
        elsewhere: Callable[[Call, AskError], None],
        stranded: Callable[["Lane", list[Call]], None],
    ) -> None:
        self.trouble = "it has not answered yet"
        self.refuses = False
        self._connect = connect
        self._scripts = scripts
        self._elsewhere = elsewhere
        self._stranded = stranded
        self._connection: AbstractConnection | None = None
        self._queue: deque[Call] = deque()
        self._sending: deque[Call] = deque()
        self._wake = asyncio.Event()
        self._failures = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    def submit(self, call: Call) -> None:
        """Take a command; a lane that is too far behind takes no new ones."""
        if self._task.done():
            fail(call, self.unavailable("it is closed"))
            return
        if len(self._queue) >= MAX_WAITING and not call.unanswered:
            fail(call, self.unavailable(f"{MAX_WAITING} operations wait for it"))
            return
        self._queue.append(call)
        self._wake.set()

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._queue and not self._sending

    def unavailable(self, why: str = "") -> Unavailable:
        """Return what those are told who wait in vain."""
        reason = "STORE_REFUSED" if self.refuses else "STORE_UNAVAILABLE"
        text = f"the store does not do its work: {why or self.trouble}"
        return Unavailable(reason, text, retry_after_ms=RETRY_AFTER_MS)

    async def close(self) -> None:
        """Let go of the connection; whoever still waits is told."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()
        self._fail_all(self.unavailable("it is being closed"))

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(0)  # those who just got their replies have their next commands in this pipeline
            self._take()
            if not self._sending:
                self._wake.clear()
                continue
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    await self._exchange()
            except (RedisError, OSError) as error:  # a TimeoutError is an OSError
                await self._failed(error)
            except Exception as error:
                log.exception("store_command_failed")
                await self._disconnect()
                self._fail_all(error)
            else:
                self._recovered()

    def _take(self) -> None:
        """Take what waits, without those nobody waits for any more."""
        while self._queue and len(self._sending) < BATCH:
            call = self._queue.popleft()
            if not call.reply.done():
                self._sending.append(call)

    async def _exchange(self) -> None:
        """Send what is taken and give out the replies; raise if some of it is to be sent again."""
        connection = await self._connected()
        self._sending = deque(call for call in self._sending if not call.reply.done())
        for call in self._sending:
            call.unanswered += 1
        await connection.send_packed_command([_ASKING * call.asking + call.octets for call in self._sending])
        self.trouble = "it is too slow"
        anew: list[Call] = []
        trouble: RedisError | None = None
        while self._sending:
            call = self._sending[0]
            reply = await _reply_to(call, connection)
            call.unanswered -= 1
            self._sending.popleft()
            if not isinstance(reply, RedisError):
                answer(call, reply)
            elif meaning(reply) is Meaning.RECONNECT:
                anew.append(call)
                trouble = reply
            else:
                self._answer_error(call, reply)
        if trouble is not None:
            self._sending.extend(anew)
            raise trouble

    def _answer_error(self, call: Call, error: RedisError) -> None:
        """Do what an error means that has nothing to do with the connection."""
        match meaning(error):
            case Meaning.ELSEWHERE if isinstance(error, AskError):
                self._elsewhere(call, error)
            case Meaning.WAIT:
                self.trouble = _text(error)
                call.asking = False
                asyncio.get_running_loop().call_later(ANOTHER_TIME_S, self._stranded, self, [call])
            case Meaning.NO_MEMORY:
                fail(call, self.unavailable("it is out of memory (maxmemory)"))
            case Meaning.NO_RIGHTS:
                text = f"the store refuses a command to our user: {error}"
                fail(call, Unavailable("STORE_REFUSED", text, retry_after_ms=RETRY_AFTER_MS))
            case _:
                fail(call, RuntimeError(f"the store does not understand us: {error}"))

    async def _connected(self) -> AbstractConnection:
        """Return the connection; a new one has the scripts, and has shown that somebody is there."""
        if self._connection is None:
            self._connection = self._connect()
        if not self._connection.is_connected:
            await self._connection.connect()  # type: ignore[no-untyped-call]
            for script in self._scripts:
                await self._connection.send_command("SCRIPT", "LOAD", script)
            for _ in self._scripts:
                await self._connection.read_response()
        return self._connection

    async def _failed(self, error: Exception) -> None:
        """Drop the connection, wait a little, and let those that still wait be submitted again."""
        self.trouble = _text(error)
        self.refuses = isinstance(error, REFUSALS)
        self._failures += 1
        if self._failures == 1:
            log.warning("store_away", why=self.trouble)
        await self._disconnect()
        waiting = [call for call in (*self._sending, *self._queue) if not call.reply.done()]
        self._sending.clear()
        self._queue.clear()
        if self.refuses:
            waiting = self._give_up(waiting)
        await asyncio.sleep(min(LAST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)))
        for call in waiting:
            call.asking = False
        self._stranded(self, waiting)

    def _give_up(self, waiting: list[Call]) -> list[Call]:
        """Tell those that wait that it makes no sense; return those that may have been carried out, which must know."""
        for call in waiting:
            if not call.unanswered:
                fail(call, self.unavailable())
        return [call for call in waiting if call.unanswered]

    def _fail_all(self, error: Exception) -> None:
        for call in (*self._sending, *self._queue):
            fail(call, error)
        self._sending.clear()
        self._queue.clear()

    def _recovered(self) -> None:
        if self._failures:
            log.info("store_back", after_failures=self._failures)
        self._failures = 0
        self.refuses = False

    async def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)


def answer(call: Call, reply: Any) -> None:
    """Give a command its reply, if anybody waits for it."""
    if not call.reply.done():
        call.reply.set_result(reply)


def fail(call: Call, error: Exception) -> None:
    """Let whoever waits for a command know that it failed."""
    if not call.reply.done():
        call.reply.set_exception(error)


async def _reply_to(call: Call, connection: AbstractConnection) -> Any:
    """Return what the server says to a command, also if it is an error."""
    if call.asking:
        await connection.read_response()
    try:
        return await connection.read_response(disconnect_on_error=False)
    except REPLIES as error:
        return error


def _text(error: Exception) -> str:
    return f"no answer within {ATTEMPT_S:g} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
