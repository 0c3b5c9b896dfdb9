"""A session's whole life, at random: what may happen happens in any order, and the laws hold after every step."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessiond.core import credit
from sessiond.core.charging import CreditAnswer, FinalAction, RedirectServer
from sessiond.core.credit import CreditLimit, Quota, Report
from sessiond.core.decide import answer, bearer, create, flows, reauth, release, report, resync, rule_sets, usage
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.decide.rule_sets import RuleSet
from sessiond.core.decide.tick import deadline, tick
from sessiond.core.decide.usage import UsageRecord
from sessiond.core.decide.wanted import wanted_flows
from sessiond.core.draft import Draft
from sessiond.core.effects import ActivateFlows, DeactivateFlows, LogEvent, TerminateSession
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, Volume
from sessiond.core.rules import (
    REDIRECT_RULE,
    Bearer,
    Lifetime,
    PolicyRule,
    Rule,
    RuleInstall,
    Target,
    Teids,
    TrackingType,
)
from sessiond.core.session import PolicyAnswer, Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from tests.core.builders import NOW_MS, TEIDS, asked, both, catalogue, free, ocs, pcrf
from tests.core.data_plane import DataPlane

Owner: TypeAlias = tuple[Literal["credit", "monitor"], str]
"""Which quota: a credit or a monitor, and its key."""

STATIC: Final = catalogue(
    ocs("s1", 1),
    both("s2", 2, "m1"),
    pcrf("s3", "m2"),
    free("s4"),
    ocs("s5", 3, service_identifier=7),
    free("qos", qci=1),
    free("restrict-1"),
    free("restrict-2"),
)
DYNAMIC: Final = {
    "d1": (ocs("d1", 1), ocs("d1", 2), both("d1", 1, "m1")),
    "d2": (both("d2", 2, "m2"), free("d2"), both("d2", 3, "m1")),
    "d3": (pcrf("d3", "m1"), pcrf("d3", "m2"), ocs("d3", 3, service_identifier=7)),
}
"""Dynamic rules, each in several definitions that differ in what their traffic counts on."""
Answer = TypeVar("Answer")
GX_RULES: Final = ("s1", "s2", "s3", "s4", "s5", "qos", "d1", "d2", "d3")
EVERY_RULE: Final = (*GX_RULES, "restrict-1", "restrict-2", REDIRECT_RULE)
EARLIER: Final = 3
"""The version that an earlier session of the subscriber left rules s1 and d1 at."""

OCTETS: Final = st.sampled_from([0, 1, 199, 300, 800, 1000, 1700, 5000])
MILLISECONDS: Final = st.sampled_from([1, 499, 500, 1000, 2000, 5000, 30_000])
LEG: Final = st.sampled_from([None, 0, 500, 1000])
UNITS: Final = st.one_of(st.builds(GrantedUnits, LEG), st.builds(GrantedUnits, LEG, LEG, LEG))
CREDIT_KEYS: Final = ("1", "2", "3/7")
MONITOR_KEYS: Final = ("m1", "m2", "whole")
OFFSET: Final = st.sampled_from([0, 0, -1000, 1, 1000, 4000])


def credit_answer(key: str) -> st.SearchStrategy[CreditAnswer]:
    """Return any answer for a credit; most grant something."""
    granting = st.builds(
        CreditAnswer,
        key=st.just(key),
        granted=UNITS,
        limit=st.sampled_from([*[CreditLimit.FINITE] * 5, CreditLimit.INFINITE_METERED]),
        is_final=st.booleans(),
        final_action=st.sampled_from(FinalAction),
        redirect=st.just(RedirectServer("URL", "http://portal.test")),
        restrict_rules=st.sampled_from([(), ("restrict-1",), ("restrict-1", "restrict-2", "unknown")]),
        validity_ms=st.sampled_from([0, 0, 1000, 4000]),
    )
    codes = st.sampled_from([0, 3002, 4012, 4012, 5030])
    failing = st.tuples(granting, codes).map(
        lambda both_: msgspec.structs.replace(both_[0], success=False, result_code=both_[1])
    )
    return st.one_of(granting, granting, failing)


def monitor_answer(key: str) -> st.SearchStrategy[MonitorAnswer]:
    """Return any answer for a monitor."""
    level = Level.SESSION_LEVEL if key == "whole" else Level.PCC_RULE_LEVEL
    actions = st.sampled_from([*[MonitorAction.CONTINUE] * 4, MonitorAction.DISABLE])
    return st.builds(MonitorAnswer, key=st.just(key), level=st.just(level), action=actions, granted=UNITS)


class Wanted(NamedTuple):
    """A rule to install: when it begins and ends, in milliseconds from now, 0 is open; which of its definitions."""

    rule_id: str
    begin: int = 0
    end: int = 0
    variant: int = 0

    def named(self, now_ms: int) -> RuleInstall:
        """Return the install that it is now."""
        begin, end = (now_ms + offset if offset else 0 for offset in (self.begin, self.end))
        variants = DYNAMIC.get(self.rule_id)
        return RuleInstall(self.rule_id, variants[self.variant] if variants else None, Lifetime(begin, end))


def mostly(strategy: st.SearchStrategy[Answer]) -> st.SearchStrategy[Answer | None]:
    """Return values that are there more often than not."""
    return st.one_of(strategy, strategy, strategy, st.none())


SOME_RULES: Final = st.lists(st.sampled_from(GX_RULES), max_size=3, unique=True).map(tuple)
TRAFFIC: Final = st.just(EVERY_RULE) | st.lists(st.sampled_from(EVERY_RULE), min_size=1, max_size=3, unique=True)
INSTALLS: Final = st.lists(st.builds(Wanted, st.sampled_from(GX_RULES), OFFSET, OFFSET, st.integers(0, 2)), max_size=3)
ONE_OF_EACH_CREDIT: Final = st.tuples(*(mostly(credit_answer(key)) for key in CREDIT_KEYS))
ONE_OF_EACH_MONITOR: Final = st.tuples(*(mostly(monitor_answer(key)) for key in MONITOR_KEYS))
SETTINGS: Final = st.builds(
    Settings,
    usage_reporting_threshold=st.sampled_from([0.5, 0.8, 0.95]),
    terminate_service_when_quota_exhausted=st.sampled_from([True, True, False]),
    final_unit_blocks_rating_group_only=st.booleans(),
    quota_exhausted_grace_ms=st.sampled_from([0, 3000]),
    session_force_termination_timeout_ms=st.sampled_from([0, 5000]),
)


UNLIKELY: Final = st.sampled_from([*[False] * 7, True])


def named(installs: Iterable[Wanted], now_ms: int) -> tuple[RuleInstall, ...]:
    """Return installs with their times."""
    return tuple(item.named(now_ms) for item in installs)


def definition_of(rule_id: str, known: Rule) -> PolicyRule | None:
    """Return the definition by which a rule is in force."""
    if known.gy is not None or known.gx is None or known.gx.scheduled:
        return known.gy
    return known.gx.rule or STATIC[rule_id]


def counts_on(definition: PolicyRule) -> Target:
    """Return what the traffic of a rule counts on, written down a second time."""
    of_service = f"/{definition.service_identifier}" if definition.service_identifier else ""
    charged = definition.tracking in {TrackingType.ONLY_OCS, TrackingType.OCS_AND_PCRF}
    monitored = definition.tracking in {TrackingType.ONLY_PCRF, TrackingType.OCS_AND_PCRF}
    return Target(
        f"{definition.rating_group}{of_service}" if charged else "", definition.monitoring_key if monitored else ""
    )


def grants(said: CreditAnswer) -> bool:
    """Whether an answer that succeeded is one at all."""
    return said.limit is not CreditLimit.FINITE or said.is_final or said.granted != GrantedUnits()


def quotas(session: Session) -> dict[Owner, Quota]:
    """Return all quotas of a session."""
    of_credits: dict[Owner, Quota] = {("credit", key): charge for key, charge in session.credits.items()}
    return of_credits | {("monitor", key): monitor for key, monitor in session.monitors.items()}


class Ledger:
    """Octets by quota, added up."""

    def __init__(self) -> None:
        self._octets: dict[Owner, Volume] = {}

    def add(self, owner: Owner, octets: Volume) -> None:
        """Add octets to a quota."""
        before = self.of(owner)
        self._octets[owner] = Volume(before.tx + octets.tx, before.rx + octets.rx)

    def of(self, owner: Owner) -> Volume:
        """Return the octets of a quota."""
        return self._octets.get(owner, Volume())

    def forget(self, owner: Owner) -> Volume:
        """Return the octets of a quota that is gone, which begins anew if it comes again."""
        return self._octets.pop(owner, Volume())

    def owners(self) -> set[Owner]:
        """Return the quotas that have an entry."""
        return set(self._octets)


def active(machine: "WholeLife") -> bool:
    """Whether the session is active."""
    return machine.life.state() is State.ACTIVE


def open_(machine: "WholeLife") -> bool:
    """Whether the session is not over."""
    return machine.life.state() is not State.CLOSED


def waiting(machine: "WholeLife") -> bool:
    """Whether a request is in flight; that of a session that is over is not waited for."""
    return open_(machine) and bool(machine.life.in_flight())


class WholeLife(RuleBasedStateMachine):
    """One session, one data plane, one policy side; `used` and `taken` are what they know of each other's octets."""

    def __init__(self) -> None:
        super().__init__()
        self.life = asked(Situation(NOW_MS, Settings(), STATIC))
        self.plane = DataPlane()
        self.used = Ledger()
        self.taken = Ledger()
        self.sent: dict[int, dict[Owner, Report]] = {}
        self.next_number = 1
        self.versions: dict[str, int] = {}
        self.targets: dict[tuple[str, int], Target] = {}
        self.ends = 0
        self.last_table: list[UsageRecord] = []
        self.last_answer = UpdateAnswer(numbers=frozenset())

    # What begins it

    @initialize(
        settings=SETTINGS,
        credits_=ONE_OF_EACH_CREDIT,
        monitors=ONE_OF_EACH_MONITOR,
        rules=st.just(GX_RULES) | SOME_RULES,
        online=st.booleans(),
    )
    def begin(
        self,
        settings: Settings,
        credits_: Sequence[CreditAnswer | None],
        monitors: Sequence[MonitorAnswer | None],
        rules: Sequence[str],
        online: bool,
    ) -> None:
        """Come into force, after another session of the subscriber whose counters are still there."""
        earlier = asked(Situation(NOW_MS, settings, STATIC))
        installs = named([Wanted("s1"), Wanted("d1")], 0)
        earlier.decide(lambda draft: flows.install(draft, installs, flows.RuleChanges(), earlier.at))
        for _ in range(EARLIER - 1):
            earlier.decide(resync.counters_restarted)
        self.plane.left_over("s1", EARLIER, Volume(7000, 7000))
        self.plane.left_over("d1", EARLIER - 1, Volume(1, 1))
        self.life = asked(earlier.at, present=[earlier.session])
        policy = PolicyAnswer(
            credits=tuple(item for item in credits_ if item is not None),
            monitors=tuple(item for item in monitors if item is not None),
            installs=named(map(Wanted, rules), NOW_MS),
            online=online,
        )
        self._decided(lambda draft: create.allowed(draft, policy, self.life.at))
        self._decided(lambda draft: create.activate(draft, TEIDS, self.life.at))

    # What the data plane does

    @rule(rules=TRAFFIC, tx=OCTETS, rx=OCTETS, ipv6=st.booleans())
    def traffic(self, rules: Sequence[str], tx: int, rx: int, ipv6: bool) -> None:
        """Move traffic on flows that are up."""
        for rule_id in rules:
            self.plane.move(rule_id, Volume(tx, rx), ipv6=ipv6)

    @precondition(open_)
    @rule(octets=OCTETS, redefining=st.booleans(), variant=st.integers(0, 2))
    def the_usual_round(self, octets: int, redefining: bool, variant: int) -> None:
        """Put up what is to be put up, move traffic on everything, and tell of it, the newest versions first."""
        self.deliver(at_most=100)
        self.traffic(EVERY_RULE, octets, octets, ipv6=False)
        if redefining and active(self):
            self.policy_change((), [Wanted(rule_id, variant=variant) for rule_id in DYNAMIC], (), None)
            self.deliver(at_most=100)
            self.traffic(EVERY_RULE, octets, 0, ipv6=False)
        self.table(EVERY_RULE, backwards=True)

    @precondition(open_)
    @rule(rules=st.just(EVERY_RULE) | st.lists(st.sampled_from(EVERY_RULE), unique=True), backwards=st.booleans())
    def table(self, rules: Sequence[str], backwards: bool) -> None:
        """Bring a usage table, with all rules or some."""
        session, told = self.life.session, list(self.plane.tell(rules))
        for record, octets in told:
            if record.version > session.rules[record.rule].base:
                for owner in self._owners(session, record):
                    self.used.add(owner, octets)
        self.last_table = [record for record, _ in told]
        if backwards:
            self.last_table.reverse()
        self._table(self.last_table)

    def _table(self, records: Sequence[UsageRecord]) -> None:
        def decide(draft: Draft) -> None:
            usage.count(draft, records, self.life.at)
            report.collect(draft, self.life.at)

        self._decided(decide)

    def _owners(self, session: Session, record: UsageRecord) -> set[Owner]:
        """Return the quotas that traffic counts on: those of its rule as it was defined, and that of the session."""
        target = self.targets[record.rule, record.version]
        session_monitor = session.gateway.session_monitor if session.gateway else ""
        wanted: set[Owner] = {("credit", target.credit), ("monitor", target.monitor), ("monitor", session_monitor)}
        return wanted & set(quotas(session))

    @precondition(lambda self: bool(self.life.session.effects))
    @rule(at_most=st.sampled_from([100, 1, 2]))
    def deliver(self, at_most: int) -> None:
        """Carry out the oldest effects and strike them off."""
        for effect_id in sorted(self.life.session.effects)[:at_most]:
            effect = self.life.session.effects[effect_id]
            if effect.not_before_ms > self.life.at.now_ms:
                self.life.later(effect.not_before_ms - self.life.at.now_ms)
            self.plane.carry_out(effect)
            self._decided(partial(release.delivered, effect_id=effect_id, at=self.life.at))

    @rule(what=st.sampled_from(["switch", "pipelined", "nothing"]))
    def set_up(self, what: str) -> None:
        """Set pipelined up: it restarted with its switch, or alone, or it was only we who did; some effects wait."""
        if what == "switch":
            self.plane.restart_switch()
            self._decided(resync.counters_restarted)
        self._decided(flows.overtaken)
        if what != "nothing":
            self.plane.set_up(wanted_flows(self.life.session))

    @precondition(lambda self: self.life.state() is State.CLOSING and not self.plane.flows)
    @rule()
    def table_without_the_session(self) -> None:
        """Bring a table without a record of the session, as the first one is after all flows are down."""
        self._decided(lambda draft: release.final_usage_in(draft, self.life.at))

    @rule(counting=st.booleans())
    def presence(self, counting: bool) -> None:
        """Have pipelined away, or back from now on."""
        now_ms = self.life.at.now_ms
        self.life.at = msgspec.structs.replace(self.life.at, counting_since_ms=now_ms if counting else None)

    # What time does

    @rule(milliseconds=MILLISECONDS, ticking=st.booleans())
    def time(self, milliseconds: int, ticking: bool) -> None:
        """Time goes on; a tick may be late."""
        self.life.later(milliseconds)
        if ticking:
            self._decided(lambda draft: tick(draft, self.life.at))

    # What the policy side does

    @precondition(waiting)
    @rule(
        credits_=ONE_OF_EACH_CREDIT,
        monitors=ONE_OF_EACH_MONITOR,
        monitoring_fails=st.sampled_from([False, False, False, True]),
        change=st.none() | st.tuples(SOME_RULES, INSTALLS),
        only_first=st.booleans(),
    )
    def answer(
        self,
        credits_: Sequence[CreditAnswer | None],
        monitors: Sequence[MonitorAnswer | None],
        monitoring_fails: bool,
        change: tuple[tuple[str, ...], list[Wanted]] | None,
        only_first: bool,
    ) -> None:
        """Answer requests: some quotas well, some badly, some not at all."""
        replies = [MonitorReply(answer=item) for item in monitors if item is not None]
        if monitoring_fails:
            replies = [MonitorReply(success=False)]
        if change is not None:
            remove, installs = change
            replies.append(MonitorReply(remove=remove, installs=named(installs, self.life.at.now_ms)))
        numbers = sorted(self.life.in_flight())
        self.last_answer = UpdateAnswer(
            numbers=frozenset(numbers[:1] if only_first else numbers),
            credits=tuple(CreditReply(answer=item) for item in credits_ if item is not None),
            monitors=tuple(replies),
        )
        self._hear()

    @precondition(active)
    @rule(key=st.sampled_from(CREDIT_KEYS), final=st.sampled_from([None, *FinalAction]), octets=OCTETS)
    def quota_or_the_last_of_it(self, key: str, final: FinalAction | None, octets: int) -> None:
        """Want a credit re-authorised, and give it quota, or a final unit that is used at once, or not quite."""
        self.re_authorisation(key)
        self.table((), backwards=False)
        charge = self.life.session.credits.get(key)
        if not active(self) or charge is None or charge.in_flight is None:
            return
        said = CreditAnswer(
            key=key,
            granted=GrantedUnits(1000),
            is_final=final is not None,
            final_action=final or FinalAction.TERMINATE,
            redirect=RedirectServer("URL", "http://portal.test"),
            restrict_rules=("restrict-1",),
        )
        numbers = frozenset({charge.in_flight.number})
        self.last_answer = UpdateAnswer(numbers=numbers, credits=(CreditReply(answer=said),))
        self._hear()
        if open_(self):
            self.the_usual_round(octets, redefining=False, variant=0)

    def _hear(self) -> None:
        """Take the last answer."""
        self._take(self.last_answer)
        settled = self.last_answer.numbers
        self._decided(lambda draft: answer.answered(draft, self.last_answer, self.life.at), settled)

    def _take(self, reply: UpdateAnswer) -> None:
        """Note what the policy side has taken when it says this."""
        successes = {item.answer.key: item.answer for item in reply.credits}
        all_taken = all(item.success for item in reply.monitors)
        mentioned = {item.answer.key for item in reply.monitors if item.success and item.answer is not None}
        for owner, quota in quotas(self.life.session).items():
            if not credit.awaits(quota, reply.numbers) or quota.in_flight is None:
                continue
            kind, key = owner
            said = successes.get(key)
            if kind == "credit":
                taken = said is not None and (grants(said) if said.success else said.result_code in range(4000, 5000))
            else:
                taken = key in mentioned or (quota.in_flight.last and all_taken)
            if taken:
                self.taken.add(owner, Volume(quota.in_flight.tx, quota.in_flight.rx))

    @precondition(waiting)
    @rule(only_first=st.booleans())
    def refusal(self, only_first: bool) -> None:
        """Have requests certainly not carried out."""
        numbers = sorted(self.life.in_flight())
        wanted = frozenset(numbers[:1] if only_first else numbers)
        self._decided(lambda draft: answer.refused(draft, wanted, "UNAVAILABLE", self.life.at), wanted)

    @rule(key=st.sampled_from(["", *CREDIT_KEYS]))
    def re_authorisation(self, key: str) -> None:
        """Want one credit re-authorised, or all."""
        if key:
            self._decided(lambda draft: reauth.reauthorise_credit(draft, key))
        else:
            self._decided(reauth.reauthorise_all)

    @precondition(active)
    @rule(
        remove=SOME_RULES,
        installs=INSTALLS,
        monitors=ONE_OF_EACH_MONITOR,
        revalidation=st.none() | st.sampled_from([0, 1000, 5000]),
    )
    def policy_change(
        self,
        remove: tuple[str, ...],
        installs: list[Wanted],
        monitors: Sequence[MonitorAnswer | None],
        revalidation: int | None,
    ) -> None:
        """Change rules, monitors and the time to ask again."""
        now_ms = self.life.at.now_ms
        wanted = PolicyChange(
            remove=remove,
            installs=named(installs, now_ms),
            monitors=tuple(item for item in monitors if item is not None),
            revalidation_at_ms=None if revalidation is None else now_ms + revalidation,
        )
        self._decided(lambda draft: reauth.change_policy(draft, wanted, self.life.at))

    @precondition(active)
    @rule(rules=SOME_RULES, variant=st.integers(0, 2))
    def whole_rule_set(self, rules: tuple[str, ...], variant: int) -> None:
        """All rules are pushed as one set."""
        wanted = RuleSet(
            frozenset(rule_id for rule_id in rules if rule_id in STATIC),
            tuple(DYNAMIC[rule_id][variant] for rule_id in rules if rule_id in DYNAMIC),
        )
        self._decided(lambda draft: rule_sets.apply_set(draft, wanted, self.life.at))

    # What the access side does

    @precondition(active)
    @rule(bearer_id=st.sampled_from([0, 6, 7]))
    def bearer(self, bearer_id: int) -> None:
        """Make a bearer for the rule of another QoS class, or fail to."""
        self._decided(lambda draft: bearer.bound(draft, "qos", Bearer(bearer_id, Teids(bearer_id, bearer_id))))

    @precondition(active)
    @rule(teids=st.sampled_from([TEIDS, Teids(1, 2)]))
    def tunnels(self, teids: Teids) -> None:
        """Tell the tunnels again, the same or others."""
        self._decided(lambda draft: create.activate(draft, teids, self.life.at))

    @precondition(open_)
    @rule(really=UNLIKELY, how=st.sampled_from(["ended", "ended by us", "aborted"]))
    def the_end(self, really: bool, how: str) -> None:
        """Release the session, or have the policy side abort it."""
        if really and how == "aborted":
            self._decided(lambda draft: release.abort(draft, self.life.at))
        elif really:
            notify = how == "ended by us"
            self._decided(lambda draft: release.release(draft, self.life.at, "ENDED", notify=notify))

    # What holds after every step

    def _decided(self, decision: Callable[[Draft], object], settled: frozenset[int] = frozenset()) -> None:
        """Make a decision, and look at the way from the session before to the one after.

        A report in flight stays as it is until its request is settled: nothing is in two requests.
        """
        before = self.life.session
        self.life.decide(decision)
        after = self.life.session
        self.ends += sum(isinstance(news, LogEvent) and news.type == "session_terminated" for news in self.life.news)
        if before.head.state is State.CLOSED:
            assert after.head == before.head
        for owner, quota in quotas(before).items():
            if quota.in_flight is not None and quota.in_flight.number not in settled:
                assert quotas(after)[owner].in_flight == quota.in_flight
        self._numbers_go_on(after)
        for rule_id, known in after.rules.items():
            last = self.versions.get(rule_id, 0)
            assert known.version >= last
            self.versions[rule_id] = known.version
            if (definition := definition_of(rule_id, known) or self._just_installed(rule_id)) is not None:
                self.targets |= {(rule_id, new): counts_on(definition) for new in range(last + 1, known.version + 1)}
        assert before.rules.keys() <= after.rules.keys()
        assert before.credits.keys() <= after.credits.keys()
        for owner in self.used.owners() | self.taken.owners():
            if owner not in quotas(after):
                assert self.used.forget(owner) == self.taken.forget(owner)

    def _just_installed(self, rule_id: str) -> PolicyRule | None:
        """Return the definition of a rule that an answer installed and, by ending the session, took away again."""
        installs = [item for reply in self.last_answer.monitors for item in reply.installs if item.id == rule_id]
        return (installs[-1].rule or STATIC[rule_id]) if installs else None

    def _numbers_go_on(self, after: Session) -> None:
        """Look at the request numbers: what a number stands for never changes, and new ones are new."""
        assert after.gateway is not None
        content: dict[int, dict[Owner, Report]] = {}
        for owner, quota in quotas(after).items():
            if quota.in_flight is not None:
                content.setdefault(quota.in_flight.number, {})[owner] = quota.in_flight
        for number, reports in content.items():
            assert len({kind for kind, _ in reports}) == 1
            if number in self.sent:
                assert reports.items() <= self.sent[number].items()
            else:
                assert self.next_number <= number < after.gateway.request_number
                self.sent[number] = reports
        revalidation = after.gateway.revalidation
        if revalidation is not None and revalidation.number:
            assert self.sent.setdefault(revalidation.number, {}) == {}
        assert after.gateway.request_number >= self.next_number
        self.next_number = after.gateway.request_number

    @invariant()
    def usage_is_conserved(self) -> None:
        """Hold used to what was moved, and reported to what was taken; the rest is in flight or unreported."""
        for owner, quota in quotas(self.life.session).items():
            used, taken, rest = self.used.of(owner), self.taken.of(owner), credit.unreported(quota)
            flying = quota.in_flight or Report(0, 0, 0, "")
            assert Volume(quota.used_tx, quota.used_rx) == used
            assert Volume(quota.reported_tx, quota.reported_rx) == taken
            assert Volume(taken.tx + flying.tx + rest.tx, taken.rx + flying.rx + rest.rx) == used
            assert min(flying.tx, flying.rx, rest.tx, rest.rx) >= 0

    @invariant()
    def nothing_counts_twice(self) -> None:
        """Repeat the last table and the last answer: neither changes anything."""
        draft = Draft(self.life.session)
        usage.count(draft, self.last_table, self.life.at)
        if not self.last_answer.numbers & self.life.in_flight():
            answer.answered(draft, self.last_answer, self.life.at)
        assert not draft.criteria()
        assert draft.news == []

    @invariant()
    def it_ends_once(self) -> None:
        """There is one end, one event of it and one report of it, after every other report."""
        session = self.life.session
        assert self.ends == (session.head.state is State.CLOSED)
        reports = self.life.effects_of(TerminateSession)
        assert len(reports) <= self.ends
        if reports:
            assert all(quota.in_flight is None for quota in quotas(session).values())

    @invariant()
    def nothing_is_left_of_a_session_that_is_over(self) -> None:
        """After the release no rule is in force, and no flow is put up after all were taken down."""
        if self.life.state() not in release.OVER:
            return
        assert all(known.gx is None and known.gy is None for known in self.life.session.rules.values())
        kinds = [type(effect) for effect in self.life.effects]
        everything = [isinstance(effect, DeactivateFlows) and effect.everything for effect in self.life.effects]
        if True in everything:
            assert ActivateFlows not in kinds[everything.index(True) :]
        else:
            assert ActivateFlows not in kinds
        assert everything.count(True) or not self.plane.flows

    @invariant()
    def a_second_tick_changes_nothing(self) -> None:
        """Time alone does what it does once, and then wants to be asked again only later."""
        at = self.life.at
        once = Draft(self.life.session)
        tick(once, at)
        twice = Draft(once.session())
        tick(twice, at)
        assert twice.session() == once.session()
        assert twice.news == []
        next_ms = deadline(once.session(), at.now_ms)
        assert next_ms is None or next_ms > at.now_ms

    @invariant()
    def due_is_what_would_be_done(self) -> None:
        """Hold a session to be due exactly if collecting would change it."""
        if active(self):
            draft = Draft(self.life.session)
            report.collect(draft, self.life.at)
            assert report.due(self.life.session, self.life.at) == bool(draft.criteria())

    @invariant()
    def it_survives_a_restart(self) -> None:
        """Write the session and read the same again."""
        written = msgspec.json.encode(self.life.session)
        assert msgspec.json.decode(written, type=Session) == self.life.session

    @invariant()
    def the_data_plane_has_what_the_session_wants(self) -> None:
        """Once all effects are carried out, the flows that are up are those that a restart would put up."""
        session = self.life.session
        if not active(self) or any(isinstance(effect, ActivateFlows | DeactivateFlows) for effect in self.life.effects):
            return
        wanted = {(known.id, effect.gy): known.version for effect in wanted_flows(session) for known in effect.rules}
        assert self.plane.flows == wanted


TestWholeLife = pytest.mark.slow(WholeLife.TestCase)
TestWholeLife.settings = settings(max_examples=2 * settings().max_examples)
