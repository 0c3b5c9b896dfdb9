"""Meters: usage that nothing comes of is counted without a decision, and folded in as if there had been one."""

from collections.abc import Sequence
from functools import partial
from random import Random  # noqa: TID251, of Hypothesis: choices by the hundred, dense where the law is strained
from typing import Any, Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core import credit
from sessiond.core.charging import CreditAnswer
from sessiond.core.credit import CreditLimit
from sessiond.core.decide.flows import bump
from sessiond.core.decide.meter import Meter, folded, metered
from sessiond.core.decide.usage import DROP_RULE, UsageRecord
from sessiond.core.monitors import Level, MonitorAnswer
from sessiond.core.quantity import GrantedUnits
from sessiond.core.session import Session
from sessiond.core.update import Change
from sessiond.store import codec
from tests.core.builders import (
    Life,
    asked,
    both,
    free,
    grant,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    situation,
    started,
    static,
    terminate_grant,
)

CATALOGUE: Final = (ocs("web", 1), both("video", 2, "m"), pcrf("voice", "m"), free("free"))
RULES: Final = tuple(rule.id for rule in CATALOGUE)
GRANTS: Final = (grant, grant, grant, redirect_grant, terminate_grant)
LEVELS: Final = {"m": Level.PCC_RULE_LEVEL, "whole": Level.SESSION_LEVEL}


def counted(meter: Meter, record: UsageRecord, now_s: int = 1) -> bool:
    """Count a record on a meter."""
    octets = (record.tx, record.rx, record.dropped_tx, record.dropped_rx)
    return meter.count(record.rule, record.ipv6, record.version, *octets, now_s)


class Twins:
    """Two lives of a session: one counts on a meter wherever that does, in the other everything is decided."""

    def __init__(self, life: Life) -> None:
        self.decided, self.metered = Life(life.session, life.at), life
        self.meter: Meter | None = None
        self.totals: dict[tuple[str, bool, int], tuple[int, int]] = {}

    def table(self, records: Sequence[UsageRecord], later_ms: int) -> None:
        """Take a usage table some time later."""
        self.both("later", later_ms)
        self.decided.count(*records)
        self.decided.collect()
        at = self.metered.at
        if self.meter is None:
            self.meter = metered(self.metered.session, at)
        meter = self.meter if self.meter is not None and self.meter.serves(at) else None
        if meter is None or not all(counted(meter, record, at.now_ms // 1000) for record in records):
            self.fold()
            self.metered.count(*records)
            self.metered.collect()

    def both(self, what: str, *args: Any, **fields: Any) -> None:
        """Let the same happen to both."""
        for life in (self.metered, self.decided):
            getattr(life, what)(*args, **fields)

    def fold(self) -> None:
        """Give the first one what its meter has counted."""
        self.metered.session, self.meter = self.session, None

    @property
    def session(self) -> Session:
        """The first one with what its meter has counted."""
        return folded(self.metered.session, self.meter.counted()) if self.meter else self.metered.session

    def record(self, rule: str, tx: int, rx: int, *, ipv6: bool = False, back: int = 0) -> UsageRecord:
        """Return a record that counts so much more of a rule than the last one, of this version or one before it."""
        version = max(1, self.decided.rule(rule).version - back)
        before_tx, before_rx = self.totals.get((rule, ipv6, version), (0, 0))
        self.totals[rule, ipv6, version] = before_tx + tx, before_rx + rx
        return UsageRecord(rule, version, before_tx + tx, before_rx + rx, ipv6)


def amount(chance: Random) -> GrantedUnits:
    """Return some grant."""
    sizes = (None, 0, chance.randint(1, 40), chance.randint(40, 400), 10_000)
    return GrantedUnits(*(chance.choice(sizes) for _ in range(3)))


def credits_of(chance: Random) -> list[CreditAnswer]:
    """Return what an OCS might say."""
    keys = chance.sample(("1", "2"), chance.choice((0, 1, 2, 2)))
    limits = (*[CreditLimit.FINITE] * 5, CreditLimit.INFINITE_METERED)
    return [
        chance.choice(GRANTS)(
            key,
            None,
            granted=amount(chance),
            limit=chance.choice(limits),
            validity_ms=chance.choice((0, 0, 0, 9000)),
            **chance.choice(({}, {}, {}, {"success": False, "result_code": 4012})),
        )
        for key in keys
    ]


def monitors_of(chance: Random) -> list[MonitorAnswer]:
    """Return what a PCRF might say."""
    keys = chance.sample(sorted(LEVELS), chance.choice((0, 1, 2)))
    return [monitor_grant(key, level=LEVELS[key], granted=amount(chance)) for key in keys]


def something(twins: Twins, chance: Random) -> list[UsageRecord]:
    """Let something happen between two tables; return records that the next one has beside the usual ones."""
    match chance.randrange(12):
        case 0 | 1 | 2:
            twins.fold()
            twins.both("answered", *credits_of(chance), monitors=monitors_of(chance))
        case 3:
            twins.fold()
            twins.both("refused")
        case 4:
            twins.fold()
            twins.both("decide", partial(bump, rule_id=chance.choice(RULES)))
        case 5:
            return [UsageRecord("web", 1, 0, 0), UsageRecord("nobody's", 1, 9, 9)]
        case 6:
            return [UsageRecord(DROP_RULE, chance.randrange(2), 0, 0, dropped_tx=chance.choice((0, 7, 8)))]
        case 7:
            record = twins.record("web", 0, 0)
            return [msgspec.structs.replace(record, dropped_rx=chance.choice((0, 5)))]
    return []


@given(st.randoms(use_true_random=True), st.integers(1, 40))
def test_a_meter_counts_what_decisions_would(chance: Random, tables: int) -> None:
    """Law: whatever happens, the session is the one that comes of a decision about each record.

    What is stored of a meter says the same, and folding it in again changes nothing.
    """
    at = situation(
        *CATALOGUE,
        usage_reporting_threshold=chance.choice((0.5, 0.8, 1.0)),
        terminate_service_when_quota_exhausted=chance.choice((False, True)),
        quota_exhausted_grace_ms=chance.choice((0, 4000)),
    )
    life = started(at, credits_=credits_of(chance), monitors=monitors_of(chance), installs=static(*RULES))
    twins, step = Twins(life), chance.choice((3, 30, 300))
    for _ in range(tables):
        records = something(twins, chance)
        for rule in chance.sample(RULES, chance.randrange(4)):
            back, ipv6 = chance.choice((0, 0, 0, 0, 1)), chance.random() < 0.2
            records.append(twins.record(rule, chance.randrange(step), chance.randrange(step), ipv6=ipv6, back=back))
        twins.table(records, chance.choice((1000, 2000, 8000)))
        assert twins.session == twins.decided.session
        if twins.meter is not None:
            known = codec.encode(twins.metered.session) | {b"meter": codec.counted(twins.meter)}
            assert codec.decode(known) == twins.session
            assert folded(twins.session, twins.meter.counted()) == twins.session


def metered_life() -> Life:
    """Return a session of which usage was seen, so that more of it can be counted on a meter."""
    life = started(situation(*CATALOGUE), credits_=[grant("1", 10_000)], installs=static(*RULES))
    life.use("web", 10)
    return life


def test_usage_within_the_room_of_a_credit_needs_no_decision() -> None:
    """At four fifths of a grant a report is due: what comes to less is counted, what comes to that is not."""
    life = metered_life()
    meter = metered(life.session, life.at)
    assert meter is not None
    assert counted(meter, UsageRecord("web", 1, 7000, 999))
    assert not counted(meter, UsageRecord("web", 1, 7000, 1001))
    assert folded(life.session, meter.counted()).credits["1"].used_tx == 7000
    assert meter.told() == (6990, 999)
    assert meter.told() == (0, 0)


def test_what_no_rule_lets_pass_needs_a_decision_once() -> None:
    """The record of the default drop flow comes with every table, mostly as it was."""
    life, dropped = metered_life(), UsageRecord(DROP_RULE, 0, 0, 0, dropped_tx=5)
    meter = metered(life.session, life.at)
    assert meter is not None
    assert counted(meter, UsageRecord(DROP_RULE, 1, 0, 0))
    assert not counted(meter, dropped)
    life.count(dropped)
    meter = metered(life.session, life.at)
    assert meter is not None
    assert counted(meter, dropped)
    assert not counted(meter, msgspec.structs.replace(dropped, dropped_tx=6))


def test_a_session_that_is_not_in_force_has_no_meter() -> None:
    """Before its beginning and after its release everything is decided about."""
    life = metered_life()
    life.release()
    assert metered(life.session, life.at) is None
    assert metered(asked(life.at).session, life.at) is None


def test_counters_that_no_meter_holds() -> None:
    """A peer may name any number; what a meter cannot hold is decided about as before."""
    life = metered_life()
    life.use("web", 20, dropped_tx=2**64 - 1)
    assert metered(life.session, life.at) is None


def test_more_than_a_meter_counts() -> None:
    """A grant and a counter may be larger than a meter's numbers: the room is cut, and the record decided about."""
    life = started(situation(*CATALOGUE), credits_=[grant("1", 2**64 - 1)] * 3, installs=static("web", "free"))
    life.use("web", 1)
    life.use("free", 1)
    meter = metered(life.session, life.at)
    assert meter is not None
    assert counted(meter, UsageRecord("web", 1, 1000, 0))
    for octets in (2**52 + 1, 2**64 - 1):
        assert not counted(meter, UsageRecord("free", 1, octets, 1))
        assert not counted(meter, UsageRecord("free", 1, 1, octets))


def test_a_meter_serves_as_long_as_what_it_was_made_for() -> None:
    """When a validity time comes, or the operator wants reports at another level, decisions are needed again."""
    life = started(situation(*CATALOGUE), credits_=[grant("1", validity_ms=5000)], installs=static("web"))
    life.use("web", 1)
    meter = metered(life.session, life.at)
    assert meter is not None
    assert meter.serves(life.at)
    assert not meter.serves(situation(*CATALOGUE, usage_reporting_threshold=0.5))
    life.later(5000)
    assert not meter.serves(life.at)


def test_a_quota_that_lost_its_grant_has_no_room() -> None:
    """A floor above what is allowed says that nothing is left, whatever was used."""
    life = metered_life()
    life.decide(lambda draft: draft.change("credits", "1", Change({"floor_total": 20_000})))
    assert credit.room(life.credit(), 0.8) == 0
