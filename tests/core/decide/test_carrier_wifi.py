"""Carrier wifi sessions: how one begins, is asked for again and ends (rpc.md 1.2.1, 1.3.1; southbound.md 2.6, 7)."""

from functools import partial

import pytest
from msgspec import structs

from sessiond.core.decide import create, release
from sessiond.core.effects import (
    ActivateFlows,
    DeactivateFlows,
    DeleteMacFlow,
    ExportFlows,
    QuotaState,
    Saved,
    TerminateAccess,
    TerminateSession,
    UpdateQuotaState,
    VersionedRule,
    WriteDirectoryRecord,
)
from sessiond.core.lifecycle import State
from sessiond.core.rules import Teids
from sessiond.core.session import Context, PolicyAnswer, WlanContext
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    asked,
    grant,
    ocs,
    pcrf,
    situation,
    started,
    static,
    terminate_grant,
)
from tests.core.builders import lte_context as lte
from tests.core.builders import wlan_context as wlan

OTHER = WlanContext(mac_addr="0f:10:2e:12:3a:66", radius_session_id="2")
MOVED = wlan(apn="02-00-00-00-00-02:other", msisdn="5550100099", wlan=OTHER)


def recycle(life: Life, context: Context) -> bool:
    """Have the UE ask for its session again; return whether it keeps it."""
    return life.decide(partial(create.recycled, context=context, at=life.at))


class TestBeginning:
    """What pipelined is told when the tunnels are known."""

    @pytest.mark.parametrize("context", [wlan(), lte()])
    def test_flows_are_exported_from_now_on(self, context: Context) -> None:
        """Flow records are asked for with the present time, after the flows (rpc.md 1.4 step 5)."""
        life = asked(situation(ipfix=True), context)
        life.decide(lambda draft: create.allowed(draft, PolicyAnswer(), life.at))
        life.later(2500)
        life.decide(lambda draft: create.activate(draft, TEIDS, life.at))
        assert life.effects == [ActivateFlows(teids=TEIDS), ExportFlows(began_at_ms=NOW_MS + 2500)]

    def test_what_comes_first(self) -> None:
        """Flows go up before they are exported, and before it is said what there is to spend."""
        at = situation(pcrf("rule1", "1"), ocs("rule2", 1), ipfix=True, wallet_exhaustion_terminates=True)
        installs = static("rule1", "rule2")
        life = started(at, context=wlan(), installs=installs, credits_=[grant(total=1024)], keep_effects=True)
        assert life.effects == [
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 1), VersionedRule("rule2", 1))),
            ExportFlows(began_at_ms=NOW_MS),
            UpdateQuotaState(state=QuotaState.VALID_QUOTA),
        ]
        assert life.credit().allowed_total == 1024

    def test_no_rule_ever_asks_for_a_bearer(self) -> None:
        """A rule with a QoS class is brought up like any other: there are no bearers over wifi."""
        life = started(situation(ocs("rule1", 1, qci=1)), context=wlan(), installs=static("rule1"), keep_effects=True)
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 1),))]


class TestRecycling:
    """A UE that asks for its session again."""

    @pytest.mark.parametrize("ipfix", [False, True])
    def test_the_new_context_on_the_old_tunnels(self, ipfix: bool) -> None:
        """All of the context is the new one; flow records go on from the session's own beginning, if any are made."""
        life = started(situation(ipfix=ipfix), context=wlan())
        life.later(10_000)
        assert recycle(life, MOVED)
        assert life.session.context == structs.replace(MOVED, teids=TEIDS)
        assert life.effects == ([ExportFlows(began_at_ms=NOW_MS)] if ipfix else [])
        assert life.news == []

    def test_nothing_else_changes(self) -> None:
        """Rules, quotas and the request number go on as they were."""
        life = started(situation(ocs("rule1", 1)), context=wlan(), installs=static("rule1"), credits_=[grant()])
        life.use("rule1", 10)
        before = life.session
        recycle(life, MOVED)
        assert (life.session.rules, life.session.credits) == (before.rules, before.credits)
        assert (life.session.gateway, life.session.head) == (before.gateway, before.head)

    def test_an_lte_session_stays_as_it_is(self) -> None:
        """Only the directory is told again where the subscriber is; no flow records, no new context."""
        life = started(situation(ipfix=True))
        before = life.session
        assert recycle(life, lte())
        assert (life.session, life.news) == (before, [WriteDirectoryRecord()])

    @pytest.mark.parametrize("context", [wlan(), lte()])
    @pytest.mark.parametrize("closed", [False, True])
    def test_a_session_that_began_to_end_meanwhile_is_not_kept(self, context: Context, closed: bool) -> None:
        """The UE would otherwise be given the id of a session that is about to go."""
        life = started(situation(ipfix=True), context=context)
        life.release()
        if closed:
            life.final_usage_in()
        before = life.session
        assert not recycle(life, MOVED)
        assert (life.session, life.news) == (before, [])

    def test_the_end_is_told_with_the_new_names(self) -> None:
        """What is decided after that is told with the radius session and the address of the new context."""
        life = started(situation(), context=wlan())
        recycle(life, MOVED)
        life.release(notify=True)
        assert life.session.context is not None
        assert life.session.context.wlan == MOVED.wlan


class TestEnd:
    """What the end of a carrier wifi session tells whom."""

    @pytest.mark.parametrize(("notify", "told"), [(False, []), (True, [TerminateAccess()])])
    def test_flows_and_addresses_go(self, notify: bool, told: list[Saved]) -> None:
        """The MAC address is always forgotten; the AAA server hears of an end that is ours, the MME of none."""
        life = started(situation(), context=wlan())
        life.release(notify=notify)
        assert life.effects == [DeactivateFlows(teids=TEIDS, everything=True), *told, DeleteMacFlow()]

    def test_with_a_watched_wallet(self) -> None:
        """Last of all it is said that nothing can be spent any more."""
        life = started(situation(wallet_exhaustion_terminates=True), context=wlan())
        life.release(notify=True)
        assert life.effects == [
            DeactivateFlows(teids=TEIDS, everything=True),
            TerminateAccess(),
            DeleteMacFlow(),
            UpdateQuotaState(state=QuotaState.TERMINATE),
        ]

    def test_a_second_time(self) -> None:
        """Nobody is told twice."""
        life = started(situation(), context=wlan())
        life.release(notify=True)
        effects = life.effects
        life.release(notify=True)
        assert life.effects == effects

    def test_a_used_up_final_unit(self) -> None:
        """The AAA server disconnects the device, and the end is reported with what was used.

        reference: LocalEnforcerTest.test_cwf_final_unit_handling.
        """
        life = started(
            situation(ocs("rule1", 1)), context=wlan(), installs=static("rule1"), credits_=[terminate_grant(total=1024)]
        )
        life.use("rule1", 2048, 1024)
        life.collect()
        assert (life.state(), life.effects_of(TerminateAccess)) == (State.CLOSING, [TerminateAccess()])
        life.struck()
        life.final_usage_in()
        assert life.effects == [TerminateSession()]

    def test_an_abort(self) -> None:
        """An end at the word of the policy side disconnects the device, and is reported to nobody."""
        life = started(situation(), context=wlan())
        life.decide(lambda draft: release.abort(draft, life.at))
        assert life.state() is State.CLOSED
        assert life.effects == [DeactivateFlows(teids=TEIDS, everything=True), TerminateAccess(), DeleteMacFlow()]


def test_a_session_without_its_wlan_context_ends_too() -> None:
    """What radio it is over decides, not whether anything was said about it."""
    life = started(situation(), context=wlan(wlan=None))
    life.release(notify=True)
    assert life.effects_of(DeleteMacFlow) == [DeleteMacFlow()]
    assert life.effects_of(TerminateAccess) == [TerminateAccess()]


def test_a_session_without_tunnels_is_in_force() -> None:
    """The AAA server names none, and its flows go up all the same."""
    life = started(situation(), context=wlan())
    life.decide(lambda draft: create.activate(draft, Teids(), life.at))
    assert life.effects == [ActivateFlows(teids=Teids())]
