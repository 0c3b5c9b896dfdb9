"""The metrics of a Prometheus registry as `magma.orc8r.MetricsContainer`, the form in which gateways collect them."""

from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from sessiond.pb.io.prometheus.client import metrics_pb2 as prometheus
from sessiond.pb.magma.orc8r.metrics_pb2 import MetricsContainer

COUNTERS: Final = ("ue_traffic", "ue_reported_usage")
"""Counters whose names are those of the reference gateway and lack the ending by which the library knows a counter."""


def metrics_container(registry: CollectorRegistry) -> MetricsContainer:
    """Return all metrics; each sample of a histogram or summary is a family of its own, under the sample's name."""
    families: dict[str, prometheus.MetricFamily] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            family = families.setdefault(sample.name, _family(metric, sample.name))
            family.metric.append(_metric(family.type, sample))
    return MetricsContainer(family=families.values())


def _family(metric: Metric, name: str) -> prometheus.MetricFamily:
    is_counter = metric.type == "counter" or name in COUNTERS
    kind = prometheus.COUNTER if is_counter else prometheus.GAUGE
    return prometheus.MetricFamily(name=name, help=metric.documentation, type=kind)


def _metric(kind: prometheus.MetricType.ValueType, sample: Sample) -> prometheus.Metric:
    labels = [prometheus.LabelPair(name=name, value=value) for name, value in sample.labels.items()]
    if kind == prometheus.COUNTER:
        return prometheus.Metric(label=labels, counter=prometheus.Counter(value=sample.value))
    return prometheus.Metric(label=labels, gauge=prometheus.Gauge(value=sample.value))
