"""Metrics: what the daemon counts, for Prometheus and for `Service303.GetMetrics`.

No metric has a label per subscriber or session unless the operator asks for it.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class Metrics:
    """Implements `app.ports.telemetry.Telemetry` with a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._ignored = Counter(
            "sessiond_usage_records_ignored", "Usage records that counted nothing.", ["reason"], registry=self.registry
        )
        self._peer_failures = Counter(
            "sessiond_peer_failures", "Calls to a peer that failed.", ["peer", "status"], registry=self.registry
        )
        self._overdue = Counter(
            "sessiond_deliveries_overdue", "Effects a peer has not taken for long.", ["effect"], registry=self.registry
        )
        self._failed_rules = Counter(
            "sessiond_rules_not_installed", "Rules that pipelined could not install.", registry=self.registry
        )
        self._ready = Gauge("sessiond_ready", "1 while every listener accepts calls.", registry=self.registry)

    def usage_ignored(self, reason: str) -> None:
        """Count a usage record that counted nothing."""
        self._ignored.labels(reason).inc()

    def peer_failed(self, peer: str, status: str) -> None:
        """Count a call to a peer that failed."""
        self._peer_failures.labels(peer, status).inc()

    def rule_failed(self) -> None:
        """Count a rule that pipelined could not install."""
        self._failed_rules.inc()

    def delivery_overdue(self, effect: str) -> None:
        """Count an effect that a peer has not taken after many attempts."""
        self._overdue.labels(effect).inc()

    def is_ready(self, *, ready: bool) -> None:
        """Say whether every listener accepts calls."""
        self._ready.set(ready)

    def count_sessions(self, by_state: Callable[[], dict[str, int]]) -> None:
        """Show how many sessions there are in each state, asked for at every scrape."""
        self.registry.register(_Sessions(by_state))


class _Sessions(Collector):
    """How many sessions there are in each state."""

    def __init__(self, by_state: Callable[[], dict[str, int]]) -> None:
        self._by_state = by_state

    def collect(self) -> list[GaugeMetricFamily]:
        """Return the gauge."""
        family = GaugeMetricFamily("sessiond_sessions", "Sessions by state.", labels=["state"])
        for state, count in self._by_state().items():
            family.add_metric([state], count)
        return [family]


class MetricsServer:
    """Serves a registry over HTTP on an address of its own."""

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, host, registry)
        self.port: int = self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
