"""Telemetry that can be looked at."""

from collections import Counter


class CountingTelemetry:
    """Implements `app.ports.telemetry.Telemetry` with counters by label."""

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.rules_failed = 0
        self.overdue: Counter[str] = Counter()
        self.reconciliation: Counter[str] = Counter()
        self.reports: Counter[str] = Counter()

    def usage_ignored(self, reason: str) -> None:
        """Count a usage record that counted nothing."""
        self.ignored[reason] += 1

    def peer_failed(self, peer: str, status: str) -> None:
        """Count a call to a peer that failed."""
        self.failures[peer, status] += 1

    def rule_failed(self) -> None:
        """Count a rule that could not be installed."""
        self.rules_failed += 1

    def delivery_overdue(self, effect: str) -> None:
        """Count an effect that a peer has not taken for long."""
        self.overdue[effect] += 1

    def reconciled(self, outcome: str, count: int) -> None:
        """Count sessions that the access side was asked about."""
        self.reconciliation[outcome] += count

    def usage_reports(self, outcome: str, count: int) -> None:
        """Count usage reports by what became of them."""
        self.reports[outcome] += count
