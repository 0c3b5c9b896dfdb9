"""The telemetry port: what the application counts while it works; names and labels are those of the metrics."""

from typing import Protocol


class Telemetry(Protocol):
    """Where counts go; no method blocks or fails."""

    def usage_ignored(self, reason: str) -> None:
        """Count a usage record that counted nothing."""
        ...

    def peer_failed(self, peer: str, status: str) -> None:
        """Count a call to a peer that failed."""
        ...

    def rule_failed(self) -> None:
        """Count a rule that pipelined could not install."""
        ...

    def delivery_overdue(self, effect: str) -> None:
        """Count an effect that a peer has not taken after many attempts: somebody should look."""
        ...

    def reconciled(self, outcome: str, count: int) -> None:
        """Count sessions of an earlier run that the access side was asked about: `kept` or `ended`."""
        ...

    def usage_reports(self, outcome: str, count: int) -> None:
        """Count usage reports, one for each session in a request, by what became of them.

        First `sent`, then `answered`, `refused` (certainly not taken) or `in_doubt`, after which they are sent again.
        """
        ...
