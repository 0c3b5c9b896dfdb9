"""The balance of what was carried against what was reported."""

from sessiond.simulator.accounts import Books, Meter
from sessiond.simulator.balance import Octets, lines
from sessiond.simulator.rules import Target
from sessiond.simulator.switch import Passed
from tests.simulator.scenes import ADDRESS, SUBSCRIBER


def books(**fields: object) -> Books:
    """Return the books of a session that has ended."""
    known = {"session_id": f"{SUBSCRIBER}-1", "subscriber": SUBSCRIBER, "address": ADDRESS, "apn": "a", "plan": "p"}
    return Books(**known | {"terminated": True} | fields)  # type: ignore[arg-type]


def passed(
    rule: str, tx: int, rx: int, credit: str = "", monitor: str = "", version: int = 1, **more: object
) -> Passed:
    """Return what passed under a rule."""
    known = {"subscriber": SUBSCRIBER, "address": ADDRESS, "rule": rule, "version": version, "tx": tx, "rx": rx}
    return Passed(target=Target(credit, monitor), **known | more)  # type: ignore[arg-type]


def test_versions_and_rules_of_one_account_add_up() -> None:
    """All that counts on a rating group is held against what was reported under it."""
    session = books(credits={"1": Meter(reported_tx=6, reported_rx=60, granted=100)})
    carried = [passed("a", 1, 10, "1"), passed("a", 2, 20, "1", version=2), passed("b", 3, 30, "1"), passed("c", 9, 9)]
    (line,) = lines([session], carried)
    assert (line.kind, line.key, line.granted) == ("OCS", "1", 100)
    assert (line.generated, line.reported, line.is_balanced) == (Octets(6, 60), Octets(6, 60), True)


def test_one_octet_is_a_difference() -> None:
    """Too little and too much, in each direction."""
    for tx, rx in ((9, 10), (11, 10), (10, 9), (10, 11)):
        session = books(credits={"1": Meter(reported_tx=tx, reported_rx=rx)})
        (line,) = lines([session], [passed("a", 10, 10, "1")])
        assert not line.is_balanced


def test_a_rule_of_both_counts_twice() -> None:
    """Usage that the OCS and the PCRF watch is reported to both."""
    session = books(
        credits={"1": Meter(reported_tx=5)}, monitors={"m": Meter(reported_tx=5), "all": Meter(reported_tx=7)},
        session_monitors={"all"},
    )  # fmt: skip
    found = lines([session], [passed("a", 5, 0, "1", "m"), passed("free", 2, 0)])
    assert [(line.kind, line.key, line.generated.tx) for line in found] == [
        ("OCS", "1", 5),
        ("PCRF", "m", 5),
        ("PCRF", "all", 7),
    ]
    assert all(line.is_balanced for line in found)


def test_a_session_that_did_not_end_is_not_balanced() -> None:
    """Its last usage is still missing, whatever the sums say."""
    (line,) = lines([books(credits={"1": Meter()}, terminated=False)], [])
    assert (line.is_balanced, line.problem) == (False, "not terminated")


def test_a_refused_account_is_left_out() -> None:
    """Traffic under a rating group that never got a quota is reported to nobody, unless it is."""
    refused = {"1": Meter(tracked=False), "2": Meter(tracked=False, reported_tx=3)}
    found = lines([books(credits=refused)], [passed("a", 10, 0, "1")])
    assert [(line.key, line.is_balanced) for line in found] == [("2", False)]


def test_a_monitor_that_ended_need_not_tell_the_rest() -> None:
    """After its last report more may pass, but no more than passed can have been reported."""
    for reported, balanced in ((7, True), (10, True), (11, False)):
        (line,) = lines([books(monitors={"m": Meter(reported_tx=reported, ended=True)})], [passed("a", 10, 0, "", "m")])
        assert line.is_balanced is balanced


def test_what_is_in_doubt_may_be_reported_or_not() -> None:
    """A report under way when the switch restarted was taken or was not."""
    for reported, balanced in ((9, False), (10, True), (15, True), (16, False)):
        (line,) = lines([books(credits={"1": Meter(reported_tx=reported)})], [passed("a", 10, 0, "1", doubtful_tx=5)])
        assert line.is_balanced is balanced


def test_traffic_of_a_session_nobody_knows_is_a_difference() -> None:
    """Charged traffic without a session at the policy side is lost money; other traffic is not."""
    (line,) = lines([], [passed("a", 10, 0, "1"), passed("b", 5, 0)])
    assert (line.is_balanced, line.generated.tx) == (False, 10)
    assert lines([], [passed("b", 5, 0)]) == []
