"""A naive data plane: flows that effects put up and take down, and counters that traffic moves."""

from collections.abc import Collection, Iterable, Iterator

from sessiond.core.decide.usage import UsageRecord
from sessiond.core.effects import ActivateFlows, DeactivateFlows, Saved
from sessiond.core.quantity import Volume

NOTHING = Volume()


def _sum(first: Volume, second: Volume) -> Volume:
    return Volume(first.tx + second.tx, first.rx + second.rx)


class DataPlane:
    """Knows nothing of sessions, quotas or thresholds: what it moved is what was used."""

    def __init__(self) -> None:
        self.flows: dict[tuple[str, bool], int] = {}
        """The version of the flows that are up, by rule and whether they are Gy flows."""
        self._counters: dict[tuple[str, int, bool], Volume] = {}
        """Octets by rule, version and whether they are IPv6."""
        self._told: dict[tuple[str, int, bool], Volume] = {}

    def carry_out(self, effect: Saved) -> None:
        """Put flows up or take them down."""
        match effect:
            case ActivateFlows():
                self.flows |= {(rule.id, effect.gy): rule.version for rule in effect.rules}
            case DeactivateFlows(everything=True):
                self.flows.clear()
            case DeactivateFlows():
                for rule in effect.rules:
                    self.flows.pop((rule.id, effect.gy), None)
            case _:
                pass

    def set_up(self, wanted: Iterable[ActivateFlows]) -> None:
        """Have these flows and no others, as after a restart."""
        self.flows.clear()
        for effect in wanted:
            self.carry_out(effect)

    def left_over(self, rule: str, version: int, octets: Volume) -> None:
        """Have counters of an earlier session of the subscriber."""
        self._counters[rule, version, False] = octets

    def move(self, rule: str, octets: Volume, *, ipv6: bool) -> None:
        """Move traffic on the flows of a rule, if they are up."""
        for gy in (False, True):
            if (version := self.flows.get((rule, gy))) is not None:
                counter = (rule, version, ipv6)
                self._counters[counter] = _sum(self._counters.get(counter, NOTHING), octets)
                return

    def restart_switch(self) -> None:
        """Lose all flows and counters; what was moved and not told is lost."""
        self.flows.clear()
        self._counters.clear()
        self._told.clear()

    def tell(self, rules: Collection[str]) -> Iterator[tuple[UsageRecord, Volume]]:
        """Yield the counters of some rules, each with what it moved since it was told last; old ones are dropped."""
        for counter, now in list(self._counters.items()):
            rule, version, ipv6 = counter
            if rule not in rules:
                continue
            before = self._told.get(counter, NOTHING)
            self._told[counter] = now
            yield UsageRecord(rule, version, now.tx, now.rx, ipv6), Volume(now.tx - before.tx, now.rx - before.rx)
            if version not in {self.flows.get((rule, False)), self.flows.get((rule, True))}:
                del self._counters[counter], self._told[counter]

    def counted(self) -> set[str]:
        """Return the rules that have counters."""
        return {rule for rule, _, _ in self._counters}
