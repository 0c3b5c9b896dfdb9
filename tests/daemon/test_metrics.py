"""Metrics: what subscribers moved, how many sessions there are, and what is still to be told."""

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sessiond.app.ports.store import Conflict, Create, Stored
from sessiond.app.usage import TableRow
from sessiond.core.decide.usage import DROP_RULE
from sessiond.core.errors import Unavailable
from sessiond.core.lifecycle import State
from sessiond.daemon.measured import MeasuredStore
from sessiond.daemon.metrics import Metrics
from sessiond.daemon.tally import Tally
from sessiond.daemon.traffic import TrafficOfAll, TrafficOfEach
from sessiond.northbound.gateway.exposition import metrics_container
from sessiond.pb.io.prometheus.client import metrics_pb2
from sessiond.store.memory import MemoryStore
from sessiond.testing.gateway import SimulatedGateway, row
from sessiond.testing.peers import refused, silent, unreachable
from sessiond.testing.store_contract import session
from tests.app.scenes import VIDEO, gateway, plan, ue
from tests.app.stores import TroubledStore
from tests.core.builders import grant, monitor_grant

Labels = tuple[tuple[str, str], ...]
Traffic = TrafficOfAll | TrafficOfEach
UP, DOWN = ("direction", "up"), ("direction", "down")


def samples(registry: CollectorRegistry, name: str) -> dict[Labels, float]:
    """Return the samples of a name as Prometheus reads them, by their labels."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def shown(traffic: Traffic, name: str) -> dict[Labels, float]:
    """Return what a traffic collector shows under a name."""
    registry = CollectorRegistry()
    registry.register(traffic)
    return samples(registry, name)


def watched(traffic: Traffic | Tally, **fields: Any) -> SimulatedGateway:
    """Return a gateway whose changes a collector hears of."""
    whole = gateway(**fields)
    whole.application.committer.observe(traffic.observe)
    if not isinstance(traffic, Tally):
        whole.application.committer.observe_traffic(traffic.observe_traffic)
    return whole


async def test_g11_an_octet_counts_once_whoever_counts_it() -> None:
    """G11: traffic that a credit, a monitor and the session's monitor count is in ue_traffic once.

    reference: MeteringReporterTest.test_reporting, SessionStoreTest.test_metering_reporting.
    """
    traffic = TrafficOfAll()
    async with watched(traffic) as whole:
        monitors = [monitor_grant("m"), monitor_grant("all")]
        whole.policy.script("create", plan("mixed", "free", credits_=[grant("1", 10**6)], monitors=monitors))
        await whole.attach(ue())
        await whole.report(row(ue(), "mixed", 1, tx=5, rx=7), row(ue(), "free", 1, tx=1, rx=2))
        await whole.report(row(ue(), "mixed", 1, tx=6, rx=9), row(ue(), "free", 1, tx=1, rx=2))
    assert shown(traffic, "ue_traffic") == {(UP,): 7, (DOWN,): 11}
    assert shown(traffic, "ue_reported_usage") == {(UP,): 7, (DOWN,): 11}


async def test_what_was_not_let_through_is_no_traffic() -> None:
    """Dropped octets of rules and of the default drop flow are a gauge of their own."""
    traffic = TrafficOfAll()
    async with watched(traffic) as whole:
        whole.policy.script("create", VIDEO)
        await whole.attach(ue())
        of = (ue().subscriber, ue().ue_ipv4, "", 0)
        rows = [TableRow(*of, "video", 1, 10, 0, 3, 4), TableRow(*of, DROP_RULE, 0, 0, 0, 100)]
        await whole.report(*rows)
        await whole.report(*rows)
    assert shown(traffic, "ue_traffic") == {(UP,): 10, (DOWN,): 0}
    assert shown(traffic, "ue_dropped_usage") == {(UP,): 103, (DOWN,): 4}


async def test_series_of_each_session_have_the_labels_of_the_reference() -> None:
    """Per subscriber, ue_traffic is shown by session, the others by APN; sessions of one APN share those."""
    traffic = TrafficOfEach()
    async with watched(traffic) as whole:
        first, second = ue(apn="internet"), ue(apn="ims")
        whole.policy.usually("create", VIDEO)
        keys = [await whole.attach(first), await whole.attach(second)]
        versions = [(await whole.session(key)).rules["video"].version for key in keys]
        await whole.report(row(first, "video", versions[0], tx=5, rx=7), row(second, "video", versions[1], tx=1))
    who = ("IMSI", first.subscriber)
    assert shown(traffic, "ue_traffic") == {
        (who, UP, ("session_id", keys[0])): 5,
        (who, DOWN, ("session_id", keys[0])): 7,
        (who, UP, ("session_id", keys[1])): 1,
        (who, DOWN, ("session_id", keys[1])): 0,
    }
    assert shown(traffic, "ue_reported_usage") == {
        (who, ("apn", "internet"), UP): 5,
        (who, ("apn", "internet"), DOWN): 7,
        (who, ("apn", "ims"), UP): 1,
        (who, ("apn", "ims"), DOWN): 0,
    }
    assert set(shown(traffic, "ue_dropped_usage")) == set(shown(traffic, "ue_reported_usage"))


async def test_series_of_a_session_go_when_it_is_over() -> None:
    """An ended session has no series any more; what it shares with a newer one of its APN stays."""
    traffic = TrafficOfEach()
    async with watched(traffic) as whole:
        whole.policy.usually("create", VIDEO)
        await whole.attach(ue())
        await whole.report(row(ue(), "video", 1, tx=5))
        again = ue(msisdn="other")
        key = await whole.attach(again)
        version = (await whole.session(key)).rules["video"].version
        await whole.report(row(again, "video", version, tx=2))
        await whole.report(row(again, "video", version, tx=2))
        who = ("IMSI", ue().subscriber)
        assert set(shown(traffic, "ue_traffic")) == {(who, UP, ("session_id", key)), (who, DOWN, ("session_id", key))}
        assert shown(traffic, "ue_reported_usage")[who, ("apn", "internet"), UP] == 7
        await whole.detach(again)
        await whole.report()
    assert shown(traffic, "ue_traffic") == {}
    assert shown(traffic, "ue_reported_usage") == {}


async def test_a_restart_goes_on_with_what_was_counted() -> None:
    """Per subscriber, a series begins with all its session has used; the sum of all begins at zero.

    reference: session.md 13.
    """
    store = MemoryStore()
    async with gateway(store) as whole:
        whole.policy.script("create", VIDEO)
        key = await whole.attach(ue())
        await whole.report(row(ue(), "video", 1, tx=5, rx=7))
    each, everyone = TrafficOfEach(), TrafficOfAll()
    async for stored in store.load():
        each.take_up(stored.session)
        everyone.take_up(stored.session)
    assert shown(each, "ue_traffic")[("IMSI", ue().subscriber), UP, ("session_id", key)] == 5
    assert shown(everyone, "ue_traffic") == {(UP,): 0, (DOWN,): 0}


async def test_sessions_of_other_kinds_have_no_traffic() -> None:
    """Without a subscriber there is nobody to show a series of."""
    traffic = TrafficOfEach()
    traffic.take_up(type(session())(key="s", type="stream", scope="s", head=session().head))
    assert shown(traffic, "ue_traffic") == {}


@pytest.mark.parametrize("kind", [TrafficOfAll, TrafficOfEach])
async def test_orchestrators_get_the_names_and_kinds_of_the_reference(kind: Callable[[], Traffic]) -> None:
    """In GetMetrics, as in the reference, two are counters and one is a gauge."""
    traffic = kind()
    async with watched(traffic) as whole:
        whole.policy.script("create", VIDEO)
        await whole.attach(ue())
        await whole.report(row(ue(), "video", 1, tx=5))
    registry = CollectorRegistry()
    registry.register(traffic)
    families = {family.name: family for family in metrics_container(registry).family}
    assert {name: family.type for name, family in families.items()} == {
        "ue_traffic": metrics_pb2.COUNTER,
        "ue_reported_usage": metrics_pb2.COUNTER,
        "ue_dropped_usage": metrics_pb2.GAUGE,
    }
    assert families["ue_traffic"].metric[0].counter.value == 5


async def test_sessions_and_what_is_owed_are_tallied() -> None:
    """States and effects to be told go up and down with the sessions."""
    tally = Tally()
    async with watched(tally) as whole:
        whole.policy.script("create", VIDEO)
        held = whole.data_plane.hold("activate")
        await whole.attach(ue())
        assert tally.states()[State.ACTIVE] == 1
        owed = tally.pending()["pipelined"]
        assert owed > 0
        restarted = Tally()
        for stored in [stored async for stored in whole.store.load()]:
            restarted.take_up(stored.session)
        assert (restarted.pending()["pipelined"], restarted.states()) == (owed, {State.ACTIVE: 1})
        held.release(())
        await whole.settle()
        assert tally.pending()["pipelined"] == 0
        await whole.detach(ue())
        await whole.report()
    assert set(tally.states().values()) == {0}
    assert set(tally.pending().values()) == {0}


async def test_usage_reports_are_counted_by_what_became_of_them() -> None:
    """Each report that is sent is answered, refused or in doubt."""
    async with gateway() as whole:
        whole.policy.script("create", VIDEO)
        whole.policy.script("update", silent(), refused(), unreachable())
        await whole.attach(ue())
        await whole.report(row(ue(), "video", 1, tx=900))
        await whole.advance(60_000)
        await whole.report(row(ue(), "video", 1, tx=950))
        counted = whole.telemetry.reports
        assert counted["sent"] == counted["answered"] + counted["refused"] + counted["in_doubt"]
        assert (counted["answered"], counted["in_doubt"]) == (1, 3)


def test_what_is_counted_is_shown() -> None:
    """Each thing that the application counts has its metric."""
    metrics = Metrics()
    metrics.usage_ignored("RULE_UNKNOWN")
    metrics.usage_reports("sent", 500)
    metrics.peer_failed("pipelined", "UNAVAILABLE")
    metrics.rule_failed()
    metrics.delivery_overdue("TerminateSession")
    metrics.is_ready(ready=True)
    metrics.gauge("sessions", "Sessions by state.", "state", lambda: {State.ACTIVE: 3})
    metrics.rpc_answered("a.B/C", "OK", 0.002)
    metrics.rpc_answered("a.B/C", "OK", 20)
    metrics.store_written(0.3)
    expected: dict[str, dict[Labels, float]] = {
        "sessiond_usage_records_ignored_total": {(("reason", "RULE_UNKNOWN"),): 1},
        "sessiond_usage_reports_total": {(("outcome", "sent"),): 500},
        "sessiond_peer_failures_total": {(("peer", "pipelined"), ("status", "UNAVAILABLE")): 1},
        "sessiond_rules_not_installed_total": {(): 1},
        "sessiond_deliveries_overdue_total": {(("effect", "TerminateSession"),): 1},
        "sessiond_ready": {(): 1},
        "sessiond_sessions": {(("state", "ACTIVE"),): 3},
        "sessiond_rpc_duration_seconds_count": {(("code", "OK"), ("method", "a.B/C")): 2},
        "sessiond_store_write_duration_seconds_count": {(): 1},
    }
    assert {name: samples(metrics.registry, name) for name in expected} == expected
    within = samples(metrics.registry, "sessiond_rpc_duration_seconds_bucket")
    assert within[("code", "OK"), ("le", "0.0025"), ("method", "a.B/C")] == 1
    assert samples(metrics.registry, "process_resident_memory_bytes")


async def test_writes_to_the_store_are_measured() -> None:
    """A measured store does what the store does, and each write is timed, also one that fails."""
    took: list[float] = []
    troubled = TroubledStore()
    store = MeasuredStore(troubled, took.append)
    assert await store.write([Create(session())]) == [Stored(session(), 1)]
    assert await store.write([Create(session())]) == [Conflict()]
    assert await store.get(session().key) == Stored(session(), 1)
    assert await store.find(session().scope) == [Stored(session(), 1)]
    troubled.fail("write")
    with pytest.raises(Unavailable):
        await store.write([])
    assert len(took) == 3
