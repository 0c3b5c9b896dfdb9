"""After pipelined or its switch restarted (southbound.md 2.3)."""

import pytest

from sessiond.core.decide import bearer, resync
from sessiond.core.decide.wanted import wanted_flows
from sessiond.core.effects import ActivateFlows, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.rules import Bearer, Lifetime, Teids
from sessiond.core.session import Head, Session
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    asked,
    dynamic,
    failure,
    free,
    grant,
    ocs,
    redirect_grant,
    situation,
    started,
    static,
)


def test_all_flows_with_their_versions() -> None:
    """An active session wants its Gx rules by tunnel, and then its Gy rules.

    reference: LocalEnforcerTest.test_pipelined_lte_setup, test_pipelined_cwf_setup.
    """
    life = started(
        situation(ocs("rule1", 1), free("rule2", qci=1)),
        credits_=[redirect_grant()],
        installs=[*static("rule1", "rule2"), *dynamic(free("later"), lifetime=Lifetime(NOW_MS + 1))],
    )
    life.decide(lambda draft: bearer.bound(draft, "rule2", Bearer(6, Teids(1, 2))))
    life.use("rule1", 1000)
    life.collect()
    assert wanted_flows(life.session) == [
        ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 1),)),
        ActivateFlows(teids=Teids(1, 2), rules=(VersionedRule("rule2", 1),)),
        ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("redirect", 1),)),
    ]


def test_a_session_without_rules_wants_its_drop_flow() -> None:
    """Each of Gx and Gy is asked for at least once, for the default drop flow."""
    life = started(situation())
    assert wanted_flows(life.session) == [ActivateFlows(teids=TEIDS), ActivateFlows(teids=TEIDS, gy=True)]


def test_flows_of_a_suspended_credit_stay_down() -> None:
    """What was taken off the data plane for want of credit does not come back with its restart."""
    life = started(
        situation(ocs("rule1", 1), ocs("rule2", 2)),
        credits_=[failure(4012, "1"), grant("2")],
        installs=static("rule1", "rule2"),
    )
    gx, _ = wanted_flows(life.session)
    assert gx.rules == (VersionedRule("rule2", 1),)


def test_only_an_active_session_wants_flows() -> None:
    """A session that is being created or released wants none."""
    creating, releasing = asked(situation()), started(situation(free("rule1")), installs=static("rule1"))
    releasing.release()
    assert wanted_flows(creating.session) == []
    assert wanted_flows(releasing.session) == []


def test_sessions_of_other_kinds_want_none() -> None:
    """A session without a context has no tunnels."""
    head = Head(state=State.ACTIVE, created_at_ms=NOW_MS)
    assert wanted_flows(Session(key="stream", type="stream", scope="stream", head=head)) == []


def test_versions_count_up_when_the_counters_restart() -> None:
    """Every rule in force gets its next version, not only the first (known problem S4); others keep theirs."""
    life = started(
        situation(ocs("rule1", 1), free("rule2")),
        credits_=[redirect_grant()],
        installs=[*static("rule1", "rule2"), *dynamic(free("later"), lifetime=Lifetime(NOW_MS + 1))],
    )
    life.use("rule1", 1000)
    life.collect()
    life.decide(resync.counters_restarted)
    assert {name: rule.version for name, rule in life.session.rules.items()} == {
        "rule1": 2,
        "rule2": 2,
        "redirect": 2,
        "later": 0,
    }


@pytest.mark.parametrize("counted", [0, 400])
def test_usage_goes_on_from_zero(counted: int) -> None:
    """What the new version counts is added to what was counted before."""
    life = started(situation(ocs("rule1", 1)), credits_=[grant()], installs=static("rule1"))
    life.use("rule1", counted)
    life.decide(resync.counters_restarted)
    assert life.use("rule1", 5) == []
    assert life.credit().used_tx == counted + 5
