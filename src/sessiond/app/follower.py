"""Follower: lets a daemon hear of what the others over the same store write, as if it had written it itself.

It hears of what those who watch are told of, a moment later; not of what is only counted.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from sessiond.app.commit import Audience, Outcome
from sessiond.app.feed import Complete, Feed, News, Watch
from sessiond.core.errors import SessionError
from sessiond.core.session import Session

log = structlog.get_logger(__name__)


class Follower:
    """Watches everything, and tells observers of what is new to this daemon."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._audience = Audience()
        self.observe = self._audience.add
        """Tell an observer of every change that another daemon makes."""
        self._task: asyncio.Task[None] | None = None

    async def start(self, found: Callable[[Session], None]) -> None:
        """Tell `found` of every session that there is, and the observers of what happens after that."""
        taken_up = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._run(found, taken_up))
        await asyncio.wait({self._task, taken_up}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with suppress(SessionError):
                await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, found: Callable[[Session], None], taken_up: "asyncio.Future[None]") -> None:
        await self._follow(self._feed.watch(snapshot=True), found, taken_up)
        while True:  # it was cut off: what was missed shows when it changes again
            await self._follow(self._feed.watch(), found, taken_up)

    async def _follow(self, watch: Watch, found: Callable[[Session], None], taken_up: "asyncio.Future[None]") -> None:
        try:
            with watch:
                async for item in watch:
                    match item:
                        case Session():
                            found(item)
                        case News(own=False):
                            self._audience.tell(Outcome(item.change.before, item.change.after))
                        case Complete():
                            taken_up.set_result(None)
        except SessionError as error:
            if not taken_up.done():
                raise
            log.error("changes_of_others_missed", why=error.text)
            await asyncio.sleep(1.0)
