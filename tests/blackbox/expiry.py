"""Many sessions that expire within a short time: how late each ends, and how long other calls take meanwhile."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.native import Client, said, sessions
from tests.blackbox.watching import Watcher, watching

Answer = TypeVar("Answer")

AT_ONCE: Final = 64
PROFILES: Final = {"ussd": {"retention_newest": 0}, "sms": {"ttl_s": 0}}


@dataclass(frozen=True)
class Expiry:
    """What came of it; milliseconds."""

    late_ms: Sequence[int]
    """How late each session ended; negative: early."""
    told_ms: Sequence[int]
    """How late somebody who watches was told of each."""
    calls_ms: Sequence[float]
    """How long each call took that was made meanwhile."""
    reasons: frozenset[session.EndReason.ValueType]
    cpu_s: float
    """The CPU time that the daemon took for it, from the first that expired until a second after the last."""


def at(part: float, sorted_ms: Sequence[float]) -> float:
    """Return the time that this part of them does not exceed."""
    return sorted_ms[math.ceil(part * len(sorted_ms)) - 1]


async def expire(folder: Path, count: int, within_ms: int, *, lead_ms: int, **config: Any) -> Expiry:
    """Let so many sessions expire within some time, which begins so long after the first is made."""
    config |= {"profiles": PROFILES, "watch": {"heartbeat_s": 5}}
    kinds = ["SESSION_EVENT_KIND_EXPIRED"]
    async with sessions(folder, **config) as daemon, watching(daemon.process.address, kinds=kinds) as watcher:
        clients = [daemon.client() for _ in range(4)]
        hearing = asyncio.create_task(heard(watcher, count))
        begin_ms = await now_ms(clients[0]) + lead_ms
        await make(clients, count, begin_ms, within_ms)
        assert await now_ms(clients[0]) < begin_ms, "they began to expire before all were made: give more lead"
        await until(clients[0], begin_ms)
        before_s = cpu_s(daemon.process.pid)
        calls_ms = await calls_until(clients[1], begin_ms + within_ms + 1000)
        taken_s = cpu_s(daemon.process.pid) - before_s
        async with asyncio.timeout(60):
            told = await hearing
        ended = await listed(clients[0], "type = ussd AND state = CLOSED")
        assert len(ended) == len(told) == count
        late = sorted(one.end_time.ToMilliseconds() - one.expire_time.ToMilliseconds() for one in ended)
        reasons = frozenset(one.end_reason for one in ended)
        return Expiry(late, sorted(told.values()), sorted(calls_ms), reasons, taken_s)


async def heard(watcher: Watcher, count: int) -> dict[str, int]:
    """Return how late one is told of each of so many sessions that expire, by the clock of the daemon's machine."""
    told: dict[str, int] = {}
    for _ in range(count):
        expired = (await watcher.event()).session
        told[expired.key] = time.time_ns() // 1_000_000 - expired.expire_time.ToMilliseconds()
    return told


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


async def now_ms(client: Client) -> int:
    """Return what time it is to the daemon."""
    return (await patiently(lambda: client.create("sms"))).create_time.ToMilliseconds()


async def patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Return the answer to a call, which is sent again while the store of a busy machine is too slow."""
    while True:
        try:
            return await call()
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


async def make(clients: Sequence[Client], count: int, begin_ms: int, within_ms: int) -> None:
    """Make the sessions, with expire times spread evenly."""
    numbers = iter(range(count))

    async def work(client: Client) -> None:
        for number in numbers:
            at_ms = begin_ms + number * within_ms // count
            time_ = Timestamp()
            time_.FromMilliseconds(at_ms)
            await patiently(partial(client.made, said("ussd", expire_time=time_), request_id=f"{number}"))

    await asyncio.gather(*(work(clients[worker % len(clients)]) for worker in range(AT_ONCE)))


async def until(client: Client, at_ms: int) -> None:
    """Return when it is that time to the daemon."""
    while (left_ms := at_ms - await now_ms(client)) > 0:  # noqa: ASYNC110, the clock is the daemon's
        await asyncio.sleep(min(left_ms, 1000) / 1000)


async def calls_until(client: Client, end_ms: int) -> list[float]:
    """Call again and again until that time; return how long each call took."""
    made, taken = await patiently(lambda: client.create("sms")), list[float]()
    while await now_ms(client) < end_ms:
        started = time.perf_counter()
        await patiently(lambda: client.get(made.key))
        taken.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.005)
    return taken


async def listed(client: Client, wanted: str) -> list[session.Session]:
    """Return all sessions of a filter."""
    found: list[session.Session] = []
    token = ""
    while True:
        request = service.ListSessionsRequest(filter=wanted, page_size=1000, page_token=token)
        page = await client.stub.ListSessions(request)
        found += page.sessions
        token = page.next_page_token
        if not token:
            return found
