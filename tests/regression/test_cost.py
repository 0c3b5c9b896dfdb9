"""What things cost, as laws: known problems P1 to P7 were about doing everything for everybody, over and over."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec import structs

from sessiond.app.ports.store import Count, Counted, Create, Stored, Write, Written
from sessiond.app.usage import CHUNK, ROWS
from sessiond.core.session import Context, Session
from sessiond.northbound.gateway.messages import SESSIONS_IN_ONE_GO, operational_state
from sessiond.store.memory import MemoryStore
from sessiond.testing.gateway import SimulatedGateway, row
from tests.app.scenes import RULES, VIDEO, gateway, ue
from tests.core.builders import grant, situation, started, static

MANY = 1000


class CountingStore(MemoryStore):
    """Counts what it is asked, and what it writes within one turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.written: Counter[int] = Counter()
        self.turn = 0

    def forget(self) -> None:
        """Begin to count anew."""
        self.asked.clear()
        self.written.clear()

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        self.asked["get"] += 1
        return await super().get(key)

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        self.asked["find"] += 1
        return await super().find(scope)

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes."""
        self.asked["write"] += len(writes)
        self.written[self.turn] += len(writes)
        return await super().write(writes)

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        self.asked["load"] += 1
        async for stored in super().load():
            yield stored

    async def fill(self, count: int) -> list[Context]:
        """Put so many sessions in, each with a rule and a credit."""
        at = situation(*RULES.values())
        template = started(at, credits_=[grant("1", 1_000_000)], installs=static("video")).session
        contexts = [ue(number) for number in range(1, count + 1)]
        await super().write([Create(_of(template, context)) for context in contexts])
        return contexts

    async def count_turns(self) -> None:
        """Count the turns of the loop, until cancelled."""
        while True:
            self.turn += 1
            await asyncio.sleep(0)


def _of(template: Session, context: Context) -> Session:
    return structs.replace(template, key=f"{context.subscriber}-1", scope=context.subscriber, context=context)


@pytest.fixture
async def store() -> CountingStore:
    """Give a store without sessions."""
    return CountingStore()


@pytest.mark.parametrize("records", [1, 10])
async def test_p1_a_table_costs_what_is_in_it(store: CountingStore, records: int) -> None:
    """Among a thousand sessions a table reads and writes those that it has records of, and loads nothing."""
    contexts = await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        await at.report(*(row(context, "video", 1, tx=10) for context in contexts[:records]))
        assert store.asked == {"find": records, "get": records, "write": records}


async def test_p1_usage_that_nothing_comes_of_is_counted_together(store: CountingStore) -> None:
    """Once usage of a session was seen, more of it costs no read and no write of its own, until something is due."""
    contexts = await store.fill(MANY)
    async with gateway(store) as at:
        await at.report(*(row(context, "video", 1, tx=10) for context in contexts))
        store.forget()
        await at.report(*(row(context, "video", 1, tx=20) for context in contexts))
        assert store.asked == {"write": MANY // ROWS}
        await at.report(*(row(context, "video", 1, tx=20) for context in contexts))
        assert store.asked == {"write": MANY // ROWS}
        assert {session.credits["1"].used_tx for session in await at.sessions()} == {20}


async def test_p1_an_empty_table_costs_nothing(store: CountingStore) -> None:
    """Pipelined reports every two seconds, mostly nothing."""
    await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        await at.report()
        assert not store.asked.total()


async def test_p1_a_report_costs_its_session(store: CountingStore) -> None:
    """One session that must be reported costs no other one anything, from the table to the answer."""
    contexts = await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        await at.report(row(contexts[7], "video", 1, tx=900_000))
        assert len(at.policy.updates) == 1
        assert store.asked["load"] == 0
        assert store.asked["write"] <= 2
        assert store.asked["get"] <= 3


async def test_p2_nobody_waits_for_a_whole_table(store: CountingStore) -> None:
    """A large table is booked in goes, and a request that comes meanwhile is served in between."""
    contexts = await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        turns = asyncio.create_task(store.count_turns())
        done: list[str] = []

        async def book() -> None:
            await at.application.usage.report(
                [row(context, "video", 1, tx=10) for context in contexts], 1, counters_restart=False
            )
            done.append("table")

        async def create() -> None:
            await at.application.manager.create_session(ue(MANY + 1))
            done.append("create")

        await asyncio.gather(book(), create())
        turns.cancel()
        assert done == ["create", "table"]
        assert store.asked["write"] == MANY + 2
        assert max(store.written.values()) <= CHUNK + 2


async def test_p3_nobody_waits_for_the_operators_view(store: CountingStore) -> None:
    """The view of all sessions is one pass over them, and others have their turn many times meanwhile."""
    await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        turns = asyncio.create_task(store.count_turns())
        sessions = await at.application.manager.sessions()
        view = await operational_state(sessions, RULES, at.clock.now_ms())
        turns.cancel()
        assert len(sessions) == MANY
        assert view.count(b'"session_id"') == MANY
        assert store.asked == {"load": 1}
        assert store.turn >= MANY // SESSIONS_IN_ONE_GO


async def test_p4_no_request_has_all_sessions(store: CountingStore) -> None:
    """When every session must be reported at once, there are several requests of a bounded size."""
    contexts = await store.fill(MANY + 1)
    async with gateway(store) as at:
        await at.report(*(row(context, "video", 1, tx=900_000) for context in contexts))
        sizes = [len(reports) for reports in at.policy.updates]
        assert sum(sizes) == MANY + 1
        assert max(sizes) <= 500


async def test_p5_a_session_is_found_without_a_search(store: CountingStore) -> None:
    """A request reads its subscriber's sessions, whatever number of others there is, and copies none."""
    contexts = await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        device = contexts[-1]
        await at.detach(device)
        assert store.asked["find"] == 1
        assert store.asked["load"] == 0
        key = f"{contexts[0].subscriber}-1"
        assert await at.session(key) is await at.session(key)


async def test_p6_rules_that_have_not_changed_are_not_read_again(store: CountingStore) -> None:
    """A session refers to static rules by id: none is kept with it, and a new catalogue changes no session."""
    contexts = await store.fill(MANY)
    async with gateway(store) as at:
        store.forget()
        at.circumstances.catalogue = dict(RULES)
        await at.settle()
        assert not store.asked.total()
        installed = (await at.session(f"{contexts[0].subscriber}-1")).rules["video"].gx
        assert installed is not None
        assert installed.rule is None


async def test_p7_events_hold_nobody_back() -> None:
    """One event is one call, as eventd has no other; but these wait for nobody, and nobody waits for them."""
    async with gateway() as at:
        at.policy.usually("create", VIDEO)
        held = [at.events.hold("log") for _ in range(3)]
        for number in (1, 2, 3):
            await _whole_life(at, ue(number))
        assert len(at.policy.terminated) == 3
        assert len(at.events.logged) == 3
        for one in held:
            one.release()
        await at.settle()
        assert len(at.events.logged) == 6
        kinds = Counter((event.tag, event.type) for event in at.events.logged)
        assert set(kinds.values()) == {1}


async def _whole_life(at: SimulatedGateway, context: Context) -> None:
    await at.attach(context)
    await at.report(row(context, "video", 1, tx=10))
    await at.detach(context)
    await at.report()
