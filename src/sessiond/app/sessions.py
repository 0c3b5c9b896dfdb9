"""The native use cases: one method each, over the one registry; sessions of every kind are found and ended here.

Whoever comes to a session whose time is over ends it before anything else, so that nobody sees one that the timer has
not got to yet.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sessiond.app.activity import Activity
from sessiond.app.callers import check_reading, check_writing, may_read, may_write
from sessiond.app.commit import Committer, Outcome
from sessiond.app.keys import Keys
from sessiond.app.making import Making, at_home
from sessiond.app.populations import Populations
from sessiond.app.ports.store import Store
from sessiond.app.ports.vault import Vault
from sessiond.app.recollection import Recollection
from sessiond.app.secrets import Secrets
from sessiond.app.situation import Circumstances
from sessiond.app.streams import StreamManager
from sessiond.app.welcome import Welcome
from sessiond.core import names
from sessiond.core.access import Access, check_association
from sessiond.core.callers import namespace_of
from sessiond.core.decide import lapse, native, registry, requests
from sessiond.core.decide.change import Wanted, change
from sessiond.core.decide.native import OVER, NewSession
from sessiond.core.decide.release import release
from sessiond.core.decide.requests import ANY, Request, Terms
from sessiond.core.decide.tick import tick
from sessiond.core.draft import Draft
from sessiond.core.errors import AlreadyExists, FailedPrecondition, NotFound, PermissionDenied, SessionError
from sessiond.core.ids import PEER_KEY_DIGITS, key_of_request
from sessiond.core.keys import Handshake, check_peer, derived
from sessiond.core.lifecycle import State
from sessiond.core.profiles import Profile
from sessiond.core.session import GivenTime, Session
from sessiond.core.situation import Situation

Act = Callable[[Draft, Situation], None]
"""What is wanted of one session."""
Settle = Callable[[Draft, Request | None, int], None]
"""What is noted of that in the session, and of the request that wanted it."""

ATTEMPTS: Final = 4
"""How often a creation that meets a session whose time is over is tried."""
LOOK_AGAIN_S: Final = 1.0
"""How often a session that another daemon may have confirmed is looked at."""
WITHDRAWN: Final = frozenset({"CANCELLED", lapse.TIMED_OUT})
"""Why a session ended that nobody had agreed to."""
MOST_LEVELS: Final = 4
"""How far an end goes on to associates of associates."""


class SessionManager:
    """What a client of our own API can ask for."""

    def __init__(
        self,
        committer: Committer,
        store: Store,
        circumstances: Circumstances,
        welcome: Welcome,
        streams: StreamManager,
        activity: Activity,
        vault: Vault,
    ) -> None:
        self._committer = committer
        self._store = store
        self._circumstances = circumstances
        self._welcome = welcome
        self._streams = streams
        self._activity = activity
        self.secrets = Secrets(vault)
        self.keys = Keys(vault, circumstances.clock)
        self.populations = Populations(circumstances)
        self._making = Making(store, self.secrets, self.keys)
        self._awaited: dict[str, asyncio.Event] = {}
        self._deletions = Recollection[bool](circumstances.clock)

    def observe(self, outcome: Outcome) -> None:
        """Wake those who wait for a session to be confirmed; count those that begin and end."""
        self.populations.observe(outcome)
        if self._awaited and (awaited := self._awaited.get(outcome.after.key)):
            awaited.set()

    # -- making and finding

    async def create(
        self,
        key: str,
        wanted: NewSession,
        request: Request | None,
        *,
        reuse_active: bool,
        wait: bool,
        handshake: Handshake | None = None,
    ) -> tuple[Session, bool]:
        """Return a new session, or the active one that is to be reused, and whether it is new.

        A session that must be confirmed is waited for, if that is wanted. Nodes that have shaken hands have agreed on
        its key.
        """
        wanted = at_home(wanted)
        if handshake is not None:
            key, _ = self._making.agreed(key, handshake)
        key = key or self._new_key(wanted, request)
        for _ in range(ATTEMPTS):
            if reuse_active and (active := await self._active_like(wanted)):
                return await self._used(active), _was_made_by(active, request)
            try:
                session = await self._made(key, wanted, request, handshake)
            except SessionError as error:
                if (known := await self._made_before(key, request)) is not None:
                    session = known
                elif isinstance(error, AlreadyExists) and await self._make_way(wanted, error):
                    continue
                else:
                    raise
            return (await self._confirmed(session) if wait else session), True
        raise AlreadyExists("SESSION_EXISTS", f"there is a session like {key} already")

    async def _made(
        self, key: str, wanted: NewSession, request: Request | None, handshake: Handshake | None
    ) -> Session:
        """Return a new session, stored."""
        at = self._circumstances.now()
        profile = native.profile_of(wanted.type, at.settings)
        self._welcome.check()
        gets = await self._making.prepared(key, wanted, profile, handshake, at)
        session = native.new_session(key, gets, profile, request, at)
        with self.populations.room(namespace_of(session)):
            await self._committer.create(session)
        return session

    async def get(self, key: str, *, peek: bool = False) -> Session:
        """Return a session; this counts as use, unless somebody only peeks."""
        session = await self._current(key)
        return self._activity.up_to_date(session) if peek else await self._used(session)

    async def active(self, session_type: str, msisdn: str, *, peek: bool = False) -> Session:
        """Return the active session of a phone number."""
        session = await self._bearer(names.of_number(session_type, msisdn), f"{session_type} session of {msisdn}")
        return self._activity.up_to_date(session) if peek else await self._used(session)

    async def with_peer(self, address: str, *, peek: bool = False) -> Session:
        """Return the active session with the node at an address."""
        session = await self._bearer(names.of_peer("peer", address), f"session with {address}")
        return self._activity.up_to_date(session) if peek else await self._used(session)

    # -- changing

    async def update(self, key: str, wanted: Wanted, terms: Terms = ANY) -> Session:
        """Change what is said of a session."""
        return await self.change(
            key, terms, lambda draft, at: change(draft, self.secrets.sealed(draft, wanted), _profile(draft, at), at)
        )

    async def activate(self, key: str, terms: Terms = ANY) -> Session:
        """Confirm a session that is pending, or bring one into use that is not.

        One that comes too late is withdrawn, which is what the caller is told.
        """
        return await self._commit(key, terms, _activate)

    async def pause(self, key: str, terms: Terms = ANY) -> Session:
        """Suspend a session."""
        return await self.change(key, terms, native.pause)

    async def resume(self, key: str, terms: Terms = ANY) -> Session:
        """Bring a session back into use."""
        return await self.change(key, terms, native.resume)

    async def touch(self, key: str, ttl_ms: int | None, terms: Terms = ANY) -> Session:
        """Say that a session is in use, and put off its end."""
        return await self.change(key, terms, lambda draft, at: native.touch(draft, ttl_ms, at))

    async def associate(self, key: str, other: str, terms: Terms = ANY) -> Session:
        """Tie a session to another, which must not have more than one with a barrier has."""
        stored = await self._store.get(other)
        access = stored.session.access if stored is not None else None

        def tie(draft: Draft, at: Situation) -> None:
            registry.tie(draft, other, _profile(draft, at))
            check_association(draft.access, access or Access())

        return await self.change(key, terms, tie)

    async def change(self, key: str, terms: Terms, act: Act) -> Session:
        """Do something to a native session that has not ended; return it as it is after that."""

        def checked(draft: Draft, at: Situation) -> None:
            native.check_native(draft)
            act(draft, at)

        return await self._commit(key, terms, checked)

    async def use(self, key: str, terms: Terms, act: Act, settle: Settle) -> tuple[Session, bool]:
        """Do something in a session that is no change of it: its etag stays.

        Return the session as it is after that, and whether this was done now and not before, for the same request.
        """
        return await self._carry_out(key, terms, act, settle)

    async def shake_hands(self, key: str, handshake: Handshake, terms: Terms) -> Session:
        """Bring a session into use whose nodes have shaken hands by now: they have agreed on its key."""

        def act(draft: Draft, at: Situation) -> None:
            peer = draft.session().peer
            check_peer(peer.node_id if peer is not None else b"", handshake)
            _activate(draft, at)
            _, material = derived(handshake)
            draft.put("secret", "", self.keys.agreed(key, material, draft.type, at))

        return await self._commit(key, terms, act)

    async def resume_by_token(self, key: str, token: bytes, transport: str, terms: Terms) -> Session:
        """Bring a session on after its connection was lost; who has the token has its key."""

        def act(draft: Draft, at: Situation) -> None:
            self.keys.check_token(draft.session(), token, at)
            native.resume_by_token(draft, transport, at)

        return await self.change(key, terms, act)

    async def rotate_key(self, key: str, nonce: bytes, terms: Terms) -> Session:
        """Give a session its next key, made with a nonce of the other node's, or one that is made up."""
        made_by = terms.request.id if terms.request else ""
        return await self.change(key, terms, lambda draft, at: self.keys.rotate(draft, nonce, made_by, at))

    # -- ending

    async def end(self, key: str, terms: Terms, message: str = "", ended_at_ms: int = 0) -> Session:
        """End a session of any kind in its own way; one that has ended stays as it is."""
        session = await self._current(key)
        return await self._commit(key, terms, await self.ending(session, message, ended_at_ms))

    async def end_associates(self, session: Session) -> list[str]:
        """End the sessions that a session is tied to, and those beneath them; return the keys of those that ended."""
        seen, ended, level = {session.key}, list[str](), list(session.associates.values())
        for _ in range(MOST_LEVELS):
            below: list[str] = []
            for key in level:
                if key not in seen:
                    seen.add(key)
                    below += await self._end_one(key, ended)
            level = below
        return ended

    async def delete(self, key: str, terms: Terms, *, force: bool, allow_missing: bool) -> None:
        """Remove the record of a session; with force it is ended first."""
        if self._deletions.answer(key, terms.request):
            return
        stored = await self._store.get(key)
        if stored is None or stored.session.head.forgotten:
            if allow_missing:
                return
            raise _not_found(key)
        ending = await self.ending(stored.session)

        def decide(draft: Draft) -> None:
            at = self._circumstances.now()
            check_writing(draft)
            requests.check_etag(draft, terms)
            if draft.head.state not in OVER:
                tick(draft, at, self._activity.used_at_ms(draft))
            if draft.head.state not in OVER:
                if not force and not lapse.expired(draft, at.now_ms):
                    raise FailedPrecondition("SESSION_NOT_ENDED", f"session {key} has not ended")
                ending(draft, at)
            draft.set("head", forgotten=True)

        try:
            await self._committer.commit(key, decide)
        except NotFound:
            if not allow_missing:
                raise
        self._deletions.keep(key, terms.request, True)

    async def tick(self, keys: Sequence[str]) -> list[Session]:
        """Do what has come due for some sessions; return those for which nothing has."""
        at = self._circumstances.now()
        decisions = dict.fromkeys(keys, partial(self._tick, at=at))
        replies = await self._committer.commit_many(decisions)
        return [session for session in replies.values() if session is not None]

    # -- parts of these

    def _new_key(self, wanted: NewSession, request: Request | None) -> str:
        """Return a key that nobody has; the same for a request that is sent again."""
        clock = self._circumstances.clock
        key = key_of_request(wanted.namespace, request.id) if request else clock.uuid()
        return key.replace("-", "")[:PEER_KEY_DIGITS] if wanted.type == "peer" else key

    def _tick(self, draft: Draft, at: Situation) -> Session | None:
        tick(draft, at, self._activity.used_at_ms(draft))
        self.keys.rotate_when_due(draft, at)
        return draft.session() if draft.is_native and not draft.changed else None

    async def _commit(self, key: str, terms: Terms, act: Act) -> Session:
        """Let something be done to a session whose time is not over, once for each request; return it after that."""
        session, _ = await self._carry_out(key, terms, act, requests.settle)
        return session

    async def _carry_out(self, key: str, terms: Terms, act: Act, settle: Settle) -> tuple[Session, bool]:
        """Let something be done to a session; return it after that, and whether the request was a new one."""
        at = self._circumstances.now()

        def decide(draft: Draft) -> tuple[Session, bool] | None:
            check_writing(draft)
            if draft.is_native and lapse.lapsed(draft, self._activity.used_at_ms(draft), at.now_ms):
                lapse.tick(draft, at, self._activity.used_at_ms(draft))
                return None
            lapse.check_found(draft, at.now_ms)
            request = terms.request
            if request and requests.carried_out(draft.requests.get(request.id), request):
                return draft.session(), False
            requests.check_etag(draft, terms)
            act(draft, at)
            settle(draft, request, at.now_ms)
            return draft.session(), True

        while (carried_out := await self._committer.commit(key, decide)) is None:
            pass
        session, is_new = carried_out
        return await self._used(session, at.now_ms), is_new

    async def _current(self, key: str) -> Session:
        """Return a session that anybody may see; if its time is over, it is ended first."""
        stored = await self._store.get(key)
        if stored is None:
            raise _not_found(key)
        session = stored.session
        check_reading(session)
        now_ms = self._circumstances.clock.now_ms()
        if session.record is not None and lapse.lapsed(session, self._activity.used_at_ms(session), now_ms):
            await self.tick([key])
            return await self._current(key)
        lapse.check_found(session, now_ms)
        return session

    async def _used(self, session: Session, now_ms: int = 0) -> Session:
        """Return a session that is used at this time, or just now."""
        if session.record is None or session.head.state in OVER:
            return session
        now_ms = now_ms or self._circumstances.clock.now_ms()
        if self._activity.use(session.key, session.record, now_ms):
            return await self._committer.commit(session.key, partial(_use, now_ms=now_ms))
        return self._activity.up_to_date(session)

    async def _bearer(self, name: str, what: str) -> Session:
        """Return the active session that bears a claim."""
        for stored in await self._store.named(name):
            session = stored.session
            if not may_read(session):
                continue
            now_ms = self._circumstances.clock.now_ms()
            if lapse.lapsed(session, self._activity.used_at_ms(session), now_ms):
                await self.tick([session.key])
            elif session.head.state is State.ACTIVE and not lapse.expired(session, now_ms):
                return session
            elif session.head.state not in OVER and not lapse.expired(session, now_ms):
                raise FailedPrecondition("SESSION_NOT_ACTIVE", f"the {what} is {session.head.state}")
        raise NotFound("SESSION_NOT_FOUND", f"there is no active {what}")

    async def _active_like(self, wanted: NewSession) -> Session | None:
        """Return the active session with the number or the peer of one that is wanted."""
        for claim in _claims(wanted):
            try:
                return await self._bearer(claim, f"{wanted.type} session")
            except (NotFound, FailedPrecondition):
                continue
        return None

    async def _made_before(self, key: str, request: Request | None) -> Session | None:
        """Return the session that this very request has made."""
        stored = await self._store.get(key)
        if stored is None or not may_write(stored.session) or not _was_made_by(stored.session, request):
            return None
        return await self._current(key)

    async def _make_way(self, wanted: NewSession, error: AlreadyExists) -> bool:
        """End what stands in the way of a new session, if its time is over; raise the error if it is not."""
        claimed = [stored.session for name in _claims(wanted) for stored in await self._store.named(name)]
        now_ms = self._circumstances.clock.now_ms()
        over = [session.key for session in claimed if lapse.lapsed(session, self._activity.used_at_ms(session), now_ms)]
        if error.reason == "SESSION_EXISTS" or len(over) < len(claimed):
            raise error
        await self.tick(over)
        return True

    async def _confirmed(self, session: Session) -> Session:
        """Return a session as soon as whoever must has agreed to it; raise FailedPrecondition if it was withdrawn."""
        while session.head.state is State.REQUESTED:
            awaited = self._awaited.setdefault(session.key, asyncio.Event())
            try:
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await awaited.wait()
            except TimeoutError:
                pass
            finally:
                self._awaited.pop(session.key, None)
            session = await self._current(session.key)
        if session.head.reason in WITHDRAWN:
            text = f"session {session.key} was withdrawn: nobody agreed to it ({session.head.reason})"
            raise FailedPrecondition("CREATION_FAILED", text)
        return session

    async def ending(self, session: Session, message: str = "", ended_at_ms: int = 0, reason: str = "CLIENT") -> Act:
        """Return how a session of this kind is ended, for a reason of the core."""
        if session.gateway is not None:
            return _explained(lambda draft, at: release(draft, at, reason, notify=True), message)
        if session.stream is not None:
            seconds, milliseconds = divmod(ended_at_ms, 1000)
            terminated = GivenTime(seconds, milliseconds * 1_000_000) if ended_at_ms else None
            return _explained(await self._streams.ending(session, terminated, reason), message)
        return lambda draft, at: native.end(draft, message, ended_at_ms, at, reason)

    async def _end_one(self, key: str, ended: list[str]) -> list[str]:
        """End an associate, if it is there and has not ended; return whom it is tied to."""
        try:
            before = await self._current(key)
            if before.head.state not in OVER:
                await self.end(key, ANY)
                ended.append(key)
        except (NotFound, PermissionDenied):
            return []
        return list(before.associates.values())


def _claims(wanted: NewSession) -> list[str]:
    """Return the names that a session is to bear and nobody else."""
    claims = [names.of_number(wanted.type, wanted.msisdn)] if wanted.msisdn else []
    if wanted.peer is not None and wanted.peer.address:
        claims.append(names.of_peer(wanted.type, wanted.peer.address))
    return claims


def _was_made_by(session: Session, request: Request | None) -> bool:
    """Whether a session is what this very request has made."""
    return request is not None and requests.carried_out(session.requests.get(request.id), request)


def _activate(draft: Draft, at: Situation) -> None:
    native.check_in_time(draft)
    native.check_native(draft)
    native.activate(draft, at)


def _explained(act: Act, message: str) -> Act:
    """Return an end that leaves the words of who ended a session with it, if it had not ended."""

    def explained(draft: Draft, at: Situation) -> None:
        had_ended = draft.head.state in OVER
        act(draft, at)
        if message and not had_ended:
            draft.set("head", message=message)

    return explained


def _use(draft: Draft, now_ms: int) -> Session:
    if draft.is_native and draft.head.state not in OVER and now_ms > draft.record.used_at_ms:
        draft.set("record", used_at_ms=now_ms)
    return draft.session()


def _profile(draft: Draft, at: Situation) -> Profile:
    return at.settings.profile(draft.type)


def _not_found(key: str) -> NotFound:
    return NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
