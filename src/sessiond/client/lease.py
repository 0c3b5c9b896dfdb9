"""A session for as long as somebody needs it: made, kept from expiring, and ended, by one `async with`."""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, Unpack

from sessiond.client.errors import NotFound, SessiondError, SessionEnded
from sessiond.client.values import SessionFields
from sessiond.pb.sessiond.v1 import session_pb2

if TYPE_CHECKING:
    from sessiond.client.client import Client

SHARE: Final = 3
"""It is renewed when this part of its time is over, so that several attempts remain if one fails."""
SHORTEST_S: Final = 0.05
"""Less than that before its end it cannot be renewed any more: it is at its maximum duration."""
LAST_CALL_S: Final = 5.0
"""So long the end of a session may take."""


class SessionLost(Exception):
    """The session has ended while it was needed; `why` says what became of it."""

    def __init__(self, key: str, why: SessiondError) -> None:
        super().__init__(f"session {key} is lost: {why}")
        self.key = key
        self.why = why


class Lease:
    """A session that lives as long as the block: it is touched in time, and ended when the block is left.

    If it ends nevertheless (somebody ended it, or the daemon was away for longer than its time), the block is cancelled
    and SessionLost raised.
    """

    def __init__(self, client: "Client", kind: str, fields: SessionFields) -> None:
        self._client = client
        self._kind = kind
        self._fields = fields
        self._session = session_pb2.Session()
        self._lost: SessiondError | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[object] | None = None
        self._cancelling = 0

    @property
    def key(self) -> str:
        """The key of the session."""
        return self._session.key

    @property
    def value(self) -> session_pb2.Session:
        """The session, as it was when it was last renewed or changed here."""
        return self._session

    async def update(self, **fields: Unpack[SessionFields]) -> session_pb2.Session:
        """Change the session; see `Client.update`."""
        self._session = await self._client.update(self.key, **fields)
        return self._session

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        self._cancelling = self._owner.cancelling() if self._owner else 0
        self._session = await self._client.create(self._kind, **self._fields)
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        if self._lost is None:
            await self._end(error)
            return
        others = self._owner.uncancel() if self._owner else 0
        if kind is None or (kind is asyncio.CancelledError and others <= self._cancelling):
            raise SessionLost(self.key, self._lost) from self._lost

    async def _end(self, error: BaseException | None) -> None:
        """End the session; if that fails and so did the block, the block is what is told of."""
        try:
            await self._client.end(self.key, message=type(error).__name__ if error else "", timeout_s=LAST_CALL_S)
        except (NotFound, SessionEnded):
            pass
        except SessiondError:
            if error is None:
                raise

    async def _renew(self) -> None:
        """Touch the session again and again; cancel the block if the session is lost."""
        now = asyncio.get_running_loop().time
        ttl_s, left_s = until_expiry_s(self._session), left_of(self._session)
        asked_s = now()
        try:
            while left_s is not None:
                over_s = asked_s + left_s
                await asyncio.sleep(max(left_s / SHARE, SHORTEST_S))
                asked_s = now()
                patience_s = max(over_s - asked_s, SHORTEST_S)
                self._session = await self._client.touch(self.key, ttl_s=ttl_s, timeout_s=patience_s)
                left_s = left_of(self._session)
        except SessiondError as why:
            self._lost = why
            if self._owner is not None:
                self._owner.cancel()


def until_expiry_s(session: session_pb2.Session) -> float | None:
    """Return how long a session still had when it was last used, by the daemon's clock; None if it does not expire."""
    if not session.HasField("expire_time"):
        return None
    return (session.expire_time.ToMilliseconds() - session.last_activity_time.ToMilliseconds()) / 1000


def left_of(session: session_pb2.Session) -> float | None:
    """Return how long a session goes on from its last use if nobody touches it, None if it does so for ever."""
    idle_s = session.idle_timeout.ToMilliseconds() / 1000 or None
    return min((span_s for span_s in (until_expiry_s(session), idle_s) if span_s is not None), default=None)
