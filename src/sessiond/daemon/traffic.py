"""What subscribers moved, under the names that a Magma gateway's dashboards know: ue_traffic and its likes.

It is taken from what each rule moved, so that an octet counts once, however many quotas count it. By default there is
one sum per direction; with a series per subscriber, those of a session go when it is over.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sessiond.app.commit import Moved, Outcome
from sessiond.core.lifecycle import State
from sessiond.core.rules import Rule
from sessiond.core.session import Session

DIRECTIONS: Final = ("up", "down")
_NO_RULE: Final = Rule()
_Place: TypeAlias = tuple[str, str]
"""Subscriber and APN."""


class _Octets:
    """Octets up and down: those that rules moved, and those that were not let through."""

    def __init__(self) -> None:
        self.moved = [0, 0]
        self.dropped = [0, 0]
        self.sessions = 0

    def add(self, before: Mapping[str, Rule], after: Mapping[str, Rule]) -> None:
        """Add what the rules of a session moved and dropped more than before."""
        for rule_id, rule in after.items():
            known = before.get(rule_id, _NO_RULE)
            if rule is not known:
                self.moved[0] += rule.moved_tx - known.moved_tx
                self.moved[1] += rule.moved_rx - known.moved_rx
                self.dropped[0] += rule.dropped_tx - known.dropped_tx
                self.dropped[1] += rule.dropped_rx - known.dropped_rx

    def move(self, moved: Moved) -> None:
        """Add what was counted without a decision."""
        self.moved[0] += moved.tx
        self.moved[1] += moved.rx


class TrafficOfAll(Collector):
    """The traffic of all sessions since the daemon started."""

    def __init__(self) -> None:
        self._octets = _Octets()

    def observe(self, outcome: Outcome) -> None:
        """Take what a change has counted."""
        if outcome.before is not None and outcome.before.rules is not outcome.after.rules:
            self._octets.add(outcome.before.rules, outcome.after.rules)

    def observe_traffic(self, everyone: Sequence[Moved]) -> None:
        """Take what was counted without a decision."""
        for moved in everyone:
            self._octets.move(moved)

    def take_up(self, session: Session) -> None:
        """Do nothing: what an earlier run has counted is not counted again."""

    def collect(self) -> Iterator[Metric]:
        """Yield the three families."""
        traffic, reported, dropped = _families()
        _add(traffic, {}, self._octets.moved)
        _add(reported, {}, self._octets.moved)
        _add(dropped, {}, self._octets.dropped)
        yield from (traffic, reported, dropped)


class TrafficOfEach(Collector):
    """The traffic of each session, as a Magma gateway shows it: by session id, and by APN.

    Sessions of one subscriber and APN share what is shown by APN; it goes with the last of them.
    """

    def __init__(self) -> None:
        self._of_session: dict[str, tuple[_Place, _Octets]] = {}
        self._of_apn: dict[_Place, _Octets] = {}

    def observe(self, outcome: Outcome) -> None:
        """Take what a change has counted; a session that is over is forgotten."""
        before, after = outcome.before, outcome.after
        if before is not None and before.rules is not after.rules:
            self._add(before.rules, after)
        if after.head.state is State.CLOSED and after.key in self._of_session:
            self._forget(after.key)

    def observe_traffic(self, everyone: Sequence[Moved]) -> None:
        """Take what was counted without a decision; the first usage of a session never is."""
        for moved in everyone:
            place, octets = self._of_session[moved.session.key]
            octets.move(moved)
            self._of_apn[place].move(moved)

    def take_up(self, session: Session) -> None:
        """Go on with what an earlier run has counted."""
        if session.head.state is not State.CLOSED:
            self._add({}, session)

    def collect(self) -> Iterator[Metric]:
        """Yield the three families."""
        traffic, reported, dropped = _families()
        for session_id, ((subscriber, _), octets) in list(self._of_session.items()):
            _add(traffic, {"IMSI": subscriber, "session_id": session_id}, octets.moved)
        for (subscriber, apn), octets in list(self._of_apn.items()):
            _add(reported, {"IMSI": subscriber, "apn": apn}, octets.moved)
            _add(dropped, {"IMSI": subscriber, "apn": apn}, octets.dropped)
        yield from (traffic, reported, dropped)

    def _add(self, before: Mapping[str, Rule], after: Session) -> None:
        """Add to the series of a session and to those of the APN it began on."""
        if after.context is None:
            return
        if after.key not in self._of_session:
            place = (after.context.subscriber, after.context.apn)
            self._of_session[after.key] = (place, _Octets())
            self._of_apn.setdefault(place, _Octets()).sessions += 1
        place, octets = self._of_session[after.key]
        octets.add(before, after.rules)
        self._of_apn[place].add(before, after.rules)

    def _forget(self, key: str) -> None:
        place, _ = self._of_session.pop(key)
        self._of_apn[place].sessions -= 1
        if not self._of_apn[place].sessions:
            del self._of_apn[place]


def _families() -> tuple[Metric, Metric, Metric]:
    """Return the families; two are counters, whose names lack the ending that the library would give to counters."""
    return (
        Metric("ue_traffic", "Octets that rules moved, by session if per subscriber.", "unknown"),
        Metric("ue_reported_usage", "Octets that rules moved, by APN if per subscriber.", "unknown"),
        Metric("ue_dropped_usage", "Octets that were not let through, by APN if per subscriber.", "gauge"),
    )


def _add(family: Metric, labels: dict[str, str], octets: list[int]) -> None:
    for direction, value in zip(DIRECTIONS, octets, strict=True):
        family.add_sample(family.name, {**labels, "direction": direction}, value)
