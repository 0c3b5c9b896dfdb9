"""A store whose writes are measured, and that knows whether the last one went through."""

import asyncio
from collections.abc import Callable, Sequence

from sessiond.app.ports.store import Count, Counted, Store, Write, Written
from sessiond.core.errors import SessionError


class MeasuredStore:
    """Implements `app.ports.store.Store` with another one, and says of each write how many seconds it took.

    Reads go straight to the other store: as a rule they are served from memory, and asking the time costs more.
    """

    def __init__(self, store: Store, took: Callable[[float], None]) -> None:
        self._store = store
        self._write = store.write
        self._took = took
        self.last_error = ""
        """Why the last write failed; empty if it did not."""
        self.get = store.get
        self.find = store.find
        self.accounts = store.accounts
        self.named = store.named
        self.load = store.load
        self.changes = store.changes
        self.close = store.close

    @property
    def epoch(self) -> int:
        """The fencing epoch of the store; 0 if it has none."""
        epoch: int = getattr(self._store, "epoch", 0)
        return epoch

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes; one that fails is measured too."""
        now = asyncio.get_running_loop().time
        started_s = now()
        try:
            written = await self._write(writes)
        except SessionError as error:
            self.last_error = error.text
            raise
        finally:
            self._took(now() - started_s)
        self.last_error = ""
        return written
