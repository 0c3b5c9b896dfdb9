"""Usage: takes the data plane's usage table, books it on the sessions it belongs to, and does what is due after that.

A table touches the sessions it has records of and those for which something is due; never the others, however many.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

import structlog
from msgspec import Struct

from sessiond.app.commit import Committer, Outcome
from sessiond.app.ports.peers import DataPlanePeer, UnknownFlows
from sessiond.app.ports.store import Account, Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.resync import Resync
from sessiond.app.situation import Circumstances
from sessiond.core.decide.meter import metered
from sessiond.core.decide.release import final_usage_in, still_flowing
from sessiond.core.decide.report import collect, due
from sessiond.core.decide.usage import UsageRecord, count, owns
from sessiond.core.draft import Draft
from sessiond.core.errors import Fenced, PeerFailed, Unavailable
from sessiond.core.ids import scope_of
from sessiond.core.lifecycle import State
from sessiond.core.session import Rat, Session
from sessiond.core.situation import Situation

log = structlog.get_logger(__name__)

CHUNK: Final = 50
"""Sessions decided in one go before other requests get their turn: each of theirs has about six turns to wait for."""
ROWS: Final = 200
"""Rows counted in one go before other requests get their turn, some 1.5 ms of work with their write."""
CONCURRENT: Final = 16
"""Flows of nobody that are taken down at once."""


class TableRow(Struct, frozen=True, gc=False):
    """A usage record with whose it is: subscriber and UE address; `teid` is where flows of nobody are taken down.

    The octets are those since the flows of this version were installed.
    """

    subscriber: str
    ue_ipv4: str
    ue_ipv6: str
    teid: int
    rule: str
    version: int
    tx: int
    rx: int
    dropped_tx: int = 0
    dropped_rx: int = 0

    @property
    def ipv6(self) -> bool:
        """Whether it counts IPv6."""
        return bool(self.ue_ipv6 and not self.ue_ipv4)

    @property
    def record(self) -> UsageRecord:
        """What there is to be decided about."""
        return UsageRecord(self.rule, self.version, self.tx, self.rx, self.ipv6, self.dropped_tx, self.dropped_rx)


class _Table:
    """What of a usage table needs decisions."""

    def __init__(self) -> None:
        self.records: dict[str, list[UsageRecord]] = {}
        """By session key."""
        self.unknown: dict[tuple[str, str, str], UnknownFlows] = {}
        """The flows that belong to no session, one per UE address."""
        self.subscribers: set[str] = set()
        """Those of whom nothing is counted any more without a decision: what comes first is to be booked first."""


class Usage:
    """Books usage tables."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        data_plane: DataPlanePeer,
        resync: Resync,
        circumstances: Circumstances,
        telemetry: Telemetry,
        *,
        remove_unknown_flows: bool,
    ) -> None:
        self._committer = committer
        self._store = store
        self._data_plane = data_plane
        self._resync = resync
        self._circumstances = circumstances
        self._telemetry = telemetry
        self._remove_unknown_flows = remove_unknown_flows
        self._due: dict[str, None] = {}
        self._ending: dict[str, None] = {}
        """The sessions that wait for their final usage, and whose flows pipelined has taken down."""
        self._heard_since_setup: int | None = None
        """The epoch of pipelined of which a table has come since it was set up."""
        self._one_table = asyncio.Lock()
        self._going_down: dict[UnknownFlows, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(CONCURRENT)

    def observe(self, outcome: Outcome) -> None:
        """Remember whether a session wants to be looked at with the next table."""
        self.arm(outcome.after)

    def arm(self, session: Session) -> None:
        """Remember whether a session wants to be looked at with the next table."""
        if due(session, self._circumstances.now()):
            self._due[session.key] = None
        else:
            self._due.pop(session.key, None)
        if session.head.state is State.CLOSING and not still_flowing(session):
            self._ending[session.key] = None
        else:
            self._ending.pop(session.key, None)

    async def report(self, rows: Iterable[TableRow], epoch: int, *, counters_restart: bool) -> None:
        """Book a table; when this returns, all of it is written.

        That a table has no record of a session says that nothing more will come only if pipelined is set up, and had
        taken the flows of the session down before it made the table.
        """
        ending = frozenset(self._ending)
        async with self._one_table:
            await self._resync.announced(epoch, counters_restart=counters_restart)
            table, empty = _Table(), True
            for some in _slices(rows):
                empty = False
                await self._count(some, table)
                await asyncio.sleep(0)
            ending = self._may_end(ending, epoch, empty=empty)
            keys = list(dict.fromkeys((*table.records, *self._due)))
            for start in range(0, len(keys), CHUNK):
                await self._book({key: table.records.get(key) for key in keys[start : start + CHUNK]}, ending)
                await asyncio.sleep(0)
            self._take_down(table.unknown.values())

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._going_down.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _may_end(self, ending: frozenset[str], epoch: int, *, empty: bool) -> frozenset[str]:
        """Return the sessions of which nothing more will come if a table has no record of them.

        Until pipelined is set up its tables are empty. It sends one at a time, so that of the empty ones that come
        after the setup only the first may have been made before it.
        """
        if not self._resync.is_set_up(epoch):
            return frozenset()
        known, self._heard_since_setup = self._heard_since_setup == epoch, epoch
        return ending - self._resync.set_up_with if empty and not known else ending

    async def _count(self, rows: Sequence[TableRow], table: _Table) -> None:
        """Count what nothing comes of, write it, and put by what needs decisions."""
        counted = self._count_on_meters(rows, table)
        if counted:
            for key in await self._committer.count(counted):
                table.subscribers.add(scope_of(key))
        if table.subscribers:
            await self._sort([row for row in rows if row.subscriber in table.subscribers], table)

    def _count_on_meters(self, rows: Sequence[TableRow], table: _Table) -> list[Account]:
        """Count rows on the meters of their sessions, without giving others a turn; return those that changed.

        Rows of a subscriber for which that does not do are counted by a decision; that some of them are on the meter
        already makes no difference.
        """
        at = self._circumstances.now()
        now_s, counted = at.now_ms // 1000, dict[int, Account]()
        of, account, meter = ("", "", ""), None, None
        for row in rows:
            if (row.subscriber, row.ue_ipv4, row.ue_ipv6) != of:
                of = (row.subscriber, row.ue_ipv4, row.ue_ipv6)
                account = None if row.subscriber in table.subscribers else self._account(row, at)
                meter = account.meter if account is not None else None
            if meter is None or not meter.count(
                row.rule, row.ipv6, row.version, row.tx, row.rx, row.dropped_tx, row.dropped_rx, now_s
            ):
                table.subscribers.add(row.subscriber)
                meter = None
            elif meter.unsaved and account is not None:
                counted[id(account)] = account
        return list(counted.values())

    def _account(self, row: TableRow, at: Situation) -> Account | None:
        """Return the account with a meter on which a row can be counted, if there is no doubt about it."""
        present = [
            account
            for account in self._store.accounts(row.subscriber) or ()
            if account.session.head.state is not State.CLOSED and _has_address(account.session, row)
        ]
        if len(present) != 1:
            return None
        account = present[0]
        if account.meter is None and not account.behind:
            account.meter = metered(account.session, at)
        return account if account.meter is not None and account.meter.serves(at) else None

    async def _sort(self, rows: Iterable[TableRow], table: _Table) -> None:
        """Put records by for a decision about their session."""
        subscriber, present = "", list[Session]()
        for row in rows:
            if row.subscriber != subscriber:
                present, subscriber = await self._present(row.subscriber), row.subscriber
            record = row.record
            session = _owner(present, row, record)
            if session is not None:
                table.records.setdefault(session.key, []).append(record)
            else:
                flows = UnknownFlows(row.subscriber, row.ue_ipv4, row.ue_ipv6, row.teid)
                table.unknown[row.subscriber, row.ue_ipv4, row.ue_ipv6] = flows

    async def _present(self, subscriber: str) -> list[Session]:
        found = await self._store.find(subscriber)
        return [stored.session for stored in found if stored.session.head.state is not State.CLOSED]

    async def _book(self, records: dict[str, list[UsageRecord] | None], ending: frozenset[str]) -> None:
        at = self._circumstances.now()
        decisions = {key: partial(_decide, records=found, last=key in ending, at=at) for key, found in records.items()}
        for key, ignored in (await self._committer.commit_many(decisions)).items():
            for record, why in ignored:
                self._telemetry.usage_ignored(why)
                log.warning("usage_ignored", session=key, reason=why, rule=record.rule, version=record.version)

    def _take_down(self, unknown: Iterable[UnknownFlows]) -> None:
        for flows in unknown:
            self._telemetry.usage_ignored("SESSION_UNKNOWN")
            log.warning("usage_of_unknown_session", subscriber=flows.subscriber, ue_ipv4=flows.ue_ipv4)
            # Without a subscriber it might be taken for everybody's.
            if self._remove_unknown_flows and flows.subscriber and flows not in self._going_down:
                task = asyncio.get_running_loop().create_task(self._take_down_one(flows))
                self._going_down[flows] = task
                task.add_done_callback(partial(self._taken_down, flows))

    def _taken_down(self, flows: UnknownFlows, _: asyncio.Task[None]) -> None:
        del self._going_down[flows]

    async def _take_down_one(self, flows: UnknownFlows) -> None:
        """Take flows down, unless a session has begun under their address since the table was looked at."""
        async with self._slots:
            try:
                if not any(_has_address(session, flows) for session in await self._present(flows.subscriber)):
                    await self._data_plane.deactivate_unknown(flows)
            except PeerFailed as error:
                self._telemetry.peer_failed("pipelined", error.status)
            except Fenced:
                return  # they are left to who has taken over
            except Unavailable as error:
                log.warning("unknown_flows_left", subscriber=flows.subscriber, text=error.text)


def _decide(
    draft: Draft, records: list[UsageRecord] | None, at: Situation, *, last: bool
) -> list[tuple[UsageRecord, str]]:
    """Book the records of one session and do what is due for it; None says that the table has no record of it.

    `last`: if the table has none, none will come. Once the end is reported nothing is booked any more.
    """
    ignored = [(record, str(why)) for record, why in count(draft, records, at)] if records is not None else []
    if draft.head.state is State.CLOSED:
        return ignored
    if records is None and last:
        final_usage_in(draft, at)
    collect(draft, at)
    return ignored


def _slices(rows: Iterable[TableRow]) -> Iterator[list[TableRow]]:
    """Yield a table in parts that are worth a turn each."""
    iterator = iter(rows)
    while some := list(islice(iterator, ROWS)):
        yield some


def _owner(present: Sequence[Session], row: TableRow, record: UsageRecord) -> Session | None:
    """Return the session a row belongs to: of those with its address, the one that has had this rule and version."""
    candidates = [session for session in present if _has_address(session, row)]
    if len(candidates) > 1:
        candidates.sort(key=lambda session: (not owns(session, record), session.head.state is not State.ACTIVE))
    return candidates[0] if candidates else None


def _has_address(session: Session, row: TableRow | UnknownFlows) -> bool:
    context = session.context
    if context is None:
        return False
    if context.rat is Rat.WLAN:
        return True
    same_ipv4 = row.ue_ipv4 != "" and context.ue_ipv4 == row.ue_ipv4
    return same_ipv4 or (row.ue_ipv6 != "" and context.ue_ipv6 == row.ue_ipv6)
