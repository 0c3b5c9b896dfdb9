"""Stores as the tests open them."""

import os
from itertools import count
from typing import Final

from sessiond.core.session import Session
from sessiond.store import redis_scripts
from sessiond.store.redis import RedisStore
from sessiond.store.redis_link import connect

_DAEMONS: Final = count()


def deadline(session: Session) -> int | None:
    """Return the deadline that these tests let a session have."""
    return session.gateway.decide_by_ms or None if session.gateway else None


def built(url: str, *, exclusive: bool = True, watch_s: float = 60.0) -> RedisStore:
    """Return a store of a daemon of its own that is not open yet."""
    daemon = f"{os.getpid():x}.{next(_DAEMONS):x}"
    return RedisStore(connect(url, redis_scripts.ALL), daemon, deadline, exclusive=exclusive, watch_s=watch_s)


async def opened(url: str, *, exclusive: bool = True, watch_s: float = 60.0) -> RedisStore:
    """Return a store of a daemon of its own."""
    store = built(url, exclusive=exclusive, watch_s=watch_s)
    await store.open()
    return store
