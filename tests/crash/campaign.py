"""A campaign of kills: episodes of lives of a daemon in one world; what the world knows is held against the daemon.

An episode is given by its seed, which decides what is asked of the daemon and where it is killed; what comes to lie at
the same moment is up to the machine.
"""

import asyncio
import json
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random  # noqa: TID251, one seed decides
from typing import Any, Final

import yaml
from msgspec import Struct, field

from sessiond.core.lifecycle import State
from sessiond.simulator.config import members
from sessiond.simulator.rules import policy_file
from tests.crash import books
from tests.crash.actors import Actor, Owner, Phone, Unheard
from tests.crash.nursery import Life, Nursery
from tests.crash.steps import ONCE, START, STEPS, STOP, Fuse
from tests.crash.world import RETRY_S, Failed, World
from tests.store.proxy import FaultProxy
from tests.store.servers import Server, binary_of, closing_down

OWNERS: Final = 2
QUIET_EVERY: Final = 5
"""After so many kills everything comes to rest and is looked at."""
REST_S: Final = 30.0
"""How long it may take to come to rest: as long as a report in doubt waits for its repeat, and more."""
LONGEST_LIFE_S: Final = 0.6
LONGEST_START_S: Final = 0.15
LONGEST_STOP_S: Final = 0.05
"""How long a daemon lives, starts and stops if it is the clock that kills it."""
STEP_S: Final = 3.0
"""How long a step may not come, before the clock kills."""
COUNTS: Final = (1, 1, 1, 2, 2, 3, 5, 8)
"""At which time that a step is reached the daemon is killed."""
LONGEST_HEALTH_S: Final = 0.3
LONGEST_FAULT_S: Final = 0.3
FAULTS: Final[tuple[Callable[[FaultProxy], object], ...]] = (
    FaultProxy.cut,
    lambda proxy: proxy.cut(refuse=True),
    FaultProxy.swallow,
    FaultProxy.half_close,
    lambda proxy: setattr(proxy, "delay_s", 0.05),
    lambda proxy: proxy.lose_reply(b"EVALSHA"),
)
LINES: Final = 60
"""So much of what the daemons have said goes with a complaint."""
PIPELINED_RESTARTS: Final = 0.1
SWITCH_RESTARTS: Final = 0.3
"""Of these restarts."""


class Plan(Struct, frozen=True):
    """How a life is to end."""

    step: str
    count: int = 1
    after_s: float = 0.0


class Tally(Struct):
    """What a campaign has come to."""

    kills: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Steps that did not come, so that the clock killed."""
    sessions: int = 0
    ends_repeated: int = 0
    reports_repeated: int = 0
    octets: int = 0

    def add(self, other: "Tally") -> None:
        """Add what another one has come to."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Episode:
    """One world, and the lives of a daemon in it."""

    final_usage_ms = 60_000
    """How long a daemon waits for the final usage of a session; no kill may be an excuse for giving it up."""

    def __init__(
        self,
        seed: int,
        server: Server,
        folder: Path,
        tally: Tally,
        steps: Sequence[str],
        *,
        sabotage: str = "",
        patient: bool = True,
        rest_s: float = REST_S,
        faults: bool = False,
    ) -> None:
        self.random = Random(seed)  # noqa: S311
        self.world = World()
        self.phones = [Phone(self.world, subscriber) for subscriber, _ in members(self.world.simulation.subscribers)]
        self.owners = [Owner(self.world, f"Car {number}") for number in range(OWNERS)]
        self._server = server
        self._folder = folder
        self._tally = tally
        self._steps = self.random.sample(steps, len(steps))
        self._sabotage = sabotage
        self._patient = patient
        self._history: list[dict[str, Any]] = []
        """All that was ever logged."""
        self._rest_s = rest_s
        self._faults = faults

    @property
    def actors(self) -> list[Actor]:
        """Everybody who asks for something."""
        return [*self.phones, *self.owners]

    async def run(self, kills: int) -> None:
        """Kill so often; then end everything and close the books."""
        async with self._open():
            for number in range(1, kills + 1):
                if self.random.random() < PIPELINED_RESTARTS:
                    self.world.restart_pipelined(with_switch=self.random.random() < SWITCH_RESTARTS)
                await self._live_and_die(self._plan(number))
                if number % QUIET_EVERY == 0 and number < kills:
                    await self._live_in_peace(leave=False)
            await self._live_in_peace(leave=True)
        self._close_books()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        """Have a world, a way to the store, and a nursery."""
        async with (
            self.world,
            FaultProxy(self._server.port) as self._proxy,
            Nursery(self._write_config()) as self._nursery,
        ):
            yield

    # -- one life

    async def _live_and_die(self, plan: Plan) -> None:
        life = await self._nursery.start(plan.step if plan.step in STEPS else "", plan.count, self._sabotage)
        self.world.peers.fuse = Fuse(plan.step, plan.count, life.kill)
        if plan.step == START:
            await _first_of(life.dead.wait(), asyncio.sleep(plan.after_s))
        else:
            await life.ready.wait()
        if not (life.dead.is_set() or plan.step == START):
            await self._work(life, plan)
        life.kill()
        await life.dead.wait()
        self.world.peers.fuse = Fuse("", 0)
        self._tally.kills[plan.step] += 1
        self._look(life, plan.step)

    async def _work(self, life: Life, plan: Plan) -> None:
        """Let everybody ask for things until the daemon is dead, or its time is up."""
        await self.world.meet(life.address)
        working = [asyncio.create_task(self._ask(actor, life.dead)) for actor in self._some()]
        working.append(asyncio.create_task(self._carry(life.dead)))
        if self._faults:
            working.append(asyncio.create_task(self._break(life.dead)))
        await _first_of(life.dead.wait(), asyncio.sleep(plan.after_s or STEP_S))
        if plan.step in STEPS and not life.dead.is_set():
            self._tally.missed[plan.step] += 1
        if plan.step == STOP:
            life.kill(signal.SIGTERM)
            await _first_of(life.dead.wait(), asyncio.sleep(self.random.uniform(0, LONGEST_STOP_S)))
        life.kill()
        await life.dead.wait()
        await asyncio.gather(*working)

    def _some(self) -> list[Actor]:
        return self.random.sample(self.actors, self.random.randint(3, len(self.actors)))

    async def _ask(self, actor: Actor, over: asyncio.Event) -> None:
        """Have somebody ask for one thing after the other."""
        random = Random(self.random.random())  # noqa: S311
        while not over.is_set():
            try:
                await actor.act(random)
            except Unheard:
                await _first_of(over.wait(), asyncio.sleep(RETRY_S))
            await asyncio.sleep(random.choice((0, 0, 0.001, 0.01)))

    async def _carry(self, over: asyncio.Event) -> None:
        """Let traffic pass, and be reported."""
        random = Random(self.random.random())  # noqa: S311
        while not over.is_set():
            taken = await self.world.report(random.choice((0, 0.5, 1, 3)))
            await _first_of(over.wait(), asyncio.sleep(0.01 if taken else RETRY_S))

    async def _break(self, over: asyncio.Event) -> None:
        """Let the way to the store fail, for a moment, again and again."""
        random = Random(self.random.random())  # noqa: S311
        while not over.is_set():
            await _first_of(over.wait(), asyncio.sleep(random.uniform(0, LONGEST_HEALTH_S)))
            random.choice(FAULTS)(self._proxy)
            await _first_of(over.wait(), asyncio.sleep(random.uniform(0, LONGEST_FAULT_S)))
            self._proxy.heal()

    def _plan(self, number: int) -> Plan:
        step = self._steps[number % len(self._steps)]
        if step in STEPS:
            return Plan(step, 1 if step in ONCE else self.random.choice(COUNTS))
        return Plan(step, after_s=self.random.uniform(0, LONGEST_START_S if step == START else LONGEST_LIFE_S))

    # -- rest

    async def _live_in_peace(self, *, leave: bool) -> None:
        """Start a daemon that nobody kills, have everything answered and come to rest, and look at all of it."""
        life = await self._nursery.start(sabotage=self._sabotage)
        await life.ready.wait()
        if life.dead.is_set():
            raise Failed(f"the daemon does not start: {life.lines} {life.noise}")
        await self.world.meet(life.address)
        carrying = asyncio.create_task(self._carry(life.dead))
        try:
            async with asyncio.timeout(self._rest_s):
                await asyncio.gather(*(actor.leave() if leave else actor.finish() for actor in self.actors))
            await self._come_to_rest(life, patient=leave and self._patient)
        except TimeoutError as error:
            raise Failed(f"not answered within {self._rest_s} s: {life.lines[-20:]}") from error
        finally:
            life.kill()
            await carrying
        self._look(life, "rest", settled=True, empty=leave)

    async def _come_to_rest(self, life: Life, *, patient: bool) -> None:
        deadline_s = asyncio.get_running_loop().time() + self._rest_s
        while restless := self._restless(patient=patient):
            if asyncio.get_running_loop().time() > deadline_s:
                raise Failed("\n".join(["it does not come to rest", *restless, *map(str, life.lines[-20:])]))
            await asyncio.sleep(RETRY_S)

    def _restless(self, *, patient: bool) -> list[str]:
        """Say what is still under way; only the patient wait for the policy side's answer that will not come."""
        shelf = books.Shelf(self._server)
        return [
            *books.unrest(shelf, but=() if patient else (State.CREATING,)),
            *books.flows(shelf, self.world.switch.state()),
        ]

    def _look(self, life: Life, when: str, *, settled: bool = False, empty: bool = False) -> None:
        """Hold the store, right after a death, against what was acknowledged."""
        shelf = books.Shelf(self._server)
        wrong = [*shelf.torn(), *self._take_note(life, when)]
        for phone in self.phones:
            wrong += books.phone(phone, shelf, settled=settled)
        for owner in self.owners:
            wrong += books.owner(owner, shelf)
        if settled:
            wrong += books.ends(self.world, shelf.gateway())
        if empty:
            wrong += (f"{key}: is there, and everybody has left" for key in shelf.gateway() if self._patient)
        self._complain(f"after {when}", wrong)

    def _take_note(self, life: Life, when: str) -> list[str]:
        """Remember what a daemon has said; return what nobody has thought of."""
        self._history += [*life.lines, {"life": life.pid, "ended": when}]
        return life.surprises()

    def _complain(self, when: str, wrong: Iterable[str]) -> None:
        """Fail if anything is wrong, with what the daemons have said about it."""
        if text := "\n".join(wrong):
            said = [line for line in self._history if "life" in line or _is_about(line, text)]
            raise Failed("\n".join([f"{when}:", text, "and the daemons said:", *map(str, said[-LINES:])]))

    def _close_books(self) -> None:
        self._complain("in the end", books.balance(self.world))
        self._sum_up()

    def _sum_up(self) -> None:
        policy = self.world.policy
        self._tally.sessions += len(policy.sessions) + sum(len(owner.streams) for owner in self.owners)
        self._tally.ends_repeated += sum(len(ends) - 1 for ends in policy.ends.values())
        self._tally.reports_repeated += sum(one.repeats for one in policy.sessions.values())
        self._tally.octets += sum(passed.tx + passed.rx for passed in self.world.switch.state().ledger)

    def _write_config(self) -> Path:
        rules, config = self._folder / "rules.json", self._folder / "sessiond.yml"
        rules.write_text(json.dumps(policy_file(self.world.simulation)), encoding="utf-8")
        at = self.world.address
        settings = {
            "server": {"listen": "127.0.0.1:0"},
            "metrics": {"listen": None},
            "policies": {"file": str(rules)},
            "store": {"url": (self._proxy if self._faults else self._server).url},
            "support_stateless": True,
            "session_force_termination_timeout_ms": self.final_usage_ms,
            "enable_ipfix": False,
            "peers": {"session_proxy": at, "pipelined": at, "spgw": at, "mobilityd": at},
        }
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return config


@contextmanager
def valkey() -> Iterator[tuple[Server, Path]]:
    """Give a server, and a folder."""
    with tempfile.TemporaryDirectory() as name:
        server = Server(binary_of("valkey"), Path(name, "valkey"))
        with closing_down(server):
            yield server.start(), Path(name)


async def episode(seed: int, kills: int, steps: Sequence[str], **options: Any) -> Tally:
    """Kill a daemon so often, at each of these steps in turn."""
    tally = Tally()
    with valkey() as (server, folder):
        await Episode(seed, server, folder, tally, steps, **options).run(kills)
    return tally


def lone_episode(seed: int, kills: int, steps: Sequence[str], *, faults: bool) -> Tally:
    """Do the same in a process that does nothing else."""
    return alone(episode(seed, kills, steps, faults=faults))


def alone(work: Coroutine[Any, Any, Tally]) -> Tally:
    """Run something as all that a process does; whatever goes wrong there is a failure."""
    try:
        return asyncio.run(work)
    except Failed:
        raise
    except Exception as error:
        raise Failed(traceback.format_exc()) from error


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return as soon as one of these does."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_about(line: dict[str, Any], text: str) -> bool:
    """Whether a line of a log names a session or subscriber that a text names."""
    names = {line.get("session", ""), line.get("subscriber", "")} - {""}
    return any(str(name) in text for name in names)
