"""Meter: the usage of one session for as long as nothing comes of it, so that counting it only adds integers.

A record within the room of its quotas makes nothing due and uses nothing up: it changes counters, and no decision is
asked for. Such records are counted on a meter beside the immutable session. Law: folding the meter into its session
gives the session that `usage.count` makes of the same records, one by one.

What is counted is cumulative, as the records are, so that it can be counted, stored and folded any number of times.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from msgspec import Struct, structs

from sessiond.core import charging, monitors, rules
from sessiond.core.decide.report import due
from sessiond.core.decide.usage import DROP_RULE
from sessiond.core.lifecycle import State
from sessiond.core.rules import Rule, Seen
from sessiond.core.session import Session
from sessiond.core.situation import Situation
from sessiond.core.update import Path

Counted: TypeAlias = tuple[str, bool, int, int, int]
"""A rule, whether of IPv6, the octets up and down counted of the version last seen, and when (unix s)."""

NEVER: Final = 2**62
MOST: Final = 2**52
"""The octets that a meter counts, and the room it knows, at most; what is beyond is decided about."""
UNTOLD_TX, UNTOLD_RX, FIRST = 0, 1, 2
"""What the numbers of a meter begin with: octets that nobody was told of; then come its lines, then the rooms."""
VERSION, TX, RX, DROPPED_TX, DROPPED_RX, AT_S, LENGTH = range(7)
"""The numbers of a line."""
NO_VERSION: Final = -1
"""The version of the line of what no rule lets pass, which has none."""


class Line(Struct, frozen=True, gc=False):
    """Where the records of one rule and IP version are counted, and where the rooms of its quotas are."""

    rule: str
    ipv6: bool
    start: int
    rooms: tuple[int, ...]


class Layout(Struct, frozen=True, gc=False):
    """What the numbers of a meter mean; sessions whose rules count on the same quotas share one."""

    ipv4: Mapping[str, Line]
    ipv6: Mapping[str, Line]
    lines: tuple[Line, ...]


class Meter(Struct, eq=False, gc=False):
    """What was counted for a session, and how much more may be before something comes of it."""

    layout: Layout
    numbers: "array[int]"
    threshold: float
    """The usage_reporting_threshold that the rooms were measured with."""
    until_ms: int
    """From when on time makes something due."""
    unsaved: bool = False
    """Whether something was counted since it was last stored."""
    unfolded: bool = False
    """Whether something was counted since it was last folded into the session."""

    def count(
        self, rule: str, ipv6: bool, version: int, tx: int, rx: int, dropped_tx: int, dropped_rx: int, now_s: int
    ) -> bool:
        """Count a usage record; False: a decision about it is needed, and nothing is counted."""
        line = (self.layout.ipv6 if ipv6 else self.layout.ipv4).get(rule)
        if line is None:
            return rule == DROP_RULE and not dropped_tx and not dropped_rx
        numbers, start = self.numbers, line.start
        if dropped_tx != numbers[start + DROPPED_TX] or dropped_rx != numbers[start + DROPPED_RX]:
            return False
        if version != numbers[start]:
            return numbers[start] == NO_VERSION
        more_tx, more_rx = tx - numbers[start + TX], rx - numbers[start + RX]
        more = more_tx + more_rx
        if more_tx < 0 or more_rx < 0 or tx > MOST or rx > MOST:
            return False
        for room in line.rooms:
            if more > numbers[room]:
                return False
        if more:
            for room in line.rooms:
                numbers[room] -= more
            numbers[start + TX], numbers[start + RX], numbers[start + AT_S] = tx, rx, now_s
            numbers[UNTOLD_TX] += more_tx
            numbers[UNTOLD_RX] += more_rx
            self.unsaved = self.unfolded = True
        return True

    def serves(self, at: Situation) -> bool:
        """Whether it still holds that nothing comes of usage within the rooms."""
        return at.now_ms < self.until_ms and at.settings.usage_reporting_threshold == self.threshold

    def counted(self) -> Iterator[Counted]:
        """Yield what was counted, for each line on which there was anything."""
        numbers = self.numbers
        for line in self.layout.lines:
            start = line.start
            if (at_s := numbers[start + AT_S]) != NEVER:
                yield line.rule, line.ipv6, numbers[start + TX], numbers[start + RX], at_s

    def told(self) -> tuple[int, int]:
        """Return the octets up and down that nobody was told of; now somebody is."""
        numbers = self.numbers
        untold = numbers[UNTOLD_TX], numbers[UNTOLD_RX]
        numbers[UNTOLD_TX] = numbers[UNTOLD_RX] = 0
        return untold


def metered(session: Session, at: Situation) -> Meter | None:
    """Return a meter for a session; None if something is due, or may come of any usage."""
    if session.head.state is not State.ACTIVE or session.gateway is None or due(session, at):
        return None
    threshold = at.settings.usage_reporting_threshold
    lines = list(_lines(session))
    rooms = {path: _room(session, path, threshold) for _, _, _, paths in lines for path in paths}
    indexes = {path: index for index, path in enumerate(rooms)}
    layout = _layout(tuple((rule, ipv6, tuple(indexes[path] for path in paths)) for rule, ipv6, _, paths in lines))
    try:
        numbers = array("q", [0] * FIRST)
        for rule, _, seen, _ in lines:
            version = NO_VERSION if rule == DROP_RULE else seen.version
            numbers.extend((version, seen.tx, seen.rx, seen.dropped_tx, seen.dropped_rx, NEVER))
    except OverflowError:
        return None
    numbers.extend(rooms.values())
    expiries = [charge.expires_at_ms for charge in session.credits.values() if charge.in_flight is None]
    return Meter(layout, numbers, threshold, min((at_ms for at_ms in expiries if at_ms is not None), default=NEVER))


def folded(session: Session, counted: Iterable[Counted]) -> Session:
    """Return a session with what was counted for it."""
    ruled: dict[str, Rule] = {}
    sums: dict[Path, list[int]] = {}
    for rule_id, ipv6, tx, rx, at_s in counted:
        rule = ruled.get(rule_id) or session.rules[rule_id]
        name = "seen_ipv6" if ipv6 else "seen_ipv4"
        seen: Seen = getattr(rule, name)
        more_tx, more_rx = tx - seen.tx, rx - seen.rx
        if not more_tx and not more_rx:
            continue
        now = Seen(seen.version, tx, rx, seen.dropped_tx, seen.dropped_rx)
        moved = {"moved_tx": rule.moved_tx + more_tx, "moved_rx": rule.moved_rx + more_rx}
        ruled[rule_id] = structs.replace(rule, **{name: now}, **moved)
        for path in _quotas(session, rule, seen.version):
            before_tx, before_rx, before_s = sums.get(path, (0, 0, 0))
            sums[path] = [before_tx + more_tx, before_rx + more_rx, max(before_s, at_s)]
    return _with_usage(session, ruled, sums) if ruled else session


def _with_usage(session: Session, ruled: Mapping[str, Rule], sums: Mapping[Path, list[int]]) -> Session:
    """Return a session with rules that counted something, and its sums on each quota: octets up and down, and when."""
    quotas: dict[str, Any] = {"credits": dict(session.credits), "monitors": dict(session.monitors)}
    for (part, key), (tx, rx, at_s) in sums.items():
        quota = quotas[part][key]
        used = {"used_tx": quota.used_tx + tx, "used_rx": quota.used_rx + rx}
        quotas[part][key] = structs.replace(quota, last_usage_s=at_s, **used)
    return structs.replace(session, rules={**session.rules, **ruled}, **quotas)


def _lines(session: Session) -> Iterator[tuple[str, bool, Seen, tuple[Path, ...]]]:
    """Yield the rules and IP versions of which usage was seen, with the quotas that it counts on."""
    for rule_id, rule in session.rules.items():
        for ipv6, seen in ((False, rule.seen_ipv4), (True, rule.seen_ipv6)):
            if seen.version > rule.base or rule_id == DROP_RULE:
                yield rule_id, ipv6, seen, tuple(_quotas(session, rule, seen.version))


def _quotas(session: Session, rule: Rule, version: int) -> Iterator[Path]:
    """Yield the quotas that the traffic of a version counts on, each once."""
    target = rules.target_at(rule, version)
    if target.credit in session.credits:
        yield "credits", target.credit
    if target.monitor in session.monitors:
        yield "monitors", target.monitor
    whole = session.gateway.session_monitor if session.gateway is not None else ""
    if whole != target.monitor and whole in session.monitors:
        yield "monitors", whole


def _room(session: Session, path: Path, threshold: float) -> int:
    part, key = path
    if part == "credits":
        return min(charging.room(session.credits[key], threshold), MOST)
    return min(monitors.room(session.monitors[key], threshold), MOST)


@lru_cache(maxsize=4096)
def _layout(lines: tuple[tuple[str, bool, tuple[int, ...]], ...]) -> Layout:
    """Return the layout of lines; each names its quotas by their indexes."""
    end = FIRST + LENGTH * len(lines)
    made = tuple(
        Line(rule, ipv6, FIRST + LENGTH * index, tuple(end + quota for quota in quotas))
        for index, (rule, ipv6, quotas) in enumerate(lines)
    )
    return Layout(
        {line.rule: line for line in made if not line.ipv6}, {line.rule: line for line in made if line.ipv6}, made
    )
