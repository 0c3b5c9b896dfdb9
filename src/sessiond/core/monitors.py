"""Usage monitors (Gx, TS 29.212 clause 4.5.16): quotas under a monitoring key, for a session or for some rules."""

from enum import StrEnum

from msgspec import Struct

from sessiond.core import credit
from sessiond.core.credit import TRACKED, Quota, Tracking
from sessiond.core.quantity import GrantedUnits
from sessiond.core.update import Change, applied


class Level(StrEnum):
    """What a monitor counts (Usage-Monitoring-Level, TS 29.212 clause 5.3.60)."""

    SESSION_LEVEL = "SESSION_LEVEL"
    PCC_RULE_LEVEL = "PCC_RULE_LEVEL"


class MonitorAction(StrEnum):
    """What an answer wants of a monitor beside the grant."""

    CONTINUE = "CONTINUE"
    DISABLE = "DISABLE"
    FORCE = "FORCE"


class Monitor(Quota, frozen=True, gc=False, kw_only=True):
    """The quota of one monitoring key; `last_report` says that the next report is its last."""

    level: Level = Level.SESSION_LEVEL
    last_report: bool = False


class MonitorAnswer(Struct, frozen=True, gc=False, kw_only=True):
    """What the PCRF says about one monitoring key."""

    key: str
    level: Level = Level.SESSION_LEVEL
    action: MonitorAction = MonitorAction.CONTINUE
    granted: GrantedUnits = GrantedUnits()


def silent(monitor: Monitor) -> bool:
    """Whether the last grant left a tracked leg empty: no more reports then, until the rest is used up."""
    if monitor.tracking is Tracking.UNSET:
        return True
    return any(not getattr(monitor.granted, leg) for leg in TRACKED[monitor.tracking])


def ending(monitor: Monitor) -> bool:
    """Whether nothing is left and nothing more will be granted: the next report is the last."""
    return silent(monitor) and credit.exhausted(monitor, 1.0)


def due(monitor: Monitor, threshold: float) -> bool:
    """Whether a report is due; never while one is in flight."""
    if monitor.in_flight is not None:
        return False
    return monitor.last_report or (not silent(monitor) and credit.exhausted(monitor, threshold))


def room(monitor: Monitor, threshold: float) -> int:
    """Return how many octets may at least be used before anything comes of it; the first ones are noted at once."""
    if not monitor.first_usage_s:
        return 0
    return credit.room(monitor, 1.0 if monitor.in_flight is not None or silent(monitor) else threshold)


def answered(monitor: Monitor, answer: MonitorAnswer, *, taken: bool) -> Monitor:
    """Return a monitor after an answer: a grant, or with DISABLE the end after one more report.

    `taken`: the answer belongs to the report in flight, which it acknowledges.
    """
    if taken:
        monitor = applied(monitor, credit.acknowledged(monitor))
    if answer.action is MonitorAction.DISABLE:
        return applied(monitor, Change(set={"last_report": True}))  # type: ignore[no-any-return]
    return applied(monitor, credit.granted(monitor, answer.granted))  # type: ignore[no-any-return]
