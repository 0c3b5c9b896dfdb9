"""The switch: flow tables, versions, counters, and the ledger that survives."""

from collections import defaultdict

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sessiond.pb.magma.lte.pipelined_pb2 import RuleModResult
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecord
from sessiond.simulator.config import Rate
from sessiond.simulator.switch import DROP_RULE, LONGEST_GAP_S, Switch, SwitchState, started
from tests.simulator.scenes import (
    ADDRESS,
    GY,
    SUBSCRIBER,
    WILDCARD,
    activation,
    charged,
    deactivation,
    monitored,
    untracked,
)

START = 1_700_000_000.5


def a_switch(state: SwitchState | None = None, up: int = 1000, down: int = 4000, seed: int = 1) -> Switch:
    """Return a switch in which every rule carries the same."""
    rate = Rate(up_bytes_per_s=up, down_bytes_per_s=down)
    return Switch(state or started(None, START, switch_restarts=False), lambda _: rate, seed)


def restarted(switch: Switch, now_s: float = START + 10, *, switch_restarts: bool = False) -> Switch:
    """Return the switch as the next process of pipelined finds it."""
    stored = msgspec.json.decode(msgspec.json.encode(switch.state()), type=SwitchState)
    return a_switch(started(stored, now_s, switch_restarts=switch_restarts))


def of_rule(switch: Switch, rule: str) -> dict[int, tuple[int, int]]:
    """Return the counters of a rule by version."""
    return {
        record.rule_version: (record.bytes_tx, record.bytes_rx) for record in switch.records() if record.rule_id == rule
    }


def test_traffic_passes_where_a_flow_is_up() -> None:
    """Octets per second swing around the rate of the rule, by half of it at most."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 10)
    tx, rx = of_rule(switch, "internet")[1]
    assert 5_000 <= tx <= 15_000
    assert 20_000 <= rx <= 60_000


def test_traffic_is_the_same_for_the_same_seed() -> None:
    """Two runs over the same time carry the same; another seed carries something else."""
    runs = [a_switch(seed=seed) for seed in (1, 1, 2)]
    for switch in runs:
        switch.activate(activation((charged(), 1)))
        switch.advance(START + 10)
    first, second, other = (of_rule(switch, "internet") for switch in runs)
    assert first == second != other


def test_no_traffic_without_time() -> None:
    """A clock that stands or goes back carries nothing."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START)
    switch.advance(START - 5)
    assert of_rule(switch, "internet") == {1: (0, 0)}


def test_only_attached_devices_send() -> None:
    """A device whose address is not in use has flows but no traffic."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 10, attached={"192.168.128.99"})
    assert of_rule(switch, "internet") == {1: (0, 0)}
    switch.advance(START + 20, attached={ADDRESS})
    assert of_rule(switch, "internet") != {1: (0, 0)}


def test_a_record_has_the_address_and_the_version() -> None:
    """Records name subscriber, address, rule and version, and stand beside the drop flow of the device."""
    switch = a_switch()
    request = activation((charged(), 7))
    request.ipv6_addr = b"2001:db8::1"
    switch.activate(request)
    records = [(r.sid, r.ue_ipv4, r.ue_ipv6, r.rule_id, r.rule_version) for r in switch.records()]
    assert sorted(records) == [
        (SUBSCRIBER, "", "2001:db8::1", DROP_RULE, 0),
        (SUBSCRIBER, "", "2001:db8::1", "internet", 7),
        (SUBSCRIBER, ADDRESS, "", DROP_RULE, 0),
        (SUBSCRIBER, ADDRESS, "", "internet", 7),
    ]


def test_activation_without_rules_puts_the_drop_flow_only() -> None:
    """A device without rules has its drop flow, and loses it when everything of it is removed."""
    switch = a_switch()
    switch.activate(activation())
    assert [record.rule_id for record in switch.records()] == [DROP_RULE]
    switch.deactivate(deactivation(origin=WILDCARD, drop=True))
    assert switch.records() == []


def test_a_new_version_takes_over() -> None:
    """Traffic goes on under the new version; the old one keeps its counters until they were reported."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    old = of_rule(switch, "internet")[1]
    switch.activate(activation((charged(), 2)))
    switch.advance(START + 2)
    assert of_rule(switch, "internet")[1] == old
    assert of_rule(switch, "internet")[2] != (0, 0)
    switch.taken(switch.records())
    assert set(of_rule(switch, "internet")) == {2}


def test_a_removed_rule_vanishes_after_its_report() -> None:
    """A removal under a newer version stops the traffic at once and the records after the next report."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    switch.deactivate(deactivation(("internet", 2)))
    before = of_rule(switch, "internet")
    switch.advance(START + 2)
    assert of_rule(switch, "internet") == before
    switch.taken(switch.records())
    assert of_rule(switch, "internet") == {}


def test_a_removal_under_the_same_version_never_vanishes() -> None:
    """Without a newer version the counters look current, and stay: the reason why sessiond counts versions up."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.deactivate(deactivation(("internet", 1)))
    switch.taken(switch.records())
    assert set(of_rule(switch, "internet")) == {1}


def test_counters_that_grew_since_the_report_stay() -> None:
    """What was carried after the report was made is still to be reported, even if the version is old by then."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    sent = switch.records()
    switch.advance(START + 2)
    switch.deactivate(deactivation(("internet", 2)))
    switch.taken(sent)
    assert set(of_rule(switch, "internet")) == {1}
    switch.taken(switch.records())
    assert of_rule(switch, "internet") == {}


def test_a_late_activation_of_a_removed_version_is_refused() -> None:
    """Whichever of two concurrent calls comes first, the newer version wins."""
    switch = a_switch()
    switch.deactivate(deactivation(("internet", 2)))
    (result,) = switch.activate(activation((charged(), 1)))
    assert (result.rule_id, result.result, result.version) == ("internet", RuleModResult.FAILURE, 1)
    assert of_rule(switch, "internet") == {}


def test_versions_are_forgotten_with_the_device() -> None:
    """After everything was removed, the next session of the device may begin with version 1."""
    switch = a_switch()
    switch.activate(activation((charged(), 5)))
    switch.deactivate(deactivation(origin=WILDCARD, drop=True))
    (result,) = switch.activate(activation((charged(), 1)))
    assert result.result == RuleModResult.SUCCESS


def test_redirection_blocks_what_is_charged() -> None:
    """While a Gy rule is up, charged traffic is dropped, and counted as such; other traffic passes."""
    switch = a_switch()
    switch.activate(activation((charged(), 1), (untracked(), 1)))
    switch.activate(activation((PolicyRule(id="redirect", priority=2000), 1), origin=GY))
    switch.advance(START + 1)
    assert of_rule(switch, "internet") == {1: (0, 0)}
    assert of_rule(switch, "pages") != {1: (0, 0)}
    (drop,) = [record for record in switch.records() if record.rule_id == DROP_RULE]
    assert drop.dropped_tx
    assert drop.dropped_rx


def test_the_end_of_a_redirection_lets_traffic_pass() -> None:
    """Taking the Gy rule down brings charged traffic back; a Gx removal of the same name leaves it."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.activate(activation((PolicyRule(id="redirect"), 1), origin=GY))
    switch.deactivate(deactivation(("redirect", 1)))
    switch.advance(START + 1)
    assert of_rule(switch, "internet") == {1: (0, 0)}
    switch.deactivate(deactivation(("redirect", 2), origin=GY))
    switch.advance(START + 2)
    assert of_rule(switch, "internet") != {1: (0, 0)}


def test_the_ledger_says_what_a_rule_counts_on() -> None:
    """What passed is added up per rule and version, with the rating group and monitoring key of the rule."""
    switch = a_switch()
    both = PolicyRule(id="both", rating_group=3, monitoring_key=b"key", tracking_type=PolicyRule.OCS_AND_PCRF)
    switch.activate(activation((charged(), 1), (monitored(), 1), (untracked(), 1), (both, 1)))
    switch.advance(START + 1)
    targets = {passed.rule: (passed.target.credit, passed.target.monitor) for passed in switch.state().ledger}
    assert targets == {"internet": ("1", ""), "video": ("", "month"), "pages": ("", ""), "both": ("3", "key")}
    assert {passed.rule: {passed.version: (passed.tx, passed.rx)} for passed in switch.state().ledger} == {
        rule: of_rule(switch, rule) for rule in targets
    }


def test_the_ledger_outlives_the_flows() -> None:
    """What passed under rules that are gone is still known."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    (before,) = switch.state().ledger
    switch.deactivate(deactivation(origin=WILDCARD, drop=True))
    switch.taken(switch.records())
    assert switch.state().ledger == [before]
    assert switch.state().flows == []


def test_a_new_process_has_a_new_epoch() -> None:
    """The epoch is the start time, and another one even within the same second."""
    first = a_switch()
    second = restarted(first, START + 0.1)
    assert first.epoch == int(START)
    assert second.epoch == first.epoch + 1
    assert restarted(second, START + 60).epoch == int(START + 60)


def test_counters_continue_in_a_new_process() -> None:
    """The switch does not stop when pipelined does: counters go on, and what passed meanwhile is in them."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    before = of_rule(switch, "internet")[1]
    again = restarted(switch, START + 10)
    assert of_rule(again, "internet")[1] == before
    assert not again.restarted
    again.advance(START + 10)
    assert of_rule(again, "internet")[1] > before


def test_a_long_absence_is_not_made_up_for() -> None:
    """A state that lay around for a day does not turn into a day of traffic."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    again = restarted(switch, START + 86_400)
    again.advance(START + 86_400)
    assert of_rule(again, "internet")[1][0] <= 1500 * LONGEST_GAP_S


def test_setup_makes_the_tables_what_is_listed() -> None:
    """What is listed goes on counting; what is not listed goes with its last report; what is new begins."""
    switch = a_switch()
    switch.activate(activation((charged("kept"), 3), (charged("gone"), 1)))
    switch.advance(START + 1)
    again = restarted(switch, START + 1)
    before = of_rule(again, "kept")
    again.replace([activation((charged("kept"), 3), (charged("new"), 1)), activation(origin=GY)])
    again.advance(START + 2)
    assert of_rule(again, "kept")[3] > before[3]
    assert of_rule(again, "gone") == of_rule(switch, "gone")
    again.taken(again.records())
    assert of_rule(again, "gone") == {}
    assert {record.rule_id for record in again.records()} == {"kept", "new", DROP_RULE}


def test_a_switch_that_restarts_counts_from_zero() -> None:
    """Flows and counters are gone, the next reports say so, and what nobody will report is not in the ledger."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    switch.taken(switch.records())
    reported = of_rule(switch, "internet")[1]
    switch.advance(START + 2)
    again = restarted(switch, switch_restarts=True)
    assert again.restarted
    assert again.records() == []
    (passed,) = again.state().ledger
    assert (passed.tx, passed.rx) == reported
    assert (passed.doubtful_tx, passed.doubtful_rx) == (0, 0)


def test_a_report_under_way_when_the_switch_restarts_is_in_doubt() -> None:
    """Nobody can say whether sessiond took a report whose answer was not seen; the ledger says that."""
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    switch.reporting = True
    sent = of_rule(switch, "internet")[1]
    again = restarted(switch, switch_restarts=True)
    (passed,) = again.state().ledger
    assert (passed.tx, passed.rx) == (0, 0)
    assert (passed.doubtful_tx, passed.doubtful_rx) == sent


class Counting:
    """What a sessiond makes of the records (session.md 6): it keeps versions, and counts what it has not counted."""

    def __init__(self) -> None:
        self.version: defaultdict[str, int] = defaultdict(int)
        self.wanted: dict[str, int] = {}
        self.total: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self._seen: dict[str, tuple[int, int, int]] = {}

    def bump(self, rule: str) -> int:
        """Return the next version of a rule."""
        self.version[rule] += 1
        return self.version[rule]

    def count(self, records: list[RuleRecord]) -> None:
        """Count a report, older versions first."""
        for record in sorted(records, key=lambda record: record.rule_version):
            rule, version = record.rule_id, record.rule_version
            seen = self._seen.get(rule, (0, 0, 0))
            if rule == DROP_RULE or version > self.version[rule] or version < seen[0]:
                continue
            base = seen if version == seen[0] else (version, 0, 0)
            tx, rx = self.total[rule]
            self.total[rule] = (tx + record.bytes_tx - base[1], rx + record.bytes_rx - base[2])
            self._seen[rule] = (version, record.bytes_tx, record.bytes_rx)

    def flows(self) -> list[tuple[PolicyRule, int]]:
        """Return the rules that are to be up."""
        return [(charged(rule), version) for rule, version in self.wanted.items()]


RULES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["install", "remove"]), RULES),
    st.tuples(st.sampled_from(["time", "report", "answer lost", "refused", "kill"]), st.just("")),
)


@given(st.lists(STEPS, max_size=40))
def test_everything_that_passed_is_counted_once(steps: list[tuple[str, str]]) -> None:
    """Whatever comes and goes, is lost or killed: in the end sessiond has counted what the ledger has, rule by rule."""
    switch, sessiond, now_s = a_switch(), Counting(), START
    for step, rule in [*steps, ("time", "")]:
        now_s += 1
        switch.advance(now_s)
        match step:
            case "install":
                sessiond.wanted[rule] = sessiond.bump(rule)
                switch.activate(activation((charged(rule), sessiond.wanted[rule])))
            case "remove" if rule in sessiond.wanted:
                del sessiond.wanted[rule]
                switch.deactivate(deactivation((rule, sessiond.bump(rule))))
            case "report":
                sessiond.count(switch.records())
                switch.taken(switch.records())
            case "answer lost":
                sessiond.count(switch.records())
            case "kill":
                switch = restarted(switch, now_s)
                switch.replace([activation(*sessiond.flows())])
    switch.deactivate(deactivation(origin=WILDCARD, drop=True))
    sessiond.count(switch.records())
    switch.taken(switch.records())
    assert switch.records() == []
    passed: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for item in switch.state().ledger:
        passed[item.rule] = (passed[item.rule][0] + item.tx, passed[item.rule][1] + item.rx)
    assert dict(passed) == {rule: total for rule, total in sessiond.total.items() if rule in passed}
