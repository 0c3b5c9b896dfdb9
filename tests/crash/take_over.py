"""Two daemons that both believe to own the sessions: one is stopped, another takes over, and the first one wakes up.

Clients go on with the new one; others still ask the old one, before it wakes and after. What the old one writes from
then on is known by its name, which is in every operation that the store remembers.
"""

import asyncio
import signal
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.lte.session_manager_pb2 import LocalEndSessionRequest, UpdateTunnelIdsRequest
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator.access import DEFAULT_BEARER
from sessiond.simulator.switch import DROP_RULE
from tests.crash.campaign import Episode, Tally, alone, valkey
from tests.crash.nursery import Life
from tests.crash.world import CALL_S, CLIENT_OPTIONS
from tests.store.servers import Server

TAKE_OVER: Final = "take-over"
TAKEN_OVER: Final = 3
"""The exit status of a daemon that was taken over from."""
WORK_S: Final = 0.15
"""How long there is traffic, at least, before the one is stopped, and with the other before the one goes on."""
ENDS: Final = "the end"
"""An end that the old one knew of before it was stopped needs no write: it may say so."""
HANG_UP_S: Final = 1.0
KEPT: Final = 160
"""So many characters of operations are kept; the oldest is cut in two."""

Marks: TypeAlias = Mapping[bytes, list[str]]
"""Who wrote to each session, or to the tombstone of one, newest first."""


class TakeOvers(Episode):
    """Daemons that take over from each other in one world.

    What the old one had decided before it was stopped may reach pipelined when it wakes, and put flows up again that
    the new one has taken down; the new one waits for their usage in vain, and then has them removed as nobody's.
    """

    final_usage_ms = 2000

    async def take_over(self, rounds: int) -> None:
        """Let one daemon after the other be stopped, taken over from, and woken up."""
        async with self._open():
            owner = await self._started()
            for _ in range(rounds):
                owner = await self._round(owner)
            owner.kill()
            await owner.dead.wait()
            await self._live_in_peace(leave=True)
        self._sum_up()

    async def _round(self, old: Life) -> Life:
        stray = Strays(old.address)
        await stray.watch()
        await self._traffic(old, self._stop(old))
        before = marks(self._server)
        new = await self._started()
        asked = asyncio.create_task(stray.ask(self))
        await self._traffic(new, self._wake(old))
        wrong = [f"the old one acknowledged {what}" for what in await asked if not what.startswith(ENDS)]
        wrong += stale(before, marks(self._server))
        statuses = [line["status"] for line in old.said("exit")]
        if statuses != [TAKEN_OVER] or not old.said("taken_over"):
            wrong.append(f"the old one ended with {statuses}: {old.lines[-5:]}")
        if await stray.close() != HealthCheckResponse.NOT_SERVING:
            wrong.append("the old one did not say NOT_SERVING")
        self._tally.kills[TAKE_OVER] += 1
        wrong += self._take_note(old, "a take-over")
        self._complain("after a take-over", wrong)
        return new

    async def _started(self) -> Life:
        life = await self._nursery.start(sabotage=self._sabotage)
        await life.ready.wait()
        await self.world.meet(life.address)
        return life

    async def _traffic(self, life: Life, meanwhile: Awaitable[None]) -> None:
        """Let everybody ask a daemon for things, until something else is done."""
        over = asyncio.Event()
        working = [asyncio.create_task(self._ask(actor, over)) for actor in self.actors]
        working.append(asyncio.create_task(self._carry(over)))
        await asyncio.sleep(self.random.uniform(WORK_S, 2 * WORK_S))
        await meanwhile
        over.set()
        await asyncio.wait(working, timeout=2 * CALL_S)
        await asyncio.gather(*working)

    async def _stop(self, life: Life) -> None:
        """Stop a daemon wherever it is; who waits for it gives up."""
        life.kill(signal.SIGSTOP)
        await self.world.part()

    async def _wake(self, old: Life) -> None:
        """Let a daemon go on where it was stopped, until it ends."""
        old.kill(signal.SIGCONT)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rest_s):
                await old.dead.wait()


class Strays:
    """Clients of a daemon that has been taken over from, and does not know."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, options=CLIENT_OPTIONS)
        self._sessions = LocalSessionManagerStub(self._channel)
        self._streams = SessionManagementServiceStub(self._channel)
        self._health = HealthStub(self._channel)
        self._heard: list[int] = []

    async def watch(self) -> None:
        """Watch its health from now on."""
        watching = asyncio.Event()

        async def read() -> None:
            try:
                async for answer in self._health.Watch(HealthCheckRequest()):
                    self._heard.append(answer.status)
                    watching.set()
            except (aio.AioRpcError, asyncio.CancelledError):
                watching.set()

        self._reading = asyncio.create_task(read())
        await watching.wait()

    async def ask(self, episode: TakeOvers) -> list[str]:
        """Ask it to change what the other one has by now; return what it acknowledged."""
        calls = dict(self._calls(episode))
        answers = await asyncio.gather(*calls.values(), return_exceptions=True)
        return [what for what, answer in zip(calls, answers, strict=True) if not isinstance(answer, aio.AioRpcError)]

    async def close(self) -> int | None:
        """Hang up; return the last that was heard of its health."""
        await asyncio.wait({self._reading}, timeout=HANG_UP_S)
        self._reading.cancel()
        await self._channel.close()
        return self._heard[-1] if self._heard else None

    def _calls(self, episode: TakeOvers) -> Iterator[tuple[str, Awaitable[Any]]]:
        for phone in episode.phones:
            sid = SubscriberID(id=phone.subscriber)
            end = LocalEndSessionRequest(sid=sid, apn=episode.world.simulation.access.apn)
            yield f"{ENDS} of {phone.subscriber}", self._sessions.EndSession(end)
            move = UpdateTunnelIdsRequest(sid=sid, bearer_id=DEFAULT_BEARER, enb_teid=1, agw_teid=1)
            yield f"tunnels of {phone.subscriber}", self._sessions.UpdateTunnelIds(move)
        for owner in episode.owners:
            yield (
                f"a session of {owner.data_source}",
                self._streams.CreateSession(api.CreateSessionRequest(data_source=owner.data_source)),
            )
        table = RuleRecordTable(epoch=episode.world.switch.epoch)
        for record in episode.world.switch.records():
            if record.rule_id != DROP_RULE:
                record.bytes_tx += 1_000_000
                table.records.append(record)
        if table.records:
            yield "usage", self._sessions.ReportRuleStats(table)


def marks(server: Server) -> dict[bytes, list[str]]:
    """Return who wrote what: operations are named `<daemon>-<number>`."""
    with server.client() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        found = {name: client.hget(name, "operations") for name in client.scan_iter("session:*", 1000)}
        found |= {name: client.get(name) for name in client.scan_iter("session-gone:*", 1000)}
    return {name: _whole(text.decode()) for name, text in found.items() if text}


def _whole(text: str) -> list[str]:
    return text.split()[: -1 if len(text) >= KEPT else None]


def stale(before: Marks, after: Marks) -> Iterator[str]:
    """Yield what was written by one of those who had written before, since then."""
    former = {_writer(mark) for known in before.values() for mark in known}
    for name, known in after.items():
        new = known[: known.index(before[name][0])] if before.get(name) and before[name][0] in known else known
        for mark in new:
            if _writer(mark) in former and mark not in _all(before, name):
                yield f"{name!r}: {mark} is a stale write; it had {before.get(name)}"


def _all(before: Marks, name: bytes) -> list[str]:
    """Return what is known of a session, also from when it was there, if it is gone now."""
    return [*before.get(name, ()), *before.get(name.replace(b"session-gone:", b"session:"), ())]


def _writer(mark: str) -> str:
    return mark.partition("-")[0]


async def take_overs(seed: int, rounds: int, **options: Any) -> Tally:
    """Let daemons take over from each other so often."""
    tally = Tally()
    with valkey() as (server, folder):
        await TakeOvers(seed, server, folder, tally, (), **options).take_over(rounds)
    return tally


def lone_take_overs(seed: int, rounds: int, _: object, *, faults: bool) -> Tally:
    """Do the same in a process that does nothing else."""
    return alone(take_overs(seed, rounds, faults=faults))
