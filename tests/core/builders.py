"""Short ways to say what a test is about: contexts, rules, answers, and a session that decisions are made on."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from sessiond.core import update
from sessiond.core.charging import ChargingCredit, CreditAnswer, FinalAction, RedirectServer
from sessiond.core.decide import answer, create, release, report, tick, usage
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.decide.usage import Ignored, UsageRecord
from sessiond.core.draft import Draft
from sessiond.core.effects import LogEvent, News, Saved
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, Monitor, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits
from sessiond.core.rules import Lifetime, PolicyRule, Rule, RuleInstall, Teids, TrackingType
from sessiond.core.session import Context, Gateway, LteContext, PolicyAnswer, QosInformation, Rat, Session, WlanContext
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation

Reply = TypeVar("Reply")
Effect = TypeVar("Effect", bound=Saved)

SUBSCRIBER = "IMSI001010000000001"
KEY = f"{SUBSCRIBER}-483920"
NOW_MS = 1_700_000_000_000
TEIDS = Teids(enb=4097, agw=8193)
DEFAULT_BEARER = 5
DEFAULT_QCI = 9


def lte_context(**fields: Any) -> Context:
    """Return the context of an LTE session."""
    lte = LteContext(
        spgw_ipv4="10.0.2.1",
        imei="3570310000000010",
        user_location=b"\x82\x00\xf1",
        qos=QosInformation(qci=DEFAULT_QCI),
        bearer_id=DEFAULT_BEARER,
        charging_characteristics="0800",
    )
    known: dict[str, Any] = {"apn": "magma.ipv4", "ue_ipv4": "192.168.128.11", "msisdn": "5550100001", "lte": lte}
    return Context(subscriber=SUBSCRIBER, **{**known, **fields})


def wlan_context(**fields: Any) -> Context:
    """Return the context of a carrier wifi session."""
    wlan = WlanContext(mac_addr="0f:10:2e:12:3a:55", radius_session_id="1")
    return Context(subscriber=SUBSCRIBER, **{"apn": "wifi", "rat": Rat.WLAN, "wlan": wlan, **fields})


def ocs(rule_id: str, rating_group: int, **fields: Any) -> PolicyRule:
    """Return a rule whose traffic the OCS counts."""
    return PolicyRule(id=rule_id, rating_group=rating_group, **fields)


def pcrf(rule_id: str, monitoring_key: str) -> PolicyRule:
    """Return a rule whose traffic the PCRF counts."""
    return PolicyRule(id=rule_id, monitoring_key=monitoring_key, tracking=TrackingType.ONLY_PCRF)


def both(rule_id: str, rating_group: int, monitoring_key: str) -> PolicyRule:
    """Return a rule whose traffic the OCS and the PCRF count."""
    tracking = TrackingType.OCS_AND_PCRF
    return PolicyRule(id=rule_id, rating_group=rating_group, monitoring_key=monitoring_key, tracking=tracking)


def free(rule_id: str, **fields: Any) -> PolicyRule:
    """Return a rule whose traffic nobody counts."""
    return PolicyRule(id=rule_id, tracking=TrackingType.NO_TRACKING, **fields)


def static(*rule_ids: str, lifetime: Lifetime | None = None) -> tuple[RuleInstall, ...]:
    """Return installs of static rules."""
    return tuple(RuleInstall(rule_id, None, lifetime or Lifetime()) for rule_id in rule_ids)


def dynamic(*rules: PolicyRule, lifetime: Lifetime | None = None) -> tuple[RuleInstall, ...]:
    """Return installs of dynamic rules."""
    return tuple(RuleInstall(rule.id, rule, lifetime or Lifetime()) for rule in rules)


def catalogue(*rules: PolicyRule) -> dict[str, PolicyRule]:
    """Return a catalogue of static rules."""
    return {rule.id: rule for rule in rules}


def situation(*rules: PolicyRule, now_ms: int = NOW_MS, **settings: Any) -> Situation:
    """Return a situation: the static rules, the time, and settings other than the defaults."""
    return Situation(now_ms, Settings(**settings), catalogue(*rules))


def grant(key: str = "1", total: int | None = 1000, **fields: Any) -> CreditAnswer:
    """Return an answer that grants octets."""
    return CreditAnswer(key=key, **{"granted": GrantedUnits(total), **fields})


def failure(result_code: int, key: str = "1", **fields: Any) -> CreditAnswer:
    """Return an answer that grants nothing and says why."""
    return CreditAnswer(key=key, success=False, result_code=result_code, **fields)


def terminate_grant(key: str = "1", total: int | None = 1000, **fields: Any) -> CreditAnswer:
    """Return an answer with a final unit after which the session ends."""
    return grant(key, total, is_final=True, final_action=FinalAction.TERMINATE, **fields)


def redirect_grant(key: str = "1", total: int | None = 1000, **fields: Any) -> CreditAnswer:
    """Return an answer with a final unit after which traffic is redirected."""
    server = RedirectServer("URL", "http://portal.test/top-up")
    return grant(key, total, is_final=True, final_action=FinalAction.REDIRECT, redirect=server, **fields)


def restrict_grant(*rule_ids: str, key: str = "1", total: int | None = 1000, **fields: Any) -> CreditAnswer:
    """Return an answer with a final unit after which only some traffic is let through."""
    return grant(key, total, is_final=True, final_action=FinalAction.RESTRICT_ACCESS, restrict_rules=rule_ids, **fields)


def monitor_grant(
    key: str,
    total: int | None = 1000,
    *,
    level: Level = Level.PCC_RULE_LEVEL,
    action: MonitorAction = MonitorAction.CONTINUE,
    granted: GrantedUnits | None = None,
) -> MonitorAnswer:
    """Return an answer that grants octets to a usage monitor."""
    return MonitorAnswer(key=key, level=level, action=action, granted=granted or GrantedUnits(total))


class Life:
    """A session and its time: decisions are made one after the other, each held to the law of a draft."""

    def __init__(self, session: Session, at: Situation) -> None:
        self.session = session
        self.at = at
        self.news: list[News] = []

    @property
    def gateway(self) -> Gateway:
        """What the session has as a gateway session."""
        assert self.session.gateway is not None
        return self.session.gateway

    def state(self) -> State:
        """Return where the session is in its life; a method, so that mypy asks again after every decision."""
        return self.session.head.state

    @property
    def events(self) -> list[LogEvent]:
        """The events of the last decision."""
        return [news for news in self.news if isinstance(news, LogEvent)]

    @property
    def effects(self) -> list[Saved]:
        """The effects that are still to be acknowledged, oldest first."""
        return [self.session.effects[effect_id] for effect_id in sorted(self.session.effects)]

    def effects_of(self, kind: type[Effect]) -> list[Effect]:
        """Return the effects of one kind, oldest first."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def credit(self, key: str = "1") -> ChargingCredit:
        """Return a charging credit."""
        return self.session.credits[key]

    def monitor(self, key: str) -> Monitor:
        """Return a usage monitor."""
        return self.session.monitors[key]

    def rule(self, rule_id: str) -> Rule:
        """Return what the session knows of a rule."""
        return self.session.rules[rule_id]

    def later(self, milliseconds: int) -> None:
        """Let time go on."""
        self.at = msgspec.structs.replace(self.at, now_ms=self.at.now_ms + milliseconds)

    def decide(self, decision: Callable[[Draft], Reply]) -> Reply:
        """Make a decision stick; what is written must be what was decided."""
        draft = Draft(self.session)
        reply = decision(draft)
        assert update.apply(self.session, draft.criteria()) == draft.session()
        self.session, self.news = draft.session(), draft.news
        return reply

    def struck(self) -> None:
        """Have all effects acknowledged."""
        for effect_id in sorted(self.session.effects):
            self.decide(partial(release.delivered, effect_id=effect_id, at=self.at))

    def use(self, rule_id: str, tx: int, rx: int = 0, **fields: Any) -> list[tuple[UsageRecord, Ignored]]:
        """Count one record, by default of the present version of the rule."""
        record = UsageRecord(rule_id, fields.pop("version", self.rule(rule_id).version), tx, rx, **fields)
        return self.count(record)

    def count(self, *records: UsageRecord) -> list[tuple[UsageRecord, Ignored]]:
        """Count records; return those that count nothing."""
        return self.decide(lambda draft: usage.count(draft, records, self.at))

    def collect(self) -> None:
        """Do what is due after a usage table."""
        self.decide(lambda draft: report.collect(draft, self.at))

    def tick(self) -> None:
        """Do what has come due."""
        self.decide(lambda draft: tick.tick(draft, self.at))

    def answered(
        self,
        *credits_: CreditAnswer,
        monitors: Sequence[MonitorAnswer | MonitorReply] = (),
        numbers: Iterable[int] | None = None,
    ) -> None:
        """Take an answer, by default to everything that is in flight."""
        monitor_replies = tuple(
            item if isinstance(item, MonitorReply) else MonitorReply(answer=item) for item in monitors
        )
        reply = UpdateAnswer(
            numbers=self.in_flight() if numbers is None else frozenset(numbers),
            credits=tuple(CreditReply(answer=item) for item in credits_),
            monitors=monitor_replies,
        )
        self.decide(lambda draft: answer.answered(draft, reply, self.at))

    def refused(self, numbers: Iterable[int] | None = None, text: str = "UNAVAILABLE") -> None:
        """Take it that requests, by default all in flight, were certainly not carried out."""
        wanted = self.in_flight() if numbers is None else frozenset(numbers)
        self.decide(lambda draft: answer.refused(draft, wanted, text, self.at))

    def release(self, reason: str = "ENDED", *, notify: bool = False) -> None:
        """Begin the end."""
        self.decide(lambda draft: release.release(draft, self.at, reason, notify=notify))

    def final_usage_in(self) -> None:
        """Take a usage table without a record of the session."""
        self.decide(lambda draft: release.final_usage_in(draft, self.at))

    def in_flight(self) -> frozenset[int]:
        """Return the numbers of the requests that are not answered yet."""
        quotas = (*self.session.credits.values(), *self.session.monitors.values())
        numbers = {quota.in_flight.number for quota in quotas if quota.in_flight is not None}
        if self.gateway.revalidation is not None and self.gateway.revalidation.number:
            numbers.add(self.gateway.revalidation.number)
        return frozenset(numbers)


def asked(at: Situation, context: Context | None = None, present: Sequence[Session] = ()) -> Life:
    """Return a session about which the policy side is being asked."""
    return Life(create.new_session(KEY, context or lte_context(), list(present), at), at)


def allowed(policy: PolicyAnswer, at: Situation, context: Context | None = None) -> Life:
    """Return a session that the policy side allows; its tunnels are not known yet."""
    life = asked(at, context)
    life.decide(lambda draft: create.allowed(draft, policy, at))
    return life


def started(
    at: Situation,
    *,
    credits_: Sequence[CreditAnswer] = (),
    monitors: Sequence[MonitorAnswer] = (),
    installs: Sequence[RuleInstall] = (),
    context: Context | None = None,
    keep_effects: bool = False,
    **policy: Any,
) -> Life:
    """Return a session in force; what had to be told so far has been told, unless it is to be looked at."""
    wanted = PolicyAnswer(credits=tuple(credits_), monitors=tuple(monitors), installs=tuple(installs), **policy)
    life = allowed(wanted, at, context)
    life.decide(lambda draft: create.activate(draft, TEIDS, at))
    if not keep_effects:
        life.struck()
    return life
