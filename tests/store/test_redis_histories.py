"""Histories: whatever two clients do, in memory and in Redis the same things happen."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from sessiond.app.ports.store import Create, Delete, Store, Stored, Update, Write
from sessiond.core.ids import scope_of
from sessiond.core.names import names
from sessiond.core.session import Session
from sessiond.core.update import UpdateCriteria, apply
from sessiond.store.memory import MemoryStore
from tests.core.strategies import criteria, gateway_sessions
from tests.store.servers import Server
from tests.store.stores import opened

Value = TypeVar("Value")

KEYS = ("IMSI001010000000001-1", "IMSI001010000000001-22", "IMSI00101-1", "sms}{7")
CLIENTS = st.sampled_from((0, 1))
LAG = st.sampled_from((0, 0, 0, 1, 2, -1))
"""How many revisions behind the present one a client is; -1: ahead."""


class Histories(RuleBasedStateMachine):
    """Two clients of one store, beside a store in memory that is told the same."""

    def __init__(self, server: Server, *, exclusive: bool) -> None:
        super().__init__()
        server.flush()
        self._runner = asyncio.Runner()
        self._memory = MemoryStore()
        first = self._run(opened(server.url, exclusive=exclusive))
        second = first if exclusive else self._run(opened(server.url, exclusive=False))
        self._clients = (first, second)

    @rule(client=CLIENTS, key=st.sampled_from(KEYS), session=gateway_sessions())
    def create(self, client: int, key: str, session: Session) -> None:
        """Create a session, or try to."""
        self._write(client, [Create(msgspec.structs.replace(session, key=key, scope=scope_of(key)))])

    @rule(client=CLIENTS, key=st.sampled_from(KEYS), lag=LAG, change=criteria())
    def update(self, client: int, key: str, lag: int, change: UpdateCriteria) -> None:
        """Change a session, or try to."""
        self._update(client, [key], lag, change)

    @rule(client=CLIENTS, key=st.sampled_from(KEYS), lag=LAG)
    def delete(self, client: int, key: str, lag: int) -> None:
        """Remove a session, or try to."""
        self._write(client, [Delete(key, self._revision(key) - lag)])

    @rule(client=CLIENTS, keys=st.lists(st.sampled_from(KEYS), unique=True), lag=LAG, change=criteria())
    def update_many(self, client: int, keys: list[str], lag: int, change: UpdateCriteria) -> None:
        """Change several sessions in one call."""
        self._update(client, keys, lag, change)

    @rule(client=CLIENTS)
    def look(self, client: int) -> None:
        """See everything, in every way."""
        store = self._clients[client]
        for key in KEYS:
            assert self._run(store.get(key)) == self._run(self._memory.get(key))
            assert self._run(store.find(scope_of(key))) == self._run(self._memory.find(scope_of(key)))
        assert self._run(_all(store)) == self._run(_all(self._memory))

    def teardown(self) -> None:
        """See everything as the next run of the daemon would."""
        self.look(0)
        self.look(1)
        for store in set(self._clients):
            self._run(store.close())
        self._runner.close()

    def _write(self, client: int, writes: list[Write]) -> None:
        assert self._run(self._clients[client].write(writes)) == self._run(self._memory.write(writes))

    def _update(self, client: int, keys: list[str], lag: int, change: UpdateCriteria) -> None:
        if not any(self._names(key, change) for key in keys):
            self._write(client, [Update(key, self._revision(key) - lag, change) for key in keys])

    def _names(self, key: str, change: UpdateCriteria) -> bool:
        """Whether a change would give a session a name, which is an error in the program (see the port)."""
        stored = self._run(self._memory.get(key))
        if stored is None:
            return False
        return bool(set(names(apply(stored.session, change))).difference(names(stored.session)))

    def _revision(self, key: str) -> int:
        stored = self._run(self._memory.get(key))
        return stored.revision if stored else 1

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return self._runner.run(work)


class Restarts(Histories):
    """The same, and the daemon is started again now and then."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, exclusive=True)
        self._server = server

    @rule()
    def restart(self) -> None:
        """Start the daemon again."""
        self._run(self._clients[0].close())
        store = self._run(opened(self._server.url))
        self._clients = (store, store)


def test_two_daemons_that_share(valkey: Server) -> None:
    """Two daemons on one Redis see and do what two clients of one memory see and do."""
    _run(lambda: Histories(valkey, exclusive=False))


@pytest.mark.parametrize("kind", ["valkey", "redis_server"])
def test_one_daemon_that_starts_again(kind: str, request: pytest.FixtureRequest) -> None:
    """One daemon, also after restarts, sees and does what memory sees and does."""
    server: Server = request.getfixturevalue(kind)
    _run(lambda: Restarts(server))


def _run(machine: Any) -> None:
    """Run fewer histories than other laws have examples: each step asks a server several times."""
    run_state_machine_as_test(
        machine, settings=settings(max_examples=settings().max_examples // 4, stateful_step_count=25)
    )


async def _all(store: Store) -> dict[str, Stored]:
    return {stored.session.key: stored async for stored in store.load()}
