"""Pipelined and its switch, as far as counting goes: flows, counters, epochs, and what was moved for whom."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sessiond.app.ports.peers import SetupResult, UnknownFlows
from sessiond.app.usage import TableRow
from sessiond.core.decide.wanted import wanted_flows
from sessiond.core.effects import ActivateFlows, DeactivateFlows
from sessiond.core.session import Session
from sessiond.testing.peers import ScriptedDataPlane, refused, unreachable

Device = tuple[str, str]
"""Subscriber and address."""


class Counted(Struct):
    """Octets of one version of a rule, and how many of them were in a table that was taken."""

    owner: str
    octets: int = 0
    taken: int = 0
    in_doubt: bool = False
    """They were in a table that may have been booked or not."""


class Pipelined:
    """Does what a scripted data plane is told; reference: southbound.md 2.5.

    The switch forwards and counts whether pipelined runs or not. Counters of a version that is not the present one go
    when a table that had all of them was taken.
    """

    def __init__(self, peer: ScriptedDataPlane) -> None:
        self.epoch = 1
        self.counters_restarted = False
        self.moved: Counter[tuple[str, str]] = Counter()
        """Octets by session and rule; what a switch lost before anybody heard of it is taken off again."""
        self._runs = True
        self._set_up = False
        self._flows: dict[Device, dict[str, int]] = {}
        """The version of the flows that are up, by rule."""
        self._versions: dict[Device, dict[str, int]] = {}
        self._counters: dict[tuple[Device, str, int], Counted] = {}
        self._peer = peer
        self.listen()

    def listen(self) -> None:
        """Answer what the peer is asked, whenever a test has no other answer."""
        peer = self._peer
        peer.usually("set_up", self._be_set_up)
        peer.usually("activate", self._activate)
        peer.usually("deactivate", self._deactivate)
        peer.usually("deactivate_unknown", self._deactivate_unknown)

    def stop(self) -> None:
        """Die; the switch goes on."""
        self._runs = False
        self._peer.connected = False

    def start(self, *, switch_too: bool) -> None:
        """Come back under a new epoch; with the switch, without any flow or counter.

        The switch does not restart while nobody can tell what it would lose.
        """
        self._runs = True
        self._peer.connected = True
        self._set_up = False
        self._versions.clear()
        self.epoch += 1
        self.counters_restarted = switch_too and not any(counted.in_doubt for counted in self._counters.values())
        if self.counters_restarted:
            for (_, rule, _), counted in self._counters.items():
                self.moved[counted.owner, rule] -= counted.octets - counted.taken
            self._counters.clear()
            self._flows.clear()

    @property
    def runs(self) -> bool:
        """Whether there is anybody to report."""
        return self._runs

    def differs(self, session: Session) -> set[str]:
        """Return the rules whose flows a session wants and does not have, or has and does not want."""
        wanted = {rule.id for effect in wanted_flows(session) for rule in effect.rules}
        return wanted ^ self._flows.get(_device(session), {}).keys()

    def traffic(self, octets: int) -> None:
        """Move octets on all flows that are up."""
        for device, flows in self._flows.items():
            for rule, version in flows.items():
                counted = self._counters[device, rule, version]
                counted.octets += octets
                self.moved[counted.owner, rule] += octets

    def table(self) -> list[TableRow]:
        """Return all counters, none before it was set up."""
        return list(self._rows()) if self._set_up else []

    def taken(self, rows: Iterable[TableRow]) -> None:
        """Note that a table was taken, and drop old counters of which all was in it."""
        for row in rows:
            key = _key(row)
            counted = self._counters.get(key)
            if counted is None:
                continue
            counted.taken, counted.in_doubt = row.record.tx, False
            if self._versions.get(key[0], {}).get(key[1]) != key[2] and counted.octets == counted.taken:
                del self._counters[key]

    def doubted(self, rows: Iterable[TableRow]) -> None:
        """Note that nobody knows whether a table was taken."""
        for row in rows:
            if (counted := self._counters.get(_key(row))) is not None:
                counted.in_doubt = True

    def _rows(self) -> Iterator[TableRow]:
        for ((subscriber, address), rule, version), counted in self._counters.items():
            yield TableRow(subscriber, address, "", 0, rule, version, counted.octets, 0)

    def _be_set_up(self, epoch: int, sessions: Sequence[Session], _: Mapping[str, Any]) -> SetupResult:
        self._reached()
        if epoch != self.epoch:
            return SetupResult.OUTDATED_EPOCH
        if not self._set_up:
            self._flows.clear()
            self._set_up = True
            for session in sessions:
                for effect in wanted_flows(session):
                    self._put_up(session, effect)
        return SetupResult.SUCCESS

    def _activate(self, session: Session, effect: ActivateFlows, _: Mapping[str, Any]) -> tuple[str, ...]:
        self._reached()
        self._put_up(session, effect)
        return ()

    def _deactivate(self, session: Session, effect: DeactivateFlows) -> None:
        self._reached()
        device = _device(session)
        if effect.everything:
            self._versions.pop(device, None)
            self._flows.pop(device, None)
        for rule in effect.rules:
            self._versions.setdefault(device, {})[rule.id] = rule.version
            self._flows.get(device, {}).pop(rule.id, None)

    def _deactivate_unknown(self, flows: UnknownFlows) -> None:
        self._reached()
        device = (flows.subscriber, flows.ue_ipv4)
        self._versions.pop(device, None)
        self._flows.pop(device, None)

    def _reached(self) -> None:
        if not self._runs:
            raise unreachable()

    def _put_up(self, session: Session, effect: ActivateFlows) -> None:
        if not self._set_up:
            raise refused("Enforcement service not initialized!", "UNAVAILABLE")
        device = _device(session)
        for rule in effect.rules:
            self._versions.setdefault(device, {})[rule.id] = rule.version
            self._flows.setdefault(device, {})[rule.id] = rule.version
            self._counters.setdefault((device, rule.id, rule.version), Counted(session.key))


def _key(row: TableRow) -> tuple[Device, str, int]:
    return (row.subscriber, row.ue_ipv4), row.record.rule, row.record.version


def _device(session: Session) -> Device:
    assert session.context is not None
    return session.context.subscriber, session.context.ue_ipv4
