"""Delivery: carries what was decided to the peers, in order for each session and peer.

Saved effects are tried until the peer takes or refuses them and then struck off the session; they may reach the peer
twice, never zero times. News is tried a few times.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import structlog
from msgspec import Struct, structs

from sessiond.app.commit import Committer, Decision, Outcome
from sessiond.app.group_commit import GroupCommit
from sessiond.app.ports.peers import Peers
from sessiond.app.ports.store import Store
from sessiond.app.ports.telemetry import Telemetry
from sessiond.app.situation import Circumstances
from sessiond.core.decide import wallet
from sessiond.core.decide.flows import not_installed
from sessiond.core.decide.release import delivered, release
from sessiond.core.draft import Draft
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    DeleteDirectoryRecord,
    DeleteMacFlow,
    ExportFlows,
    LogEvent,
    News,
    ReportUsage,
    Saved,
    SavedEffect,
    TerminateAccess,
    TerminateSession,
    UpdateQuotaState,
    WriteDirectoryRecord,
    in_order,
)
from sessiond.core.errors import Aborted, Fenced, NotFound, PeerFailed, Unavailable
from sessiond.core.lifecycle import State
from sessiond.core.session import Session

log = structlog.get_logger(__name__)

FIRST_RETRY_MS: Final = 200
LAST_RETRY_MS: Final = 30_000
NEWS_ATTEMPTS: Final = 4
BEARER_ATTEMPTS: Final = 8
RULE_ATTEMPTS: Final = 3
OVERDUE_ATTEMPTS: Final = 8
"""After so many attempts an operator hears about an effect that is not taken."""

NOT_SET_UP: Final = "not initialized"
"""How pipelined says that it wants to be set up first; its epoch is about to tell us the same."""


class _Job(Struct, frozen=True, gc=False):
    """One thing to carry out for a session, as the session was when it was decided."""

    session: Session | None
    what: Saved | News
    effect_id: str = ""

    @property
    def key(self) -> str:
        """The key of the session, for the log."""
        return self.session.key if self.session else ""


class Trouble(Struct, frozen=True, gc=False):
    """An effect that a peer has not taken so far: how often it was tried, why not, and when it is tried again."""

    attempts: int
    text: str
    again_at_ms: int


class Delivery:
    """Lanes of jobs that must not overtake each other; a lane is a task that lives as long as it has jobs."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        peers: Peers,
        circumstances: Circumstances,
        telemetry: Telemetry,
    ) -> None:
        self._committer = committer
        self._group = GroupCommit(committer)
        self._store = store
        self._peers = peers
        self._circumstances = circumstances
        self._telemetry = telemetry
        self._troubles: dict[tuple[str, str], Trouble] = {}
        self._lanes: dict[tuple[str, str], deque[_Job]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.may: Callable[[], bool] = lambda: True
        """Whether effects may be carried out here at this moment."""

    def observe(self, outcome: Outcome) -> None:
        """Take the effects that a change wants carried out."""
        known = outcome.before.effects if outcome.before else {}
        for effect_id, effect in outcome.after.effects.items():
            if effect_id not in known:
                self._post(outcome.after, effect, effect_id)

    def spread(self, outcome: Outcome) -> None:
        """Take the news of a change; what nobody would hear costs nothing."""
        for news in outcome.news:
            if not isinstance(news, ReportUsage) and PEERS[type(news)] not in self._peers.without:
                self._post(outcome.after, news)

    def log_event(self, event: LogEvent) -> None:
        """Take an event that belongs to no session."""
        self._start((event.tag, "eventd"), _Job(None, event))

    def trouble(self, session: Session) -> dict[str, Trouble]:
        """Return what is known of the effects of a session that a peer has not taken at once, by their ids."""
        known = {effect_id: self._troubles.get((session.key, effect_id)) for effect_id in session.effects}
        return {effect_id: trouble for effect_id, trouble in known.items() if trouble is not None}

    def resume(self, session: Session) -> None:
        """Take what a session has left to be carried out, unless it is under way."""
        for effect_id, effect in in_order(session.effects):
            if not self._is_posted(session, effect, effect_id):
                self._post(session, effect, effect_id)

    def _is_posted(self, session: Session, effect: Saved, effect_id: str) -> bool:
        """Whether an effect is being carried out already."""
        jobs = self._lanes.get(_lane(session, PEERS[type(effect)]), ())
        return any(job.effect_id == effect_id and job.key == session.key for job in jobs)

    async def drain(self) -> None:
        """Return when nothing is left to be carried out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop carrying things out; what is saved is carried out after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._group.close()
        self._lanes.clear()
        self._troubles.clear()

    def _post(self, session: Session, what: Saved | News, effect_id: str = "") -> None:
        """Queue a job."""
        self._start(_lane(session, PEERS[type(what)]), _Job(session, what, effect_id))

    def _start(self, lane: tuple[str, str], job: _Job) -> None:
        if lane in self._lanes:
            self._lanes[lane].append(job)
            return
        self._lanes[lane] = deque([job])
        task = asyncio.get_running_loop().create_task(self._run(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, lane: tuple[str, str]) -> None:
        jobs = self._lanes[lane]
        while jobs:
            job = jobs[0]
            try:
                await (self._carry_out(job) if job.effect_id else self._spread(job, lane[1]))
            except Fenced:
                return  # who has taken over goes on with all of it
            except Exception:
                log.exception("delivery_failed", session=job.key, what=type(job.what).__name__)
            jobs.popleft()
        del self._lanes[lane]

    async def _carry_out(self, job: _Job) -> None:
        """Try until the peer takes or refuses a saved effect, then strike it off."""
        effect, session = job.what, job.session
        if session is None or not isinstance(effect, SavedEffect):
            raise TypeError(f"{type(effect).__name__} is not saved with a session")
        if effect.not_before_ms:
            await self._circumstances.clock.sleep_until(effect.not_before_ms)
        attempt = 0
        while True:
            attempt += 1
            if not self.may():
                return  # it stays with the session, for whoever may
            try:
                await self._call(session, effect, job.effect_id)
                refused = False
                break
            except PeerFailed as error:
                self._failed(job, PEERS[type(effect)], error, attempt)
                if _is_final(effect, error, attempt):
                    refused = True
                    break
                self._note(job, error, attempt)
            except Unavailable as error:
                log.warning("store_away", session=job.key, what=type(effect).__name__, text=error.text)
            await self._back_off(attempt)
        await self._strike_off(session.key, job.effect_id, effect, refused=refused)
        self._troubles.pop((session.key, job.effect_id), None)

    async def _call(self, session: Session, effect: Saved, effect_id: str) -> None:
        """Carry an effect to its peer."""
        catalogue = self._circumstances.catalogue
        match effect:
            case ActivateFlows():
                await self._activate(session, effect_id)
            case DeactivateFlows():
                if isinstance(now := await self._by_now(session.key, effect_id), DeactivateFlows):
                    await self._peers.data_plane.deactivate(session, now)
            case CreateBearer():
                await self._peers.access.create_bearer(session, effect, catalogue)
            case DeleteBearer():
                await self._peers.access.delete_bearer(session, effect)
            case ExportFlows():
                await self._peers.data_plane.export_flows(session, effect)
            case DeleteMacFlow():
                await self._peers.data_plane.delete_mac_flow(session)
            case UpdateQuotaState():
                await self._peers.data_plane.update_quota_state(session, effect)
            case TerminateAccess():
                await self._peers.wifi.terminate(session)
            case TerminateSession():
                await self._peers.policy.terminate(session)

    async def _activate(self, session: Session, effect_id: str) -> None:
        """Install flows; rules that pipelined cannot install are tried again, and then taken from the session."""
        failed: ActivateFlows | None = None
        for attempt in range(1, RULE_ATTEMPTS + 1):
            failed = await self._install(session, effect_id, failed)
            if failed is None:
                return
            log.warning("rules_not_installed", session=session.key, rules=_names(failed), attempt=attempt)
            if attempt < RULE_ATTEMPTS:
                await self._back_off(attempt)
        if failed is not None:
            await self._give_up(session.key, failed)

    async def _install(self, session: Session, effect_id: str, again: ActivateFlows | None) -> ActivateFlows | None:
        """Install flows, all or those that could not be installed before; return what still cannot."""
        effect = await self._by_now(session.key, effect_id)
        if not isinstance(effect, ActivateFlows):
            return None
        wanted = _only(effect, _names(again)) if again else effect
        failed = await self._peers.data_plane.activate(session, wanted, self._circumstances.catalogue)
        return _only(wanted, failed) if failed else None

    async def _give_up(self, key: str, failed: ActivateFlows) -> None:
        """Take rules from a session that pipelined cannot install; the subscriber may have less to spend then."""
        for rule in failed.rules:
            self._telemetry.rule_failed()
            log.error("rule_given_up", session=key, rule=rule.id, version=rule.version)
        at = self._circumstances.now()

        def decide(draft: Draft) -> None:
            not_installed(draft, failed.rules, gy=failed.gy)
            wallet.reviewed(draft, at)

        await self._commit(key, decide)

    async def _by_now(self, key: str, effect_id: str) -> Saved | None:
        """Return an effect as it stands: a setup of pipelined may have overtaken it. None: nothing is left to be told.

        Pipelined has heard of newer versions then: to tell an older one would undo that.
        """
        stored = await self._store.get(key)
        return stored.session.effects.get(effect_id) if stored is not None else None

    async def _strike_off(self, key: str, effect_id: str, effect: Saved, *, refused: bool) -> None:
        """Remove an effect from its session; without its flows a session ends (reference: southbound.md 2.2)."""
        at = self._circumstances.now()

        def decide(draft: Draft) -> None:
            delivered(draft, effect_id, at)
            if refused and isinstance(effect, ActivateFlows) and not effect.gy:
                release(draft, at, "FLOWS_REFUSED", notify=True)

        await self._commit(key, decide)

    async def _commit(self, key: str, decide: Decision[None]) -> None:
        """Write what came of a delivery, however long that takes; a session that is gone needs nothing written."""
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._group.commit(key, decide)
            except NotFound:
                log.debug("session_gone_before_delivery_was_noted", session=key)
            except (Aborted, Unavailable) as error:
                log.warning("delivery_not_noted", session=key, attempt=attempt, text=error.text)
                await self._back_off(attempt)
                continue
            return

    async def _spread(self, job: _Job, peer: str) -> None:
        """Tell news; after a few attempts it is old."""
        for attempt in range(1, NEWS_ATTEMPTS + 1):
            try:
                await self._news_call(job)
            except PeerFailed as error:
                self._failed(job, peer, error, attempt)
                if error.reached and error.answered:
                    return
            else:
                return
            await self._back_off(attempt)

    def _news_call(self, job: _Job) -> Awaitable[None]:
        match job.what, job.session:
            case LogEvent() as event, _:
                return self._peers.events.log(event)
            case WriteDirectoryRecord(), Session() as session:
                return self._peers.directory.write(session)
            case DeleteDirectoryRecord(), Session() as session:
                return self._delete_record(session.scope)
            case _:
                raise TypeError(f"nobody hears {type(job.what).__name__}")

    async def _delete_record(self, subscriber: str) -> None:
        """Delete the record of a subscriber, or let it name a session that the subscriber still has."""
        found = [stored.session for stored in await self._store.find(subscriber)]
        left = [session for session in found if session.head.state is not State.CLOSED]
        if left:
            await self._peers.directory.write(left[-1])
        else:
            await self._peers.directory.delete(subscriber)

    def _failed(self, job: _Job, peer: str, error: PeerFailed, attempt: int) -> None:
        what = type(job.what).__name__
        self._telemetry.peer_failed(peer, error.status)
        fields = {"peer": peer, "what": what, "session": job.key, "status": error.status, "text": error.text}
        if attempt == OVERDUE_ATTEMPTS and job.effect_id:
            self._telemetry.delivery_overdue(what)
            log.error("delivery_overdue", attempts=attempt, **fields)
        else:
            log.warning("peer_failed", attempt=attempt, **fields)

    def _note(self, job: _Job, error: PeerFailed, attempt: int) -> None:
        again_at_ms = self._circumstances.clock.now_ms() + _pause_ms(attempt)
        self._troubles[job.key, job.effect_id] = Trouble(attempt, f"{error.status}: {error.text}", again_at_ms)

    async def _back_off(self, attempt: int) -> None:
        clock = self._circumstances.clock
        await clock.sleep_until(clock.now_ms() + _pause_ms(attempt))


PEERS: Final[dict[type[Saved | News], str]] = {
    ActivateFlows: "pipelined",
    DeactivateFlows: "pipelined",
    CreateBearer: "spgw",
    DeleteBearer: "spgw",
    TerminateSession: "session_proxy",
    LogEvent: "eventd",
    WriteDirectoryRecord: "directoryd",
    DeleteDirectoryRecord: "directoryd",
    ExportFlows: "pipelined",
    DeleteMacFlow: "pipelined",
    UpdateQuotaState: "pipelined",
    TerminateAccess: "aaa",
}
"""Who hears of what, by its name in the configuration."""


def _pause_ms(attempt: int) -> int:
    pause_ms: int = min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (attempt - 1))
    return pause_ms


def _lane(session: Session, peer: str) -> tuple[str, str]:
    """Return the lane of a job: a record belongs to the subscriber, flows to the address, all else to the session.

    So the flows of a session that ends never go down after those of the next session of the same address went up.
    """
    context = session.context
    if peer == "directoryd":
        return session.scope, peer
    if peer == "pipelined" and context is not None:
        return f"{session.scope} {context.ue_ipv4} {context.ue_ipv6}", peer
    return session.key, peer


def _only(effect: ActivateFlows, names: Collection[str]) -> ActivateFlows:
    return structs.replace(effect, rules=tuple(rule for rule in effect.rules if rule.id in names))


def _names(effect: ActivateFlows) -> list[str]:
    return [rule.id for rule in effect.rules]


def _is_final(effect: Saved, error: PeerFailed, attempt: int) -> bool:
    """Whether a failure ends the attempts: a refusal does, except that the end of a session must be heard.

    Services of pipelined beside its flows that never answer must not keep the flows waiting behind them.
    """
    refused = error.answered and error.reached and NOT_SET_UP not in error.text
    match effect:
        case TerminateSession():
            return False
        case CreateBearer() | DeleteBearer() | TerminateAccess():
            return refused or attempt >= BEARER_ATTEMPTS
        case ExportFlows() | DeleteMacFlow() | UpdateQuotaState():
            hangs = error.reached and not error.answered
            return refused or (hangs and attempt >= BEARER_ATTEMPTS)
        case _:
            return refused
