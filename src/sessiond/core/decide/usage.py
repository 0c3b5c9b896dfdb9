"""Usage: what the data plane's cumulative counters add to the quotas of a session.

One record belongs to a rule, a version of it and an IP version. What is counted is what was not counted before
(reference: session.md 6): the difference to the last record of the same version, all of it for a newer version.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct, structs

from sessiond.core import charging, credit, monitors, rules
from sessiond.core.charging import ChargingCredit, Service
from sessiond.core.draft import Draft
from sessiond.core.lifecycle import State
from sessiond.core.rules import Rule, Seen, Target
from sessiond.core.session import Session
from sessiond.core.situation import Situation
from sessiond.core.update import Change, applied

DROP_RULE: Final = "internal_default_drop_flow_rule"
"""The rule under which pipelined counts what no rule lets pass."""


class UsageRecord(Struct, frozen=True, gc=False):
    """What the data plane counted for one rule: octets since the flows of this version were installed."""

    rule: str
    version: int
    tx: int
    rx: int
    ipv6: bool = False
    dropped_tx: int = 0
    dropped_rx: int = 0


class Ignored(StrEnum):
    """Why a usage record counts nothing."""

    RULE_UNKNOWN = "RULE_UNKNOWN"
    VERSION_UNKNOWN = "VERSION_UNKNOWN"
    VERSION_OUTDATED = "VERSION_OUTDATED"
    COUNTER_DECREASED = "COUNTER_DECREASED"
    SESSION_OVER = "SESSION_OVER"


def owns(session: Session, record: UsageRecord) -> bool:
    """Whether a record can be of this session: its rule is known, and the version is one the session has had."""
    rule = session.rules.get(record.rule)
    return rule is not None and rule.base < record.version <= rule.version


def count(draft: Draft, records: Iterable[UsageRecord], at: Situation) -> list[tuple[UsageRecord, Ignored]]:
    """Count the records of one session, older versions first; return those that count nothing, with the reason.

    Once the end is reported nothing is counted any more.
    """
    if draft.head.state is State.CLOSED:
        return [(record, Ignored.SESSION_OVER) for record in records]
    ignored = []
    for record in sorted(records, key=lambda item: item.version):
        if record.rule == DROP_RULE:
            _count_dropped(draft, record)
            continue
        rule = draft.rules.get(record.rule)
        seen = _seen(rule, record) if rule else Seen()
        if (why := _objection(rule, seen, record)) is not None:
            ignored.append((record, why))
        elif rule is not None and (now := _seen_now(record)) != seen:
            base = seen if seen.version == record.version else Seen()
            tx, rx = record.tx - base.tx, record.rx - base.rx
            draft.change("rules", record.rule, _rule_change(record, base, now, {"moved_tx": tx, "moved_rx": rx}))
            _book(draft, rules.target_at(rule, record.version), tx, rx, at)
    return ignored


def _seen(rule: Rule, record: UsageRecord) -> Seen:
    return rule.seen_ipv6 if record.ipv6 else rule.seen_ipv4


def _seen_now(record: UsageRecord) -> Seen:
    return Seen(record.version, record.tx, record.rx, record.dropped_tx, record.dropped_rx)


def _rule_change(record: UsageRecord, base: Seen, now: Seen, moved: dict[str, int]) -> Change:
    """Return the change of a rule; what was not let through is no quota's business, so that it may jump back."""
    if (dropped_tx := record.dropped_tx - base.dropped_tx) > 0:
        moved["dropped_tx"] = dropped_tx
    if (dropped_rx := record.dropped_rx - base.dropped_rx) > 0:
        moved["dropped_rx"] = dropped_rx
    return Change(moved, {"seen_ipv6" if record.ipv6 else "seen_ipv4": now})


def _count_dropped(draft: Draft, record: UsageRecord) -> None:
    """Count what no rule let pass, under a rule of its own that is never in force."""
    rule = draft.rules.get(DROP_RULE) or Rule()
    seen, now = _seen(rule, record), Seen(0, 0, 0, record.dropped_tx, record.dropped_rx)
    if now == seen:
        return
    if DROP_RULE not in draft.rules:
        draft.put("rules", DROP_RULE, rule)
    draft.change("rules", DROP_RULE, _rule_change(record, seen, now, {}))


def _objection(rule: Rule | None, seen: Seen, record: UsageRecord) -> Ignored | None:
    if rule is None:
        return Ignored.RULE_UNKNOWN
    if record.version > rule.version:
        return Ignored.VERSION_UNKNOWN
    if record.version <= rule.base or record.version < seen.version:
        return Ignored.VERSION_OUTDATED
    if record.version == seen.version and (record.tx < seen.tx or record.rx < seen.rx):
        return Ignored.COUNTER_DECREASED
    return None


def _book(draft: Draft, target: Target, tx: int, rx: int, at: Situation) -> None:
    """Add traffic of a rule to its credit, its monitor and the monitor of the whole session."""
    if not tx and not rx:
        return
    if (charge := draft.credits.get(target.credit)) is not None:
        _book_on_credit(draft, target.credit, charge, tx, rx, at)
    if not (known := draft.monitors):
        return
    for key in dict.fromkeys((target.monitor, draft.gateway.session_monitor)):
        if (monitor := known.get(key)) is not None:
            draft.change("monitors", key, credit.used(monitor, tx, rx, at.now_ms // 1000))
            if monitors.ending(draft.monitors[key]):
                draft.set("monitors", key, last_report=True)


def _book_on_credit(draft: Draft, key: str, charge: ChargingCredit, tx: int, rx: int, at: Situation) -> None:
    """Add traffic to a credit: one change, with what comes of it if that uses the credit up."""
    settings = at.settings
    change = credit.used(charge, tx, rx, at.now_ms // 1000)
    after = applied(charge, change)
    more: dict[str, Any] = {}
    terminates, group_only = (
        settings.terminate_service_when_quota_exhausted,
        settings.final_unit_blocks_rating_group_only,
    )
    if charging.should_deactivate(after, terminates=terminates, group_only=group_only):
        more["service"] = Service.NEEDS_DEACTIVATION
    more.update(charging.without_quota(after, at.now_ms, settings.quota_exhausted_grace_ms).set)
    if more:
        change, after = Change(change.add, {**change.set, **more}), structs.replace(after, **more)
    draft.turn("credits", key, change, after)
