"""The gateway use cases: one method each, from a checked command to a written decision."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import structlog

from sessiond.app.commit import Committer, Decision, Reply
from sessiond.app.locks import KeyedLocks
from sessiond.app.ports.peers import PolicyPeer
from sessiond.app.ports.store import Store
from sessiond.app.resync import Resync
from sessiond.app.situation import Circumstances
from sessiond.app.welcome import Welcome
from sessiond.core.decide import bearer, create, reauth
from sessiond.core.decide.create import Course
from sessiond.core.decide.reauth import PolicyChange, ReAuthResult
from sessiond.core.decide.release import abort, release
from sessiond.core.decide.rule_sets import RuleSets, apply_set
from sessiond.core.effects import LogEvent
from sessiond.core.errors import AlreadyExists, NotFound, PeerFailed, Unavailable
from sessiond.core.events import session_create_failure
from sessiond.core.ids import SESSION_NUMBERS, session_id
from sessiond.core.lifecycle import State
from sessiond.core.rules import Bearer, Teids
from sessiond.core.session import Context, Rat, Session

log = structlog.get_logger(__name__)

ID_ATTEMPTS: Final = 16
LOOK_MS: Final = 50
"""How often it is looked what became of a session that another daemon is making."""


class GatewayManager:
    """What a gateway's clients and its policy side can ask for."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        policy: PolicyPeer,
        resync: Resync,
        circumstances: Circumstances,
        welcome: Welcome,
        log_event: Callable[[LogEvent], None],
        *,
        shared: bool = False,
    ) -> None:
        """`shared`: other daemons make sessions in the same store."""
        self._shared = shared
        self._welcome = welcome
        self._log_event = log_event
        self._committer = committer
        self._store = store
        self._policy = policy
        self._resync = resync
        self._circumstances = circumstances
        self._subscribers = KeyedLocks()

    async def create_session(self, context: Context) -> str:
        """Return the id of the session a UE has from now on: a new one, or the one it had if nothing changed.

        Requests of one subscriber wait for each other, so that one that is repeated finds the session of the first.
        """
        if not self._resync.ready:
            raise Unavailable("DATA_PLANE_NOT_READY", "PipelineD is not ready", retry_after_ms=1000)
        async with self._subscribers.hold(context.subscriber):
            for _ in range(ID_ATTEMPTS):
                if key := await self._create_session(context):
                    return key
            raise Unavailable("SESSION_IDS_USED_UP", f"no free id for {context.subscriber}", retry_after_ms=1000)

    async def _create_session(self, context: Context) -> str | None:
        """Return the id of the session a UE has from now on; None if somebody was faster, or the id is taken."""
        found = await self._found(context)
        plan = create.plan(context, [session for session in found if session.head.state is not State.CLOSED])
        at = self._circumstances.now()
        if plan.course is not Course.RECYCLE:
            self._welcome.check()
        match plan.course:
            case Course.RECYCLE:
                if await self._if_there(plan.key, lambda draft: create.recycled(draft, context, at)):
                    return plan.key
            case Course.REPLACE:
                await self._if_there(plan.key, lambda draft: release(draft, at, "REPLACED", notify=False))
        session = await self._store_new(context, found)
        return await self._settled(session) if session is not None else None

    def note_refusal(self, subscriber: str, apn: str, reason: str) -> None:
        """Let it be known that a session was refused before it began."""
        self._log_event(session_create_failure(Context(subscriber=subscriber, apn=apn), reason))

    async def update_tunnel_ids(self, subscriber: str, bearer_id: int, teids: Teids, key: str = "") -> None:
        """Put the session in force whose tunnels are known now; `key` tells sessions of equal bearer id apart."""

        def wanted(session: Session) -> bool:
            if session.context is None or (key and session.key != key):
                return False
            if session.context.rat is Rat.WLAN:
                return True
            lte = session.context.lte
            return session.head.state is State.ACTIVE and lte is not None and lte.bearer_id == bearer_id

        session = await self._find(subscriber, wanted)
        at = self._circumstances.now()
        await self._committer.commit(session.key, lambda draft: create.activate(draft, teids, at))

    async def end_session(self, subscriber: str, apn: str) -> None:
        """Release the session of a subscriber and APN; one that is being released already is left to it."""
        session = await self._find(
            subscriber, lambda session: session.context is not None and session.context.apn == apn
        )
        at = self._circumstances.now()
        await self._committer.commit(session.key, lambda draft: release(draft, at, "ENDED", notify=False))

    async def bind_bearer(self, subscriber: str, linked_bearer_id: int, rule_id: str, bound: Bearer) -> None:
        """Take what the MME says about the dedicated bearer of a rule."""

        def wanted(session: Session) -> bool:
            lte = session.context.lte if session.context else None
            return session.head.state is State.ACTIVE and lte is not None and lte.bearer_id == linked_bearer_id

        try:
            session = await self._find(subscriber, wanted)
        except NotFound:
            log.warning("bearer_of_unknown_session", subscriber=subscriber, bearer=linked_bearer_id, rule=rule_id)
            return
        if not await self._committer.commit(session.key, lambda draft: bearer.bound(draft, rule_id, bound)):
            log.warning("bearer_of_unknown_rule", session=session.key, rule=rule_id)

    async def set_session_rules(self, subscriber: str, rule_sets: RuleSets) -> None:
        """Give every active session of a subscriber exactly the rules that are meant for its APN."""
        at = self._circumstances.now()
        for session in await self._active(subscriber):
            if session.context is not None and (wanted := rule_sets.of(session.context.apn)) is not None:
                decide = partial(apply_set, wanted=wanted, at=at)
                await self._if_there(session.key, decide)

    async def charging_reauth(self, subscriber: str, key: str, credit_key: str | None) -> ReAuthResult:
        """Re-authorise one credit of a session, or all of them (None)."""
        session = await self._session(subscriber, key)
        if credit_key is None:
            return await self._committer.commit(session.key, reauth.reauthorise_all)
        return await self._committer.commit(session.key, partial(reauth.reauthorise_credit, key=credit_key))

    async def policy_reauth(self, subscriber: str, key: str, change: PolicyChange) -> list[str]:
        """Change the policy of a session, or of all sessions of a subscriber (key ""); return the unknown rules."""
        decide = partial(reauth.change_policy, wanted=change, at=self._circumstances.now())
        if key:
            return await self._committer.commit((await self._session(subscriber, key)).key, decide)
        sessions = await self._active(subscriber)
        if not sessions:
            raise NotFound("SESSION_NOT_FOUND", f"{subscriber} has no session")
        unknown = [await self._if_there(session.key, decide) or [] for session in sessions]
        return list(dict.fromkeys(rule for rules in unknown for rule in rules))

    async def abort_session(self, subscriber: str, key: str) -> None:
        """End a session at the word of the policy side, which needs no report of it."""
        session = await self._session(subscriber, key)
        at = self._circumstances.now()
        await self._committer.commit(session.key, lambda draft: abort(draft, at))

    async def session(self, key: str) -> Session:
        """Return a session of any kind by its key, as long as anything is left to be done for it."""
        stored = await self._store.get(key)
        if stored is None:
            raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
        return stored.session

    async def sessions(self) -> list[Session]:
        """Return all sessions that are not over."""
        everyone = [stored.session async for stored in self._store.load()]
        return [session for session in everyone if session.head.state is not State.CLOSED]

    async def _if_there(self, key: str, decide: Decision[Reply]) -> Reply | None:
        """Decide about a session that may be gone by now; None if it is."""
        try:
            return await self._committer.commit(key, decide)
        except NotFound:
            return None

    async def _found(self, context: Context) -> list[Session]:
        """Return the sessions of a subscriber, once no other daemon is making one for the same APN."""
        while True:
            found = [stored.session for stored in await self._store.find(context.subscriber)]
            if not (self._shared and any(create.being_made(session, context) for session in found)):
                return found
            clock = self._circumstances.clock
            await clock.sleep_until(clock.now_ms() + LOOK_MS)

    async def _settled(self, session: Session) -> str:
        """Ask the policy side about a new session, and keep or drop it by the answer; return its id."""
        try:
            answer = await self._policy.create(session)
        except (PeerFailed, asyncio.CancelledError) as error:
            at, certain = self._circumstances.now(), isinstance(error, PeerFailed) and error.answered
            with suppress(NotFound):  # it was given up meanwhile
                await self._committer.commit(session.key, lambda draft: create.not_allowed(draft, at, certain=certain))
            raise
        at = self._circumstances.now()
        await self._committer.commit(session.key, lambda draft: create.allowed(draft, answer, at))
        return session.key

    async def _store_new(self, context: Context, found: list[Session]) -> Session | None:
        """Store a new session, if its subscriber still has only those that were found."""
        key = session_id(context.subscriber, self._circumstances.clock.number(SESSION_NUMBERS))
        session = create.new_session(key, context, found, self._circumstances.now())
        try:
            await self._committer.create(session, among=frozenset(other.key for other in found))
        except AlreadyExists:
            return None
        return session

    async def _present(self, subscriber: str) -> list[Session]:
        found = await self._store.find(subscriber)
        return [stored.session for stored in found if stored.session.head.state is not State.CLOSED]

    async def _active(self, subscriber: str) -> list[Session]:
        return [session for session in await self._present(subscriber) if session.head.state is State.ACTIVE]

    async def _find(self, subscriber: str, wanted: Callable[[Session], bool]) -> Session:
        """Return a subscriber's session of that description: the active one rather than one that begins or ends."""
        found = [session for session in await self._present(subscriber) if wanted(session)]
        if not found:
            raise NotFound("SESSION_NOT_FOUND", f"{subscriber} has no such session")
        return min(found, key=_liveliness)

    async def _session(self, subscriber: str, key: str) -> Session:
        """Return a session by its id, if it is the subscriber's and not over."""
        return await self._find(subscriber, lambda session: session.key == key)


def _liveliness(session: Session) -> int:
    """Return how late a session is to be chosen if there are several."""
    match session.head.state:
        case State.ACTIVE:
            return 0
        case State.CLOSING:
            return 2
        case _:
            return 1
