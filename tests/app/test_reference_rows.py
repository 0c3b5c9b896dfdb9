"""Whole conversations that the authors of the reference found worth a test, with their numbers; each names its row.

Rows that are about one decision are tested beside it in `tests/core`; `tests/reference_map.csv` says where.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from sessiond.core.charging import CreditAnswer, ReAuth, RedirectServer, Service
from sessiond.core.credit import Report, unreported
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.decide.reauth import PolicyChange, ReAuthResult
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    SavedEffect,
    VersionedRule,
)
from sessiond.core.errors import NotFound
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, MonitorAction
from sessiond.core.quantity import Volume
from sessiond.core.rules import Bearer, Lifetime, PolicyRule, RuleInstall, Teids
from sessiond.core.session import Context, LteContext, QosInformation
from sessiond.northbound.gateway.messages import rule_sets
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule as WireRule
from sessiond.pb.magma.lte.rule_install_pb2 import RuleSet, RulesPerSubscriber
from sessiond.testing.gateway import TEIDS, SimulatedGateway, row
from tests.app.scenes import gateway, plan, ue
from tests.core.builders import (
    both,
    catalogue,
    dynamic,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    restrict_grant,
    terminate_grant,
)


def knowing(*rules: PolicyRule, **fields: Any) -> SimulatedGateway:
    """Return a gateway that knows these static rules."""
    return gateway(catalogue=catalogue(*rules), **fields)


def up(*rules: tuple[str, int], teids: Teids = TEIDS, gy: bool = False) -> ActivateFlows:
    """Return what is told when flows go up."""
    return ActivateFlows(teids=teids, gy=gy, rules=tuple(VersionedRule(*rule) for rule in rules))


def down(*rules: tuple[str, int], teids: Teids = TEIDS, gy: bool = False) -> DeactivateFlows:
    """Return what is told when flows go down."""
    return DeactivateFlows(teids=teids, gy=gy, rules=tuple(VersionedRule(*rule) for rule in rules))


def flows_of(at: SimulatedGateway, since: int = 0) -> list[SavedEffect]:
    """Return what was told about flows, but for the first so many."""
    return [effect for _, effect in at.data_plane.flows[since:]]


def answering(at: SimulatedGateway, key: str, *credits_: CreditAnswer, monitors: Sequence[MonitorReply] = ()) -> None:
    """Let the policy side answer the next report of a session so."""
    replies = tuple(CreditReply(answer=credit) for credit in credits_)
    at.policy.script(
        "update",
        lambda reports: {
            report.session.key: UpdateAnswer(
                numbers=report.numbers,
                credits=replies if report.session.key == key else (),
                monitors=tuple(monitors) if report.session.key == key else (),
            )
            for report in reports
        },
    )


class TestUsage:
    """What a table adds to quotas, and what it leaves alone."""

    async def test_records_of_several_rules(self) -> None:
        """Records by IPv4 and IPv6 add up per rating group, static and dynamic rules alike.

        reference: LocalEnforcerTest.test_single_record, test_aggregate_records_mixed_ips, test_dynamic_rules.
        """
        async with knowing(ocs("rule1", 1), ocs("rule2", 1), ocs("rule3", 2)) as at:
            device = ue(ue_ipv6="2001:db8::1")
            policy = plan("rule1", "rule3", credits_=[grant("1", 1024), grant("2", 1024)])
            at.policy.script("create", structs.replace(policy, installs=(*policy.installs, *dynamic(ocs("dyn", 1)))))
            key = await at.attach(device)
            await at.report(row(device, "rule1", 1, rx=16, tx=32))
            session = await at.session(key)
            assert (session.credits["1"].used_rx, session.credits["1"].used_tx) == (16, 32)
            await at.report(
                row(device, "rule1", 1, rx=16, tx=32),
                row(device, "dyn", 1, rx=5, tx=15, ipv6=True),
                row(device, "rule3", 1, rx=100, tx=150),
            )
            session = await at.session(key)
            assert (session.credits["1"].used_rx, session.credits["1"].used_tx) == (21, 47)
            assert (session.credits["2"].used_rx, session.credits["2"].used_tx) == (100, 150)

    async def test_versions_that_are_bumped_while_reports_come(self) -> None:
        """Usage of two versions of a rule is summed, also while a third one is in force already.

        reference: LocalEnforcerTest.test_multi_version_reporting.
        """
        async with gateway() as at:
            at.policy.script("create", plan("video", credits_=[grant("1", 100_000)]))
            key = await at.attach(ue())
            for _ in range(2):
                await at.report(row(ue(), "video", 1, rx=20, tx=60), counters_restart=True, epoch=at.clock.now_ms())
                await at.advance(1)
            assert (await at.session(key)).rules["video"].version == 3
            await at.report(row(ue(), "video", 2, rx=10, tx=80), row(ue(), "video", 1, rx=20, tx=60), epoch=2)
            charge = (await at.session(key)).credits["1"]
            assert (charge.used_rx, charge.used_tx) == (30, 140)

    async def test_a_report_that_lacks_some_rules(self) -> None:
        """What is not in a table is left as it is: version, flows and usage.

        reference: LocalEnforcerTest.test_receiving_stats_for_subset_of_rules.
        """
        rules = [ocs(f"rule{number}", number) for number in range(1, 4)]
        async with knowing(*rules) as at:
            credits_ = [grant(str(number), 1024) for number in range(1, 4)]
            at.policy.script("create", plan("rule1", "rule2", "rule3", credits_=credits_))
            key = await at.attach(ue())
            await at.report(*(row(ue(), rule.id, 1, tx=10) for rule in rules))
            before = await at.session(key)
            told = len(at.data_plane.flows)
            await at.report(row(ue(), "rule2", 1, tx=20))
            after = await at.session(key)
            assert [after.rules[rule.id].version for rule in rules] == [1, 1, 1]
            assert [after.credits[number].used_tx for number in ("1", "2", "3")] == [10, 20, 10]
            assert (after.rules["rule1"], after.rules["rule3"]) == (before.rules["rule1"], before.rules["rule3"])
            assert at.data_plane.flows[told:] == []

    async def test_records_of_a_dead_session(self) -> None:
        """All flows of the address are taken down, on the tunnel that pipelined names.

        reference: LocalEnforcerTest.test_dead_session_in_usage_report.
        """
        async with gateway() as at:
            await at.report(row(ue(), "video", 1, tx=10, teid=32))
            (call,) = at.data_plane.calls("deactivate_unknown")
            (flows,) = call.arguments
            assert (flows.subscriber, flows.ue_ipv4, flows.teid) == (ue().subscriber, ue().ue_ipv4, 32)


class TestUpdate:
    """Reports and their answers."""

    async def test_answers_are_for_the_session_they_name(self) -> None:
        """Of two sessions of a subscriber only the one that is named is credited.

        reference: LocalEnforcerTest.test_update_session_credits_and_rules.
        """
        async with knowing(both("rule1", 1, "1")) as at:
            allowed = plan("rule1", credits_=[grant("1", 2048)], monitors=[monitor_grant("1", 1024)])
            at.policy.script("create", allowed, allowed)
            one, other = await at.attach(ue()), await at.attach(ue(apn="ims"))
            await at.application.manager.charging_reauth(ue().subscriber, one, None)
            answering(at, one, grant("1", 24), monitors=[MonitorReply(answer=monitor_grant("1", 1024))])
            await at.report(row(ue(), "rule1", 1, tx=1000))
            credited, untouched = await at.session(one), await at.session(other)
            assert credited.credits["1"].allowed_total == 2072
            assert credited.monitors["1"].allowed_total == 2048
            assert (untouched.credits["1"].allowed_total, untouched.monitors["1"].allowed_total) == (2048, 1024)

    async def test_a_permanent_failure_of_a_monitor(self) -> None:
        """USER_UNKNOWN ends the session, and its usage is in the end.

        reference: LocalEnforcerTest.test_update_session_credits_and_rules_with_failure.
        """
        async with knowing(pcrf("rule1", "1")) as at:
            at.policy.script("create", plan("rule1", monitors=[monitor_grant("1", 1024)]))
            key = await at.attach(ue())
            answering(at, key, monitors=[MonitorReply(success=False, result_code=5030)])
            await at.report(row(ue(), "rule1", 1, rx=500, tx=524))
            session = await at.session(key)
            monitor = session.monitors["1"]
            assert (session.head.state, monitor.allowed_total) == (State.CLOSING, 1024)
            assert (monitor.used_rx, monitor.used_tx) == (500, 524)
            await at.report()
            assert unreported(at.policy.terminated[0].monitors["1"]) == Volume(524, 500)

    async def test_full_cycle_of_two_sessions(self) -> None:
        """Create, use, update, refill, end.

        reference: LocalEnforcerTest.test_all.
        """
        async with knowing(ocs("rule1", 1), ocs("rule2", 2)) as at:
            at.policy.script("create", plan("rule1", credits_=[grant("1", 2048)]))
            at.policy.script("create", plan("rule2", credits_=[grant("2", 2048)]))
            first, second = await at.attach(ue(1)), await at.attach(ue(2))
            answering(at, first, grant("1", 4096))
            await at.report(row(ue(1), "rule1", 1, rx=1024, tx=1024), row(ue(2), "rule2", 1, rx=5, tx=5))
            charge = (await at.session(first)).credits["1"]
            assert charge.allowed_total == 2048 + 4096
            assert (charge.reported_rx, charge.reported_tx) == (1024, 1024)
            assert [report.session.key for report in at.policy.updates[0]] == [first]
            for device in (ue(1), ue(2)):
                await at.detach(device)
            await at.report()
            assert {session.key for session in at.policy.terminated} == {first, second}
            assert (at.policy.ledger.credit(first, "1"), at.policy.ledger.credit(second, "2")) == (
                Volume(1024, 1024),
                Volume(5, 5),
            )

    async def test_end_while_a_report_is_in_flight(self) -> None:
        """There is one end with one monitor and two credits; what nobody let through does not bring the session back.

        reference: LocalEnforcerTest.test_terminate_credit_during_reporting, test_aggregate_records_for_termination.
        """
        async with knowing(ocs("rule1", 1), ocs("rule2", 2), pcrf("rule3", "m1")) as at:
            credits_ = [grant("1", 3072), grant("2", 2048)]
            at.policy.script("create", plan("rule1", "rule2", credits_=credits_, monitors=[monitor_grant("m1", 1024)]))
            key = await at.attach(ue())
            held = at.policy.hold("update")
            await at.report(row(ue(), "rule1", 1, rx=1024, tx=2048))
            await at.detach(ue())
            await at.report()
            assert at.policy.terminated == []
            held.release()
            await at.settle()
            (ended,) = at.policy.terminated
            assert ({"1", "2"}, {"m1"}) == (set(ended.credits), set(ended.monitors))
            assert unreported(ended.credits["1"]) == Volume()
            await at.report(row(ue(), "internal_default_drop_flow_rule", 0, tx=9))
            assert (await at.find(key), len(at.policy.terminated)) == (None, 1)

    async def test_revalidation_by_several_answers(self) -> None:
        """Three monitor answers with the trigger arm one timer, which makes one request.

        reference: LocalEnforcerTest.test_revalidation_timer_on_update, test_revalidation_timer_on_update_no_monitor.
        """
        async with knowing(*(pcrf(f"rule{n}", f"{n}") for n in range(3))) as at:
            monitors = [monitor_grant(f"{n}", 100) for n in range(3)]
            at.policy.script("create", plan("rule0", "rule1", "rule2", monitors=monitors))
            key = await at.attach(ue())
            then_ms = at.clock.now_ms() + 1000
            replies = [MonitorReply(answer=monitor, revalidation_at_ms=then_ms) for monitor in monitors]
            answering(at, key, monitors=[*replies, MonitorReply(revalidation_at_ms=then_ms)])
            await at.report(*(row(ue(), f"rule{n}", 1, tx=90) for n in range(3)))
            assert len(at.policy.updates) == 1
            await at.advance(1000)
            await at.report(*(row(ue(), f"rule{n}", 1, tx=90) for n in range(3)))
            assert len(at.policy.updates) == 2
            await at.report()
            assert len(at.policy.updates) == 2


class TestMonitors:
    """Usage monitoring over several reports."""

    async def test_rule_and_session_level(self) -> None:
        """Each monitor counts, reports at its threshold and is refilled; the answer removes and installs rules.

        reference: LocalEnforcerTest.test_usage_monitors.
        """
        rules = (both("both", 1, "1"), ocs("ocs", 2), pcrf("pcrf", "3"), pcrf("static", "1"))
        async with knowing(*rules) as at:
            monitors = [
                monitor_grant("1", 1024),
                monitor_grant("3", 2048),
                monitor_grant("4", 2128, level=Level.SESSION_LEVEL),
            ]
            credits_ = [grant("1", 10_000), grant("2", 10_000)]
            at.policy.script("create", plan("both", "ocs", "pcrf", credits_=credits_, monitors=monitors))
            key = await at.attach(ue())
            change = MonitorReply(
                answer=monitor_grant("3", 2048), remove=("pcrf",), installs=dynamic(pcrf("dynamic", "3"))
            )
            answering(at, key, monitors=[change, MonitorReply(answer=monitor_grant("4", 2048, level=_SESSION))])
            await at.report(
                row(ue(), "both", 1, rx=10, tx=20),
                row(ue(), "ocs", 1, rx=15, tx=35),
                row(ue(), "pcrf", 1, rx=1024, tx=1024),
            )
            (report,) = at.policy.updates[0]
            sent = {name: monitor.in_flight for name, monitor in report.session.monitors.items()}
            assert sent == {
                "1": None,
                "3": Report(1, 1024, 1024, "USAGE_REPORT"),
                "4": Report(1, 1079, 1049, "USAGE_REPORT"),
            }
            after = (await at.session(key)).monitors
            assert (after["1"].used_rx, after["1"].used_tx) == (10, 20)
            assert [after[name].allowed_total for name in ("3", "4")] == [4096, 4176]
            assert flows_of(at, 1) == [down(("pcrf", 2)), up(("dynamic", 1))]

    async def test_monitors_that_get_no_more(self) -> None:
        """After a grant of nothing and over-use there is one last report, and then the monitor is gone.

        reference: LocalEnforcerTest.test_usage_monitor_disable.
        """
        async with knowing(pcrf("rule1", "1"), pcrf("rule2", "2")) as at:
            monitors = [monitor_grant("3", 1024, level=_SESSION), monitor_grant("1", 1024), monitor_grant("2", 1024)]
            at.policy.script("create", plan("rule1", "rule2", monitors=monitors))
            key = await at.attach(ue())
            none, more = monitor_grant("1", 0), monitor_grant("2", 2000)
            last = monitor_grant("3", 0, level=_SESSION)
            answering(at, key, monitors=[MonitorReply(answer=answer) for answer in (last, none, more)])
            await at.report(row(ue(), "rule1", 1, rx=2000), row(ue(), "rule2", 1, rx=2000))
            quotas = (await at.session(key)).monitors
            assert {name: quota.allowed_total for name, quota in quotas.items()} == {"3": 4000, "1": 2000, "2": 4000}
            await at.report(row(ue(), "rule1", 1, rx=4000), row(ue(), "rule2", 1, rx=4000))
            (report,) = at.policy.updates[1]
            assert {name: sent.in_flight.last for name, sent in report.session.monitors.items() if sent.in_flight} == {
                "3": True,
                "1": True,
                "2": False,
            }
            session = await at.session(key)
            assert set(session.monitors) == {"2"}
            assert session.gateway is not None
            assert session.gateway.session_monitor == ""
            assert at.policy.ledger.monitor(key, "3") == Volume(0, 8000)

    async def test_disable_while_a_report_is_due(self) -> None:
        """A monitor that is disabled reports once more, whatever else the answer grants it."""
        async with knowing(pcrf("rule1", "1")) as at:
            at.policy.script("create", plan("rule1", monitors=[monitor_grant("1", 1024)]))
            key = await at.attach(ue())
            disable = monitor_grant("1", 5000, action=MonitorAction.DISABLE)
            answering(at, key, monitors=[MonitorReply(answer=disable)])
            await at.report(row(ue(), "rule1", 1, rx=1000))
            assert (await at.session(key)).monitors["1"].allowed_total == 1024
            await at.report()
            assert (await at.session(key)).monitors == {}


class TestFinalUnits:
    """Final units from the grant to what follows."""

    async def test_terminate_takes_the_bearer_with_it(self) -> None:
        """Two tables of 1024 up and 2048 down use up a final grant: all flows go, and the default bearer.

        reference: LocalEnforcerTest.test_final_unit_handling, test_dynamic_rule_actions.
        """
        async with knowing(ocs("static1", 1), ocs("static2", 1)) as at:
            policy = plan("static1", "static2", credits_=[terminate_grant("1", 1024)])
            at.policy.script("create", structs.replace(policy, installs=(*policy.installs, *dynamic(ocs("dyn", 1)))))
            key = await at.attach(ue())
            assert flows_of(at) == [up(("static1", 1), ("static2", 1), ("dyn", 1))]
            for rule in ("static1", "dyn"):
                await at.report(row(ue(), rule, 1, rx=1024, tx=2048))
            assert flows_of(at, 1) == [DeactivateFlows(teids=TEIDS, everything=True)]
            assert [effect for _, effect in at.access.bearers] == [DeleteBearer(bearer_ids=(_bearer(ue()),))]
            assert (await at.session(key)).head.state is State.CLOSING

    async def test_redirect_until_the_end(self) -> None:
        """A used-up REDIRECT grant installs the redirection; the end takes everything down on the tunnel.

        reference: LocalEnforcerTest.test_final_unit_redirect_activation_and_termination.
        """
        async with knowing(ocs("rule1", 1)) as at:
            answer = redirect_grant("1", 1024)
            answer = structs.replace(answer, redirect=RedirectServer("IPV4", "12.7.7.4"))
            at.policy.script("create", plan("rule1", credits_=[answer]))
            key = await at.attach(ue())
            await at.report(row(ue(), "rule1", 1, rx=1024, tx=2048))
            assert flows_of(at, 1) == [up(("redirect", 1), gy=True)]
            installed = (await at.session(key)).rules["redirect"].gy
            assert installed is not None
            assert installed.redirect == RedirectServer("IPV4", "12.7.7.4")
            await at.detach(ue())
            assert flows_of(at, 2) == [DeactivateFlows(teids=TEIDS, everything=True)]

    async def test_restrict_until_new_quota(self) -> None:
        """Nothing is reported below exhaustion; at it the restriction goes in, and new quota after a request lifts it.

        reference: LocalEnforcerTest.test_final_unit_action_no_update, test_final_unit_activation_and_canceling.
        """
        async with knowing(ocs("rule1", 1), free("restrict_rule")) as at:
            at.policy.script("create", plan("rule1", credits_=[restrict_grant("restrict_rule", key="1", total=1024)]))
            key = await at.attach(ue())
            await at.report(row(ue(), "rule1", 1, tx=1023))
            assert (at.policy.updates, flows_of(at, 1)) == ([], [])
            await at.report(row(ue(), "rule1", 1, tx=1024))
            assert (at.policy.updates, flows_of(at, 1)) == ([], [up(("restrict_rule", 1), gy=True)])
            assert (await at.session(key)).credits["1"].service is Service.RESTRICTED
            done = await at.application.manager.charging_reauth(ue().subscriber, key, "1")
            assert done is ReAuthResult.UPDATE_INITIATED
            answering(at, key, grant("1", 4096))
            await at.report(row(ue(), "rule1", 1, tx=1024))
            await at.report(row(ue(), "rule1", 1, tx=1024))
            assert flows_of(at, 2) == [down(("restrict_rule", 2), gy=True), up(("rule1", 2))]
            charge = (await at.session(key)).credits["1"]
            assert (charge.service, charge.reauth) == (Service.ENABLED, ReAuth.NOT_NEEDED)
            assert "restrict_rule" not in {rule for rule, known in (await at.session(key)).rules.items() if known.gy}

    async def test_an_unknown_rating_group_is_authorised(self) -> None:
        """A request for a rating group never heard of is reported with no usage; its grant brings the flows up.

        reference: LocalEnforcerTest.test_re_auth, SessionStateTest.test_reauth_new_key.
        """
        async with knowing(ocs("rule1", 1)) as at:
            at.policy.script("create", plan("rule1"))
            key = await at.attach(ue())
            done = await at.application.manager.charging_reauth(ue().subscriber, key, "1")
            assert done is ReAuthResult.UPDATE_INITIATED
            answering(at, key, grant("1", 4096))
            await at.report()
            ((report,),) = at.policy.updates
            assert report.session.credits["1"].in_flight == Report(1, 0, 0, "REAUTH_REQUIRED")
            await at.report()
            assert flows_of(at, 1) == [up(("rule1", 2))]
            assert (await at.session(key)).credits["1"].allowed_total == 4096


class TestBearers:
    """Dedicated bearers from the request to their end."""

    async def test_lifecycle(self) -> None:
        """Rules of another QoS class wait for their bearers, come up on them, and take them along when they go.

        reference: LocalEnforcerTest.test_dedicated_bearer_lifecycle, test_dedicated_bearer_creation_on_session_init.
        """
        rules = [ocs(f"rule{qci}", 1, qci=qci) for qci in (1, 2, 3)]
        device = ue(lte=LteContext(bearer_id=5, qos=QosInformation(qci=5)))
        async with knowing(*rules, ocs("plain", 1)) as at:
            at.policy.script("create", plan("rule1", "rule2", "rule3", "plain", credits_=[grant("1", 1024)]))
            key = await at.attach(device)
            assert flows_of(at) == [up(("plain", 1))]
            assert at.access.bearers == [(key, CreateBearer(rules=("rule1", "rule2", "rule3")))]
            manager, who = at.application.manager, device.subscriber
            await manager.bind_bearer(who, 5, "rule1", Bearer(6, Teids(1, 2)))
            await manager.bind_bearer(who, 5, "rule2", Bearer(7, Teids(3, 4)))
            await manager.bind_bearer(who, 5, "rule3", Bearer(0))
            await at.settle()
            assert flows_of(at, 1) == [
                up(("rule1", 1), teids=Teids(1, 2)),
                up(("rule2", 1), teids=Teids(3, 4)),
                down(("rule3", 2)),
            ]
            change = MonitorReply(remove=("rule1", "rule2", "rule3"))
            await manager.charging_reauth(who, key, None)
            answering(at, key, grant("1", 1024), monitors=[change])
            await at.report()
            assert flows_of(at, 4) == [down(("rule1", 2), teids=Teids(1, 2)), down(("rule2", 2), teids=Teids(3, 4))]
            assert at.access.bearers[1:] == [(key, DeleteBearer(bearer_ids=(6, 7)))]

    async def test_end_on_all_tunnels(self) -> None:
        """A session with two dedicated bearers has three tunnels, and its end takes the flows off each."""
        device = ue(lte=LteContext(bearer_id=5, qos=QosInformation(qci=5)))
        async with knowing(free("rule1", qci=1), free("rule2", qci=2)) as at:
            at.policy.script("create", plan("rule1", "rule2"))
            await at.attach(device)
            for number in (1, 2):
                bound = Bearer(5 + number, Teids(number, number))
                await at.application.manager.bind_bearer(device.subscriber, 5, f"rule{number}", bound)
            await at.detach(device)
            everything = [effect.teids for effect in flows_of(at) if isinstance(effect, DeactivateFlows)]
            assert everything == [TEIDS, Teids(1, 1), Teids(2, 2)]

    @pytest.mark.parametrize(
        ("rules", "asked"),
        [((), []), ((free("qos", qci=1),), [CreateBearer(rules=("qos",))]), ((free("plain", qci=0),), [])],
    )
    async def test_a_policy_request(self, rules: Sequence[PolicyRule], asked: list[CreateBearer]) -> None:
        """A request gets a bearer if a rule of it needs one; the reference asks for one without any rule (B1).

        reference: LocalEnforcerTest.test_rar_create_dedicated_bearer.
        """
        device = ue(lte=LteContext(bearer_id=5, qos=QosInformation(qci=0)))
        async with gateway() as at:
            key = await at.attach(device)
            change = PolicyChange(installs=dynamic(*rules))
            await at.application.manager.policy_reauth(device.subscriber, key, change)
            await at.settle()
            assert at.access.bearers == [(key, effect) for effect in asked]


class TestRuleSets:
    """Rule sets that are pushed."""

    @pytest.mark.parametrize("wide_first", [False, True])
    async def test_two_apns_and_a_wide_set(self, wide_first: bool) -> None:
        """Each session has the rules of its APN and those for the whole subscriber, in whatever order they come (B5).

        reference: LocalEnforcerTest.test_set_session_rules.
        """
        wire = {name: WireRule(id=name, tracking_type=WireRule.NO_TRACKING) for name in ("dynamic1", "dynamic2")}
        sets = [_pushed("apn1", "static1", "static3"), _pushed("apn2", "static1")]
        sets[0].dynamic_rules.add(policy_rule=wire["dynamic2"])
        wide = RuleSet(apply_subscriber_wide=True)
        wide.dynamic_rules.add(policy_rule=wire["dynamic2"])
        pushed = RulesPerSubscriber(imsi=ue().subscriber, rule_set=[wide, *sets] if wide_first else [*sets, wide])
        wanted = rule_sets(pushed)
        catalogue_ = (free("static1"), free("static2"), free("static3", qci=1))
        async with knowing(*catalogue_) as at:
            policy = plan("static1", "static2")
            policy = structs.replace(policy, installs=(*policy.installs, *dynamic(free("dynamic1"))))
            at.policy.script("create", policy, policy)
            keys = [await at.attach(ue(apn=apn)) for apn in ("apn1", "apn2")]
            told = len(at.data_plane.flows)
            await at.application.manager.set_session_rules(ue().subscriber, wanted)
            await at.settle()
            in_force = [{name for name, rule in (await at.session(key)).rules.items() if rule.gx} for key in keys]
            assert in_force == [{"static1", "static3", "dynamic2"}, {"static1", "dynamic2"}]
            for key in keys:
                mine = [effect for of, effect in at.data_plane.flows[told:] if of == key]
                assert [type(effect) for effect in mine] == [DeactivateFlows, ActivateFlows]
                assert [{rule.id for rule in effect.rules} for effect in mine] == [
                    {"static2", "dynamic1"},
                    {"dynamic2"},
                ]
            assert at.access.bearers == [(keys[0], CreateBearer(rules=("static3",)))]


class TestRequests:
    """Requests of clients and of the policy side."""

    async def test_policy_of_nobody(self) -> None:
        """Neither an unknown subscriber nor an unknown session is found.

        reference: LocalEnforcerTest.test_rar_session_not_found.
        """
        async with gateway() as at:
            await at.attach(ue())
            for subscriber, key in (("IMSI999", ""), ("IMSI999", "x"), (ue().subscriber, f"{ue().subscriber}-999999")):
                with pytest.raises(NotFound):
                    await at.application.manager.policy_reauth(subscriber, key, PolicyChange())

    async def test_a_rule_that_is_there_already(self) -> None:
        """Only what is missing is installed, and no request number is used.

        reference: SessionProxyResponderHandlerTest.test_policy_reauth.
        """
        async with gateway() as at:
            at.policy.script("create", plan("free"))
            key = await at.attach(ue())
            change = PolicyChange(installs=plan("free", "video").installs)
            await at.application.manager.policy_reauth(ue().subscriber, key, change)
            await at.settle()
            assert flows_of(at, 1) == [up(("video", 1))]
            session = await at.session(key)
            assert session.gateway is not None
            assert session.gateway.request_number == 1

    async def test_a_report_over_the_threshold(self) -> None:
        """One report is sent, and the next request has number 2.

        reference: SessionManagerHandlerTest.test_report_rule_stats, LocalEnforcerTest.test_collect_updates.
        """
        async with gateway() as at:
            at.policy.script("create", plan("video", credits_=[grant("1", 1025)]))
            key = await at.attach(ue())
            await at.report(row(ue(), "video", 1, rx=512, tx=512))
            ((report,),) = at.policy.updates
            assert report.numbers == {1}
            session = await at.session(key)
            assert session.gateway is not None
            assert session.gateway.request_number == 2

    async def test_sessions_are_found_by_what_they_are(self) -> None:
        """By id, APN, bearer, IPv4 and IPv6 address; wrong keys find nothing; over wifi the subscriber is enough.

        reference: SessionStoreTest.test_get_session.
        """
        async with gateway() as at:
            device = ue(ue_ipv6="2001:db8::1")
            at.policy.usually("create", plan("free"))
            key = await at.attach(device)
            manager = at.application.manager
            lte = device.lte
            assert lte is not None
            await manager.policy_reauth(device.subscriber, key, PolicyChange())
            await manager.update_tunnel_ids(device.subscriber, lte.bearer_id, TEIDS)
            who, bearer = device.subscriber, lte.bearer_id
            for subscriber, bearer_id, wanted in ((who, bearer + 1, ""), ("IMSI1", bearer, ""), (who, bearer, "x")):
                with pytest.raises(NotFound):
                    await manager.update_tunnel_ids(subscriber, bearer_id, TEIDS, wanted)
            for subscriber, apn in ((device.subscriber, "other"), ("IMSI1", device.apn)):
                with pytest.raises(NotFound):
                    await manager.end_session(subscriber, apn)
            stranger = structs.replace(device, ue_ipv4="10.9.9.9", ue_ipv6="2001:db8::9")
            for ipv6 in (False, True):
                await at.report(row(device, "free", 1, tx=1, ipv6=ipv6))
                assert at.data_plane.calls("deactivate_unknown") == []
            for ipv6 in (False, True):
                await at.report(row(stranger, "free", 1, tx=1, ipv6=ipv6))
            assert len(at.data_plane.calls("deactivate_unknown")) == 2


class TestRevalidation:
    """When the policy side is to be asked again."""

    async def test_from_the_start(self) -> None:
        """A time that comes with the session's beginning, and has come, makes one request with the next table.

        reference: LocalEnforcerTest.test_revalidation_timer_on_init.
        """
        async with gateway() as at:
            at.policy.script("create", plan("free", revalidation_at_ms=at.clock.now_ms()))
            await at.attach(ue())
            await at.settle()
            for _ in range(2):
                await at.report(row(ue(), "free", 1, tx=1))
                ((report,),) = at.policy.updates
                assert report.numbers == {1}

    async def test_by_request(self) -> None:
        """A time that the policy side sets later does the same.

        reference: LocalEnforcerTest.test_revalidation_timer_on_rar.
        """
        async with gateway() as at:
            key = await at.attach(ue())
            change = PolicyChange(revalidation_at_ms=at.clock.now_ms())
            await at.application.manager.policy_reauth(ue().subscriber, key, change)
            await at.settle()
            for _ in range(2):
                await at.report(row(ue(), "free", 1, tx=1))
                assert len(at.policy.updates) == 1


class TestRestart:
    """A daemon that comes back to the sessions of the last one."""

    async def test_rules_are_in_line_with_the_clock(self) -> None:
        """Of four rules with times one after the other, the third is in force at 12 s, and the fourth comes at 15 s.

        reference: LocalEnforcerTest.test_sync_sessions_on_restart.
        """
        rules = [free(f"rule{number}") for number in range(4)]
        async with knowing(*rules) as at:
            began_ms = at.clock.now_ms()
            times = [Lifetime(began_ms + 5000 * n if n else 0, began_ms + 5000 * (n + 1)) for n in range(4)]
            installs = [RuleInstall(rule.id, None, time) for rule, time in zip(rules, times, strict=True)]
            at.policy.script("create", structs.replace(plan(), installs=tuple(installs)))
            key = await at.attach(ue())
            await at.close()
            at.clock.advance(12_000)
            await at.restart()
            assert await _in_force(at, key) == {"rule2"}
            await at.advance(3000)
            assert await _in_force(at, key) == {"rule3"}
            assert flows_of(at) == [
                up(("rule0", 1)),
                down(("rule0", 2)),
                up(("rule2", 1)),
                down(("rule2", 2)),
                up(("rule3", 1)),
            ]

    @pytest.mark.parametrize("away_ms", [1000, 60_000])
    async def test_a_revalidation_is_armed_again(self, away_ms: int) -> None:
        """Its time comes as if nothing had happened, or at once if it passed meanwhile.

        reference: LocalEnforcerTest.test_sync_sessions_on_restart_revalidation_timer.
        """
        async with gateway() as at:
            at.policy.script("create", plan("free", revalidation_at_ms=at.clock.now_ms() + 5000))
            await at.attach(ue())
            await at.close()
            at.clock.advance(away_ms)
            await at.restart()
            await at.advance(max(0, 5000 - away_ms))
            await at.report(row(ue(), "free", 1, tx=1))
            assert len(at.policy.updates) == 1


async def _in_force(at: SimulatedGateway, key: str) -> set[str]:
    known = (await at.session(key)).rules.items()
    return {name for name, rule in known if rule.gx is not None and not rule.gx.scheduled}


def _pushed(apn: str, *static: str) -> RuleSet:
    pushed = RuleSet(apn=apn)
    for rule in static:
        pushed.static_rules.add(rule_id=rule)
    return pushed


def _bearer(context: Context) -> int:
    assert context.lte is not None
    return context.lte.bearer_id


_SESSION = Level.SESSION_LEVEL
