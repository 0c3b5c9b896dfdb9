"""The store that outlives the daemon: sessions in Redis, Valkey or a cluster of them, in the format of `codec`.

A write is carried out by a script, wholly or not at all, under an operation id by which its repeat is recognised. It is
repeated until its outcome is known, longer than its caller waits; reads of its scope wait for it. So an answer is never
older than what was acknowledged, and `Unavailable` says what it means: unknown, ask again.

An exclusive store has all sessions in memory and answers reads from there. Its epoch keeps older owners from writing;
if the server loses data, what was acknowledged is put back from memory. A shared store asks Redis for every read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

import structlog

from sessiond.app.ports.store import (
    Account,
    Conflict,
    Count,
    Counted,
    Create,
    Delete,
    Deleted,
    Stored,
    Update,
    Write,
    Written,
    key_of,
)
from sessiond.core import names
from sessiond.core.changes import told
from sessiond.core.errors import Fenced, Unavailable
from sessiond.core.ids import scope_of
from sessiond.core.session import Session
from sessiond.core.update import apply
from sessiond.store.patience import Patience
from sessiond.store.redis_commands import Commands, Found, Quiet, found, keys_in
from sessiond.store.redis_feed import feed_of
from sessiond.store.redis_keys import slot_of_scope
from sessiond.store.redis_lane import Call
from sessiond.store.redis_link import OPERATION_S, Command, Link
from sessiond.store.redis_names import SharedNames
from sessiond.store.redis_pending import Pending, answer_of
from sessiond.store.redis_together import Outcome, Together
from sessiond.store.working_set import WorkingSet

log = structlog.get_logger(__name__)

PAGE: Final = 100
"""Sessions in one go: not so many that a page of large ones takes longer than an attempt may."""
SHARDS_AT_ONCE: Final = 1000
CACHED: Final = 10_000
"""How many sessions a shared store remembers, only to know what a change is made to."""
WATCH_S: Final = 1.0
"""How often it is looked whether another daemon has taken over."""
FIRST_KEEP_S: Final = 60.0
KEEP_S: Final = 86_400.0
"""How often Redis is told that the sessions are still looked after."""
PAUSE_S: Final = 0.1


class RedisStore:
    """Implements `app.ports.store.Store`; `fenced` is set when another daemon has taken over."""

    def __init__(
        self,
        link: Link,
        daemon: str,
        deadline: Callable[[Session], int | None],
        *,
        exclusive: bool,
        watch_s: float = WATCH_S,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self.fenced = asyncio.Event()
        self._link = link
        self._commands = Commands(link.shards, daemon, deadline, now_ms)
        self.feed = feed_of(link, self._commands)
        self.changes = self.feed.after
        self._exclusive = exclusive
        self._watch_s = watch_s
        self._known = WorkingSet()
        self._names = SharedNames(self._commands, self._link.ask_all)
        self._outdated: set[str] = set()
        self._patience = Patience()
        self._pending = Pending(self._patience)
        self._together = Together(link, self._commands, self._pending, self._fence, self._learn, self._disputed)
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life

    @property
    def epoch(self) -> int:
        """The fencing epoch that this daemon writes with; 0 before it has taken over."""
        return self._commands.epoch

    async def open(self) -> None:
        """Take over, and wait for the store as long as that takes; raise what waiting would not mend."""
        while True:
            try:
                await self._take_over()
                break
            except Unavailable as error:
                if error.reason != "STORE_UNAVAILABLE":
                    raise
                log.warning("store_awaited", why=error.text)
                await asyncio.sleep(PAUSE_S)
        self._start(self._watch())

    async def close(self) -> None:
        """Let go of the store; what is under way is not waited for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.feed.close()
        await self._link.close()

    async def _take_over(self) -> None:
        commands = self._commands
        commands.epoch = await self._ask(commands.claim(exclusive=self._exclusive))
        keys = await self._take_shards()
        if self._exclusive:
            everyone = [one async for page in self._pages(keys) for one in page]
            for one in sorted(everyone, key=attrgetter("number")):
                self._known.put(one.stored, behind=one.behind)
        elif int(await self._ask(commands.entered()) or 0) != commands.epoch:
            await self._names.enter_all(keys, commands.operation())
            await self._ask(commands.all_entered())
        log.info("store_open", epoch=commands.epoch, exclusive=self._exclusive, sessions=len(keys))

    async def _take_shards(self) -> list[str]:
        replies = await self._link.ask_in_pages(self._commands.take(), SHARDS_AT_ONCE)
        if b"FENCED" in replies:
            raise self._fence()
        slots = self._link.shards.slots()
        self.feed.written([slot for slot, (_, changes) in zip(slots, replies, strict=True) if changes])
        return keys_in([keys for keys, _ in replies])

    # -- the port

    async def get(self, key: str) -> Stored | None:
        """Return one session."""
        await self._settled(scope_of(key))
        if self._exclusive:
            return self._known.get(key)
        return await self._fetch(key)

    async def find(self, scope: str) -> list[Stored]:
        """Return the sessions of a scope."""
        await self._settled(scope)
        if self._exclusive:
            return self._known.find(scope)
        keys = keys_in([await self._ask(self._commands.scope(scope))])
        return [one.stored async for page in self._pages(keys) for one in page]

    def accounts(self, scope: str) -> Sequence[Account] | None:
        """Return the sessions of a scope to count on; a shared store has to ask, and what is outdated comes first."""
        self._refuse_if_fenced()
        if not self._exclusive or scope in self._pending:
            return None
        accounts = self._known.accounts(scope)
        if self._outdated and any(account.session.key in self._outdated for account in accounts):
            return None
        return accounts

    async def named(self, name: str) -> list[Stored]:
        """Return the sessions that bear a name."""
        await self._settled(name)
        return self._known.named(name) if self._exclusive else await self._names.bearers(name)

    async def write(self, writes: Sequence[Write | Count]) -> list[Written | Counted]:
        """Carry out writes; return one answer each."""
        self._refuse_if_fenced()
        if not self._exclusive:
            await self._learn_bases(writes)
        begun = self._begin_all(writes)
        calls = {outcome: call for each in begun for outcome, call in each if call is not None}
        if calls and not await self._patience.wait(calls, OPERATION_S):
            raise self._given_up(call for outcome, call in calls.items() if not outcome.done())
        return [
            answer_of(write, [outcome.result() for outcome, _ in each])
            for write, each in zip(writes, begun, strict=True)
        ]

    async def load(self) -> AsyncIterator[Stored]:
        """Yield all sessions."""
        for place in self._pending:
            await self._settled(place)
        self._refuse_if_fenced()
        if self._exclusive:
            for stored in self._known:
                yield stored
            return
        keys = keys_in(await self._link.ask_in_pages(self._commands.members(), SHARDS_AT_ONCE))
        async for page in self._pages(keys):
            for one in page:
                yield one.stored

    # -- reading

    async def _fetch(self, key: str) -> Stored | None:
        """Return a session as Redis has it."""
        one = await self._find(key)
        return one.stored if one is not None else None

    async def _find(self, key: str) -> Found | None:
        """Return a session as Redis has it, with how it is stored."""
        one = found(await self._ask(self._commands.read(key)))
        if one is not None:
            self._note(one)
        return one

    async def _pages(self, keys: Sequence[str]) -> AsyncIterator[list[Found]]:
        """Yield sessions as Redis has them, without those that are gone."""
        ahead = self._fetch_page(keys, 0)
        try:
            for start in range(0, len(keys), PAGE):
                replies = await ahead
                ahead = self._fetch_page(keys, start + PAGE)
                await asyncio.sleep(0)  # so that the next page is asked for before this one is decoded
                page = [one for reply in replies if (one := found(reply)) is not None]
                for one in page:
                    self._note(one)
                yield page
        finally:
            ahead.cancel()

    def _fetch_page(self, keys: Sequence[str], start: int) -> "asyncio.Task[list[Any]]":
        return asyncio.create_task(self._link.ask_all([self._commands.read(key) for key in keys[start : start + PAGE]]))

    def _note(self, one: Found) -> None:
        """Remember of a session that was read what the next write needs."""
        if one.older:
            self._outdated.add(one.stored.session.key)
        if not self._exclusive:
            self._known.put(one.stored, behind=one.behind)
            while len(self._known) > CACHED:
                self._known.drop_oldest()

    async def _learn_bases(self, writes: Iterable[Write | Count]) -> None:
        """Read what changes are made to, where it is not known."""
        changes = [write for write in writes if isinstance(write, Update | Delete)]
        missing = [change.key for change in changes if self._at(change.key, change.revision) is None]
        async for _ in self._pages(missing):
            pass

    async def _ask(self, command: Command) -> Any:
        return (await self._link.ask_all([command]))[0]

    async def _settled(self, place: str) -> None:
        """Return when what was written to a scope, or under a name, by now is known to have happened or not."""
        if not await self._pending.settled(place, OPERATION_S):
            raise self._link.unavailable(slot_of_scope(place))
        self._refuse_if_fenced()

    # -- writing

    def _begin_all(self, writes: Sequence[Write | Count]) -> list[list[tuple[Outcome, Call | None]]]:
        """Send writes; changes that nobody is told of go together."""
        quiet = [self._quiet(write) for write in writes if isinstance(write, Update)] if len(writes) > 1 else []
        together = self._together.change([change for change in quiet if change is not None])
        return [
            self._together.count(write)
            if isinstance(write, Count)
            else [together.get(key_of(write)) or self._begin(write)]
            for write in writes
        ]

    def _quiet(self, write: Update) -> Quiet | None:
        """Return a change that nobody is told of; None if it is no such one, or known to be a conflict."""
        base, account = self._at(write.key, write.revision), self._known.account(write.key)
        if base is None or account is None or write.key in self._outdated or told(write.criteria):
            return None
        after = write.after or apply(base.session, write.criteria)
        names.check_change(base.session, after)
        return Quiet(Stored(after, base.revision + 1), write.criteria, account.behind)

    def _begin(self, write: Write) -> tuple[Outcome, Call | None]:
        """Send a write; no call if its outcome is known without."""
        outcome: Outcome = asyncio.get_running_loop().create_future()
        planned = self._plan(write)
        if isinstance(planned, Conflict):
            outcome.set_result(planned)
            return outcome, None
        command, after = planned
        self._await(write, outcome)
        if isinstance(write, Create) and not self._exclusive and names.names(write.session):
            operation = self._commands.operation()
            call = self._link.send(self._commands.reserve(write.session.key, operation))
            self._start(self._create_named(write, operation, call.reply, outcome))
            return outcome, call
        call = self._link.send(command)
        call.reply.add_done_callback(partial(self._replied, write, after, outcome))
        return outcome, call

    def _await(self, write: Write, outcome: Outcome) -> None:
        """Keep an eye on a write of one session until its outcome is known."""
        key = key_of(write)
        account = self._known.account(key)
        session = write.session if isinstance(write, Create) else account.session if account is not None else None
        claims = dict.fromkeys(names.claims(write.session), key) if isinstance(write, Create) else {}
        self._pending.hold((scope_of(key), *(names.names(session) if session is not None else ())), outcome, claims)

    async def _create_named(
        self, write: Create, operation: str, reserved: "asyncio.Future[Any]", outcome: Outcome
    ) -> None:
        """Create a session that bears names, now that its key is being reserved."""
        session = write.session
        try:
            word = await reserved
            holder = await self._names.enter(session, operation) if word == b"OK" else ""
        except asyncio.CancelledError:
            outcome.cancel()
        except Exception as error:  # noqa: BLE001, whoever waits is told: without a confirmation nothing is created
            outcome.set_exception(error)
        else:
            if word == b"FENCED":
                outcome.set_exception(self._fence())
            elif word != b"OK" or holder:
                outcome.set_result(Conflict(holder))
            else:
                call = self._link.send(self._commands.confirm(session, write.among, operation))
                call.reply.add_done_callback(partial(self._replied, write, Stored(session, 1), outcome))

    def _plan(self, write: Write) -> tuple[Command, Stored | None] | Conflict:
        """Return the command of a write and what is there after it, or that it is known to be a conflict."""
        match write:
            case Create(session, among):
                if session.scope != scope_of(session.key):
                    raise ValueError(f"session {session.key} is not of scope {session.scope}")
                if not self._is_current(write):
                    return Conflict()
                if self._exclusive and (
                    holder := self._pending.claimed(names.claims(session)) or self._known.holder(session)
                ):
                    return Conflict(holder)
                return self._commands.create(session, among), Stored(session, 1)
            case Update(key, revision) | Delete(key, revision):
                base, account = self._at(key, revision), self._known.account(key)
                if base is None or account is None:
                    return Conflict()
                return self._change(write, base, account)

    def _change(self, write: Update | Delete, base: Stored, account: Account) -> tuple[Command, Stored | None]:
        """Return the command of a write to a session at the revision that is known, and what is there after it."""
        key, criteria = write.key, write.criteria
        if isinstance(write, Delete):
            return self._commands.delete(key, base.revision, apply(base.session, criteria), criteria), None
        after = write.after or apply(base.session, criteria)
        names.check_change(base.session, after)
        anew = key in self._outdated
        command = self._commands.change(base, after, criteria, anew=anew, behind=account.behind)
        return command, Stored(after, base.revision + 1)

    def _is_current(self, write: Write) -> bool:
        """Whether a write is about the state that is known; a shared store does not know."""
        if isinstance(write, Create):
            return not self._exclusive or self._known.get(write.session.key) is None
        return not self._exclusive or self._at(write.key, write.revision) is not None

    def _at(self, key: str, revision: int) -> Stored | None:
        stored = self._known.get(key)
        return stored if stored is not None and stored.revision == revision else None

    def _replied(self, write: Write, after: Stored | None, outcome: Outcome, reply: "asyncio.Future[Any]") -> None:
        """Take the reply to a write."""
        key = key_of(write)
        if reply.cancelled():
            outcome.cancel()
        elif error := reply.exception():
            outcome.set_exception(error)
        elif (word := reply.result()) in {b"OK", b"DUPLICATE"}:
            self._learn(key, after)
            self.feed.written([slot_of_scope(scope_of(key))])
            outcome.set_result(Deleted() if after is None else after)
        elif word == b"FENCED":
            outcome.set_exception(self._fence())
        elif self._exclusive and self._is_current(write):
            self._start(self._reconcile([key], outcome, Conflict()))
        else:
            outcome.set_result(Conflict())

    def _disputed(self, keys: Sequence[str], outcome: Outcome, answer: Any) -> None:
        """Give an answer, once it is clear what there is of the sessions that others may have written."""
        if keys and self._exclusive:
            self._start(self._reconcile(keys, outcome, answer))
        else:
            outcome.set_result(answer)

    def _learn(self, key: str, after: Stored | None) -> None:
        """Know what was written."""
        if after is None:
            self._known.drop(key)
        else:
            self._known.put(after)
        self._outdated.discard(key)

    def _given_up(self, late: Iterable[Call]) -> Unavailable:
        """Take back what was not sent yet; what was sent is repeated until its outcome is known."""
        calls = list(late)
        for call in calls:
            if not call.unanswered:
                call.reply.cancel()
        return self._link.unavailable(calls[0].slot)

    # -- an exclusive store alone

    async def _reconcile(self, keys: Iterable[str], outcome: Outcome, answer: Any) -> None:
        """Bring memory and Redis together where they differ, and then give the answer."""
        while not outcome.done():
            try:
                for key in keys:
                    await self._compare(key)
                outcome.set_result(answer)
            except Unavailable:
                await asyncio.sleep(PAUSE_S)
            except Exception as error:  # noqa: BLE001, whoever waits for the outcome is told
                outcome.set_exception(error)

    async def _compare(self, key: str) -> None:
        """Put a session back that the server has lost, or take one that somebody else has written."""
        there, known = await self._find(key), self._known.get(key)
        if known is not None and (there is None or there.stored.revision < known.revision):
            log.error("store_lost_a_write", session=key, revision=known.revision)
            if await self._ask(self._commands.restore(known)) == b"FENCED":
                raise self._fence()
        elif there is not None:
            self._known.put(there.stored, behind=there.behind)

    # -- watching

    async def _watch(self) -> None:
        """Look whether we are still the owner and the server still has what it had; say that the sessions are kept."""
        loop = asyncio.get_running_loop()
        keep_at = loop.time() + FIRST_KEEP_S
        while not self.fenced.is_set():
            try:
                await self._check_epoch()
                if loop.time() >= keep_at:
                    await self._keep()
                    keep_at = loop.time() + KEEP_S
            except Unavailable as error:
                log.debug("store_not_watched", why=error.text)
            except Exception:
                log.exception("store_watch_failed")
            await asyncio.sleep(self._watch_s)

    async def _check_epoch(self) -> None:
        newest = int(await self._ask(self._commands.epoch_now()) or 0)
        if newest > self._commands.epoch:
            self._fence()
        elif newest < self._commands.epoch:
            log.error("store_lost_data", epoch=newest, expected=self._commands.epoch)
            await self._restore()

    async def _restore(self) -> None:
        """Give a server that has lost data back what it acknowledged, if we have it."""
        await self._ask(self._commands.claim(exclusive=self._exclusive))
        await self._take_shards()
        if self._exclusive:
            await self._link.ask_in_pages([self._commands.restore(stored) for stored in self._known], PAGE)

    async def _keep(self) -> None:
        keys = keys_in(await self._link.ask_in_pages(self._commands.members(), SHARDS_AT_ONCE))
        await self._link.ask_in_pages([self._commands.keep(key) for key in keys], PAGE)
        if not self._exclusive:
            found = [one.stored.session async for page in self._pages(keys) for one in page]
            kept = [name for session in found for name in names.names(session)]
            await self._link.ask_in_pages([self._commands.keep_name(name) for name in dict.fromkeys(kept)], PAGE)

    def _fence(self) -> Fenced:
        """Take note that another daemon has taken over."""
        if not self.fenced.is_set():
            log.error("store_taken_over", epoch=self._commands.epoch)
            self.fenced.set()
        return _fenced()

    def _refuse_if_fenced(self) -> None:
        if self.fenced.is_set():
            raise _fenced()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fenced() -> Fenced:
    return Fenced("STORE_TAKEN_OVER", "another daemon has taken over the sessions")
