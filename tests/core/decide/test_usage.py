"""Usage: what cumulative counters add to the quotas of a session (session.md section 6)."""

from collections.abc import Sequence

import pytest

from sessiond.core.charging import CreditAnswer, Service
from sessiond.core.credit import Quota
from sessiond.core.decide import flows, reauth
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.decide.usage import DROP_RULE, Ignored, UsageRecord, owns
from sessiond.core.monitors import Level
from sessiond.core.quantity import GrantedUnits
from sessiond.core.rules import Seen
from tests.core.builders import (
    Life,
    asked,
    both,
    dynamic,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)


def metered(version: int = 1) -> Life:
    """Return a session with one rule of rating group 1 that has come to this version."""
    life = started(situation(ocs("rule1", 1)), credits_=[grant(total=10**6)], installs=static("rule1"))
    while life.rule("rule1").version < version:
        life.decide(lambda draft: draft.set("rules", "rule1", version=draft.rules["rule1"].version + 1))
    return life


def used(quota: Quota) -> tuple[int, int]:
    """Return what is used: rx, tx, as the examples have it."""
    return quota.used_rx, quota.used_tx


def seen(life: Life, *records: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Return the totals (rx, tx) after each record of rule1: version, rx, tx."""
    totals = []
    for version, rx, tx in records:
        life.use("rule1", tx, rx, version=version)
        totals.append(used(life.credit()))
    return totals


@pytest.mark.parametrize(
    ("records", "totals"),
    [
        (
            [(1, 15, 30), (1, 10, 20), (2, 40, 90), (2, 16, 24), (3, 50, 100), (3, 25, 60)],
            [(15, 30), (15, 30), (55, 120), (55, 120), (105, 220), (105, 220)],
        ),
        (
            [(1, 15, 30), (1, 20, 45), (2, 10, 80), (3, 40, 100), (1, 31, 51), (2, 15, 95)],
            [(15, 30), (20, 45), (30, 125), (70, 225), (70, 225), (70, 225)],
        ),
        ([(2, 10, 10), (1, 50, 50)], [(10, 10), (10, 10)]),
        ([(4, 10, 10), (3, 1, 1)], [(0, 0), (1, 1)]),
        ([(0, 10, 10)], [(0, 0)]),
        ([(1, 0, 0), (1, 5, 0), (1, 5, 0)], [(0, 0), (5, 0), (5, 0)]),
        ([(1, 5, 9), (1, 6, 8)], [(5, 9), (5, 9)]),
    ],
)
def test_what_cumulative_counters_add(records: Sequence[tuple[int, int, int]], totals: list[tuple[int, int]]) -> None:
    """A newer version counts from zero; older versions, too new ones and counters that go back count nothing.

    reference: LocalEnforcerTest.test_erroneous_data, test_old_version_reporting, test_update_version_reporting.
    """
    assert seen(metered(3), *records) == totals


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (UsageRecord("other", 1, 5, 5), Ignored.RULE_UNKNOWN),
        (UsageRecord("rule1", 3, 5, 5), Ignored.VERSION_UNKNOWN),
        (UsageRecord("rule1", 1, 50, 50), Ignored.VERSION_OUTDATED),
        (UsageRecord("rule1", 2, 9, 20), Ignored.COUNTER_DECREASED),
        (UsageRecord("rule1", 2, 20, 9), Ignored.COUNTER_DECREASED),
    ],
)
def test_what_counts_nothing_is_said_with_its_reason(record: UsageRecord, why: Ignored) -> None:
    """A record that is ignored leaves the session as it was, and is returned with the reason."""
    life = metered(2)
    life.use("rule1", 10, 10)
    before = life.session
    assert life.count(record) == [(record, why)]
    assert life.session == before


def test_a_repeated_record_changes_nothing() -> None:
    """The same table a second time writes nothing and is no mistake."""
    life = metered()
    life.use("rule1", 10, 10)
    before = life.session
    assert life.use("rule1", 10, 10) == []
    assert life.session is before


def test_versions_of_one_table_are_counted_in_their_order() -> None:
    """A table that names the newer version first loses nothing of the older one.

    reference: LocalEnforcerTest.test_multi_version_reporting.
    """
    life = metered(3)
    assert life.count(UsageRecord("rule1", 2, 80, 10), UsageRecord("rule1", 1, 45, 20)) == []
    assert used(life.credit()) == (30, 125)


def test_ip_versions_are_counted_apart() -> None:
    """IPv4 and IPv6 have counters of their own, which add up on the credit.

    reference: LocalEnforcerTest.test_aggregate_records_mixed_ips.
    """
    life = metered()
    life.count(UsageRecord("rule1", 1, 20, 10), UsageRecord("rule1", 1, 15, 5, ipv6=True))
    assert used(life.credit()) == (15, 35)
    assert life.use("rule1", 16, 5, ipv6=True) == []
    assert used(life.credit()) == (15, 36)
    assert (life.rule("rule1").seen_ipv4, life.rule("rule1").seen_ipv6) == (Seen(1, 20, 10), Seen(1, 16, 5))


def test_dropped_traffic_is_nobodys() -> None:
    """The default drop flow is reported under a rule that no session has; that is no mistake."""
    life = metered()
    before = life.session
    assert life.count(UsageRecord(DROP_RULE, 0, 500, 500)) == []
    assert life.session is before


@pytest.mark.parametrize(
    ("records", "dropped"),
    [
        ([(10, 5)], (10, 5)),
        ([(10, 5), (10, 5), (30, 5)], (30, 5)),
        ([(10, 5), (2, 7), (3, 8)], (11, 8)),
        ([(0, 0)], None),
    ],
)
def test_what_no_rule_lets_pass_adds_up(records: Sequence[tuple[int, int]], dropped: tuple[int, int] | None) -> None:
    """What the default drop flow dropped stands under its own name; a flow that was made anew counts on."""
    life = metered()
    for tx, rx in records:
        life.count(UsageRecord(DROP_RULE, 0, 0, 0, dropped_tx=tx, dropped_rx=rx))
    rule = life.session.rules.get(DROP_RULE)
    assert (rule and (rule.dropped_tx, rule.dropped_rx)) == dropped
    assert used(life.credit()) == (0, 0)


def test_what_a_rule_dropped_is_no_usage() -> None:
    """Octets that were not let through are kept with the rule, by version and in all, and count on no quota."""
    life = metered(2)
    life.count(UsageRecord("rule1", 1, 10, 5, dropped_tx=3, dropped_rx=1))
    life.count(UsageRecord("rule1", 1, 10, 5, dropped_tx=9, dropped_rx=1))
    life.count(UsageRecord("rule1", 2, 0, 0, dropped_tx=4))
    rule = life.rule("rule1")
    assert (rule.seen_ipv4, rule.dropped_tx, rule.dropped_rx) == (Seen(2, 0, 0, 4, 0), 13, 1)
    assert used(life.credit()) == (5, 10)


def test_what_a_rule_moved_is_counted_once() -> None:
    """A rule keeps all it moved, over versions and IP versions, however many quotas count it."""
    life = started(
        situation(both("rule1", 1, "m1"), free("rule2")),
        credits_=[grant(total=10**6)],
        monitors=[monitor_grant("m1"), monitor_grant("all", level=Level.SESSION_LEVEL)],
        installs=static("rule1", "rule2"),
    )
    life.use("rule1", 10, 20)
    life.use("rule1", 1, 2, ipv6=True)
    life.decide(lambda draft: flows.bump(draft, "rule1"))
    life.count(UsageRecord("rule1", 2, 100, 200), UsageRecord("rule1", 1, 15, 25))
    life.use("rule2", 7, 0)
    assert [(life.rule(name).moved_tx, life.rule(name).moved_rx) for name in ("rule1", "rule2")] == [(116, 227), (7, 0)]
    assert used(life.monitor("all")) == (227, 123)


def test_usage_of_a_removed_rule_still_counts() -> None:
    """What flowed until the flows were gone comes with a later table, and counts on the credit the rule had."""
    life = metered()
    life.use("rule1", 100)
    life.release()
    assert life.use("rule1", 150, version=1) == []
    assert life.credit().used_tx == 150


def test_static_and_dynamic_rules_reach_their_quotas() -> None:
    """Each rule counts on its own credit and monitor.

    reference: SessionStateTest.test_add_rule_usage, LocalEnforcerTest.test_single_record, test_dynamic_rules.
    """
    life = started(
        situation(both("static-1", 1, "m1")),
        credits_=[grant("1", 3000), grant("2", 6000)],
        monitors=[monitor_grant("m1", 3000), monitor_grant("m2", 6000)],
        installs=[*static("static-1"), *dynamic(both("dynamic-1", 2, "m2"))],
    )
    life.use("static-1", 2000, 1000)
    life.use("dynamic-1", 4000, 2000)
    assert [used(life.credit(key)) for key in "12"] == [(1000, 2000), (2000, 4000)]
    assert [used(life.monitor(key)) for key in ("m1", "m2")] == [(1000, 2000), (2000, 4000)]


def test_only_what_the_tracking_names_counts() -> None:
    """A rule of the PCRF counts on no credit, one of the OCS on no monitor, an untracked one on neither.

    reference: SessionStateTest.test_mixed_tracking_rules, test_get_total_credit_usage_*.
    """
    rules_ = [pcrf("rule1", "m1"), ocs("rule2", 2), both("rule3", 3, "m3"), free("rule4")]
    life = started(
        situation(*rules_),
        credits_=[grant("2"), grant("3")],
        monitors=[monitor_grant("m1"), monitor_grant("m3")],
        installs=static("rule1", "rule2", "rule3", "rule4"),
    )
    for number in range(1, 5):
        life.use(f"rule{number}", number)
    assert {key: quota.used_tx for key, quota in life.session.credits.items()} == {"2": 2, "3": 3}
    assert {key: quota.used_tx for key, quota in life.session.monitors.items()} == {"m1": 1, "m3": 3}


def test_a_service_counts_on_its_own_credit() -> None:
    """Usage of a rule with a service identifier goes to that service, not to its rating group (known problem G4)."""
    life = started(
        situation(ocs("rule1", 1, service_identifier=7)),
        credits_=[grant("1"), grant("1/7")],
        installs=static("rule1"),
    )
    life.use("rule1", 5)
    assert (life.credit("1").used_tx, life.credit("1/7").used_tx) == (0, 5)


def test_the_session_monitor_counts_every_rule_once() -> None:
    """The monitor of the whole session counts tracked and untracked rules, and a rule of its own key not twice."""
    life = started(
        situation(free("rule1"), pcrf("rule2", "whole"), pcrf("rule3", "m3")),
        monitors=[monitor_grant("whole", level=Level.SESSION_LEVEL), monitor_grant("m3")],
        installs=static("rule1", "rule2", "rule3"),
    )
    for number in range(1, 4):
        life.use(f"rule{number}", 10)
    assert (life.monitor("whole").used_tx, life.monitor("m3").used_tx) == (30, 10)


def test_late_usage_counts_on_what_its_version_counted_on() -> None:
    """What flowed before a rule was defined otherwise is charged as it was then, though it comes after the change."""
    life = started(situation(), credits_=[grant("1"), grant("2")], installs=dynamic(ocs("rule1", 1)))
    life.use("rule1", 100)
    life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(installs=dynamic(ocs("rule1", 2))), life.at))
    life.count(UsageRecord("rule1", 1, 150, 0), UsageRecord("rule1", 2, 7, 0))
    assert (life.credit("1").used_tx, life.credit("2").used_tx) == (150, 7)


def test_usage_without_a_credit_is_nobodys() -> None:
    """A rule whose rating group has no credit is counted, and charged to nobody.

    reference: LocalEnforcerTest.test_collect_updates_with_online_avp_to_0.
    """
    life = started(situation(ocs("rule1", 9)), credits_=[grant("1")], installs=static("rule1"))
    assert life.use("rule1", 500) == []
    assert (life.credit("1").used_tx, life.rule("rule1").seen_ipv4.tx) == (0, 500)


def test_a_counter_that_stands_still_leaves_the_times() -> None:
    """A new version without traffic is seen, but is no use of the credit."""
    life = metered(2)
    life.use("rule1", 10, version=1)
    last = life.credit().last_usage_s
    life.later(60_000)
    assert life.use("rule1", 0, version=2) == []
    assert (life.rule("rule1").seen_ipv4, life.credit().last_usage_s) == (Seen(2, 0, 0), last)


@pytest.mark.parametrize(
    ("answer", "terminates", "service"),
    [
        (terminate_grant(), True, Service.NEEDS_DEACTIVATION),
        (terminate_grant(), False, Service.ENABLED),
        (redirect_grant(), False, Service.NEEDS_DEACTIVATION),
        (grant(), True, Service.ENABLED),
    ],
)
def test_a_used_up_final_unit_is_noticed(answer: CreditAnswer, terminates: bool, service: Service) -> None:
    """The record that uses up a final unit marks its credit; others do not."""
    at = situation(ocs("rule1", 1), terminate_service_when_quota_exhausted=terminates)
    life = started(at, credits_=[answer], installs=static("rule1"))
    life.use("rule1", 999)
    assert life.credit().service is Service.ENABLED
    life.use("rule1", 1000)
    assert life.credit().service is service


def test_a_used_up_monitor_that_gets_no_more_ends() -> None:
    """The record that uses up a silenced monitor makes its next report the last."""
    life = started(
        situation(pcrf("rule1", "m1")),
        monitors=[monitor_grant("m1", granted=GrantedUnits(tx=100)), monitor_grant("m1", 0)],
        installs=static("rule1"),
    )
    life.use("rule1", 99)
    assert not life.monitor("m1").last_report
    life.use("rule1", 100)
    assert life.monitor("m1").last_report


def test_whose_record_it_is() -> None:
    """A session owns the versions it has had: not those of an earlier session, and none to come."""
    before = metered(3)
    after = asked(situation(), present=[before.session])
    after.decide(lambda draft: draft.set("rules", "rule1", version=5))
    for version, owner in [(1, False), (3, False), (4, True), (5, True), (6, False)]:
        assert owns(after.session, UsageRecord("rule1", version, 1, 1)) is owner
    assert not owns(after.session, UsageRecord("other", 4, 1, 1))


def test_usage_of_an_earlier_session_is_not_ours() -> None:
    """What the data plane still counts for the session before is not charged to the new one (known problem G13)."""
    before = metered(3)
    after = asked(situation(), present=[before.session])
    (ignored,) = after.count(UsageRecord("rule1", 3, 10, 10))
    assert ignored[1] is Ignored.VERSION_OUTDATED
