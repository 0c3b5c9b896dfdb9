"""How much is logged: as configured, or otherwise for as long as an operator wants it."""

import asyncio

import structlog

from sessiond.app.ports.clock import Clock
from sessiond.daemon import logs

log = structlog.get_logger(__name__)


class Verbosity:
    """Sets the level of the log, and sets it back when the time is over."""

    def __init__(self, clock: Clock, configured: str) -> None:
        self._clock = clock
        self._configured = configured
        self._going_back: asyncio.Task[None] | None = None

    def configure(self, level: str) -> None:
        """Take another configured level; it is in force at once."""
        self._configured = level
        self.set(None)

    def set(self, level: str | None, duration_ms: int = 0) -> str:
        """Log from this level on (None: the configured one), for so long if it is not 0; return the level until now."""
        previous, wanted = logs.level(), level or self._configured
        self._stay()
        if duration_ms:
            until_ms = self._clock.now_ms() + duration_ms
            self._going_back = asyncio.get_running_loop().create_task(self._go_back(until_ms))
        logs.set_level(wanted)
        log.info("log_level_set", to=wanted, duration_ms=duration_ms)
        return previous

    async def close(self) -> None:
        """Set nothing back any more."""
        if going_back := self._stay():
            await asyncio.gather(going_back, return_exceptions=True)

    def _stay(self) -> "asyncio.Task[None] | None":
        """Forget that the level was to be set back."""
        going_back, self._going_back = self._going_back, None
        if going_back is not None:
            going_back.cancel()
        return going_back

    async def _go_back(self, until_ms: int) -> None:
        await self._clock.sleep_until(until_ms)
        self._going_back = None
        self.set(None)
