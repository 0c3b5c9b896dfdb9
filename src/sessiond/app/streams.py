"""The stream use cases: one method each, and the list of the sessions of each data source."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

import structlog
from msgspec import Struct

from sessiond.app.commit import Committer, Outcome
from sessiond.app.notifications import Notifications, Subscription
from sessiond.app.ports.offsets import StreamOffsets
from sessiond.app.ports.store import Store
from sessiond.app.situation import Circumstances
from sessiond.core.decide import registry, streams
from sessiond.core.decide.streams import NewStream, Offsets, checked
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound, PeerFailed
from sessiond.core.lifecycle import State
from sessiond.core.session import GivenTime, Session, finished
from sessiond.core.situation import Situation

log = structlog.get_logger(__name__)


class Moment(StrEnum):
    """What subscribers hear of."""

    START = "START"
    STOP = "STOP"


class Notice(Struct, frozen=True, gc=False):
    """That a session has begun or ended."""

    key: str
    data_source: str


Topic: TypeAlias = tuple[Moment, str]
"""What, and of which data source."""


class StreamIndex:
    """The keys of the stream sessions of each data source, in the order of their creation."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[str, int]] = {}
        self._last = 0

    def observe(self, outcome: Outcome) -> None:
        """Take a session that is new, or gone."""
        if outcome.before is None:
            self.take_up(outcome.after)
        elif finished(outcome.after):
            self._drop(outcome.after)

    def take_up(self, session: Session) -> None:
        """Take a session that is there."""
        identity = session.identity
        if identity is None or session.stream is None:
            return
        keys = self._numbers.setdefault(identity.data_source, {})
        late = bool(keys) and identity.number < next(reversed(keys.values()))
        keys[session.key] = identity.number
        self._last = max(self._last, identity.number)
        if late:
            ordered = sorted(keys.items(), key=lambda item: item[1])
            keys.clear()
            keys.update(ordered)

    def keys(self, data_source: str) -> list[str]:
        """Return the keys of a data source."""
        return list(self._numbers.get(data_source, ()))

    def next_number(self) -> int:
        """Return a number that is greater than all before."""
        self._last += 1
        return self._last

    def counts(self) -> dict[str, int]:
        """Return how many sessions each data source has."""
        return {data_source: len(keys) for data_source, keys in list(self._numbers.items())}

    def _drop(self, session: Session) -> None:
        data_source = session.identity.data_source if session.identity else ""
        keys = self._numbers.get(data_source, {})
        if keys.pop(session.key, None) is not None and not keys:
            del self._numbers[data_source]


def notices(outcome: Outcome) -> list[tuple[Topic, Notice]]:
    """Return what subscribers hear of an outcome: a session that is new, or one that has ended with it."""
    before, after = outcome.before, outcome.after
    if after.stream is None or after.identity is None:
        return []
    notice = Notice(after.key, after.identity.data_source)
    if before is None:
        return [((Moment.START, notice.data_source), notice)]
    if after.head.state is State.CLOSED and before.head.state is not State.CLOSED:
        return [((Moment.STOP, notice.data_source), notice)]
    return []


class StreamManager:
    """What a client of streams can ask for; a session of another kind is none to it."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        circumstances: Circumstances,
        offsets: StreamOffsets,
        queue: int,
    ) -> None:
        self._committer = committer
        self._store = store
        self._index = StreamIndex()
        self._notifications: Notifications[Topic, Notice] = Notifications(notices, queue)
        self._circumstances = circumstances
        self._offsets = offsets

    def observe(self, outcome: Outcome) -> None:
        """List a session that is new, strike off one that is gone, and tell subscribers of what begins or ends."""
        self._index.observe(outcome)
        self._notifications.observe(outcome)

    def take_up(self, session: Session) -> None:
        """List a session of an earlier run, of which nobody is told."""
        self._index.take_up(session)

    def counts(self) -> dict[str, int]:
        """Return how many sessions each data source has, ended ones too."""
        return self._index.counts()

    def subscribers(self) -> dict[Moment, int]:
        """Return how many subscribers there are, by what they hear of."""
        counts = dict.fromkeys(Moment, 0)
        for (moment, _), count in self._notifications.counts().items():
            counts[moment] += count
        return counts

    async def create(self, wanted: NewStream) -> Session:
        """Return a new session; who waits for it has been told."""
        offsets = await self._offsets.of(wanted.data_source)
        at = self._circumstances.now()
        key = self._circumstances.clock.uuid()
        session = streams.new_session(key, self._index.next_number(), wanted, offsets, at)
        await self._committer.create(session)
        await self._notifications.handed_over()
        return session

    async def end(self, key: str, terminated: GivenTime | None) -> tuple[Session, Offsets]:
        """Return a session that has ended, now or before, and the offsets of this moment; who waits has been told."""
        offsets = await self._offsets_of(await self.session(key))
        at = self._circumstances.now()

        def decide(draft: Draft) -> Session:
            streams.end(checked(draft), offsets, terminated, at)
            return draft.session()

        session = await self._committer.commit(key, decide)
        await self._notifications.handed_over()
        return session, offsets

    async def ending(
        self, session: Session, terminated: GivenTime | None, reason: str
    ) -> Callable[[Draft, Situation], None]:
        """Return the end of a session with the offsets of this moment, for somebody else to decide on."""
        offsets = await self._offsets_of(session)
        return lambda draft, at: streams.end(draft, offsets, terminated, at, reason)

    async def _offsets_of(self, session: Session) -> Offsets:
        return await self._offsets.of(session.identity.data_source if session.identity else "")

    async def session(self, key: str) -> Session:
        """Return a session."""
        stored = await self._store.get(key)
        if stored is None or stored.session.stream is None:
            raise NotFound("SESSION_NOT_FOUND", f"there is no stream session {key}")
        return stored.session

    async def streams(self, session: Session) -> tuple[str, ...]:
        """Return the streams of a session's data source: those of now or, if nobody knows, those of its beginning."""
        if session.stream is None or session.identity is None:
            return ()
        try:
            return await self._offsets.streams(session.identity.data_source)
        except PeerFailed as error:
            log.warning("streams_unknown", session=session.key, status=error.status, text=error.text)
            return session.stream.streams

    def keys(self, data_source: str) -> list[str]:
        """Return the keys of all sessions of a data source in the order of their creation, ended ones too."""
        return self._index.keys(data_source)

    async def identify(self, key: str, identifier: str) -> None:
        """Give a session another name."""
        await self._committer.commit(key, lambda draft: registry.identify(checked(draft), identifier))

    async def describe(self, key: str, details: Mapping[str, str]) -> None:
        """Merge details into those of a session."""
        await self._committer.commit(key, lambda draft: registry.describe(checked(draft), details))

    async def associate(self, key: str, other: str) -> None:
        """Tie another session to a session."""
        await self._committer.commit(key, lambda draft: registry.associate(checked(draft), other))

    def subscribe(self, moment: Moment, data_source: str) -> Subscription[Topic, Notice]:
        """Return a subscription to what begins or ends in a data source from now on."""
        return self._notifications.subscribe((moment, data_source))
