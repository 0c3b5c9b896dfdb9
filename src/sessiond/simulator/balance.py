"""The balance: what the data plane carried against what was reported, per session and account."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from msgspec import Struct

from sessiond.simulator.accounts import Books, Meter
from sessiond.simulator.switch import Passed

DeviceKey: TypeAlias = tuple[str, str]


class Octets(Struct, frozen=True):
    """Octets up and down."""

    tx: int = 0
    rx: int = 0

    @property
    def total(self) -> int:
        """Both directions together."""
        return self.tx + self.rx


class Line(Struct, frozen=True, kw_only=True):
    """One account of one session.

    `doubtful` may or may not have been reported; of an account that `ended`, the rest need not be.
    """

    session: str
    subscriber: str
    kind: str
    key: str
    generated: Octets = Octets()
    doubtful: Octets = Octets()
    reported: Octets = Octets()
    granted: int | None = 0
    ended: bool = False
    problem: str = ""

    @property
    def is_balanced(self) -> bool:
        """Whether all that was carried was reported, no more and no less."""
        return not self.problem and self._fits("tx") and self._fits("rx")

    def _fits(self, leg: str) -> bool:
        least = 0 if self.ended else getattr(self.generated, leg)
        most = getattr(self.generated, leg) + getattr(self.doubtful, leg)
        return bool(least <= getattr(self.reported, leg) <= most)


def lines(sessions: Iterable[Books], ledger: Iterable[Passed]) -> list[Line]:
    """Return every account of every session, and what was carried for sessions nobody knows."""
    carried: dict[DeviceKey, list[Passed]] = {}
    for passed in ledger:
        carried.setdefault((passed.subscriber, passed.address), []).append(passed)
    ordered = sorted(sessions, key=lambda books: books.session_id)
    found = [line for books in ordered for line in _of_session(books, carried.pop(_device(books), []))]
    return [*found, *(line for strangers in carried.values() for line in _of_nobody(strangers))]


def _of_session(books: Books, carried: list[Passed]) -> Iterator[Line]:
    for key, meter in books.credits.items():
        if meter.tracked or meter.reported:
            yield _line(books, "OCS", key, meter, [item for item in carried if item.target.credit == key])
    for key, meter in books.monitors.items():
        whole = key in books.session_monitors
        yield _line(books, "PCRF", key, meter, [item for item in carried if whole or item.target.monitor == key])


def _of_nobody(carried: list[Passed]) -> Iterator[Line]:
    counted = [item for item in carried if item.target.credit or item.target.monitor]
    if sum(item.tx + item.rx for item in counted):
        subscriber = counted[0].subscriber
        yield Line(
            session="-",
            subscriber=subscriber,
            kind="-",
            key="-",
            generated=_passed(counted),
            problem="the policy side knows no such session",
        )


def _line(books: Books, kind: str, key: str, meter: Meter, carried: list[Passed]) -> Line:
    return Line(
        session=books.session_id,
        subscriber=books.subscriber,
        kind=kind,
        key=key,
        generated=_passed(carried),
        doubtful=Octets(sum(item.doubtful_tx for item in carried), sum(item.doubtful_rx for item in carried)),
        reported=Octets(meter.reported_tx, meter.reported_rx),
        granted=None if meter.unlimited else meter.granted,
        ended=meter.ended,
        problem="" if books.terminated else "not terminated",
    )


def _passed(carried: list[Passed]) -> Octets:
    return Octets(sum(item.tx for item in carried), sum(item.rx for item in carried))


def _device(books: Books) -> DeviceKey:
    return books.subscriber, books.address
