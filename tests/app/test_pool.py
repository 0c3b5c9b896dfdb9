"""Usage that counts in several sessions: all of them or none, and never less than what was used."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.app.executions import Authorized
from sessiond.core.access import Operation
from sessiond.core.decide.executions import Wish
from sessiond.core.decide.native import NewSession
from sessiond.core.decide.requests import ANY, Request
from sessiond.core.errors import FailedPrecondition, ResourceExhausted, SessionError, Unavailable
from sessiond.core.traffic import Traffic
from sessiond.testing.gateway import SimulatedGateway
from sessiond.testing.loop import settle
from tests.app.scenes import gateway
from tests.app.stores import TroubledStore

EXECUTE = Wish(Operation.EXECUTE, "pay")
ONCE = Request("once", "digest")


class Family:
    """A session that may execute five times, one that acts for it, and one that acts for that."""

    def __init__(self, whole: SimulatedGateway, store: TroubledStore) -> None:
        self.whole = whole
        self.store = store
        self.sessions = whole.application.sessions
        self.executions = whole.application.executions

    async def make(self, key: str, parent: str = "") -> None:
        """Make one of them."""
        wanted = NewSession(type="execution", parent=parent, quotas={"executions": 5, "bytes": 5})
        await self.sessions.create(key, wanted, None, reuse_active=False, wait=True)

    async def used(self, resource: str = "executions") -> list[int]:
        """Return what each has used, the topmost first."""
        return [(await self.whole.session(key)).quotas[resource].used for key in ("top", "middle", "below")]

    async def refused(self, request: Request | None = None) -> SessionError:
        """Return how an execution in the lowest is refused."""
        with pytest.raises(SessionError) as caught:
            await self.executions.authorize("below", EXECUTE, "", request)
        return caught.value


@pytest.fixture
async def family() -> AsyncIterator[Family]:
    """Give the three."""
    store = TroubledStore()
    async with gateway(store) as whole:
        family = Family(whole, store)
        for key, parent in (("top", ""), ("middle", "top"), ("below", "middle")):
            await family.make(key, parent)
        yield family


async def test_it_counts_in_all_of_them(family: Family) -> None:
    """And what is left is the least that any has left."""
    answer = await family.executions.authorize("below", EXECUTE, "", ONCE)
    again = await family.executions.authorize("below", EXECUTE, "", ONCE)
    assert answer.remaining_quotas == again.remaining_quotas == {"executions": 4, "bytes": 5}
    assert await family.used() == [1, 1, 1]


@pytest.mark.parametrize("writes_before", [0, 1, 2])
async def test_what_nobody_knows_stays_counted_above(family: Family, writes_before: int) -> None:
    """The store goes away in the middle: nothing is used that is not counted, and the same request goes on."""
    family.store.fail("write", after=writes_before)
    assert isinstance(await family.refused(ONCE), Unavailable)
    assert await family.used() == [int(writes_before == 2), int(writes_before >= 1), 0]
    await family.executions.authorize("below", EXECUTE, "", ONCE)
    assert await family.used() == [1 + (writes_before == 2), 1 + (writes_before >= 1), 1]


async def test_what_is_refused_above_is_given_back_below_that(family: Family) -> None:
    """One on the way has room, the topmost has none: it stays as it was, and the refusal is counted."""
    for _ in range(5):
        await family.executions.authorize("top", EXECUTE, "", None)
    error = await family.refused()
    assert (type(error), error.field) == (ResourceExhausted, "usage.executions")
    assert await family.used() == [5, 0, 0]
    counted = (await family.whole.session("below")).executions
    assert counted is not None
    assert (counted.authorized, counted.refused) == (0, 1)


async def test_who_ends_meanwhile_gives_it_back(family: Family) -> None:
    """The session ends while it is counted above: that does not come about."""
    held = family.store.hold("write")
    asked = asyncio.create_task(family.refused())
    await settle()
    await family.sessions.pause("below")
    held.set()
    assert (await asked).reason == "SESSION_NOT_ACTIVE"
    assert await family.used() == [0, 0, 0]


async def test_who_is_above_may_end_meanwhile(family: Family) -> None:
    """Then nothing is done in its name any more; one that has gone altogether counts nothing."""
    held = family.store.hold("write")
    asked = asyncio.create_task(family.refused())
    await settle()
    await family.sessions.pause("top")
    held.set()
    error = await asked
    assert (type(error), error.reason) == (FailedPrecondition, "SESSION_NOT_ACTIVE")
    assert await family.used() == [0, 0, 0]
    held = family.store.hold("write")
    recorded = asyncio.create_task(family.executions.record("below", Traffic(bytes_sent=3), None))
    await settle()
    await family.store.lose("top")
    held.set()
    assert (await recorded).bytes_sent == 3
    assert (await family.whole.session("middle")).quotas["bytes"].used == 3


async def test_traffic_that_is_not_taken_is_given_back(family: Family) -> None:
    """The session ends while its traffic is counted above; traffic that is known already is counted nowhere."""
    for _ in range(2):
        await family.executions.record("below", Traffic(bytes_sent=2), ONCE)
    assert await family.used("bytes") == [2, 2, 2]
    held = family.store.hold("write")
    recording = asyncio.create_task(family.executions.record("below", Traffic(bytes_sent=2), None))
    await settle()
    assert not recording.done()
    await family.sessions.end("below", ANY)
    held.set()
    with pytest.raises(FailedPrecondition) as caught:
        await recording
    assert caught.value.reason == "SESSION_ENDED"
    assert await family.used("bytes") == [2, 2, 2]


TREE = {"top": "", "left": "top", "right": "top", "leaf": "left", "twig": "leaf"}
"""Who acts for whom."""


@given(st.lists(st.sampled_from(sorted(TREE)), min_size=1, max_size=25), st.integers(0, 3))
def test_however_they_race_nobody_uses_more_than_there_is(asked: list[str], turns: int) -> None:
    """What a session has used is what was granted to it and to all below it, and never more than its quota."""

    async def race() -> None:
        store = TroubledStore(turns)
        async with gateway(store) as whole:
            family = Family(whole, store)
            for key, parent in TREE.items():
                await family.make(key, parent)
            calls = [family.executions.authorize(key, EXECUTE, "", None) for key in asked]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            granted = [key for key, answer in zip(asked, answers, strict=True) if isinstance(answer, Authorized)]
            assert len(granted) == min(len(asked), 5)
            for key in TREE:
                used = (await whole.session(key)).quotas["executions"].used
                assert used == sum(key in _line(one) for one in granted) <= 5

    asyncio.run(race())


def _line(key: str) -> list[str]:
    """Return a session and those that it acts for."""
    return [key, *_line(TREE[key])] if key else []
