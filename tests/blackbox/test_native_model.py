"""Random histories of two clients over the wire agree with a model of the registry, word for word."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random  # noqa: TID251, of Hypothesis: choices by the dozen, each as likely as it should be
from typing import Any, Final, TypeAlias

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.core import lifecycle
from sessiond.core.errors import FailedPrecondition
from sessiond.core.lifecycle import Event, State
from sessiond.pb.sessiond.v1 import session_pb2 as session
from tests.blackbox.harness import refusal_of
from tests.blackbox.native import Client, details_of, said, sessions, state_of
from tests.store.servers import Server, binary_of

pytestmark = [pytest.mark.blackbox, pytest.mark.slow]

PROFILES: Final = {"approval": {"confirm_within_s": 3600}, "tight": {"quotas": {"associates": 1, "data_bytes": 20}}}
TYPES: Final = ("tight", "approval")
KEYS: Final = ("a", "b")
_histories = count(1)

Step: TypeAlias = tuple[str, int, str, Any]
"""What is done, by which client, to which session, and with what."""
OVER: Final = {State.CLOSING, State.CLOSED}


@dataclass
class Known:
    """A session as the model has it; `version` counts its changes."""

    kind: str
    state: State
    details: dict[str, Any] = field(default_factory=dict)
    associates: list[str] = field(default_factory=list)
    identifier: str = ""
    version: int = 1
    inactive: bool = False
    """It is to be activated with a call of its own, once it is confirmed."""


class Refused(Exception):
    """The model refuses a step, for this reason."""


class Model:
    """What every step is to bring about; `seen` has the version of each session that each client knows."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.seen: dict[tuple[int, str], int] = {}
        self._versions = count(1)
        """No session has a version that one of the same key had before."""

    def step(self, what: str, client: int, key: str, value: Any) -> Known | None:
        """Return a session after a step; None if it is gone."""
        if what == "create":
            return self._create(key, *value)
        one = self.known.get(key)
        if one is None:
            raise Refused("SESSION_NOT_FOUND")
        if what == "get":
            self.seen[client, key] = one.version
            return one
        if what.endswith(" if unchanged") and self.seen.get((client, key), one.version) != one.version:
            raise Refused("ETAG_MISMATCH")
        return self._change(what.removesuffix(" if unchanged"), key, one, value)

    def _create(self, key: str, kind: str, inactive: bool, details: dict[str, Any]) -> Known:
        if key in self.known:
            raise Refused("SESSION_EXISTS")
        state = State.REQUESTED if kind == "approval" else State.CREATED if inactive else State.ACTIVE
        self.known[key] = Known(kind, state, dict(details), version=next(self._versions) * 1000, inactive=inactive)
        return self.known[key]

    def _change(self, what: str, key: str, one: Known, value: Any) -> Known | None:
        if what == "end":
            return self._end(one)
        if what == "delete":
            if one.state not in OVER and not value:
                raise Refused("SESSION_NOT_ENDED")
            del self.known[key]
            return None
        if one.state in OVER:
            raise Refused("SESSION_ENDED")
        before = (one.state, dict(one.details), list(one.associates), one.identifier)
        getattr(self, f"_{what}")(key, one, value)
        if before != (one.state, one.details, one.associates, one.identifier):
            one.version += 1
        return one

    def _end(self, one: Known) -> Known:
        if one.state not in OVER:
            one.state, one.version = State.CLOSED, one.version + 1
        return one

    def _update(self, _key: str, one: Known, value: dict[str, Any]) -> None:
        merged = {name: entry for name, entry in {**one.details, **value}.items() if entry is not None}
        if one.kind == "tight" and len(merged) > MOST_ENTRIES:
            raise Refused("QUOTA_EXCEEDED")
        one.details = merged

    def _rename(self, _key: str, one: Known, value: str) -> None:
        one.identifier = value

    def _associate(self, key: str, one: Known, value: str) -> None:
        if value == key:
            raise Refused("ASSOCIATE_IS_SELF")
        if value not in one.associates:
            if one.kind == "tight" and len(one.associates) == MOST_ASSOCIATES:
                raise Refused("QUOTA_EXCEEDED")
            one.associates.append(value)

    def _activate(self, _key: str, one: Known, _value: object) -> None:
        if one.state is State.REQUESTED:
            one.state = State.CREATED if one.inactive else State.ACTIVE
        else:
            one.state = _after(one.state, Event.ACTIVATE, Event.ACTIVATED)

    def _pause(self, _key: str, one: Known, _value: object) -> None:
        one.state = _after(one.state, Event.PAUSE)

    def _resume(self, _key: str, one: Known, _value: object) -> None:
        one.state = _after(one.state, Event.RESUME)

    def _touch(self, _key: str, one: Known, _value: object) -> None:
        """Use is no change."""


MOST_ENTRIES: Final = 2
"""A tight session has room for `{"x":1.0,"y":1.0}`."""
MOST_ASSOCIATES: Final = 1
"""So few that short histories come to it."""


def _after(state: State, *events: Event) -> State:
    try:
        for event in events:
            state = lifecycle.step(state, event)
    except FailedPrecondition as error:
        raise Refused(error.reason) from None
    return state


# -- the same steps over the wire


class Daemon:
    """Two clients of a daemon, and the etags that each has seen."""

    def __init__(self, clients: tuple[Client, Client]) -> None:
        self.clients = clients
        self.prefix = f"history-{next(_histories)}-"
        self.etags: dict[tuple[int, str], str] = {}

    async def step(self, what: str, client: int, key: str, value: Any) -> session.Session | None:
        """Carry out a step; return the session after it, None if it is gone."""
        etag = self.etags.get((client, key), "") if what.endswith(" if unchanged") else ""
        one = await _CALLS[what.removesuffix(" if unchanged")](self.clients[client], self.prefix + key, value, etag)
        if what == "get" and one is not None:
            self.etags[client, key] = one.etag
        return one


async def _create(client: Client, key: str, value: Any, _etag: str) -> session.Session:
    kind, inactive, details = value
    wanted = said(kind, key=key, details=details)
    return (await client.made(wanted, leave_inactive=inactive, return_immediately=True)).session


async def _delete(client: Client, key: str, value: Any, etag: str) -> None:
    await client.delete(key, force=value, etag=etag)


async def _associate(client: Client, key: str, value: str, etag: str) -> session.Session:
    """Tie to another key of the same history: the prefix is that of the key itself."""
    return await client.associate(key, key[:-1] + value, etag=etag)


_CALLS: Final[dict[str, Callable[[Client, str, Any, str], Awaitable[session.Session | None]]]] = {
    "create": _create,
    "get": lambda client, key, _, __: client.get(key),
    "update": lambda client, key, value, etag: client.update(key, details=value, etag=etag),
    "rename": lambda client, key, value, etag: client.update(key, "identifier", identifier=value, etag=etag),
    "associate": _associate,
    "activate": lambda client, key, _, etag: client.activate(key, etag=etag),
    "pause": lambda client, key, _, etag: client.pause(key, etag=etag),
    "resume": lambda client, key, _, etag: client.resume(key, etag=etag),
    "touch": lambda client, key, _, __: client.touch(key),
    "end": lambda client, key, _, etag: client.end(key, etag=etag),
    "delete": _delete,
}
WITH_ETAG: Final = ("update", "rename", "associate", "activate", "pause", "resume", "end", "delete")
OFTEN: Final = {
    "create": 4,
    "get": 4,
    "update": 3,
    "associate": 4,
    "update if unchanged": 2,
    "associate if unchanged": 2,
}
"""What is done more often than the rest, so that there is something to do the rest to."""
WHAT: Final = sorted({*_CALLS, *(f"{what} if unchanged" for what in WITH_ETAG)})
STEPS: Final = 60


def _entries(random: Random, names: str, values: Sequence[object]) -> dict[str, object]:
    return {name: random.choice(values) for name in random.sample(names, random.randint(0, 2))}


VALUES: Final[dict[str, Callable[[Random], Any]]] = {
    "create": lambda random: (random.choice(TYPES), random.random() < 1 / 3, _entries(random, "xy", [1])),
    "update": lambda random: _entries(random, "xyz", [1, 2, None]),
    "rename": lambda random: random.choice(["", "one", "two"]),
    "associate": lambda random: random.choice([*KEYS, "c", "d"]),
    "delete": lambda random: random.random() < 1 / 2,
}


def history_of(random: Random) -> list[Step]:
    """Return what two clients do, each thing as often as it should be; choices by Hypothesis are not like that."""
    begun = [_step(random, "create", key) for key in KEYS]
    drawn = random.choices(WHAT, [OFTEN.get(what, 1) for what in WHAT], k=STEPS)
    return begun + [_step(random, what, random.choice(KEYS)) for what in drawn]


def _step(random: Random, what: str, key: str) -> Step:
    value = VALUES.get(what.removesuffix(" if unchanged"))
    return what, random.randrange(2), key, value(random) if value is not None else None


async def agree(history: list[Step], clients: tuple[Client, Client]) -> None:
    """Hold every step of the daemon against that of the model."""
    model, daemon = Model(), Daemon(clients)
    for step in history:
        expected, got = model_outcome(model, step), await daemon_outcome(daemon, step)
        assert got == expected, (step, history)


def model_outcome(model: Model, step: Step) -> Any:
    """Return what the model says of a step."""
    try:
        one = model.step(*step)
    except Refused as refused:
        return str(refused)
    return one and (one.state, one.details, one.associates, one.identifier)


async def daemon_outcome(daemon: Daemon, step: Step) -> Any:
    """Return what the daemon says of a step."""
    try:
        one = await daemon.step(*step)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error).reason
    if one is None:
        return None
    associates = [key.removeprefix(daemon.prefix) for key in one.associate_keys]
    return State(state_of(one)), details_of(one), associates, one.identifier


@pytest.fixture(params=["memory", "valkey"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give each store."""
    if request.param == "memory":
        yield "memory:"
        return
    server = Server(binary_of("valkey"), tmp_path)
    yield server.start().url
    server.stop()


@asynccontextmanager
async def two_clients(folder: Path, url: str) -> AsyncIterator[tuple[Client, Client]]:
    """Run a daemon, and two clients of it."""
    async with sessions(folder, store={"url": url}, profiles=PROFILES) as daemon:
        yield daemon.client(), daemon.client()


def test_the_registry_is_as_the_model_says(url: str, tmp_path: Path) -> None:
    """Whatever two clients do, in whatever order, each answer is the one that follows from the rules."""
    with asyncio.Runner() as runner:
        running = two_clients(tmp_path, url)
        clients = runner.run(running.__aenter__())

        @settings(deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.randoms(use_true_random=True))
        def check(random: Random) -> None:
            runner.run(agree(history_of(random), clients))

        try:
            check()
        finally:
            runner.run(running.__aexit__(None, None, None))


def test_histories_come_to_every_outcome() -> None:
    """A model whose histories never lead to a limit, a conflict or an end would agree with a daemon that has none."""
    come_to = set[tuple[str, str]]()

    @settings(deadline=None)
    @given(st.randoms(use_true_random=True))
    def play(random: Random) -> None:
        model = Model()
        for step in history_of(random):
            outcome = model_outcome(model, step)
            come_to.add((step[0].removesuffix(" if unchanged"), outcome if isinstance(outcome, str) else "done"))

    play()
    changes = ("update", "rename", "associate", "activate", "pause", "resume")
    assert come_to == {
        *((what, "done") for what in _CALLS),
        *((what, "SESSION_NOT_FOUND") for what in _CALLS if what != "create"),
        *((what, "ETAG_MISMATCH") for what in WITH_ETAG),
        *((what, "SESSION_ENDED") for what in (*changes, "touch")),
        *((what, "TRANSITION_REFUSED") for what in ("activate", "pause", "resume")),
        *((what, "QUOTA_EXCEEDED") for what in ("update", "associate")),
        ("associate", "ASSOCIATE_IS_SELF"),
        ("create", "SESSION_EXISTS"),
        ("delete", "SESSION_NOT_ENDED"),
    }
