"""What a user sees of a run: a table of sessions, the last events, lines of progress, and the ledger at the end."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from sessiond.simulator.access import Device, State
from sessiond.simulator.accounts import Books
from sessiond.simulator.balance import Line, lines
from sessiond.simulator.events import Event
from sessiond.simulator.gateway import Gateway
from sessiond.simulator.switch import Flow

UNITS: Final = ("B", "kB", "MB", "GB", "TB")
COLUMNS: Final = (
    "subscriber", "plan", "state", "rules",
    "charged", "granted", "reported", "monitored", "granted", "reported", "updates",
)  # fmt: skip
TEXT_COLUMNS: Final = 4
"""So many of them are texts, the rest are numbers."""


class Volumes(Struct, frozen=True):
    """Octets of all accounts of one kind: used, granted (None is no limit) and reported; None if there is none."""

    used: int
    granted: int | None
    reported: int


class Row(Struct, frozen=True, kw_only=True):
    """One session."""

    subscriber: str
    plan: str
    state: str
    rules: tuple[str, ...] = ()
    charged: Volumes | None = None
    monitored: Volumes | None = None
    updates: int = 0

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the columns."""
        named = (self.subscriber, self.plan, self.state, " ".join(self.rules))
        return (*named, *_volume_cells(self.charged), *_volume_cells(self.monitored), str(self.updates))


def rows(gateway: Gateway) -> list[Row]:
    """Return all sessions as they stand."""
    state, sessions = gateway.switch(), gateway.peers.policy.sessions.values()
    by_subscriber = {books.subscriber: books for books in sessions}
    accounts: dict[str, list[Line]] = {}
    for line in lines(sessions, state.ledger):
        accounts.setdefault(line.session, []).append(line)
    flows: dict[str, list[Flow]] = {}
    for flow in state.flows:
        if flow.up:
            flows.setdefault(flow.address, []).append(flow)
    return [
        _row(gateway, device, by_subscriber.get(device.subscriber), flows.get(device.address, []), accounts)
        for device in gateway.peers.devices
    ]


def _row(
    gateway: Gateway, device: Device, books: Books | None, flows: list[Flow], accounts: Mapping[str, list[Line]]
) -> Row:
    plan = gateway.plans.of(device.subscriber)
    mine = accounts.get(books.session_id, []) if books else []
    return Row(
        subscriber=device.subscriber,
        plan=plan.name if plan else "-",
        state=_state(device.state, books, flows),
        rules=tuple(flow.rule for flow in flows),
        charged=_volumes(mine, "OCS"),
        monitored=_volumes(mine, "PCRF"),
        updates=books.updates if books else 0,
    )


def octets(count: int | None) -> str:
    """Return a number of octets as people read it; None is no limit."""
    if count is None:
        return "no limit"
    scaled = float(count)
    for unit in UNITS[:-1]:
        if scaled < 1000:
            return f"{scaled:.0f} {unit}" if unit == "B" else f"{scaled:.1f} {unit}"
        scaled /= 1000
    return f"{scaled:.1f} {UNITS[-1]}"


def progress(second: int, gateway: Gateway) -> str:
    """Return one line about how far the run is."""
    state, books = gateway.switch(), list(gateway.peers.policy.sessions.values())
    accounts = lines(books, state.ledger)
    ended = sum(each.terminated for each in books)
    kinds = {"charged": _of_kind(accounts, "OCS"), "monitored": _of_kind(accounts, "PCRF")}
    volumes = "; ".join(
        f"{name} {octets(volume.used)}, reported {octets(volume.reported)}" for name, volume in kinds.items()
    )
    updates, events = sum(each.updates for each in books), gateway.peers.events.counts.total()
    return f"{second:4d} s  {len(books) - ended} open, {ended} ended; {volumes}; {updates} updates, {events} events"


def described(event: Event) -> str:
    """Return an event in one line."""
    return " ".join((event.type, event.subscriber, _details(event.value))).rstrip()


def ledger(accounts: Iterable[Line]) -> list[str]:
    """Return the ledger as lines of text."""
    head = f"{'session':<27} {'account':<14} {'generated up':>13} {'down':>13} {'reported up':>13} {'down':>13}"
    return [head, *map(_ledger_line, accounts)]


def verdict(accounts: list[Line], sessions: Iterable[Books]) -> str:
    """Return what it comes to."""
    books = list(sessions)
    wrong = [line for line in accounts if not line.is_balanced]
    counted = f"{len(books)} sessions, {len(accounts)} accounts"
    reports = f"{sum(each.updates for each in books)} updates, {sum(each.repeats for each in books)} repeated"
    if not accounts:
        return "nothing was carried and nothing reported: there is no session"
    if wrong:
        return f"DIFFERENT: {len(wrong)} of {len(accounts)} accounts ({counted}, {reports})"
    to_ocs, to_pcrf = (_of_kind(accounts, kind).reported for kind in ("OCS", "PCRF"))
    sums = f"bytes generated = bytes reported: {to_ocs} to the OCS, {to_pcrf} to the PCRF"
    return f"balanced: {counted}; {sums} ({reports})"


def _ledger_line(line: Line) -> str:
    sums = (line.generated.tx, line.generated.rx, line.reported.tx, line.reported.rx)
    text = f"{line.session:<27} {f'{line.kind} {line.key}':<14} " + " ".join(f"{number:>13}" for number in sums)
    return f"{text}  {_remark(line)}"


def _remark(line: Line) -> str:
    if line.is_balanced:
        return "balanced (the monitor had ended)" if line.ended else "balanced"
    up, down = line.reported.tx - line.generated.tx, line.reported.rx - line.generated.rx
    difference = f"DIFFERENT by {up:+d} up, {down:+d} down"
    return f"{difference}: {line.problem}" if line.problem else difference


def _state(state: State, books: Books | None, flows: list[Flow]) -> str:
    if books is not None and books.terminated:
        return "ended"
    if state in {State.DETACHED, State.DROPPED}:
        return "ending"
    if state is State.ATTACHED:
        return "restricted" if any(flow.gy for flow in flows) else "active"
    return state.value


def _volumes(accounts: list[Line], kind: str) -> Volumes | None:
    return _of_kind(accounts, kind) if any(line.kind == kind for line in accounts) else None


def _of_kind(accounts: Iterable[Line], kind: str) -> Volumes:
    """Return what the accounts of one kind come to."""
    mine = [line for line in accounts if line.kind == kind]
    grants = [line.granted for line in mine if line.granted is not None]
    return Volumes(
        used=sum(line.generated.total for line in mine),
        granted=sum(grants) if len(grants) == len(mine) else None,
        reported=sum(line.reported.total for line in mine),
    )


def _volume_cells(volumes: Volumes | None) -> tuple[str, str, str]:
    if volumes is None:
        return "", "", ""
    return octets(volumes.used), octets(volumes.granted), octets(volumes.reported)


def _details(value: Mapping[str, Any]) -> str:
    """Return what is worth a glance: why there was an update, how much there was in all."""
    if updates := value.get("list_of_updates"):
        return " ".join(_update(update) for update in updates)
    if "failure_reason" in value:
        return str(value["failure_reason"])
    if "total_tx" in value:
        return f"{octets(value['total_tx'])} up, {octets(value['total_rx'])} down"
    return str(value.get("ip_addr", ""))


def _update(update: Mapping[str, Any]) -> str:
    of = update.get("rating_group", update.get("monitoring_key", ""))
    return f"{update.get('update_reason', '')}({of})"
