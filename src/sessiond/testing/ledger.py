"""The books of a policy side: what it has taken of each session's usage, each request counted once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from sessiond.app.ports.peers import UsageReport
from sessiond.core import charging, credit
from sessiond.core.charging import Verdict
from sessiond.core.credit import Quota
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.quantity import Volume
from sessiond.core.session import Session

Entry: TypeAlias = tuple[str, int, str]
"""Session key, request number, and the key of a credit or monitor."""


class Ledger:
    """Books usage as a policy side does that tells a repeated request from a new one by its number."""

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        """How often the end of each session was heard; the same request heard again is the same end."""
        self.contradictions: list[str] = []
        """Requests that came again with other contents, or ends under other numbers; there must be none."""
        self._ends: dict[str, int] = {}
        self._credits: dict[Entry, Volume] = {}
        self._monitors: dict[Entry, Volume] = {}

    def take(self, reports: Iterable[UsageReport], answers: Mapping[str, UpdateAnswer]) -> None:
        """Book what an answer takes of the usage reports it answers."""
        for report in reports:
            answer = answers.get(report.session.key)
            if answer is None:
                continue
            refused = {reply.answer.key for reply in answer.credits if _not_taken(reply.answer)}
            taken = {reply.answer.key for reply in answer.credits} - refused
            heard = {reply.answer.key for reply in answer.monitors if reply.success and reply.answer is not None}
            heard |= {key for key, monitor in report.session.monitors.items() if _is_last(monitor)}
            self._book_reports(self._credits, report, report.session.credits, taken)
            self._book_reports(self._monitors, report, report.session.monitors, heard)

    def end(self, session: Session) -> None:
        """Book the end of a session, with all usage that was not reported before."""
        self.ended[session.key] += 1
        number = session.gateway.request_number if session.gateway else 0
        if self._ends.setdefault(session.key, number) != number:
            self.contradictions.append(f"{session.key}: ended in request {self._ends[session.key]}, now in {number}")
        for books, quotas in ((self._credits, session.credits), (self._monitors, session.monitors)):
            for key, quota in quotas.items():
                self._book(books, (session.key, number, key), credit.unreported(quota))

    def credit(self, session: str, key: str) -> Volume:
        """Return all that was taken for a charging credit."""
        return _sum(self._credits, session, key)

    def monitor(self, session: str, key: str) -> Volume:
        """Return all that was taken for a usage monitor."""
        return _sum(self._monitors, session, key)

    def _book_reports(
        self, books: dict[Entry, Volume], report: UsageReport, quotas: Mapping[str, Quota], taken: set[str]
    ) -> None:
        for key, quota in quotas.items():
            sent = quota.in_flight
            if key in taken and sent is not None and sent.number in report.numbers:
                self._book(books, (report.session.key, sent.number, key), Volume(sent.tx, sent.rx))

    def _book(self, books: dict[Entry, Volume], entry: Entry, volume: Volume) -> None:
        known = books.setdefault(entry, volume)
        if known != volume:
            self.contradictions.append(f"{entry}: {known} was reported before, now {volume}")


def _not_taken(answer: charging.CreditAnswer) -> bool:
    return charging.verdict(answer) is Verdict.INVALID


def _is_last(quota: Quota) -> bool:
    return quota.in_flight is not None and quota.in_flight.last


def _sum(books: Mapping[Entry, Volume], session: str, key: str) -> Volume:
    found = [volume for (of, _, name), volume in books.items() if (of, name) == (session, key)]
    return Volume(sum(volume.tx for volume in found), sum(volume.rx for volume in found))
