"""The feed: everybody is told everything once, whoever is slow, whenever they come, and whatever the store does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sessiond.app.commit import Outcome
from sessiond.app.feed import Beat, Complete, Feed, HistoryComplete, Item, News, Watch
from sessiond.app.ports.store import Create, Delete, Update
from sessiond.core.errors import OutOfRange, ResourceExhausted, Unavailable
from sessiond.core.session import Session
from sessiond.core.update import Put, UpdateCriteria
from sessiond.store.memory import MemoryStore
from sessiond.testing.store_contract import session
from tests.app.stores import TroubledStore

PATIENCE_S = 10.0


class Scene:
    """A store, its feed, and what is written."""

    def __init__(self, window: int = 100, heartbeat_s: float = 60.0, *, shared: bool = False) -> None:
        self.store = TroubledStore()
        self.feed = Feed(self.store, shared=shared, window=window, heartbeat_s=heartbeat_s)

    async def create(self, *numbers: int) -> list[str]:
        """Create sessions, one after the other; return their keys."""
        keys = [f"sms-{number}" for number in numbers]
        for key in keys:
            await self.store.write([Create(session(key))])
            self.feed.observe(Outcome(None, session(key)))
        return keys

    async def change(self, key: str, revision: int = 1) -> None:
        """Change a session."""
        change = UpdateCriteria({("details", "n"): Put(revision)})
        await self.store.write([Update(key, revision, change)])
        self.feed.observe(Outcome(None, session(key)))


@asynccontextmanager
async def scene(window: int = 100, heartbeat_s: float = 60.0, *, shared: bool = False) -> AsyncIterator[Scene]:
    """Give a scene, and leave nothing of it behind."""
    made = Scene(window, heartbeat_s, shared=shared)
    try:
        yield made
    finally:
        await made.feed.close()


async def taken(items: AsyncIterator[Item], count: int) -> list[Item]:
    """Return the next things that are told."""
    async with asyncio.timeout(PATIENCE_S):
        return [await anext(items) for _ in range(count)]


async def keys(items: AsyncIterator[Item], count: int) -> list[str]:
    """Return of which sessions there is news next."""
    news = await taken(items, count)
    assert all(isinstance(one, News) for one in news), news
    return [one.change.after.key for one in news if isinstance(one, News)]


async def begun(watch: Watch) -> AsyncIterator[Item]:
    """Return what is told, from now on."""
    items = aiter(watch)
    (first,) = await taken(items, 1)
    assert isinstance(first, Beat)
    return items


async def test_everybody_is_told_everything_from_their_beginning_on() -> None:
    """Those who watch are told what happens after they began, in its order, and share what is made of it."""
    async with scene() as made:
        await made.create(1)
        with made.feed.watch() as first:
            one = await begun(first)
            await made.create(2, 3)
            with made.feed.watch() as second:
                other = await begun(second)
                await made.create(4)
                assert await keys(one, 3) == ["sms-2", "sms-3", "sms-4"]
                (news,) = await taken(other, 1)
                assert isinstance(news, News)
                news.made["seen"] = True
                await made.create(5)
                assert await keys(one, 1) == await keys(other, 1) == ["sms-5"]
        assert made.feed.watchers == 0


async def test_who_comes_back_misses_nothing() -> None:
    """From every position, whether the window has it or only the store, all that follows is told once."""
    async with scene(window=10) as made:
        with made.feed.watch() as watch:
            items = await begun(watch)
            positions, everyone = list[str](), await made.create(*range(50))
            for _ in everyone:
                (news,) = await taken(items, 1)
                assert isinstance(news, News)
                positions.append(news.position)
                if len(positions) % 5 == 0:
                    await asyncio.sleep(0)
            for number in (0, 7, 30, 44, 48, 49):
                with made.feed.watch(positions[number]) as again:
                    back = await begun(again)
                    everyone += await made.create(len(everyone))
                    assert await keys(back, len(everyone) - number - 1) == everyone[number + 1 :]
                await keys(items, 1)


async def test_who_is_too_slow_is_cut_off_and_nobody_else() -> None:
    """One that does not take what it is told is ended when it is too far behind; it can go on where it was."""
    async with scene(window=10) as made:
        with made.feed.watch() as slow, made.feed.watch() as quick:
            stuck, reading = await begun(slow), await begun(quick)
            await made.create(0)
            (last,) = await taken(stuck, 1)
            assert isinstance(last, News)
            told = await keys(reading, 1)
            stopped = asyncio.Event()
            slow.when_cut_off(stopped.set)
            for number in range(1, 25):
                await made.create(number)
                told += await keys(reading, 1)
            assert stopped.is_set()
            with pytest.raises(ResourceExhausted) as caught:
                await taken(stuck, 1)
            assert caught.value.reason == "WATCHER_TOO_SLOW"
            assert made.feed.watchers == 1
            with made.feed.watch(last.position) as again:
                assert await keys(await begun(again), 24) == told[1:]


async def test_a_snapshot_and_what_happens_meanwhile() -> None:
    """What changes while a snapshot is told is told with it, once, and what follows after it."""
    async with scene() as made:
        await made.create(*range(4))
        with made.feed.watch(snapshot=True) as watch:
            items = await begun(watch)
            (first,) = await taken(items, 1)
            assert isinstance(first, Session)
            await made.change("sms-0")
            await made.change("sms-3")
            await made.create(9)
            await made.store.write([Delete("sms-1", 1)])
            rest = await taken(items, 8)
            assert [type(one) for one in rest] == [Session] * 3 + [News] * 4 + [Complete]
            assert [one.position for one in rest if isinstance(one, News)] == [""] * 4
            await made.create(10)
            assert await keys(items, 1) == ["sms-10"]


async def test_what_has_happened_comes_first_if_wanted() -> None:
    """From the oldest change that is kept or from a position on, then that this is all, then what happens."""
    async with scene(window=10) as made:
        everyone = await made.create(*range(30))
        with made.feed.watch() as watch:
            await begun(watch)
            everyone += await made.create(*range(30, 250))
            for begin, first in ("", 0), ("memory-240", 240), ("memory-250", 250):
                with made.feed.watch(begin, history=True) as late:
                    items = await begun(late)
                    assert await keys(items, 250 - first) == everyone[first:250]
                    (complete,) = await taken(items, 1)
                    assert complete == HistoryComplete("memory-250")
            everyone += await made.create(250)
            assert await keys(items, 1) == ["sms-250"]


async def test_a_history_of_nothing() -> None:
    """Where nothing has happened the history is complete at once; one whose beginning is not kept is refused."""
    async with scene() as made:
        with made.feed.watch(history=True) as watch:
            items = await begun(watch)
            assert await taken(items, 1) == [HistoryComplete("memory-0")]
            await made.create(1)
            assert await keys(items, 1) == ["sms-1"]
        made.store._memory = MemoryStore(kept=1)
        await made.create(2, 3)
        with pytest.raises(OutOfRange), made.feed.watch("memory-0", history=True) as late:
            await begun(late)


async def test_a_change_that_the_snapshot_has_is_not_told_again() -> None:
    """A session that was changed before it was told of is told of once."""
    async with scene() as made:
        await made.create(0, 1)
        with made.feed.watch(snapshot=True) as watch:
            items = await begun(watch)
            await made.change("sms-1")
            told = await taken(items, 3)
            assert [type(one) for one in told] == [Session, Session, Complete]
            await made.create(2)
            assert await keys(items, 1) == ["sms-2"]


async def test_who_hears_nothing_is_told_that_there_is_nothing() -> None:
    """After a while without news comes a beat, with a position to go on from."""
    async with scene(heartbeat_s=0.01) as made:
        with made.feed.watch() as watch:
            items = await begun(watch)
            (beat,) = await taken(items, 1)
            assert isinstance(beat, Beat)
            await made.create(1)
            with made.feed.watch(beat.position) as again:
                assert await keys(_news_only(await begun(again)), 1) == ["sms-1"]


async def test_the_store_is_away_for_a_while() -> None:
    """Nobody is told anything wrong while changes cannot be read; later everything is told."""
    async with scene() as made:
        with made.feed.watch() as watch:
            items = await begun(watch)
            await made.create(1)
            assert await keys(items, 1) == ["sms-1"]
            made.store.fail("changes", 2)
            everyone = await made.create(2, 3)
            assert await keys(items, 2) == everyone
        made.store.fail("changes")
        with pytest.raises(Unavailable), made.feed.watch() as late:
            await begun(late)


async def test_changes_that_are_lost_end_every_watch() -> None:
    """Where there may be a gap everybody is told so, and later ones begin anew."""
    async with scene() as made:
        with made.feed.watch() as watch:
            items = await begun(watch)
            await made.create(1)
            await keys(items, 1)
            made.store._memory = MemoryStore(name="another")
            await made.create(2)
            with pytest.raises(OutOfRange):
                await taken(items, 1)
        with pytest.raises(OutOfRange), made.feed.watch("memory-1") as late:
            await begun(late)
        with made.feed.watch() as anew:
            items = await begun(anew)
            await made.create(3)
            assert await keys(items, 1) == ["sms-3"]


async def test_what_others_write_is_found() -> None:
    """Of a shared store it is looked for news also if nothing was written here."""
    async with scene(shared=True) as made:
        with made.feed.watch() as watch:
            items = await begun(watch)
            await made.store.put(session("sms-7"))
            assert await keys(items, 1) == ["sms-7"]


async def _news_only(items: AsyncIterator[Item]) -> AsyncIterator[Item]:
    """Yield what is told without the beats."""
    async for item in items:
        if not isinstance(item, Beat):
            yield item


async def test_changes_that_cannot_be_read_end_every_watch() -> None:
    """What nobody had thought of is logged, and everybody who watches is told to come back."""
    async with scene() as made:
        with made.feed.watch() as watch:
            items = await begun(watch)
            await made.create(1)
            await keys(items, 1)
            memory, made.store._memory = made.store._memory, None  # type: ignore[assignment]
            made.feed.observe(Outcome(None, session("sms-1")))
            with pytest.raises(Unavailable) as caught:
                await taken(items, 1)
            assert caught.value.reason == "CHANGES_UNAVAILABLE"
            made.store._memory = memory
        with made.feed.watch() as again:
            items = await begun(again)
            await made.create(2)
            assert await keys(items, 1) == ["sms-2"]
