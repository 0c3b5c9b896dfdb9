"""The store that the configuration names."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct

from sessiond.app.ports.clock import Clock
from sessiond.app.ports.lease import Lease
from sessiond.app.ports.store import Store
from sessiond.core.decide.tick import deadline
from sessiond.core.errors import Fenced, SessionError
from sessiond.core.session import Session
from sessiond.daemon.config import Config, ConfigError, line_of
from sessiond.daemon.yaml_reader import Problem
from sessiond.store.memory import MemoryStore

KEY: Final = "store.url"
NAMES: Final = 2**48
"""How many names there are for a daemon: none is given twice."""


class Opened(Struct, frozen=True):
    """A store, the event that another daemon has taken it over, and the lease of a store that is shared."""

    store: Store
    taken_over: asyncio.Event
    lease: Lease | None = None


async def open_store(config: Config, path: Path, clock: Clock, stack: AsyncExitStack) -> Opened:
    """Return the store, closed with the stack.

    A Redis that is away is waited for. One that cannot be used, however long one waits, is a ConfigError.
    """
    name = f"{clock.number(NAMES):x}"
    if config.store.in_memory:
        return Opened(MemoryStore(clock.now_ms, name), asyncio.Event())
    try:
        # The client of Redis is an extra that a daemon without Redis does not need.
        from sessiond.store import redis_scripts  # noqa: PLC0415
        from sessiond.store.redis import RedisStore  # noqa: PLC0415
        from sessiond.store.redis_lease import RedisLease  # noqa: PLC0415
        from sessiond.store.redis_link import connect  # noqa: PLC0415

        link = connect(config.store.url, redis_scripts.ALL)
    except ImportError as error:
        raise _problem(path, "needs the package redis: install sessiond[redis]") from error
    except ValueError as error:
        raise _problem(path, f"cannot be used: {error}") from error

    def next_deadline_ms(session: Session) -> int | None:
        return deadline(session, clock.now_ms())

    store = RedisStore(link, name, next_deadline_ms, exclusive=config.store.exclusive, now_ms=clock.now_ms)
    stack.push_async_callback(store.close)
    try:
        await store.open()
    except Fenced:
        raise
    except SessionError as error:
        raise _problem(path, error.text) from error
    lease = None if config.store.exclusive else RedisLease(link, name, config.store.lease_s, store.feed.look_over)
    return Opened(store, store.fenced, lease)


def _problem(path: Path, text: str) -> ConfigError:
    return ConfigError([Problem(str(path), line_of(path, KEY), KEY, text)])
