"""The beginning of a session: asked for, allowed or refused, and put in force (rpc.md 1.2 and 1.4)."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from sessiond.core.charging import CreditAnswer, ReAuth, Service
from sessiond.core.credit import CreditLimit
from sessiond.core.decide import create, reauth
from sessiond.core.decide.create import Course, Plan
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    Saved,
    TerminateSession,
    VersionedRule,
    WriteDirectoryRecord,
)
from sessiond.core.errors import Aborted, NotFound
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level
from sessiond.core.rules import Lifetime, Rule, RuleInstall, Teids
from sessiond.core.session import (
    Context,
    DestinationHosts,
    Head,
    LteContext,
    PolicyAnswer,
    Rat,
    Revalidation,
    RevalidationState,
    Session,
)
from tests.core.builders import (
    DEFAULT_QCI,
    KEY,
    NOW_MS,
    SUBSCRIBER,
    TEIDS,
    Life,
    allowed,
    asked,
    both,
    dynamic,
    failure,
    free,
    grant,
    lte_context,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    situation,
    started,
    static,
    wlan_context,
)
from tests.core.builders import lte_context as lte


def activated(life: Life, teids: Teids = TEIDS) -> None:
    """Have the tunnels known."""
    life.decide(lambda draft: create.activate(draft, teids, life.at))


class TestPlan:
    """What a request comes to, rpc.md 1.2.1 with known problem G1 put right."""

    @pytest.mark.parametrize(
        ("wanted", "present", "course"),
        [
            (lte(), lte(), Course.RECYCLE),
            (lte(), lte(teids=TEIDS), Course.RECYCLE),
            (lte(msisdn="1"), lte(teids=TEIDS), Course.REPLACE),
            (lte(ue_ipv4="192.168.128.12"), lte(), Course.REPLACE),
            (lte(lte=LteContext(bearer_id=6)), lte(), Course.REPLACE),
            (lte(apn="other"), lte(), Course.NEW),
            (wlan_context(apn="other"), wlan_context(), Course.RECYCLE),
        ],
    )
    def test_against_an_active_session(self, wanted: Context, present: Context, course: Course) -> None:
        """LTE keeps a session of the APN if only its tunnels differ; carrier wifi keeps any.

        reference: SessionManagerHandlerTest.test_session_recycling_lte, test_create_session_cfg.
        """
        life = started(situation(), context=present)
        life.decide(lambda draft: draft.put("context", "", present))
        key = "" if course is Course.NEW else KEY
        assert create.plan(wanted, [life.session]) == Plan(course, key)

    @pytest.mark.parametrize("context", [lte(), wlan_context()])
    def test_only_an_active_session_is_kept(self, context: Context) -> None:
        """A session that is being created or released does not stand in the way of a new one."""
        at = situation()
        releasing = started(at, context=context)
        releasing.release()
        present = [asked(at, context).session, releasing.session]
        assert create.plan(context, present) == Plan(Course.NEW)
        assert create.plan(context, []) == Plan(Course.NEW)

    def test_sessions_of_other_kinds_are_passed_over(self) -> None:
        """A session without a context is none of a gateway's."""
        head = started(situation()).session.head
        stream = Session(key="stream", type="stream", scope="stream", head=head)
        assert create.plan(wlan_context(), [stream]) == Plan(Course.NEW)


class TestNewSession:
    """A session that the policy side is yet to be asked about."""

    @pytest.mark.parametrize(("context", "kind"), [(lte(), "lte"), (wlan_context(), "wlan")])
    def test_it_begins_in_creating(self, context: Context, kind: str) -> None:
        """It is kept before anybody is asked, and knows until when an answer must have come."""
        session = asked(situation(policy_deadline_ms=6000), context).session
        assert (session.key, session.type, session.scope) == (KEY, kind, SUBSCRIBER)
        assert (session.head.state, session.head.created_at_ms) == (State.CREATING, NOW_MS)
        assert session.gateway is not None
        assert (session.gateway.request_number, session.gateway.decide_by_ms) == (1, NOW_MS + 12_000)

    def test_versions_go_on_where_the_present_sessions_are(self) -> None:
        """After a quick re-attach the first version of a rule is newer than any the data plane still counts."""
        at = situation(free("rule1"))
        first = started(at, installs=[*static("rule1"), *dynamic(free("rule2"))])
        first.release()
        second = Life(create.new_session("other", lte(apn="second"), [first.session], at), at)
        second.decide(lambda draft: create.allowed(draft, PolicyAnswer(installs=static("rule1")), at))
        activated(second)
        third = create.new_session(KEY, lte(), [second.session, first.session], at)
        assert (first.rule("rule1").version, second.rule("rule1").version) == (2, 3)
        assert {name: (rule.version, rule.base) for name, rule in third.rules.items()} == {
            "rule1": (3, 3),
            "rule2": (2, 2),
        }
        assert all(rule.gx is None and rule.gy is None for rule in third.rules.values())

    @pytest.mark.parametrize(
        ("earlier", "context", "version"),
        [
            (lte(), lte(apn="other"), 1),
            (lte(), lte(ue_ipv4="10.9.9.9"), 0),
            (lte(ue_ipv6="fd00::1"), lte(ue_ipv4="10.9.9.9"), 0),
            (lte(ue_ipv6="fd00::1"), lte(ue_ipv4="10.9.9.9", ue_ipv6="fd00::1"), 1),
            (lte(ue_ipv4=""), lte(ue_ipv4="", ue_ipv6="fd00::1"), 0),
            (lte(ue_ipv4=""), lte(ue_ipv4=""), 1),
            (wlan_context(), wlan_context(ue_ipv4="10.9.9.9"), 1),
            (wlan_context(), lte(), 1),
        ],
    )
    def test_only_sessions_of_the_same_address_have_a_say(
        self, earlier: Context, context: Context, version: int
    ) -> None:
        """Usage of another address cannot be mistaken: its rules begin with version 1 as those of any session."""
        at = situation(free("rule1"))
        first = started(at, installs=static("rule1"), context=earlier)
        second = create.new_session("other", context, [first.session], at)
        assert second.rules == ({"rule1": Rule(version=version, base=version)} if version else {})

    def test_sessions_of_other_kinds_have_no_versions(self) -> None:
        """A session without a context has nothing that the data plane counts."""
        head = started(situation()).session.head
        stream = Session(key="stream", type="stream", scope=SUBSCRIBER, head=head)
        assert asked(situation(), present=[stream]).session.rules == {}

    def test_the_first_install_is_a_new_version(self) -> None:
        """A rule of an earlier session is installed with the version after the last one."""
        at = situation(free("rule1"))
        first = started(at, installs=static("rule1"))
        second = asked(at, present=[first.session])
        second.decide(lambda draft: create.allowed(draft, PolicyAnswer(installs=static("rule1")), at))
        activated(second)
        assert second.effects_of(ActivateFlows)[0].rules == (VersionedRule("rule1", 2),)


class TestAnswer:
    """What the policy side says about a new session."""

    def test_allowed(self) -> None:
        """A session that is allowed is active, with its answer kept and its directory record told."""
        policy = PolicyAnswer(credits=(grant(),), hosts=DestinationHosts("gx", "gy"))
        life = allowed(policy, situation())
        assert (life.session.head.state, life.session.head.activated_at_ms) == (State.ACTIVE, NOW_MS)
        assert (life.gateway.answer, life.gateway.decide_by_ms) == (policy, 0)
        assert life.gateway.hosts == DestinationHosts("gx", "gy")
        assert life.news == [WriteDirectoryRecord()]
        assert (life.session.credits, life.effects) == ({}, [])

    def test_allowed_too_late(self) -> None:
        """An answer for a session that is over is refused; nothing comes back to life."""
        life = asked(situation())
        life.release()
        with pytest.raises(Aborted, match="Session not found"):
            life.decide(lambda draft: create.allowed(draft, PolicyAnswer(), life.at))

    @pytest.mark.parametrize(
        ("certain", "reason", "told"), [(True, "POLICY_REFUSED", []), (False, "POLICY_SILENT", [TerminateSession()])]
    )
    def test_not_allowed(self, certain: bool, reason: str, told: list[Saved]) -> None:
        """A refused session is closed with an event; the policy side hears of the end if it may know the session."""
        life = asked(situation())
        life.decide(lambda draft: create.not_allowed(draft, life.at, certain=certain))
        assert (life.session.head.state, life.session.head.reason) == (State.CLOSED, reason)
        assert life.effects == told
        (event,) = life.events
        assert event.type == "session_create_failure"
        assert event.value["failure_reason"] == "Failed to initialize session in SessionProxy/PolicyDB"

    @pytest.mark.parametrize("released", [True, False])
    def test_a_refusal_that_comes_too_late_changes_nothing(self, released: bool) -> None:
        """A session that went on meanwhile is not closed by an old refusal."""
        life = asked(situation()) if released else started(situation())
        life.release()
        before = life.session
        life.decide(lambda draft: create.not_allowed(draft, life.at, certain=False))
        assert (life.session, life.news) == (before, [])

    def test_silence(self) -> None:
        """If no answer comes in time the session is closed, and the policy side is told, for it may know it."""
        life = asked(situation())
        life.later(11_999)
        life.tick()
        assert life.session.head.state is State.CREATING
        life.later(1)
        life.tick()
        assert (life.session.head.state, life.session.head.reason) == (State.CLOSED, "POLICY_SILENT")
        assert life.effects == [TerminateSession()]


class TestActivate:
    """Rules and quotas come into force when the tunnels are known."""

    def test_everything_of_the_answer(self) -> None:
        """Credits, monitors and rules are there, their flows go up in one request per tunnel, and an event says so.

        reference: LocalEnforcerTest.test_init_session_credit, test_installing_rules_with_activation_time.
        """
        life = started(
            situation(ocs("static-1", 1)),
            credits_=[grant(total=1024)],
            monitors=[monitor_grant("m1", 2048, level=Level.SESSION_LEVEL)],
            installs=[*dynamic(free("dynamic-1")), *static("static-1", "unknown")],
            revalidation_at_ms=NOW_MS + 5,
            keep_effects=True,
        )
        assert (life.credit().allowed_total, life.monitor("m1").allowed_total) == (1024, 2048)
        rules_ = (VersionedRule("static-1", 1), VersionedRule("dynamic-1", 1))
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=rules_)]
        assert life.gateway.session_monitor == "m1"
        assert life.gateway.revalidation == Revalidation(RevalidationState.PENDING, NOW_MS + 5)
        assert life.gateway.answer is None
        assert [event.type for event in life.events] == ["session_created"]

    @pytest.mark.parametrize("context", [lte(), wlan_context()])
    def test_without_rules_the_default_drop_flow(self, context: Context) -> None:
        """Pipelined hears of a session that has no rules; reference: LocalEnforcerTest.test_init_cwf_session_credit."""
        life = started(situation(), context=context, keep_effects=True)
        assert life.effects == [ActivateFlows(teids=TEIDS)]

    def test_a_second_time(self) -> None:
        """The same tunnels once more: an empty request and the event again, nothing else (rpc.md 1.4)."""
        life = started(situation(free("rule1")), installs=static("rule1"))
        rules_ = life.session.rules
        activated(life)
        assert (life.effects, life.session.rules) == ([ActivateFlows(teids=TEIDS)], rules_)
        assert [event.type for event in life.events] == ["session_created"]

    def test_other_tunnels(self) -> None:
        """A session that moves has its flows on the new tunnel, with the versions they had."""
        life = started(
            situation(free("rule1")),
            installs=[*static("rule1"), *dynamic(free("later"), lifetime=Lifetime(NOW_MS + 1000))],
        )
        moved = Teids(7, 8)
        activated(life, moved)
        assert life.effects == [ActivateFlows(teids=moved, rules=(VersionedRule("rule1", 1),))]
        assert life.session.context == lte(teids=moved)

    def test_flows_of_a_suspended_credit_do_not_move(self) -> None:
        """What is held back for want of credit stays down on the new tunnel, too."""
        life = started(
            situation(ocs("rule1", 1), ocs("rule2", 2)),
            credits_=[failure(4012, "1"), grant("2")],
            installs=static("rule1", "rule2"),
        )
        moved = Teids(7, 8)
        activated(life, moved)
        assert life.effects == [ActivateFlows(teids=moved, rules=(VersionedRule("rule2", 1),))]

    def test_rules_that_came_before_the_tunnels(self) -> None:
        """Rules of a policy request that overtook the tunnels are brought up on them."""
        at = situation(free("rule1"), free("rule2"))
        life = allowed(PolicyAnswer(installs=static("rule1")), at)
        life.decide(lambda draft: reauth.change_policy(draft, PolicyChange(installs=static("rule2")), at))
        life.struck()
        activated(life)
        (activate,) = life.effects_of(ActivateFlows)
        assert activate.teids == TEIDS
        assert set(activate.rules) == {VersionedRule("rule1", 1), VersionedRule("rule2", 1)}

    @pytest.mark.parametrize("closed", [False, True])
    def test_a_session_that_is_over_stays_over(self, closed: bool) -> None:
        """Tunnels of a session that is being released bring nothing into force."""
        life = allowed(PolicyAnswer(installs=dynamic(free("rule1"))), situation())
        life.release()
        if closed:
            life.final_usage_in()
        before = life.session
        with pytest.raises(NotFound) as refusal:
            activated(life)
        assert (refusal.value.reason, life.session) == ("SESSION_NOT_FOUND", before)

    @pytest.mark.parametrize(
        ("answer", "online", "installed"),
        [
            (grant(), True, {"ocs", "both", "pcrf", "free"}),
            (grant(total=0), True, {"ocs", "both", "pcrf", "free"}),
            (grant(total=None, limit=CreditLimit.INFINITE_METERED), True, {"ocs", "both", "pcrf", "free"}),
            (failure(4012), True, {"ocs", "both", "pcrf", "free"}),
            (failure(5030), True, {"pcrf", "free"}),
            (grant(total=None), True, {"pcrf", "free"}),
            (grant("2"), True, {"pcrf", "free"}),
            (failure(5030), False, {"ocs", "both", "pcrf", "free"}),
        ],
    )
    def test_online_rules_need_a_credit(self, answer: CreditAnswer, online: bool, installed: set[str]) -> None:
        """With online charging the rules of a rating group that got no credit are left out (credit.md section 11).

        reference: LocalEnforcerTest.test_init_no_credit, test_init_infinite_metered_credit,
        test_collect_updates_with_online_avp_to_0.
        """
        rules_ = [ocs("ocs", 1), both("both", 1, "m1"), pcrf("pcrf", "m1"), free("free")]
        life = started(
            situation(*rules_[:2]),
            credits_=[answer],
            installs=[*static("ocs", "both", "unknown"), *dynamic(*rules_[2:])],
            online=online,
        )
        assert {rule_id for rule_id, rule in life.session.rules.items() if rule.gx is not None} == installed

    def test_a_service_needs_its_own_credit(self) -> None:
        """The credit of a rating group is not that of a service in it (known problem G12)."""
        life = started(
            situation(ocs("group", 1), ocs("service", 1, service_identifier=7)),
            credits_=[grant("1")],
            installs=static("group", "service"),
            online=True,
        )
        assert set(life.session.rules) == {"group"}

    def test_a_rejected_credit_is_not_tracked(self) -> None:
        """A permanent failure of one credit leaves the session and its other credits alone (credit.md section 10)."""
        life = started(situation(), credits_=[failure(5030, "1"), grant("2")])
        assert (set(life.session.credits), life.session.head.state) == ({"2"}, State.ACTIVE)

    def test_rules_that_are_not_yet_in_force(self) -> None:
        """Past and unset activation times act at once, future ones wait; a rule that is over is not installed.

        reference: LocalEnforcerTest.test_installing_rules_with_activation_time.
        """
        day = 86_400_000
        past, future, over = Lifetime(NOW_MS - day), Lifetime(NOW_MS + day), Lifetime(0, NOW_MS)
        installs: list[RuleInstall] = []
        for name, lifetime in {"unset": Lifetime(), "past": past, "future": future, "over": over}.items():
            installs += [
                *static(f"static-{name}", lifetime=lifetime),
                *dynamic(free(f"dynamic-{name}"), lifetime=lifetime),
            ]
        life = started(
            situation(*(free(f"static-{name}") for name in ("unset", "past", "future", "over"))),
            installs=installs,
            keep_effects=True,
        )
        (activate,) = life.effects
        assert isinstance(activate, ActivateFlows)
        assert {rule.id for rule in activate.rules} == {"static-unset", "static-past", "dynamic-unset", "dynamic-past"}
        scheduled = {name for name, rule in life.session.rules.items() if rule.gx is not None and rule.gx.scheduled}
        assert scheduled == {"static-future", "dynamic-future"}

    def test_a_rule_of_another_qos_class_waits_for_its_bearer(self) -> None:
        """A bearer is asked for, and the flows wait.

        reference: LocalEnforcerTest.test_dedicated_bearer_creation_on_session_init.
        """
        life = started(
            situation(free("qos", qci=1), free("plain", qci=DEFAULT_QCI)),
            installs=static("qos", "plain"),
            keep_effects=True,
        )
        assert life.effects == [
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("plain", 1),)),
            CreateBearer(rules=("qos",)),
        ]


class TestSuspension:
    """A transient failure at the start, credit.md section 12."""

    def test_flows_go_down_after_a_moment(self) -> None:
        """The rules of the credit come up, and go down again half a second later, with a newer version.

        reference: LocalEnforcerTest.test_credit_init_with_transient_error_redirect.
        """
        life = started(
            situation(ocs("rule1", 1)),
            credits_=[redirect_grant(total=None, success=False, result_code=4012)],
            installs=static("rule1"),
            online=True,
            keep_effects=True,
        )
        assert life.effects == [
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 1),)),
            DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 2),), not_before_ms=NOW_MS + 500),
        ]
        assert (life.credit().suspended, life.credit().service) == (True, Service.NEEDS_SUSPENSION)
        life.struck()
        life.use("rule1", 20, 10, version=1)
        assert (life.credit().used_tx, life.credit().used_rx) == (20, 10)
        life.collect()
        assert (life.credit().suspended, life.credit().service) == (True, Service.REDIRECTED)
        assert life.in_flight() == frozenset()
        assert life.effects == [ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("redirect", 1),))]

    def test_other_credits_go_on(self) -> None:
        """As long as one credit is not suspended no final action is taken."""
        life = started(
            situation(ocs("rule1", 1), ocs("rule2", 2)),
            credits_=[failure(4012, "1"), grant("2")],
            installs=static("rule1", "rule2"),
            online=True,
        )
        assert (life.credit("1").suspended, life.credit("1").service) == (True, Service.ENABLED)
        assert not life.credit("2").suspended

    def test_a_request_before_the_tunnels_is_settled_by_the_grant(self) -> None:
        """A re-authorisation that overtook the tunnels is answered by the credit that comes into force with them."""
        life = allowed(PolicyAnswer(credits=(grant(),)), situation())
        life.decide(lambda draft: reauth.reauthorise_credit(draft, "1"))
        activated(life)
        assert (life.credit().reauth, life.credit().service) == (ReAuth.NOT_NEEDED, Service.ENABLED)


@pytest.mark.parametrize("installs", [(), static("rule1")])
def test_any_beginning_leads_to_an_active_session(installs: Sequence[RuleInstall]) -> None:
    """With or without rules, a session in force is active and waits for nothing."""
    life = started(situation(free("rule1")), installs=installs)
    assert (life.session.head.state, life.gateway.decide_by_ms, life.in_flight()) == (State.ACTIVE, 0, frozenset())


@pytest.mark.parametrize(
    ("rat", "apn", "state", "expected"),
    [
        (Rat.LTE, "magma.ipv4", State.CREATING, True),
        (Rat.LTE, "other", State.CREATING, False),
        (Rat.LTE, "magma.ipv4", State.ACTIVE, False),
        (Rat.WLAN, "wifi", State.CREATING, True),
    ],
)
def test_a_session_that_is_being_made_is_seen(rat: Rat, apn: str, state: State, expected: bool) -> None:
    """Whoever makes a session for the same APN is waited for; over carrier wifi, whoever makes any."""
    head = Head(state=state, created_at_ms=NOW_MS)
    made = Session(key=KEY, type="lte", scope=SUBSCRIBER, head=head, context=lte_context())
    assert create.being_made(made, replace(lte_context(), rat=rat, apn=apn)) is expected
    assert not create.being_made(replace(made, context=None), lte_context())
