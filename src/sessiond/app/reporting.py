"""Reporting: carries the usage reports in flight to the policy side, and their answers back.

What is in flight stands on the session, with the number of its request; who is carrying it right now stands here. A
request whose outcome is unknown goes out again with the same number, so that the peer can tell it from a new one; it
stays in doubt until the peer has taken it, because only then is it certain that nothing is counted twice.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import structlog

from sessiond.app.commit import Committer, Decision, Outcome
from sessiond.app.ports.peers import PolicyPeer, UpdateRequest, UsageReport
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.situation import Circumstances
from sessiond.core.decide import answer
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.effects import ReportUsage
from sessiond.core.errors import Fenced, PeerFailed, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Session

log = structlog.get_logger(__name__)

CONCURRENT: Final = 4
"""Requests under way at once."""
AT_ONCE: Final = 50
"""Sessions whose answers are taken in one go before others get their turn."""
FIRST_REPEAT_MS: Final = 2000
LAST_REPEAT_MS: Final = 30_000
MAX_REPEATS: Final = 20
"""So often a request in doubt is repeated though the peer refuses it; then it counts as not carried out."""


Request: TypeAlias = tuple[str, int]
"""A session key and the number of a request."""


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
        self._on_the_way: set[Request] = set()
        self._in_doubt: dict[Request, int] = {}
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_planned = False
        self.may: Callable[[], bool] = lambda: True
        """Whether reports may be sent from here at this moment."""

    def observe(self, outcome: Outcome) -> None:
        """Take a session that has begun reports; all of one moment go out together."""
        if any(isinstance(news, ReportUsage) for news in outcome.news):
            self._take(outcome.after.key)

    def resume(self, session: Session) -> None:
        """Take a session that had reports in flight when the daemon stopped: whether they got through is in doubt."""
        numbers = in_flight(session)
        self._in_doubt |= {(session.key, number): 0 for number in numbers}
        if numbers:
            self._take(session.key)

    def take_over(self, session: Session) -> None:
        """Take a session that has begun reports through another daemon, which has sent none of them."""
        if in_flight(session):
            self._take(session.key)

    def _take(self, key: str) -> None:
        self._waiting[key] = None
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
        for known in (self._waiting, self._on_the_way, self._in_doubt):
            known.clear()

    def _flush(self) -> None:
        self._flush_planned = False
        keys, self._waiting = list(self._waiting), {}
        size = self._circumstances.settings.usage_report_max_sessions
        for start in range(0, len(keys), size):
            task = asyncio.get_running_loop().create_task(self._send(keys[start : start + size]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, keys: Sequence[str]) -> None:
        async with self._slots:
            reports = await self._reports(keys)
            if not reports or not self.may():
                return
            left, again = reports, list[UsageReport]()
            try:
                for request in self._policy.requests(reports, self._circumstances.settings.usage_report_max_bytes):
                    again += await self._exchange(request)
                    left = left[len(request.reports) :]
            except Fenced:
                return  # who has taken over sends them again
            except Unavailable as error:
                log.warning("answers_wait_for_store", sessions=len(reports), text=error.text)
                again = self._doubt(reports)
            except Exception:
                log.exception("reporting_failed", sessions=len(left))
                again += self._doubt(left)
            finally:
                self._on_the_way.difference_update(*map(_requests, reports))
            if again:
                self._telemetry.usage_reports("in_doubt", len(again))
                self._repeat_later(again)

    async def _reports(self, keys: Sequence[str]) -> list[UsageReport]:
        """Return what sessions have in flight and nobody carries, and carry it; what cannot be read is taken later."""
        reports = list[UsageReport]()
        for index, key in enumerate(keys):
            try:
                report = await self._report(key)
            except Unavailable as error:
                log.warning("reports_wait_for_store", sessions=len(keys) - index, text=error.text)
                self._take_later(keys[index:], FIRST_REPEAT_MS)
                break
            except Fenced:
                break  # who has taken over sends them
            if report is not None:
                reports.append(report)
                self._on_the_way.update(_requests(report))
        return reports

    async def _report(self, key: str) -> UsageReport | None:
        stored = await self._store.get(key)
        if stored is None or not (waited_for := in_flight(stored.session)):
            self._settled([request for request in self._in_doubt if request[0] == key])
            return None
        numbers = frozenset(number for number in waited_for if (key, number) not in self._on_the_way)
        return UsageReport(stored.session, numbers) if numbers else None

    async def _exchange(self, request: UpdateRequest) -> list[UsageReport]:
        """Send reports and apply the answers; return those that are to be repeated."""
        reports = request.reports
        self._telemetry.usage_reports("sent", len(reports))
        try:
            answers = await request.send()
        except PeerFailed as error:
            self._telemetry.peer_failed("session_proxy", error.status)
            log.warning("usage_report_failed", sessions=len(reports), status=error.status, text=error.text)
            if not error.answered:
                return self._doubt(reports)
            doubtful = [report for report in reports if self._is_in_doubt(report)]
            again = [report for report in self._doubt(doubtful) if self._repeats(report) <= MAX_REPEATS]
            return again + await self._refused([report for report in reports if report not in again], error.text)
        return await self._answered([report for report in reports if report.session.key in answers], answers)

    async def _answered(self, reports: Sequence[UsageReport], answers: Mapping[str, UpdateAnswer]) -> list[UsageReport]:
        self._telemetry.usage_reports("answered", len(reports))
        at = self._circumstances.now()
        return await self._settle(
            reports, {key: partial(answer.answered, answer=reply, at=at) for key, reply in answers.items()}
        )

    async def _refused(self, reports: Sequence[UsageReport], text: str) -> list[UsageReport]:
        self._telemetry.usage_reports("refused", len(reports))
        at = self._circumstances.now()
        return await self._settle(
            reports,
            {
                report.session.key: partial(answer.refused, numbers=report.numbers, status_text=text, at=at)
                for report in reports
            },
        )

    async def _settle(
        self, reports: Sequence[UsageReport], decisions: Mapping[str, Decision[None]]
    ) -> list[UsageReport]:
        """Write what became of reports; return those for which it could not be written, to be asked about again."""
        written: dict[str, None] = {}
        keys = list(decisions)
        for start in range(0, len(keys), AT_ONCE):
            some = {key: decisions[key] for key in keys[start : start + AT_ONCE]}
            written |= await self._committer.commit_many(some)
            await asyncio.sleep(0)
        self._settled(request for report in reports if report.session.key in written for request in _requests(report))
        return self._doubt([report for report in reports if report.session.key not in written])

    def _doubt(self, reports: Sequence[UsageReport]) -> list[UsageReport]:
        """Note that it is not known whether these got through; return them."""
        for report in reports:
            for request in _requests(report):
                self._in_doubt[request] = self._in_doubt.get(request, 0) + 1
        return list(reports)

    def _is_in_doubt(self, report: UsageReport) -> bool:
        return any(request in self._in_doubt for request in _requests(report))

    def _repeats(self, report: UsageReport) -> int:
        return max(self._in_doubt.get(request, 0) for request in _requests(report))

    def _settled(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self._in_doubt.pop(request, None)

    def _repeat_later(self, reports: Sequence[UsageReport]) -> None:
        """Send the same requests again in a while, the later the more often it has been tried."""
        attempts = max(self._repeats(report) for report in reports)
        wait_ms = min(LAST_REPEAT_MS, FIRST_REPEAT_MS * 2 ** min(attempts - 1, 10))
        self._take_later([report.session.key for report in reports], wait_ms)

    def _take_later(self, keys: Iterable[str], wait_ms: int) -> None:
        async def take() -> None:
            clock = self._circumstances.clock
            await clock.sleep_until(clock.now_ms() + wait_ms)
            for key in keys:
                self._take(key)

        task = asyncio.get_running_loop().create_task(take())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _requests(report: UsageReport) -> list[Request]:
    return [(report.session.key, number) for number in report.numbers]


def in_flight(session: Session) -> set[int]:
    """Return the numbers of the requests that a session waits for; one that is over waits for none."""
    if session.gateway is None or session.head.state is State.CLOSED:
        return set()
    quotas = (*session.credits.values(), *session.monitors.values())
    numbers = {quota.in_flight.number for quota in quotas if quota.in_flight is not None}
    if session.gateway.revalidation is not None and session.gateway.revalidation.number:
        numbers.add(session.gateway.revalidation.number)
    return numbers
