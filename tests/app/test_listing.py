"""Listing: every session in exactly one page, whatever comes and goes between two pages."""

import asyncio
from collections.abc import Iterable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sessiond.app import listing as module
from sessiond.app import statistics
from sessiond.app.activity import Activity
from sessiond.app.commit import Outcome
from sessiond.app.listing import Listing
from sessiond.app.ports.store import Create, Delete
from sessiond.core.filters import Filter, parse
from sessiond.core.lifecycle import State
from sessiond.core.orders import Order, Place
from sessiond.core.rules import Rule
from sessiond.core.session import Context, Gateway, Head, Identity, Limits, Record, Session
from sessiond.core.traffic import Traffic
from sessiond.store.memory import MemoryStore
from sessiond.testing.clock import HandClock
from tests.app.stores import TroubledStore

EVERYTHING: Final = parse("")
ORDERS: Final = [Order(field, descending) for field in ("create_time", "key", "type") for descending in (False, True)]


def session(number: int, created_at_ms: int = 0, kind: str = "ussd", state: State = State.ACTIVE) -> Session:
    """Return a session."""
    key = f"k{number:04d}"
    head = Head(state=state, created_at_ms=created_at_ms or 1000 + number // 3)
    return Session(key=key, type=kind, scope=key, head=head, identity=Identity(data_source=f"d{number % 2}"))


class Registry:
    """A store, and the listing over it."""

    def __init__(self, sessions: Iterable[Session] = (), *, complete: bool = True) -> None:
        self.store = MemoryStore()
        self.activity = Activity()
        self.listing = Listing(self.store, self.activity, HandClock(), complete=complete)
        self._first = list(sessions)

    async def filled(self) -> "Registry":
        """Store what was there first."""
        for one in self._first:
            await self.create(one)
        return self

    async def create(self, one: Session) -> None:
        """Store a session, and tell of it."""
        await self.store.write([Create(one)])
        self.listing.observe(Outcome(None, one))

    async def remove(self, key: str) -> None:
        """Remove a session, and tell of it."""
        stored = await self.store.get(key)
        assert stored is not None
        await self.store.write([Delete(key, stored.revision)])
        gone = structs.replace(stored.session, head=structs.replace(stored.session.head, forgotten=True))
        self.listing.observe(Outcome(stored.session, gone))

    async def keys(self, wanted: Filter, order: Order, size: int) -> list[str]:
        """Return the keys of all pages."""
        found: list[str] = []
        after: Place | None = None
        while True:
            page = await self.listing.page(wanted, wanted, order, size, after)
            assert len(page.sessions) <= size
            found += [one.key for one in page.sessions]
            if page.end is None:
                return found
            after = page.end


def expected(sessions: Iterable[Session], wanted: Filter, order: Order) -> list[str]:
    """Return the keys of what is meant, in order."""
    return [one.key for one in sorted(filter(wanted, sessions), key=order.place, reverse=order.descending)]


SESSIONS = st.lists(
    st.builds(session, st.integers(0, 40), st.integers(1, 5), st.sampled_from(["ussd", "sms", "voice"])),
    max_size=30,
    unique_by=lambda one: one.key,
)


@given(SESSIONS, st.sampled_from(ORDERS), st.integers(1, 7), st.booleans(), st.sampled_from(["", "type = sms"]))
def test_pages_are_the_whole_list(sessions: list[Session], order: Order, size: int, complete: bool, text: str) -> None:
    """In any order and page size, with and without an index, the pages together are what is meant, in order."""
    wanted = parse(text)

    async def run() -> list[str]:
        registry = await Registry(sessions, complete=complete).filled()
        return await registry.keys(wanted, order, size)

    assert asyncio.run(run()) == expected(sessions, wanted, order)


@pytest.mark.parametrize("order", ORDERS)
async def test_who_stays_is_listed_once(order: Order) -> None:
    """Sessions that come and go between two pages neither hide nor repeat those that are there all the time."""
    stay = [session(number) for number in range(0, 40, 2)]
    go = [session(number) for number in range(1, 40, 2)]
    registry = await Registry([*stay, *go]).filled()
    found: list[str] = []
    after = None
    for one in go:
        page = await registry.listing.page(EVERYTHING, EVERYTHING, order, 2, after)
        found += [found.key for found in page.sessions]
        after = page.end
        if after is None:
            break
        await registry.remove(one.key)
        await registry.create(structs.replace(session(500 + int(one.key[1:])), head=one.head))
    while after is not None:
        page = await registry.listing.page(EVERYTHING, EVERYTHING, order, 2, after)
        found += [found.key for found in page.sessions]
        after = page.end
    listed = [key for key in found if key in {one.key for one in stay}]
    assert listed == expected(stay, EVERYTHING, order)


async def test_the_index_forgets_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places of sessions that are gone are taken out, and a key can come back."""
    monkeypatch.setattr(module, "SPARSE", 3)
    sessions = [session(number) for number in range(8)]
    registry = await Registry(sessions).filled()
    for one in sessions[:6]:
        await registry.remove(one.key)
    await registry.create(sessions[0])
    await registry.create(sessions[5])
    assert await registry.keys(EVERYTHING, Order(), 3) == ["k0000", "k0005", "k0006", "k0007"]
    assert len(registry.listing._places) == 5  # one that is gone is still to be taken out


@pytest.mark.parametrize("order", ORDERS)
async def test_a_key_that_comes_back_is_listed_once(order: Order) -> None:
    """A session with the key of one that is gone stands at its own place, and not at that of the other too."""
    registry = await Registry([session(1), session(2)]).filled()
    for created_at_ms in (5000, 6000, 6000):
        await registry.remove("k0001")
        await registry.create(session(1, created_at_ms))
    there = [session(1, 6000), session(2)]
    for size in (1, 5):
        assert await registry.keys(EVERYTHING, order, size) == expected(there, EVERYTHING, order)


@pytest.mark.parametrize("order", [Order(), Order("key")])
async def test_others_get_their_turn(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list does not keep the loop for itself."""
    monkeypatch.setattr(module, "TURN", 10)
    registry = await Registry(map(session, range(100))).filled()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert (await registry.listing.page(parse("key = k9*"), parse("type = no"), order, 5, None)).sessions == ()
    task.cancel()
    assert turns >= 9


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("key = k0003", ["k0003"]),
        ("key = k0003 AND type = sms", []),
        ("key = nobody", []),
        ("subscriber = IMSI1", ["IMSI1-7"]),
        ("subscriber = IMSI2", []),
        ("data_source = d1 AND key = k000*", [f"k000{number}" for number in (1, 3, 5, 7, 9)]),
        ("data_source = d2", []),
    ],
)
async def test_a_filter_that_names_few_looks_at_no_others(text: str, found: list[str]) -> None:
    """One key, or one subscriber: neither all sessions nor the index are asked."""
    store = TroubledStore()
    context = Context(subscriber="IMSI1")
    attached = Session(
        key="IMSI1-7",
        type="lte",
        scope="IMSI1",
        head=Head(state=State.ACTIVE, created_at_ms=1),
        context=context,
        gateway=Gateway(),
    )
    await store.put(*map(session, range(10)), attached)
    store.fail("load")
    page = await Listing(store, Activity(), HandClock()).page(parse(text), parse(text), Order(), 5, None)
    assert [one.key for one in page.sessions] == found


async def test_sessions_are_listed_as_they_are_shown() -> None:
    """The last use is in the list though it is not written; one whose time is over is not, until its end is written."""
    registry = Registry()
    now_ms = HandClock().now_ms()
    record = Record(used_at_ms=now_ms - 1000)
    used = structs.replace(session(1), record=record, limits=Limits(expire_at_ms=now_ms + 1))
    over = structs.replace(used, key="over", scope="over", limits=Limits(expire_at_ms=now_ms))
    closed = structs.replace(
        over, key="closed", scope="closed", head=Head(state=State.CLOSED, created_at_ms=9, reason="EXPIRED")
    )
    forgotten = structs.replace(used, key="gone", scope="gone", head=structs.replace(used.head, forgotten=True))
    for one in (used, over, closed, forgotten):
        await registry.create(one)
    registry.activity.use(used.key, record, now_ms)
    for order in (Order(), Order("last_activity_time")):
        page = await registry.listing.page(EVERYTHING, EVERYTHING, order, 9, None)
        assert {one.key for one in page.sessions} == {used.key, "closed"}
        (shown,) = (one for one in page.sessions if one.key == used.key)
        assert shown.record == Record(used_at_ms=now_ms)


async def test_statistics_are_the_sums() -> None:
    """States and traffic are those of all, types of those that have not ended."""
    rules = {"a": Rule(moved_tx=5, moved_rx=7)}
    attached = structs.replace(session(1, kind="lte"), rules=rules)
    peer = structs.replace(session(2, kind="peer"), traffic=Traffic(bytes_sent=1, packets_sent=2))
    ended = session(3, kind="sms", state=State.CLOSED)
    registry = await Registry([attached, peer, ended]).filled()
    counted = await statistics.count(registry.listing, EVERYTHING, EVERYTHING)
    assert counted.states == {State.ACTIVE: 2, State.CLOSED: 1}
    assert counted.types == {"lte": 1, "peer": 1}
    assert counted.traffic == Traffic(bytes_sent=6, bytes_received=7, packets_sent=2)
