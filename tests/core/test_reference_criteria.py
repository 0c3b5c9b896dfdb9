"""Changes as values, by the examples of the reference's store (store.md 2); the laws are in `test_update.py`."""

from collections.abc import Callable
from functools import partial

from sessiond.core import update
from sessiond.core.charging import ChargingCredit
from sessiond.core.credit import Report
from sessiond.core.decide import create, reauth, release, report
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.draft import Draft
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Monitor
from sessiond.core.rules import Rule
from sessiond.core.session import PolicyAnswer, Session, finished
from sessiond.core.update import Change, Put, UpdateCriteria, apply
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    allowed,
    both,
    dynamic,
    grant,
    monitor_grant,
    ocs,
    situation,
    started,
    static,
)


def decided(session: Session, decide: Callable[[Draft], object]) -> UpdateCriteria:
    """Return what a decision changes."""
    draft = Draft(session)
    decide(draft)
    return draft.criteria()


def test_new_quotas_are_put() -> None:
    """A charging credit and a monitor that come with the tunnels are whole parts of the change.

    reference: SessionStateTest.test_insert_credit.
    """
    policy = PolicyAnswer(credits=(grant("1", 1024),), monitors=(monitor_grant("m1", 1024),))
    life = allowed(policy, situation())
    parts = decided(life.session, partial(create.activate, teids=TEIDS, at=life.at)).parts
    charge, monitor = parts["credits", "1"], parts["monitors", "m1"]
    assert isinstance(charge, Put)
    assert isinstance(charge.value, ChargingCredit)
    assert isinstance(monitor, Put)
    assert isinstance(monitor.value, Monitor)
    assert (charge.value.allowed_total, monitor.value.allowed_total) == (1024, 1024)


def test_request_numbers_are_added() -> None:
    """The change says how many were used, not which is next: added to 1, three make 4.

    reference: SessionStoreTest.test_sync_request_numbers.
    """
    session = started(situation()).session
    used = UpdateCriteria({("gateway", ""): Change(add={"request_number": 3})})
    gateway = apply(session, used).gateway
    assert gateway is not None
    assert gateway.request_number == 4
    life = metered()
    life.use("rule1", 1000)
    change = decided(life.session, partial(report.collect, at=life.at)).parts["gateway", ""]
    assert isinstance(change, Change)
    assert change.add["request_number"] == 2


def test_nothing_decided_is_nothing_changed() -> None:
    """A session about which nothing was decided has an empty change.

    reference: SessionStoreTest.test_get_default_session_update.
    """
    criteria = decided(started(situation()).session, lambda _: None)
    assert not criteria
    assert criteria == update.NOTHING


def test_rules_that_come_and_go_in_one_change() -> None:
    """Installs and removals of one decision are one change, and the stored session is the decided one.

    reference: SessionStoreTest.test_update_session_rules.
    """
    life = started(situation(ocs("rule1", 1), ocs("rule2", 1)), installs=static("rule1"))
    wanted = PolicyChange(remove=("rule1",), installs=(*static("rule2"), *dynamic(ocs("dynamic", 1))))
    after = apply(life.session, decided(life.session, partial(reauth.change_policy, wanted=wanted, at=life.at)))
    in_force = {name: rule.gx is not None for name, rule in after.rules.items()}
    assert in_force == {"rule1": False, "rule2": True, "dynamic": True}
    assert [after.rules[name].version for name in ("rule1", "rule2", "dynamic")] == [2, 1, 1]


def metered() -> Life:
    """Return a session with a rule that both sides count."""
    return started(
        situation(both("rule1", 1, "m1")),
        credits_=[grant("1", 1000)],
        monitors=[monitor_grant("m1", 1000)],
        installs=static("rule1"),
    )


def test_changes_of_all_kinds() -> None:
    """Counters are added, other fields replaced, rules put; a session that is over and told is gone.

    reference: SessionStoreTest.test_read_and_write.
    """
    session = metered().session
    kinds = UpdateCriteria(
        {
            ("monitors", "m1"): Change({"used_tx": 111, "used_rx": 333}),
            ("credits", "1"): Change(
                {"allowed_total": 2, "allowed_tx": 3, "allowed_rx": 4}, {"in_flight": Report(1, 1, 1, "X")}
            ),
            ("rules", "rule2"): Put(Rule(version=1)),
            ("head", ""): Change(set={"closing_at_ms": 156_789_000}),
        }
    )
    once, twice = apply(session, kinds), apply(apply(session, kinds), kinds)
    assert (once.monitors["m1"].used_tx, once.monitors["m1"].used_rx) == (111, 333)
    assert (twice.monitors["m1"].used_tx, twice.monitors["m1"].used_rx) == (222, 666)
    assert (once.credits["1"].allowed_total, once.credits["1"].allowed_tx, once.credits["1"].allowed_rx) == (1002, 3, 4)
    assert (once.head.closing_at_ms, "rule2" in once.rules) == (156_789_000, True)
    life = metered()
    life.release()
    life.struck()
    life.decide(partial(release.final_usage_in, at=life.at))
    assert (life.session.head.state, life.session.head.closed_at_ms) == (State.CLOSED, NOW_MS)
    assert not finished(life.session)
    life.struck()
    assert finished(life.session)
