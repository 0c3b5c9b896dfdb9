"""What moves in from a Magma gateway: its table of sessions, held against the configured store, and the import of it.

The table is only read. What is written goes through the store of a daemon, which takes the store over like one: it must
not run meanwhile.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import structlog

from sessiond.app.ports.store import Conflict, Create, Store
from sessiond.core.rules import Catalogue
from sessiond.core.situation import Situation
from sessiond.daemon.clock import SystemClock
from sessiond.daemon.config import Config, ConfigError
from sessiond.daemon.rules import static_rules
from sessiond.daemon.settings import settings_of
from sessiond.daemon.stores import open_store
from sessiond.daemon.yaml_reader import Problem
from sessiond.translate.magma_table import Found, Refused, sessions_in

log = structlog.get_logger(__name__)

PAGE: Final = 200
ALREADY_THERE: Final = "it is in the store already"


async def found_in(url: str, table: str, config: Config, path: Path) -> list[Found | Refused]:
    """Return what the table of a Magma gateway holds; raise `Unavailable`, or ValueError for a senseless URL."""
    at = Situation(SystemClock().now_ms(), settings_of(config), await _catalogue(config, path))
    return [
        entry async for field, value in _fields(url, table) for entry in sessions_in(field, value, at.catalogue, at)
    ]


async def imported(found: list[Found], config: Config, path: Path, progress: Callable[[int], None]) -> list[Refused]:
    """Put sessions into the configured store; return those that could not be, with the reason."""
    if config.store.in_memory:
        text = "sessions in memory would be gone with this command: name the Redis that the daemon will use"
        raise ConfigError([Problem(str(path), 1, "store.url", text)])
    async with AsyncExitStack() as stack:
        store = (await open_store(config, path, SystemClock(), stack)).store
        refused: list[Refused] = []
        for start in range(0, len(found), PAGE):
            refused += await _written(store, found[start : start + PAGE])
            progress(min(start + PAGE, len(found)))
        return refused


async def _written(store: Store, found: list[Found]) -> list[Refused]:
    """Write sessions; one whose key is taken stays as it is."""
    answers = await store.write([Create(entry.session) for entry in found])
    return [
        Refused(entry.session.scope, entry.session.key, ALREADY_THERE)
        for entry, answer in zip(found, answers, strict=True)
        if isinstance(answer, Conflict)
    ]


async def _catalogue(config: Config, path: Path) -> Catalogue:
    rules = static_rules(config.policies, path)
    try:
        return await rules.read()
    finally:
        await rules.close()


async def _fields(url: str, table: str) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield the fields of a hash, each once, a page at a time."""
    # The client of Redis is an extra that a daemon without Redis does not need.
    from sessiond.store.redis_link import connect  # noqa: PLC0415

    link = connect(url, ())
    try:
        known: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, pairs = await link.ask(None, "HSCAN", table, cursor, "COUNT", PAGE)
            for field, value in zip(pairs[::2], pairs[1::2], strict=True):
                if field not in known:
                    known.add(field)
                    yield field, value
            if cursor == b"0":
                return
    finally:
        await link.close()
