"""The arithmetic of one quota: grants, thresholds, what is used, in flight and reported.

Charging credits (Gy) and usage monitors (Gx) are both quotas. Conservation, for every quota at every moment:

    reported + in flight + unreported = used
"""

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from sessiond.core.quantity import GrantedUnits, RequestedUnits, Volume
from sessiond.core.update import Change

LEGS: Final = ("total", "tx", "rx")
COUNTERS: Final = frozenset({
    "used_tx", "used_rx", "allowed_total", "allowed_tx", "allowed_rx",
    "floor_total", "floor_tx", "floor_rx", "reported_tx", "reported_rx",
})  # fmt: skip
"""The fields of a quota that only ever change by adding."""
_NAMES: Final = tuple((leg, f"allowed_{leg}", f"floor_{leg}") for leg in LEGS)
UNLIMITED: Final = 2**62
"""More octets than are ever used."""
TRANSIENT_FAILURES: Final = range(4000, 5000)
"""Diameter result codes after which a service is suspended (RFC 6733 clause 7.1.4)."""
PERMANENT_FAILURES: Final = range(5000, 6000)
"""Diameter result codes that end the session (RFC 6733 clause 7.1.5)."""


class Tracking(StrEnum):
    """Which legs of the grants decide about exhaustion; the first grant settles it."""

    UNSET = "UNSET"
    TOTAL_ONLY = "TOTAL_ONLY"
    TX_ONLY = "TX_ONLY"
    RX_ONLY = "RX_ONLY"
    TX_AND_RX = "TX_AND_RX"
    ALL_TOTAL_TX_RX = "ALL_TOTAL_TX_RX"


TRACKED: Final[dict[Tracking, tuple[str, ...]]] = {
    Tracking.UNSET: (),
    Tracking.TOTAL_ONLY: ("total",),
    Tracking.TX_ONLY: ("tx",),
    Tracking.RX_ONLY: ("rx",),
    Tracking.TX_AND_RX: ("tx", "rx"),
    Tracking.ALL_TOTAL_TX_RX: LEGS,
}


class CreditLimit(StrEnum):
    """Whether a quota can run out; the two infinite kinds differ for the policy side only."""

    FINITE = "FINITE"
    INFINITE_UNMETERED = "INFINITE_UNMETERED"
    INFINITE_METERED = "INFINITE_METERED"


class Report(Struct, frozen=True, gc=False):
    """Usage that was sent, or is about to be, in the request of this number and is not yet acknowledged."""

    number: int
    tx: int
    rx: int
    reason: str
    requested: RequestedUnits = RequestedUnits()
    last: bool = False
    """After its acknowledgement nothing more is reported for this quota."""


class Quota(Struct, frozen=True, gc=False, kw_only=True):
    """What was granted and what became of it; octets, cumulative over the life of the session.

    `allowed` is the sum of all grants plus over-use that was written off; `floor` is what `allowed` was before the
    last grant, so that `allowed - floor` is the size of the current one.
    """

    limit: CreditLimit = CreditLimit.FINITE
    tracking: Tracking = Tracking.UNSET
    granted: GrantedUnits = GrantedUnits()
    used_tx: int = 0
    used_rx: int = 0
    allowed_total: int = 0
    allowed_tx: int = 0
    allowed_rx: int = 0
    floor_total: int = 0
    floor_tx: int = 0
    floor_rx: int = 0
    reported_tx: int = 0
    reported_rx: int = 0
    in_flight: Report | None = None
    first_usage_s: int = 0
    last_usage_s: int = 0


def used_on(quota: Quota, leg: str) -> int:
    """Return what is used on a leg."""
    return _on(quota, leg)[2]


def used(quota: Quota, tx: int, rx: int, now_s: int) -> Change:
    """Return the change when traffic was counted; no traffic leaves the times as they are."""
    if not tx and not rx:
        return Change()
    times = {"last_usage_s": now_s} if quota.first_usage_s else {"first_usage_s": now_s, "last_usage_s": now_s}
    return Change({"used_tx": tx, "used_rx": rx}, times)


def tracking_of(units: GrantedUnits) -> Tracking:
    """Return what a first grant says about the legs to track: those that are part of it and not zero."""
    match bool(units.total), bool(units.tx), bool(units.rx):
        case True, True, True:
            return Tracking.ALL_TOTAL_TX_RX
        case True, _, _:
            return Tracking.TOTAL_ONLY
        case False, True, True:
            return Tracking.TX_AND_RX
        case False, True, False:
            return Tracking.TX_ONLY
        case False, False, True:
            return Tracking.RX_ONLY
        case _:
            return Tracking.UNSET


def granted(quota: Quota, units: GrantedUnits) -> Change:
    """Return the change when a grant arrives: quota goes up, and over-use is written off.

    The floor of a leg moves only with a grant on that leg.
    """
    add: dict[str, int] = {}
    for leg, allowed_name, floor_name in _NAMES:
        volume = getattr(units, leg) or 0
        allowed, floor, spent = _on(quota, leg)
        before = max(spent, allowed)
        if more := volume + before - allowed:
            add[allowed_name] = more
        if volume and allowed >= floor and (rise := before - floor):
            add[floor_name] = rise
    changes: dict[str, Any] = {"granted": units}
    if quota.tracking is Tracking.UNSET:
        changes["tracking"] = tracking_of(units)
    return Change(add, changes)


def acknowledged(quota: Quota) -> Change:
    """Return the change when the peer has taken the usage in flight."""
    if quota.in_flight is None:
        return Change()
    return Change({"reported_tx": quota.in_flight.tx, "reported_rx": quota.in_flight.rx}, {"in_flight": None})


def returned(quota: Quota) -> Change:
    """Return the change when it is certain that the peer has not taken the usage in flight: it is unreported again."""
    return Change(set={"in_flight": None}) if quota.in_flight else Change()


def unreported(quota: Quota) -> Volume:
    """Return what is used and neither reported nor in flight."""
    tx, rx = quota.used_tx - quota.reported_tx, quota.used_rx - quota.reported_rx
    if quota.in_flight is None:
        return Volume(tx, rx)
    return Volume(tx - quota.in_flight.tx, rx - quota.in_flight.rx)


def exhausted(quota: Quota, threshold: float) -> bool:
    """Whether at most (1 - threshold) of the current grant is left on a tracked leg; with 1.0, whether none is."""
    if quota.limit is not CreditLimit.FINITE:
        return False
    if quota.tracking is Tracking.UNSET:
        return True
    kept_percent = 100 - int(100 * threshold)
    for leg in TRACKED[quota.tracking]:
        allowed, floor, spent = _on(quota, leg)
        left = allowed - spent
        if floor > allowed or left <= 0 or left <= (allowed - floor) * kept_percent // 100:
            return True
    return False


def _on(quota: Quota, leg: str) -> tuple[int, int, int]:
    """Return what is allowed on a leg, what was before the last grant, and what is used."""
    match leg:
        case "tx":
            return quota.allowed_tx, quota.floor_tx, quota.used_tx
        case "rx":
            return quota.allowed_rx, quota.floor_rx, quota.used_rx
        case _:
            return quota.allowed_total, quota.floor_total, quota.used_tx + quota.used_rx


def room(quota: Quota, threshold: float) -> int:
    """Return how many octets may at least be used, up and down together, before a quota is `exhausted`."""
    if quota.limit is not CreditLimit.FINITE:
        return UNLIMITED
    kept_percent = 100 - int(100 * threshold)
    rooms = [_room_on(quota, leg, kept_percent) for leg in TRACKED[quota.tracking]]
    return max(0, min(rooms, default=0))


def _room_on(quota: Quota, leg: str, kept_percent: int) -> int:
    allowed, floor, used_up = _on(quota, leg)
    if floor > allowed:
        return 0
    return allowed - used_up - max(0, (allowed - floor) * kept_percent // 100) - 1


def requested(quota: Quota) -> RequestedUnits:
    """Return what to ask for: the size of the last grant, less what is left of it."""
    granted = quota.granted
    total, tx, rx = granted.total, granted.tx, granted.rx
    return RequestedUnits(
        0 if total is None else _wanted_on(total, *_on(quota, "total")),
        0 if tx is None else _wanted_on(tx, *_on(quota, "tx")),
        0 if rx is None else _wanted_on(rx, *_on(quota, "rx")),
    )


def _wanted_on(volume: int, allowed: int, floor: int, spent: int) -> int:
    """Return what to ask for on a leg that the last grant was about."""
    grant = volume or allowed - floor
    left = allowed - spent
    return grant - left if 0 <= left <= grant else grant


def sent(quota: Quota, number: int, reason: str, units: RequestedUnits, *, last: bool = False) -> Change:
    """Return the change when all unreported usage goes out in the request of this number."""
    volume = unreported(quota)
    return Change(set={"in_flight": Report(number, volume.tx, volume.rx, reason, units, last)})


def awaits(quota: Quota, numbers: frozenset[int]) -> bool:
    """Whether usage of a quota is in flight in a request of one of these numbers."""
    return quota.in_flight is not None and quota.in_flight.number in numbers
