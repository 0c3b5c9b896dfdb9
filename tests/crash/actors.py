"""Who asks the daemon for anything: devices with their policy side, and owners of streams; each does one thing at once.

An actor knows what was acknowledged to it, and what it has asked for without hearing an answer. Such a request it
repeats, as an MME does, until it is answered; until then both states, before and after, are right.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random  # noqa: TID251, one seed decides
from typing import Final, Protocol, TypeAlias

import grpc
from grpc import aio
from msgspec import Struct, field

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.magma.lte.rule_install_pb2 import (
    DynamicRuleInstall,
    RuleSet,
    RulesPerSubscriber,
    SessionRules,
    StaticRuleInstall,
)
from sessiond.pb.magma.lte.session_manager_pb2 import LocalEndSessionRequest, UpdateTunnelIdsRequest
from sessiond.pb.magma.lte.session_proxy_responder_pb2 import ChargingReAuthRequest, PolicyReAuthRequest
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator.access import DEFAULT_BEARER, Device, State, session_request
from sessiond.simulator.config import Plan, Plans
from sessiond.simulator.rules import wire_rules
from tests.crash.world import CALL_S, RETRY_S, Failed, World

PAIRS: Final[tuple[frozenset[str], ...]] = (
    frozenset(),
    frozenset({"game-a", "game-b"}),
    frozenset({"call-a", "call-b"}),
)
"""What rules a session has beside those of its plan: never one of a pair."""
PAIRED: Final = frozenset[str]().union(*PAIRS)
Code: Final = grpc.StatusCode


class Unheard(Exception):
    """Nobody has answered: the daemon died, or is about to be ready."""


class Actor(Protocol):
    """Somebody who asks for things."""

    async def act(self, random: Random) -> None:
        """Do the next thing: what was not answered again, or anything new; raise Unheard if nobody answers."""
        ...

    async def finish(self) -> None:
        """Have everything answered that was asked for."""
        ...

    async def leave(self) -> None:
        """End everything."""
        ...


async def heard(call: Awaitable[object]) -> str:
    """Return the status of a call that was answered."""
    try:
        await call
    except aio.AioRpcError as error:
        if error.code() in {Code.UNAVAILABLE, Code.CANCELLED} or "Socket closed" in (error.details() or ""):
            raise Unheard(str(error.details())) from error
        return f"{error.code().name}: {error.details()}"
    except (asyncio.CancelledError, aio.UsageError) as error:  # the channel was closed
        raise Unheard(str(error)) from error
    return ""


class Choice(Struct):
    """Something that was set, and what it was asked to be since without an answer."""

    value: object
    asked: object = None
    open: bool = False

    @property
    def possible(self) -> tuple[object, ...]:
        """What it may be now."""
        return (self.value, self.asked) if self.open else (self.value,)

    def ask(self, value: object) -> None:
        """Ask for another value."""
        self.asked, self.open = value, True

    def settle(self) -> None:
        """Have it answered."""
        self.value, self.open = self.asked, False


Step: TypeAlias = Callable[[], Awaitable[None]]


class Phone:
    """A device that attaches, moves, is given rules, and detaches; with the MME and the PCRF that speak for it."""

    def __init__(self, world: World, subscriber: str) -> None:
        self.subscriber = subscriber
        self.device: Device | None = None
        self.session = ""
        """The session that it was told it has."""
        self.in_force = False
        """Whether it was told that its tunnels are taken."""
        self.tunnels = Choice((0, 0))
        self.extras = Choice(PAIRS[0])
        self.ending = False
        """The end was asked for, and may have happened."""
        self.gone: set[str] = set()
        """Its sessions of which it was told that they are over, or have been replaced."""
        self._world = world
        self._plan = Plans(world.simulation).of(subscriber) or Plan(name="")
        self._wire = wire_rules(world.simulation.rules)
        self._todo: list[Step] = []
        self._tunnel = 0

    async def act(self, random: Random) -> None:
        """Go on with what is not answered, or do something new."""
        if not self._todo:
            self._todo = self._plans(random)
        await self._todo[0]()
        self._todo.pop(0)

    async def finish(self) -> None:
        """Have everything answered that was asked for."""
        while self._todo:
            try:
                await self._todo[0]()
            except Unheard:
                await asyncio.sleep(RETRY_S)
            else:
                self._todo.pop(0)

    async def leave(self) -> None:
        """Detach for good."""
        await self.finish()
        if self.device is not None:
            self._todo = [self._end]
            await self.finish()

    @property
    def plan_rules(self) -> frozenset[str]:
        """The rules that its plan gives it."""
        return frozenset((*self._plan.static_rules, *self._plan.dynamic_rules))

    def _plans(self, random: Random) -> list[Step]:
        if self.device is None:
            return [self._arrive, self._create, self._move, *([self._end] if random.random() < 0.1 else [])]
        if not self.in_force:
            return [self._end]
        extras = random.choice([pair for pair in PAIRS if pair != self.extras.value])
        change: list[Step] = [lambda: self._change_rules(extras)]
        replace: list[Step] = [lambda: self._set_rules(extras)]
        again: list[Step] = [self._arrive, self._create, self._move]
        choices: list[tuple[list[Step], int]] = [
            ([self._end], 3),
            ([self._move], 3),
            (change, 4),
            (replace, 2),
            ([self._create], 1),
            ([self._reauthorise], 2),
            (again, 1),
        ]
        plans, weights = zip(*choices, strict=True)
        (chosen,) = random.choices(plans, weights)
        return list(chosen)

    async def _arrive(self) -> None:
        """Come with a new address; whoever was there before is to be replaced."""
        self._replaced = self.session
        self.device = self._world.devices.arrive(self.subscriber)
        self.in_force = False
        self.ending = bool(self.session)
        self.tunnels, self.extras = Choice((0, 0)), Choice(PAIRS[0])

    async def _create(self) -> None:
        device = self._here()
        before = self.session
        answer: list[str] = []

        async def call() -> None:
            response = await self._world.sessions.CreateSession(session_request(device), timeout=CALL_S)
            answer.append(response.session_id)

        status = await heard(call())
        if status:
            raise Failed(f"{self.subscriber} was refused a session: {status}")
        (self.session,) = answer
        if before and before != self.session:
            if self.in_force:
                raise Failed(f"{before} was to be recycled, but {self.session} is new")
            self.gone.add(before)
        self.ending = False

    async def _move(self) -> None:
        """Have new tunnels."""
        if not self.tunnels.open:
            self._tunnel += 2
            self.tunnels.ask((0x1000 + self._tunnel, 0x1001 + self._tunnel))
        enb, agw = self.tunnels.asked if isinstance(self.tunnels.asked, tuple) else (0, 0)
        request = UpdateTunnelIdsRequest(
            sid=SubscriberID(id=self.subscriber), bearer_id=DEFAULT_BEARER, enb_teid=enb, agw_teid=agw
        )
        status = await heard(self._world.sessions.UpdateTunnelIds(request, timeout=CALL_S))
        if status:
            raise Failed(f"{self.session} was refused its tunnels: {status}")
        self.tunnels.settle()
        self.in_force = True

    async def _change_rules(self, extras: frozenset[str]) -> None:
        """Have the PCRF take one pair of rules away and give another (Gx RAR)."""
        self.extras.ask(extras)
        request = PolicyReAuthRequest(
            session_id=self.session,
            imsi=self.subscriber,
            rules_to_remove=sorted(PAIRED - extras),
            rules_to_install=[StaticRuleInstall(rule_id=rule) for rule in sorted(extras)],
        )
        status = await heard(self._world.responder.PolicyReAuth(request, timeout=CALL_S))
        if status:
            raise Failed(f"{self.session} was refused {set(extras)}: {status}")
        self.extras.settle()

    async def _set_rules(self, extras: frozenset[str]) -> None:
        """Have all rules set that there are to be."""
        self.extras.ask(extras)
        rules = RuleSet(
            apply_subscriber_wide=True,
            static_rules=[StaticRuleInstall(rule_id=rule) for rule in (*self._plan.static_rules, *sorted(extras))],
            dynamic_rules=[DynamicRuleInstall(policy_rule=self._wire[rule]) for rule in self._plan.dynamic_rules],
        )
        request = SessionRules(rules_per_subscriber=[RulesPerSubscriber(imsi=self.subscriber, rule_set=[rules])])
        status = await heard(self._world.sessions.SetSessionRules(request, timeout=CALL_S))
        if status:
            raise Failed(f"{self.session} was refused {set(extras)}: {status}")
        self.extras.settle()

    async def _reauthorise(self) -> None:
        """Have the OCS ask for usage (Gy RAR); how it is answered depends on what is in flight."""
        request = ChargingReAuthRequest(
            session_id=self.session, sid=self.subscriber, charging_key=1, type=ChargingReAuthRequest.SINGLE_SERVICE
        )
        await heard(self._world.responder.ChargingReAuth(request, timeout=CALL_S))

    async def _end(self) -> None:
        device, repeated = self._here(), self.ending
        self.ending, device.state = True, State.DETACHED
        request = LocalEndSessionRequest(sid=SubscriberID(id=self.subscriber), apn=device.apn)
        status = await heard(self._world.sessions.EndSession(request, timeout=CALL_S))
        if status and not (repeated and "Session not found" in status):
            raise Failed(f"the end of {self.session} was refused: {status}")
        if self.session:
            self.gone.add(self.session)
        self.session, self.device, self.ending, self.in_force = "", None, False, False

    def _here(self) -> Device:
        assert self.device is not None
        return self.device


class Stream(Struct):
    """A stream session as its owner knows it; its details are two words that are always the same."""

    word: Choice
    ended: Choice = field(default_factory=lambda: Choice(value=False))


class Owner:
    """The owner of a data source, with its stream sessions."""

    def __init__(self, world: World, data_source: str) -> None:
        self.data_source = data_source
        self.streams: dict[str, Stream] = {}
        self.unheard = 0
        """Sessions that were asked for without an answer: each may be there or not."""
        self._world = world
        self._again: Step | None = None
        self._words = 0

    async def act(self, random: Random) -> None:
        """Repeat what was not answered, or do something new."""
        await (self._again or self._next(random))()
        self._again = None

    async def finish(self) -> None:
        """Have everything answered that was asked for."""
        while self._again is not None:
            try:
                await self._again()
            except Unheard:
                await asyncio.sleep(RETRY_S)
            else:
                self._again = None

    async def leave(self) -> None:
        """Have everything answered; sessions of streams outlast everything."""
        await self.finish()

    def _next(self, random: Random) -> Step:
        present = [key for key, stream in self.streams.items() if not stream.ended.value]
        if len(present) < 2 or random.random() < 0.2:
            return self._create
        key = random.choice(present)
        ends = random.random() < 0.4
        self._again = (lambda: self._end(key)) if ends else (lambda: self._update(key))
        return self._again

    async def _create(self) -> None:
        self._words += 1
        word, keys = str(self._words), list[str]()

        async def call() -> None:
            request = api.CreateSessionRequest(data_source=self.data_source, details={"a": word, "b": word})
            keys.append((await self._world.streams.CreateSession(request, timeout=CALL_S)).session_key)

        self.unheard += 1
        if status := await heard(call()):
            raise Failed(f"{self.data_source} was refused a session: {status}")
        self.unheard -= 1
        self.streams[keys[0]] = Stream(Choice(word))

    async def _update(self, key: str) -> None:
        stream = self.streams[key]
        if not stream.word.open:
            self._words += 1
            stream.word.ask(str(self._words))
        word = str(stream.word.asked)
        request = api.UpdateSessionDetailsRequest(session_key=key, details={"a": word, "b": word})
        if status := await heard(self._world.streams.UpdateSessionDetails(request, timeout=CALL_S)):
            raise Failed(f"{key} was refused its details: {status}")
        stream.word.settle()

    async def _end(self, key: str) -> None:
        stream = self.streams[key]
        stream.ended.ask(value=True)
        if status := await heard(
            self._world.streams.EndSession(api.EndSessionRequest(session_key=key), timeout=CALL_S)
        ):
            raise Failed(f"{key} was refused its end: {status}")
        stream.ended.settle()
