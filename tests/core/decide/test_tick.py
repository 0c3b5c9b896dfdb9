"""Time: when a session wants to be looked at, and what comes due (session.md 3 and 8, lifecycle.md 6)."""

import msgspec
import pytest

from sessiond.core.charging import ReAuth, Service
from sessiond.core.credit import Report
from sessiond.core.decide.tick import TimerKind, deadline, timers
from sessiond.core.effects import ActivateFlows, CreateBearer, DeactivateFlows, VersionedRule
from sessiond.core.lifecycle import State
from sessiond.core.quantity import RequestedUnits
from sessiond.core.rules import Lifetime, RuleInstall
from sessiond.core.session import Head, Revalidation, RevalidationState, Session
from sessiond.core.situation import Situation
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    Life,
    asked,
    dynamic,
    free,
    grant,
    ocs,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)

SECOND = 1000


def in_force(life: Life) -> set[str]:
    """Return the rules that are in force."""
    return {name for name, rule in life.session.rules.items() if rule.gx is not None and not rule.gx.scheduled}


def scheduled(life: Life) -> set[str]:
    """Return the rules that wait for their time."""
    return {name for name, rule in life.session.rules.items() if rule.gx is not None and rule.gx.scheduled}


def next_look(life: Life) -> int | None:
    """Return in how many milliseconds the session wants to be looked at."""
    at_ms = deadline(life.session, life.at.now_ms)
    return None if at_ms is None else at_ms - life.at.now_ms


def with_lifetimes(*lifetimes: tuple[int, int], kind: str) -> Life:
    """Return a session with a rule for each lifetime, in seconds from now; 0 is open."""
    installs: list[RuleInstall] = []
    names = [f"rule{number}" for number in range(len(lifetimes))]
    for name, lifetime in zip(names, lifetimes, strict=True):
        begin, end = (NOW_MS + seconds * SECOND if seconds else 0 for seconds in lifetime)
        install = static(name) if kind == "static" else dynamic(free(name))
        installs += [msgspec.structs.replace(item, lifetime=Lifetime(begin, end)) for item in install]
    known = [free(name) for name in names] if kind == "static" else []
    return started(situation(*known), installs=installs)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
class TestRules:
    """Rules with activation and deactivation times, static and dynamic alike (known problems S1, S2)."""

    def test_they_come_and_go(self, kind: str) -> None:
        """Rules are activated, kept scheduled or dropped by the clock.

        reference: SessionStateTest.test_rule_scheduling, test_rule_time_sync.
        """
        life = with_lifetimes((5, 15), (15, 20), (2, 4), kind=kind)
        assert (in_force(life), scheduled(life), next_look(life)) == (set(), {"rule0", "rule1", "rule2"}, 2 * SECOND)
        life.later(10 * SECOND)
        life.tick()
        assert (in_force(life), scheduled(life), next_look(life)) == ({"rule0"}, {"rule1"}, 5 * SECOND)
        assert life.effects == [ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule0", 1),))]
        life.struck()
        life.later(6 * SECOND)
        life.tick()
        assert (in_force(life), scheduled(life), next_look(life)) == ({"rule1"}, set(), 4 * SECOND)
        assert life.effects == [
            DeactivateFlows(teids=TEIDS, rules=(VersionedRule("rule0", 2),)),
            ActivateFlows(teids=TEIDS, rules=(VersionedRule("rule1", 1),)),
        ]
        life.later(4 * SECOND)
        life.tick()
        assert (in_force(life), next_look(life)) == (set(), None)

    def test_after_a_restart(self, kind: str) -> None:
        """Rules are brought in line with the clock at once, however much was missed.

        reference: LocalEnforcerTest.test_sync_sessions_on_restart.
        """
        life = with_lifetimes((0, 5), (5, 10), (10, 15), (15, 20), kind=kind)
        assert in_force(life) == {"rule0"}
        life.later(12 * SECOND)
        life.tick()
        assert (in_force(life), scheduled(life)) == ({"rule2"}, {"rule3"})

    def test_a_rule_that_never_was(self, kind: str) -> None:
        """A rule whose whole time was missed is forgotten, and nobody is told."""
        life = with_lifetimes((5, 10), kind=kind)
        life.later(10 * SECOND)
        life.tick()
        assert (in_force(life), scheduled(life), life.effects, life.rule("rule0").version) == (set(), set(), [], 0)

    def test_exactly_on_time(self, kind: str) -> None:
        """A rule is in force from its activation time and no more at its deactivation time."""
        life = with_lifetimes((5, 6), kind=kind)
        life.later(5 * SECOND - 1)
        life.tick()
        assert in_force(life) == set()
        life.later(1)
        life.tick()
        assert in_force(life) == {"rule0"}
        life.later(SECOND - 1)
        life.tick()
        assert in_force(life) == {"rule0"}
        life.later(1)
        life.tick()
        assert in_force(life) == set()


def test_a_static_rule_that_is_not_known_any_more() -> None:
    """A scheduled rule that the catalogue lost meanwhile is forgotten, and does not come up by itself later."""
    life = started(situation(free("rule1")), installs=static("rule1", lifetime=Lifetime(NOW_MS + SECOND)))
    life.at = Situation(NOW_MS + SECOND, life.at.settings, {})
    life.tick()
    assert (scheduled(life), in_force(life), next_look(life), life.effects) == (set(), set(), None, [])


def test_a_scheduled_rule_asks_for_its_bearer_when_its_time_comes() -> None:
    """A rule of another QoS class waits first for its time and then for its bearer."""
    life = started(situation(), installs=dynamic(free("rule1", qci=1), lifetime=Lifetime(NOW_MS + SECOND)))
    assert life.effects == []
    life.later(SECOND)
    life.tick()
    assert life.effects == [CreateBearer(rules=("rule1",))]


class TestRevalidation:
    """Asking the policy side again at a time it named."""

    def test_from_the_time_to_the_request(self) -> None:
        """When the time has come the revalidation is ready, and goes out with the next usage table.

        reference: LocalEnforcerTest.test_revalidation_timer_on_init, test_sync_sessions_on_restart_revalidation_timer.
        """
        life = started(situation(), revalidation_at_ms=NOW_MS + SECOND)
        assert next_look(life) == SECOND
        life.later(SECOND - 1)
        life.tick()
        assert life.gateway.revalidation == Revalidation(RevalidationState.PENDING, NOW_MS + SECOND)
        life.later(1)
        life.tick()
        assert life.gateway.revalidation == Revalidation(RevalidationState.READY, NOW_MS + SECOND)
        assert next_look(life) is None
        life.collect()
        assert life.gateway.revalidation == Revalidation(RevalidationState.SENT, NOW_MS + SECOND, 1)
        assert life.gateway.request_number == 2

    def test_its_request_is_waited_for(self) -> None:
        """A request that is on its way is not sent again because its time is over."""
        life = started(situation(), revalidation_at_ms=NOW_MS)
        life.tick()
        life.collect()
        before = life.session
        life.later(SECOND)
        life.tick()
        assert life.session is before

    def test_a_time_in_the_past(self) -> None:
        """A time that has passed is due at once."""
        life = started(situation(), revalidation_at_ms=NOW_MS)
        assert next_look(life) == 0
        life.tick()
        assert life.gateway.revalidation == Revalidation(RevalidationState.READY, NOW_MS)


class TestValidity:
    """A credit whose validity time is over is reported, whether or not there is traffic (known problem G5)."""

    def test_it_is_reported_on_time(self) -> None:
        """The report goes out when the time has come, with what is used so far."""
        life = started(situation(ocs("rule1", 1)), credits_=[grant(validity_ms=5000)], installs=static("rule1"))
        life.use("rule1", 10)
        assert next_look(life) == 5000
        life.later(5000)
        life.tick()
        assert life.credit().in_flight == Report(1, 10, 0, "VALIDITY_TIMER_EXPIRED", RequestedUnits(10))
        assert next_look(life) is None

    def test_one_that_was_refused_waits_for_the_next_table(self) -> None:
        """A report that was not carried out is repeated with the next usage table, not at once and without end."""
        life = started(situation(), credits_=[grant(validity_ms=5000)])
        life.later(5000)
        life.tick()
        life.refused()
        assert next_look(life) is None
        life.collect()
        assert life.in_flight() == {2}

    def test_a_new_validity_starts_anew(self) -> None:
        """The answer says how long the credit is valid from then on, or for ever."""
        life = started(situation(), credits_=[grant(validity_ms=5000)])
        life.later(5000)
        life.tick()
        life.answered(grant(validity_ms=7000))
        assert next_look(life) == 7000
        life.later(7000)
        life.tick()
        life.answered(grant())
        assert next_look(life) is None

    @pytest.mark.parametrize("reauth", list(ReAuth))
    def test_an_action_that_is_due_comes_first(self, reauth: ReAuth) -> None:
        """A credit that is to be activated and has expired gets both, and a second look finds nothing to do."""
        life = started(
            situation(ocs("rule1", 1)), credits_=[redirect_grant(validity_ms=5000)], installs=static("rule1")
        )
        life.decide(lambda draft: draft.set("credits", "1", service=Service.NEEDS_ACTIVATION, reauth=reauth))
        life.later(5000)
        life.tick()
        once = life.session
        assert life.credit().service is Service.ENABLED
        assert life.in_flight() == {1}
        life.tick()
        assert life.session == once

    def test_nothing_is_reported_before_its_time(self) -> None:
        """A tick before the validity is over leaves what is due to the next usage table."""
        life = started(situation(ocs("rule1", 1)), credits_=[grant(validity_ms=5000)], installs=static("rule1"))
        life.use("rule1", 1000)
        before = life.session
        life.later(4999)
        life.tick()
        assert life.session is before

    def test_others_wait_for_the_next_table(self) -> None:
        """What is due for other credits while an expired one waits for its answer is not the clock's business."""
        life = started(
            situation(ocs("rule1", 1), ocs("rule2", 2)),
            credits_=[grant("1", validity_ms=5000), grant("2")],
            installs=static("rule1", "rule2"),
        )
        life.later(5000)
        life.tick()
        life.use("rule2", 1000)
        once = life.session
        life.tick()
        assert life.session == once

    def test_a_used_up_final_unit_ends_the_session(self) -> None:
        """An expired final unit that is used up is not reported: the session ends."""
        life = started(
            situation(ocs("rule1", 1)), credits_=[terminate_grant(validity_ms=5000)], installs=static("rule1")
        )
        life.use("rule1", 1000)
        life.later(5000)
        life.tick()
        assert (life.state(), life.in_flight()) == (State.CLOSING, frozenset())


class TestDeadline:
    """The earliest moment at which time alone changes something."""

    def test_the_earliest_counts(self) -> None:
        """Of several deadlines the session is looked at for the first."""
        life = started(
            situation(),
            credits_=[grant("1", validity_ms=4000), grant("2", validity_ms=3000)],
            installs=[
                *dynamic(free("rule1"), lifetime=Lifetime(NOW_MS + 2500)),
                *dynamic(free("rule2"), lifetime=Lifetime(0, NOW_MS + 2000)),
            ],
            revalidation_at_ms=NOW_MS + 1500,
        )
        looks = []
        while (wait_ms := next_look(life)) is not None:
            life.later(wait_ms)
            life.tick()
            looks.append(life.at.now_ms - NOW_MS)
        assert looks == [1500, 2000, 2500, 3000, 4000]

    def test_a_session_without_timers_needs_no_look(self) -> None:
        """Nothing happens to a session by time alone if nothing was scheduled."""
        life = started(situation(ocs("rule1", 1)), credits_=[grant()], installs=static("rule1"))
        assert next_look(life) is None

    def test_waiting_for_the_policy_side(self) -> None:
        """A session that is being created is looked at when its answer must have come."""
        assert next_look(asked(situation(policy_deadline_ms=100))) == 200

    def test_a_released_session_has_only_its_end_to_wait_for(self) -> None:
        """Timers of rules and credits are off once a session is released."""
        life = started(situation(), credits_=[grant(validity_ms=100)], revalidation_at_ms=NOW_MS + 200)
        life.release()
        assert next_look(life) == 5000
        life.struck()
        life.final_usage_in()
        assert next_look(life) is None

    def test_sessions_of_other_kinds(self) -> None:
        """A session that is none of a gateway's has none of these timers."""
        head = Head(state=State.ACTIVE, created_at_ms=NOW_MS)
        assert deadline(Session(key="s", type="stream", scope="s", head=head), NOW_MS) is None

    def test_a_report_in_flight_is_waited_for(self) -> None:
        """A credit that is being reported has no deadline until the answer."""
        life = started(situation(), credits_=[grant(validity_ms=5000)])
        life.decide(lambda draft: draft.set("credits", "1", in_flight=Report(1, 0, 0, "QUOTA_EXHAUSTED")))
        assert next_look(life) is None

    def test_timers_say_what_they_are(self) -> None:
        """Each thing that a session waits for is named, with the credit or rule it is about and its time."""
        later = Lifetime(NOW_MS + 10, NOW_MS + 20)
        life = started(
            situation(free("soon"), free("now"), quota_exhausted_grace_ms=50, wallet_exhaustion_terminates=True),
            credits_=[grant("1", 0, validity_ms=100), grant("2", 10)],
            installs=[*static("soon", lifetime=later), *static("now", lifetime=Lifetime(0, NOW_MS + 30))],
            revalidation_at_ms=NOW_MS + 200,
        )
        life.decide(lambda draft: draft.set("credits", "2", block_at_ms=NOW_MS + 50))
        assert {(kind, subject, at_ms - NOW_MS) for kind, subject, at_ms in timers(life.session)} == {
            (TimerKind.WALLET, "", 30_000),
            (TimerKind.REVALIDATION, "", 200),
            (TimerKind.CREDIT_VALIDITY, "1", 100),
            (TimerKind.QUOTA_GRACE, "2", 50),
            (TimerKind.RULE_ACTIVATION, "soon", 10),
            (TimerKind.RULE_DEACTIVATION, "now", 30),
        }

    def test_timers_of_a_beginning_and_of_an_end(self) -> None:
        """The same moment is the end of waiting for the policy side, or for the final usage."""
        assert [kind for kind, _, _ in timers(asked(situation()).session)] == [TimerKind.STATE_TIMEOUT]
        life = started(situation())
        life.release()
        assert [kind for kind, _, _ in timers(life.session)] == [TimerKind.TERMINATION]
