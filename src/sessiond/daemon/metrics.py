"""Metrics: what the daemon counts, for Prometheus and for `Service303.GetMetrics`; docs/metrics.md explains each.

No metric has a label per subscriber or session unless the operator asks for it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""From what a call costs that waits for nobody to what the MME waits for us."""

Reading = Callable[[], Mapping[Any, float]]
"""What is asked at every scrape: values by label."""


class Metrics:
    """Implements `app.ports.telemetry.Telemetry` with a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series, to no use
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._ignored = self._counter("usage_records_ignored", "Usage records that counted nothing.", "reason")
        self._reports = self._counter("usage_reports", "Usage reports of sessions to the policy side.", "outcome")
        self._peer_failures = self._counter("peer_failures", "Calls to a peer that failed.", "peer", "status")
        self._overdue = self._counter("deliveries_overdue", "Effects a peer has not taken for long.", "effect")
        self._failed_rules = self._counter("rules_not_installed", "Rules that pipelined could not install.")
        self._reconciled = self._counter(
            "sessions_reconciled", "Sessions found after a restart, by outcome.", "outcome"
        )
        self._ready = Gauge("sessiond_ready", "1 while every listener accepts calls.", registry=self.registry)
        self._rpcs = _Durations(
            "sessiond_rpc_duration_seconds",
            "How long calls took that were answered, by method and status.",
            "method",
            "code",
        )
        self._writes = _Durations("sessiond_store_write_duration_seconds", "How long writes to the store took.")
        self._writes.of()
        for durations in (self._rpcs, self._writes):
            self.registry.register(durations)

    def usage_ignored(self, reason: str) -> None:
        """Count a usage record that counted nothing."""
        self._ignored.labels(reason).inc()

    def usage_reports(self, outcome: str, count: int) -> None:
        """Count usage reports by what became of them."""
        self._reports.labels(outcome).inc(count)

    def reconciled(self, outcome: str, count: int) -> None:
        """Count sessions that the access side was asked about."""
        self._reconciled.labels(outcome).inc(count)

    def peer_failed(self, peer: str, status: str) -> None:
        """Count a call to a peer that failed."""
        self._peer_failures.labels(peer, status).inc()

    def rule_failed(self) -> None:
        """Count a rule that pipelined could not install."""
        self._failed_rules.inc()

    def delivery_overdue(self, effect: str) -> None:
        """Count an effect that a peer has not taken after many attempts."""
        self._overdue.labels(effect).inc()

    def rpc_answered(self, method: str, code: str, seconds: float) -> None:
        """Measure a call to us."""
        self._rpcs.of(method, code).add(seconds)

    def store_written(self, seconds: float) -> None:
        """Measure a write to the store."""
        self._writes.of().add(seconds)

    def is_ready(self, *, ready: bool) -> None:
        """Say whether every listener accepts calls."""
        self._ready.set(ready)

    def gauge(self, name: str, text: str, label: str, read: Reading) -> None:
        """Show values that are known anyway: they are asked for at every scrape."""
        self.registry.register(_Gauge(f"sessiond_{name}", text, label, read))

    def streams(self, sessions: Reading, subscribers: Reading) -> None:
        """Show how many sessions each data source has, under the name that is known, and who listens."""
        text = "Stream sessions that are known, ended ones too."
        self.registry.register(_Gauge("stream_api_sessions_total", text, "data_source", sessions))
        self.gauge("stream_subscribers", "Subscribers to notifications.", "notification", subscribers)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sessiond_{name}", text, labels, registry=self.registry)


class _Gauge(Collector):
    """A gauge that is read when it is asked for."""

    def __init__(self, name: str, text: str, label: str, read: Reading) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge."""
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for value, count in self._read().items():
            family.add_metric([value], count)
        yield family


class _Counts:
    """How many durations were within each bound of `BUCKETS_S`, or beyond all, and their sum (s)."""

    def __init__(self) -> None:
        self.numbers = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.numbers[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many were at most so long, for each bound."""
        bounds = (*map(floatToGoString, BUCKETS_S), "+Inf")
        return list(zip(bounds, accumulate(self.numbers), strict=True))


class _Durations(Collector):
    """A histogram of durations. That of the library locks twice for each, which costs as much as a decision."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._counts: dict[tuple[str, ...], _Counts] = {}

    def of(self, *values: str) -> _Counts:
        """Return the counts with these values of the labels."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = _Counts()
        return counts

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the histogram."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, counts in list(self._counts.items()):
            family.add_metric(values, counts.buckets(), counts.sum_s)
        yield family


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
