"""Journal: the log says which native sessions were made and which were removed (requirement W9), many in a line.

A line for each would cost as much as making the session.
"""

import asyncio
from typing import Final

import structlog

from sessiond.app.commit import Outcome
from sessiond.core.session import finished

log = structlog.get_logger(__name__)

WAIT_S: Final = 0.05
"""How long sessions are gathered for one line."""
MOST: Final = 500
"""Sessions in one line."""


class Journal:
    """Gathers keys, and logs them soon."""

    def __init__(self) -> None:
        self._lists: dict[str, list[str]] = {}
        self._waiting: asyncio.TimerHandle | None = None

    def observe(self, outcome: Outcome) -> None:
        """Take a session that is new, or gone."""
        after = outcome.after
        if after.record is None:
            return
        if outcome.before is None:
            self._take("sessions_created", after.key)
        elif after.head.forgotten and finished(after):
            self._take("sessions_deleted", after.key)

    def close(self) -> None:
        """Log what has been gathered."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._write()

    def _take(self, event: str, key: str) -> None:
        self._lists.setdefault(event, []).append(key)
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(WAIT_S, self._write)

    def _write(self) -> None:
        self._waiting = None
        lists, self._lists = self._lists, {}
        for event, keys in lists.items():
            for start in range(0, len(keys), MOST):
                log.info(event, sessions=keys[start : start + MOST])
