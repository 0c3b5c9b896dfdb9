"""Many sessions that expire within a short time: how late each ends, and how long other calls take meanwhile."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.native import Client, said, sessions

AT_ONCE: Final = 64
PROFILES: Final = {"ussd": {"retention_newest": 0}, "sms": {"ttl_s": 0}}


@dataclass(frozen=True)
class Expiry:
    """What came of it; milliseconds."""

    late_ms: Sequence[int]
    """How late each session ended; negative: early."""
    calls_ms: Sequence[float]
    """How long each call took that was made meanwhile."""
    reasons: frozenset[session.EndReason.ValueType]
    cpu_s: float
    """The CPU time that the daemon took for it, from the first that expired until a second after the last."""

    def late_at(self, part: float) -> int:
        """Return the lateness that this part of the sessions does not exceed."""
        return self.late_ms[math.ceil(part * len(self.late_ms)) - 1]

    def call_at(self, part: float) -> float:
        """Return the time that this part of the calls does not exceed."""
        return self.calls_ms[math.ceil(part * len(self.calls_ms)) - 1]


async def expire(folder: Path, count: int, within_ms: int, *, lead_ms: int, **config: Any) -> Expiry:
    """Let so many sessions expire within some time, which begins so long after the first is made."""
    async with sessions(folder, profiles=PROFILES, **config) as daemon:
        clients = [daemon.client() for _ in range(4)]
        begin_ms = await now_ms(clients[0]) + lead_ms
        await make(clients, count, begin_ms, within_ms)
        assert await now_ms(clients[0]) < begin_ms, "they began to expire before all were made: give more lead"
        await until(clients[0], begin_ms)
        before_s = cpu_s(daemon.process.pid)
        calls_ms = await calls_until(clients[1], begin_ms + within_ms + 1000)
        taken_s = cpu_s(daemon.process.pid) - before_s
        ended = await all_ended(clients[0], count)
        late = sorted(one.end_time.ToMilliseconds() - one.expire_time.ToMilliseconds() for one in ended)
        return Expiry(late, sorted(calls_ms), frozenset(one.end_reason for one in ended), taken_s)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process so far (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


async def now_ms(client: Client) -> int:
    """Return what time it is to the daemon."""
    return (await client.create("sms")).create_time.ToMilliseconds()


async def make(clients: Sequence[Client], count: int, begin_ms: int, within_ms: int) -> None:
    """Make the sessions, with expire times spread evenly."""
    numbers = iter(range(count))

    async def work(client: Client) -> None:
        for number in numbers:
            at_ms = begin_ms + number * within_ms // count
            time_ = Timestamp()
            time_.FromMilliseconds(at_ms)
            await client.made(said("ussd", expire_time=time_))

    await asyncio.gather(*(work(clients[worker % len(clients)]) for worker in range(AT_ONCE)))


async def until(client: Client, at_ms: int) -> None:
    """Return when it is that time to the daemon."""
    while (left_ms := at_ms - await now_ms(client)) > 0:  # noqa: ASYNC110, the clock is the daemon's
        await asyncio.sleep(min(left_ms, 1000) / 1000)


async def calls_until(client: Client, end_ms: int) -> list[float]:
    """Call again and again until that time; return how long each call took."""
    key, taken = (await client.create("sms")).key, list[float]()
    while await now_ms(client) < end_ms:
        started = time.perf_counter()
        await client.get(key)
        taken.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.005)
    return taken


async def all_ended(client: Client, count: int) -> list[session.Session]:
    """Return all sessions that have ended, as soon as so many have."""
    async with asyncio.timeout(60):
        while True:
            found = await listed(client, "type = ussd AND state = CLOSED")
            if len(found) == count:
                return found


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
