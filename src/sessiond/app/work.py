"""Work: what is done for sessions without anybody asking: by time, for peers, and towards the policy side.

One daemon does it for a session at a time. It can stop, and be taken up by another one, at any moment: everything it
needs stands on the sessions.
"""

import asyncio
from collections.abc import Sequence

from sessiond.app.commit import Outcome
from sessiond.app.deadlines import Deadlines
from sessiond.app.delivery import Delivery
from sessiond.app.reporting import Reporting
from sessiond.app.retention import Retention
from sessiond.app.usage import Usage
from sessiond.core.names import age
from sessiond.core.session import Session


class Work:
    """Deadlines, reports, effects and retention, together."""

    def __init__(
        self, deadlines: Deadlines, usage: Usage, reporting: Reporting, delivery: Delivery, retention: Retention
    ) -> None:
        self._deadlines = deadlines
        self._usage = usage
        self._reporting = reporting
        self._delivery = delivery
        self._retention = retention
        self._time: asyncio.Task[None] | None = None

    def observe(self, outcome: Outcome) -> None:
        """Take what was written."""
        self._deadlines.observe(outcome)
        if outcome.after.gateway is not None:
            self._reporting.observe(outcome)
            self._delivery.observe(outcome)
        self._retention.observe(outcome)

    def take_up(self, sessions: Sequence[Session]) -> None:
        """Go on with sessions where the last one stopped: their timers, their reports in flight, their effects."""
        for session in sorted(sessions, key=age):
            self._deadlines.arm(session)
            self._usage.arm(session)
            self._reporting.resume(session)
            self._delivery.resume(session)
        self._retention.take_up(sessions)

    def take_over(self, session: Session) -> None:
        """Do what another daemon has left to be done for a session; what is being done already is not begun again."""
        self._deadlines.arm(session)
        self._usage.arm(session)
        self._reporting.take_over(session)
        self._delivery.resume(session)
        self._retention.take_up([session])

    def begin(self) -> None:
        """Let time do its work, too."""
        self._time = asyncio.get_running_loop().create_task(self._deadlines.run())

    async def stop(self) -> None:
        """Stop everything, and forget it."""
        if self._time is not None:
            self._time.cancel()
            await asyncio.gather(self._time, return_exceptions=True)
        for part in (self._retention, self._reporting, self._delivery):
            await part.close()
        self._deadlines.clear()
