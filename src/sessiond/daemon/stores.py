"""The store that the configuration names."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sessiond.app.ports.clock import Clock
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


async def open_store(config: Config, path: Path, clock: Clock, stack: AsyncExitStack) -> tuple[Store, asyncio.Event]:
    """Return the store, closed with the stack, and the event that another daemon has taken it over.

    A Redis that is away is waited for. One that cannot be used, however long one waits, is a ConfigError.
    """
    if config.store.in_memory:
        return MemoryStore(), asyncio.Event()
    try:
        # The client of Redis is an extra that a daemon without Redis does not need.
        from sessiond.store import redis_scripts  # noqa: PLC0415
        from sessiond.store.redis import RedisStore  # noqa: PLC0415
        from sessiond.store.redis_link import connect  # noqa: PLC0415

        link = connect(config.store.url, redis_scripts.ALL)
    except ImportError as error:
        raise _problem(path, "needs the package redis: install sessiond[redis]") from error
    except ValueError as error:
        raise _problem(path, f"cannot be used: {error}") from error

    def next_deadline_ms(session: Session) -> int | None:
        return deadline(session, clock.now_ms())

    name = f"{clock.number(NAMES):x}"
    store = RedisStore(link, name, next_deadline_ms, exclusive=config.store.exclusive)
    stack.push_async_callback(store.close)
    try:
        await store.open()
    except Fenced:
        raise
    except SessionError as error:
        raise _problem(path, error.text) from error
    return store, store.fenced


def _problem(path: Path, text: str) -> ConfigError:
    return ConfigError([Problem(str(path), line_of(path, KEY), KEY, text)])
