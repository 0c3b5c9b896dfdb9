"""Notifications: tells subscribers what has been written, in the order in which it was, and waits for none of them.

Each subscriber has a queue of its own. One that does not keep up is cut off when its queue is full, with a reason; what
it has not taken by then it will never get, so that nobody mistakes a gap for silence.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import Final, Generic, TypeVar

from sessiond.app.commit import Outcome
from sessiond.core.errors import ResourceExhausted, SessionError

Topic = TypeVar("Topic", bound=Hashable)
Item = TypeVar("Item")

QUEUE: Final = 10_000
"""How far a subscriber may fall behind, if nobody says otherwise."""


class Subscription(Generic[Topic, Item]):
    """What one subscriber is still to be told: enter it, iterate over it, leave it and it is gone."""

    def __init__(self, hub: "Notifications[Topic, Item]", topic: Topic, limit: int) -> None:
        self.cut_off: SessionError | None = None
        """Why nothing more will come, if nothing will."""
        self._hub = hub
        self._topic = topic
        self._limit = limit
        self._items: deque[Item] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._on_cut_off: Callable[[], object] | None = None

    def __enter__(self) -> "Subscription[Topic, Item]":
        self._hub.add(self._topic, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hub.remove(self._topic, self)

    def __aiter__(self) -> "Subscription[Topic, Item]":
        return self

    async def __anext__(self) -> Item:
        """Return the oldest item that is left, as soon as there is one; raise what has cut the subscriber off."""
        while not self._items:
            if self.cut_off is not None:
                raise self.cut_off
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._items.popleft()

    def when_cut_off(self, call: Callable[[], object]) -> None:
        """Call this, too, when the subscriber is cut off: it may be stuck in telling somebody else."""
        self._on_cut_off = call

    def push(self, item: Item) -> None:
        """Take an item; a queue that is full ends the subscription."""
        if len(self._items) < self._limit:
            self._items.append(item)
            self._wake()
        else:
            text = f"{self._limit} notifications are waiting: too slow a subscriber; subscribe again"
            self._cut_off(ResourceExhausted("SUBSCRIBER_TOO_SLOW", text))

    def _cut_off(self, error: SessionError) -> None:
        self.cut_off = error
        self._items.clear()
        self._hub.remove(self._topic, self)
        if self._waiting is not None:
            self._wake()
        elif self._on_cut_off is not None:
            self._on_cut_off()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Notifications(Generic[Topic, Item]):
    """The hub: `sort` says of each outcome who is told what."""

    def __init__(self, sort: Callable[[Outcome], Iterable[tuple[Topic, Item]]], limit: int = QUEUE) -> None:
        self._sort = sort
        self._limit = limit
        self._subscribers: dict[Topic, dict[Subscription[Topic, Item], None]] = {}

    def counts(self) -> dict[Topic, int]:
        """Return how many subscribers each topic has that has any."""
        return {topic: len(subscribers) for topic, subscribers in list(self._subscribers.items())}

    def subscribe(self, topic: Topic) -> Subscription[Topic, Item]:
        """Return a subscription to a topic; it begins when it is entered."""
        return Subscription(self, topic, self._limit)

    def observe(self, outcome: Outcome) -> None:
        """Tell those who want to know of an outcome."""
        if self._subscribers:
            for topic, item in self._sort(outcome):
                for subscription in list(self._subscribers.get(topic, ())):
                    subscription.push(item)

    async def handed_over(self) -> None:
        """Return when every subscriber that waited has taken what it was told, and all who can write have begun to.

        Tasks run in the order in which they were woken: those that `observe` woke are before us.
        """
        if self._subscribers:
            await asyncio.sleep(0)

    def add(self, topic: Topic, subscription: Subscription[Topic, Item]) -> None:
        """Begin to tell a subscriber."""
        self._subscribers.setdefault(topic, {})[subscription] = None

    def remove(self, topic: Topic, subscription: Subscription[Topic, Item]) -> None:
        """Tell a subscriber no more; one that is gone already is none."""
        subscribers = self._subscribers.get(topic, {})
        if subscription in subscribers:
            del subscribers[subscription]
            if not subscribers:
                del self._subscribers[topic]
