"""Reporting: carries the usage reports in flight to the policy side, and their answers back.

What is in flight stands on the session, with the number of its request; who is carrying it right now stands here. A
request whose outcome is unknown goes out again with the same number, so that the peer can tell it from a new one.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from sessiond.app.commit import Committer, Outcome
from sessiond.app.ports.peers import PolicyPeer, UsageReport
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.situation import Circumstances
from sessiond.core.decide import answer
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.effects import ReportUsage
from sessiond.core.errors import PeerFailed
from sessiond.core.session import RevalidationState, Session

log = structlog.get_logger(__name__)

CHUNK: Final = 500
"""Sessions in one request: far below the 4 MiB that a gRPC peer takes by default."""
CONCURRENT: Final = 4
"""Requests under way at once."""
REPEAT_AFTER_MS: Final = 2000


class Reporting:
    """Sends what is in flight and not yet on its way, in chunks."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        policy: PolicyPeer,
        circumstances: Circumstances,
        telemetry: Telemetry,
    ) -> None:
        self._committer = committer
        self._store = store
        self._policy = policy
        self._circumstances = circumstances
        self._telemetry = telemetry
        self._waiting: dict[str, None] = {}
        self._on_the_way: set[tuple[str, int]] = set()
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_planned = False

    def observe(self, outcome: Outcome) -> None:
        """Take a session that has begun reports; all of one moment go out together."""
        if any(isinstance(news, ReportUsage) for news in outcome.news):
            self.resume(outcome.after)

    def resume(self, session: Session) -> None:
        """Take a session that may have reports in flight that nobody carries."""
        self._waiting[session.key] = None
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def drain(self) -> None:
        """Return when nothing is on its way any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop; what is in flight is sent again after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush(self) -> None:
        self._flush_planned = False
        keys, self._waiting = list(self._waiting), {}
        for start in range(0, len(keys), CHUNK):
            task = asyncio.get_running_loop().create_task(self._send(keys[start : start + CHUNK]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, keys: Sequence[str]) -> None:
        async with self._slots:
            reports = [report for key in keys if (report := await self._report(key)) is not None]
            if not reports:
                return
            carried = {(report.session.key, number) for report in reports for number in report.numbers}
            self._on_the_way |= carried
            try:
                await self._exchange(reports)
            except Exception:
                log.exception("reporting_failed", sessions=len(reports))
            finally:
                self._on_the_way -= carried

    async def _report(self, key: str) -> UsageReport | None:
        """Return what a session has in flight and nobody carries."""
        stored = await self._store.get(key)
        if stored is None:
            return None
        numbers = frozenset(n for n in _in_flight(stored.session) if (key, n) not in self._on_the_way)
        return UsageReport(stored.session, numbers) if numbers else None

    async def _exchange(self, reports: Sequence[UsageReport]) -> None:
        try:
            answers = await self._policy.update(reports)
        except PeerFailed as error:
            self._telemetry.peer_failed("session_proxy", error.status)
            log.warning("usage_report_failed", sessions=len(reports), status=error.status, text=error.text)
            if error.answered:
                await self._refused(reports, error.text)
            else:
                self._repeat_later(reports)
        else:
            await self._answered(answers)

    async def _answered(self, answers: Mapping[str, UpdateAnswer]) -> None:
        at = self._circumstances.now()
        decisions = {key: partial(answer.answered, answer=reply, at=at) for key, reply in answers.items()}
        await self._committer.commit_many(decisions)

    async def _refused(self, reports: Iterable[UsageReport], text: str) -> None:
        at = self._circumstances.now()
        await self._committer.commit_many(
            {
                report.session.key: partial(answer.refused, numbers=report.numbers, status_text=text, at=at)
                for report in reports
            }
        )

    def _repeat_later(self, reports: Sequence[UsageReport]) -> None:
        """Send the same requests again in a while."""

        async def repeat() -> None:
            clock = self._circumstances.clock
            await clock.sleep_until(clock.now_ms() + REPEAT_AFTER_MS)
            for report in reports:
                self.resume(report.session)

        task = asyncio.get_running_loop().create_task(repeat())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _in_flight(session: Session) -> Iterable[int]:
    """Yield the numbers of the requests that a session waits for."""
    for quota in (*session.credits.values(), *session.monitors.values()):
        if quota.in_flight is not None:
            yield quota.in_flight.number
    revalidation = session.gateway.revalidation if session.gateway else None
    if revalidation is not None and revalidation.state is RevalidationState.SENT:
        yield revalidation.number
