"""Feed: what happens to sessions, for all who watch; one reader of the store's changes, and one window for everybody.

Nobody has a queue: whoever watches has a place in the window, and one that comes back reads what it has missed from the
store until it is there. Who falls too far behind is cut off with a reason and begins again where it was; it holds
nobody up, and costs no memory but its place.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import structlog
from msgspec import Struct, structs

from sessiond.app.commit import Outcome
from sessiond.app.ports.store import Changes, Store, Told
from sessiond.core.changes import Change, Kind, kinds
from sessiond.core.errors import OutOfRange, ResourceExhausted, SessionError, Unavailable
from sessiond.core.session import Session

log = structlog.get_logger(__name__)

WINDOW: Final = 10_000
"""How far behind one may fall."""
HEARTBEAT_S: Final = 15.0
"""After how long without news one is told that there are none."""
LOOK_S: Final = 0.05
"""How often it is looked whether others have changed something."""
RETRY_S: Final = 0.5
"""How long a store that is away is left alone before it is asked again."""


class News(Struct, eq=False):
    """A change, its place among all, and what has been made of it for those who watch alike."""

    number: int
    position: str
    change: Change
    own: bool
    """Whether this daemon wrote it."""
    kinds: tuple[Kind, ...]
    made: dict[Hashable, Any]


class HistoryComplete(Struct, frozen=True):
    """What happened before one began to watch has been told, as far back as it was wanted."""

    position: str


class Beat(Struct, frozen=True):
    """There is no news; this is the place."""

    position: str


class Complete(Struct, frozen=True):
    """All sessions that there were have been told."""

    position: str


Item: TypeAlias = Session | News | Complete | HistoryComplete | Beat
"""What one who watches is told: first, if it wants, sessions that there are or what has happened, and that this is all;
then what happens."""


class Watch:
    """Everything from some place on, or from a snapshot on: enter it, iterate over it, leave it and it is gone."""

    def __init__(self, feed: "Feed", position: str, *, snapshot: bool, history: bool) -> None:
        self.cut_off: SessionError | None = None
        """Why nothing more will come, if nothing will."""
        self.seen = 0
        """Up to where it has read, by the numbers of the window."""
        self._feed = feed
        self._items = feed.items(self, position, snapshot=snapshot, history=history)
        self._waiting: asyncio.Future[None] | None = None
        self._on_cut_off: Callable[[], object] | None = None

    def __enter__(self) -> Self:
        self._feed.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._feed.remove(self)

    def __aiter__(self) -> AsyncIterator[Item]:
        return self._items

    def when_cut_off(self, call: Callable[[], object]) -> None:
        """Call this, too, when it is cut off: it may be stuck in telling somebody."""
        self._on_cut_off = call

    def end(self, error: SessionError) -> None:
        """Cut it off."""
        self.cut_off = error
        if self._waiting is not None:
            self.wake()
        elif self._on_cut_off is not None:
            self._on_cut_off()

    async def woken(self) -> None:
        """Return when there may be something new; raise what has cut it off."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
        self.check()

    def check(self) -> None:
        """Raise what has cut it off."""
        if self.cut_off is not None:
            raise self.cut_off

    def wake(self) -> None:
        """Let it look."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Feed:
    """Reads the changes of the store while anybody watches, and keeps the last ones for all of them."""

    def __init__(
        self, store: Store, *, shared: bool = False, window: int = WINDOW, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        """Of a shared store others change sessions, too: then it is looked for news again and again."""
        self._look_s = LOOK_S if shared else heartbeat_s
        self._store = store
        self._limit = window
        self._heartbeat_s = heartbeat_s
        self._window: deque[News] = deque()
        self._places: dict[str, int] = {}
        """The numbers of the positions in the window, and of the one before it."""
        self._position = ""
        self._last = 0
        self._beats = 0
        self._watches: dict[Watch, None] = {}
        self._joining: list[Watch] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def observe(self, outcome: Outcome) -> None:
        """Look for news: something was written here."""
        del outcome
        self._news.set()

    def watch(self, position: str = "", *, snapshot: bool = False, history: bool = False) -> Watch:
        """Return what happens from a position on or, without one, from now on; with its history, from the oldest on."""
        return Watch(self, position, snapshot=snapshot, history=history)

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watches)

    def add(self, watch: Watch) -> None:
        """Begin to tell one who watches."""
        self._watches[watch] = None
        watch.seen = self._last
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, watch: Watch) -> None:
        """Tell one no more; when nobody is left, nothing is read any more."""
        self._watches.pop(watch, None)
        self._news.set()

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- one who watches

    async def items(self, watch: Watch, position: str, *, snapshot: bool, history: bool) -> AsyncIterator[Item]:
        """Yield what one who watches is told."""
        place = position
        if snapshot:
            place = await self._newest()
            yield Beat("")
            told: dict[str, int] = {}
            async for stored in self._store.load():
                told[stored.session.key] = stored.revision
                yield stored.session
            async for news, here in self._until_now(place):
                place = here
                if news is not None and _is_new(news.change, told):
                    yield structs.replace(news, position="")
            yield Complete(place)
        else:
            place = place or ("" if history else await self._newest())
            await self._store.changes(place)  # refused at once if it is not kept any more
            yield Beat(place)
        if history:
            async for news, here in self._until_now(place, from_oldest=not place):
                place, watch.seen = here, self._last
                if news is not None:
                    yield news
                    watch.check()
            yield HistoryComplete(place)
        async for item in self._from(watch, place):
            yield item

    async def _from(self, watch: Watch, place: str) -> AsyncIterator[Item]:
        """Yield everything after a place: what the store has, until the window has it."""
        while (number := self._number(place)) is None:
            async for news, here in self._until_now(place):
                place, watch.seen = here, self._last
                if news is not None:
                    yield news
                    watch.check()
                if self._number(place) is not None:
                    break
            else:
                self._joining.append(watch)
                self._news.set()
                await watch.woken()
        watch.seen = number
        beats = self._beats
        while True:
            watch.check()
            if watch.seen < self._last:
                news = self._window[watch.seen - self._last]
                watch.seen += 1
                yield news
            elif beats < self._beats:
                beats = self._beats
                yield Beat(self._position)
            else:
                await watch.woken()

    async def _until_now(self, place: str, *, from_oldest: bool = False) -> AsyncIterator[tuple[News | None, str]]:
        """Yield what the store has after a place, each with its own, until there is no more."""
        more = True
        while more:
            page = await self._store.changes(place, from_oldest=from_oldest)
            for told in page.told:
                place = told.position
                yield _news(0, told), place
            if place != page.position:
                place = page.position
                yield None, place
            more = page.more

    def _number(self, place: str) -> int | None:
        """Return the number of a place that the window has."""
        number = self._places.get(place)
        return number if number is not None and number >= self._last - len(self._window) else None

    async def _newest(self) -> str:
        return (await self._store.changes()).position

    # -- the reader

    async def _run(self) -> None:
        """Read while anybody watches; then forget what was read."""
        try:
            while self._watches:
                try:
                    await self._read()
                except OutOfRange as error:
                    log.error("changes_lost", why=error.text)
                    self._begin("")
                    self._end_all(error)
                except Unavailable as error:
                    log.warning("changes_not_read", why=error.text)
                    await asyncio.sleep(RETRY_S)
        except Exception:
            log.exception("feed_failed")
            self._end_all(Unavailable("CHANGES_UNAVAILABLE", "changes cannot be read", retry_after_ms=1000))
        finally:
            self._task = None
            self._begin("")

    async def _read(self) -> None:
        """Read on until nobody watches any more."""
        if not self._position:
            self._begin(await self._newest())
            self._wake_all()
        beat_at = asyncio.get_running_loop().time() + self._heartbeat_s
        while self._watches:
            self._news.clear()
            page = await self._store.changes(self._position)
            self._take(page)
            self._let_join()
            if page.more:
                await asyncio.sleep(0)  # those who watch have their turn
            elif asyncio.get_running_loop().time() >= beat_at:
                beat_at += self._heartbeat_s
                self._beats += 1
                self._wake_all()
            else:
                await self._until_news(beat_at)

    def _let_join(self) -> None:
        """Let those look again that have read the store to its end, and were not in the window yet."""
        joining, self._joining = self._joining, []
        for watch in joining:
            watch.wake()

    async def _until_news(self, at_most: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(min(at_most, asyncio.get_running_loop().time() + self._look_s)):
                await self._news.wait()

    def _begin(self, position: str) -> None:
        """Begin the window at a position."""
        self._window.clear()
        self._position = position
        self._places = {position: self._last} if position else {}

    def _take(self, page: Changes) -> None:
        """Put a page into the window; who is too far behind is cut off."""
        for told in page.told:
            self._last += 1
            self._window.append(_news(self._last, told))
            self._places[told.position] = self._last
        if page.position not in self._places:
            self._places[page.position] = self._last
        if self._position != page.position:
            self._position = page.position
            self._trim()
            self._wake_all()

    def _trim(self) -> None:
        while len(self._window) > self._limit:
            self._window.popleft()
        if len(self._places) > 2 * self._limit:
            first = self._last - len(self._window)
            self._places = {position: number for position, number in self._places.items() if number >= first}
        for watch in [watch for watch in self._watches if self._last - watch.seen > self._limit]:
            missed = self._last - watch.seen
            text = f"too slow: {missed} events are waiting; go on with the last resume token"
            self._end(watch, ResourceExhausted("WATCHER_TOO_SLOW", text))

    def _end_all(self, error: SessionError) -> None:
        for watch in list(self._watches):
            self._end(watch, error)

    def _end(self, watch: Watch, error: SessionError) -> None:
        self._watches.pop(watch, None)
        watch.end(error)

    def _wake_all(self) -> None:
        for watch in self._watches:
            watch.wake()


def _news(number: int, told: Told) -> News:
    return News(number, told.position, told.change, told.own, kinds(told.change), {})


def _is_new(change: Change, told: dict[str, int]) -> bool:
    """Whether one who was told of sessions at these revisions has still to be told of a change; note that it is."""
    key = change.after.key
    if change.removed:
        return told.pop(key, None) is not None
    if told.get(key, 0) >= change.revision:
        return False
    told[key] = change.revision
    return True
