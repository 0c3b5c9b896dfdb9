"""Executions: asks whether a session may do something, and counts it; adds up traffic (requirements L6 and P3)."""

from functools import reduce
from typing import Final

import structlog
from msgspec import Struct

from sessiond.app.callers import check_reading, check_writing
from sessiond.app.commit import Committer
from sessiond.app.lineage import Lineage, place_of
from sessiond.app.pool import Pool, Usage
from sessiond.app.ports.store import Store
from sessiond.app.sessions import SessionManager
from sessiond.app.situation import Circumstances
from sessiond.core.access import Access, Operation, Permissions, Place, meet, remaining
from sessiond.core.decide import executions, lapse, requests
from sessiond.core.decide.executions import Wish
from sessiond.core.decide.native import OVER
from sessiond.core.decide.requests import Request, Terms
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, NotFound, SessionError
from sessiond.core.session import Session
from sessiond.core.situation import Situation
from sessiond.core.traffic import Traffic, resources

log = structlog.get_logger(__name__)

REACHING: Final = frozenset({Operation.READ, Operation.WRITE})


class Authorized(Struct, frozen=True):
    """What may be done, and what is left; None: without end."""

    key: str
    permissions: Permissions
    remaining_ms: int | None
    remaining_quotas: dict[str, int]


class _Attempt:
    """Something that is wanted of a session, and what became of it; `forbidden` is what already speaks against it."""

    def __init__(self, wish: Wish, place: Place, target: Place | None, forbidden: SessionError | None) -> None:
        self._wish = wish
        self._place = place
        self._target = target
        self._forbidden = forbidden
        self.refusal: SessionError | None = None

    def forbid(self, error: SessionError) -> None:
        """Have it refused for this."""
        self._forbidden = error

    def is_let(self, session: Session, at: Situation) -> bool:
        """Whether a session, as it is, would let it be done."""
        self.make(Draft(session), at)
        return self.refusal is None

    def make(self, draft: Draft, at: Situation) -> None:
        """Let it be done and count it, or count that it was refused."""
        self.refusal = None
        try:
            if self._forbidden is not None:
                raise self._forbidden
            executions.authorize(draft, _as_now(self._place, draft), self._target, self._wish, at)
        except SessionError as error:
            if not draft.is_native or not executions.is_refusal(error):
                raise
            self.refusal = error
            executions.refuse(draft)

    def remember(self, draft: Draft, request: Request | None, now_ms: int) -> None:
        """Note that the session was used, and the request unless it was refused: then it may be asked again."""
        _remember(draft, None if self.refusal else request, now_ms)


class Executions:
    """What a client can ask to do in a session."""

    def __init__(
        self, sessions: SessionManager, committer: Committer, store: Store, circumstances: Circumstances
    ) -> None:
        self._sessions = sessions
        self._store = store
        self._lineage = Lineage(store)
        self._pool = Pool(committer)
        self._circumstances = circumstances

    async def authorize(self, key: str, wish: Wish, target_key: str, request: Request | None) -> Authorized:
        """Return that something may be done in a session, and count it; raise what forbids it, which is counted too."""
        session = await self._sessions.get(key, peek=True)
        check_writing(session)
        above, forbidden = await self._above(session)
        target = await self._target(target_key) if wish.operation in REACHING and target_key not in {"", key} else None
        attempt = _Attempt(wish, place_of(session, above), target, forbidden)
        usage = executions.used_by(wish)
        shared: list[Session] = []
        if above and not _is_known(session, request) and attempt.is_let(session, self._circumstances.now()):
            shared = await self._shared(above, usage, attempt)
        async with self._pool.pledge(shared, usage) as pledge:
            terms = Terms("", request)
            session, is_new = await self._sessions.use(key, terms, attempt.make, attempt.remember)
            pledge.has_come_about = is_new and attempt.refusal is None
        if attempt.refusal is not None:
            self._log(session, "execution_refused", wish, reason=attempt.refusal.reason)
            raise attempt.refusal
        self._log(session, "execution_authorized", wish)
        return self._answer(session, shared or above)

    async def record(self, key: str, more: Traffic, request: Request | None) -> Traffic:
        """Return all traffic of a session, with some more; raise ResourceExhausted if that is beyond a quota."""
        usage = resources(more)
        session = await self._sessions.get(key, peek=True)
        above = [other for other in await self._lineage.above(session) if other.head.state not in OVER]
        shared: list[Session] = []
        if not _is_known(session, request):
            shared = await self._pool.share(above, usage, executions.share_traffic)
        async with self._pool.pledge(shared, usage) as pledge:
            session, pledge.has_come_about = await self._sessions.use(
                key, Terms("", request), lambda draft, _: executions.record(draft, more), _remember
            )
        if any(usage.values()):
            for counted in (session, *(shared or above)):
                executions.check_traffic_quotas(counted.quotas)
        return session.traffic or Traffic()

    async def _above(self, session: Session) -> tuple[list[Session], SessionError | None]:
        """Return the sessions that a session acts for; none, and why it stands there in vain, unless all are active."""
        try:
            return await self._lineage.active_above(session, self._circumstances.clock.now_ms()), None
        except FailedPrecondition as error:
            return [], error

    async def _shared(self, above: list[Session], usage: Usage, attempt: _Attempt) -> list[Session]:
        """Count above what is wanted below; if one of those above refuses, that is what becomes of the attempt."""
        try:
            return await self._pool.share(above, usage, executions.share)
        except SessionError as error:
            if not executions.is_refusal(error):
                raise
            attempt.forbid(error)
            return []

    async def _target(self, key: str) -> Place:
        """Return where the session stands that is to be reached, if the caller may know that it is there."""
        stored = await self._store.get(key)
        if stored is None or stored.session.head.forgotten:
            raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
        check_reading(stored.session)
        lapse.check_found(stored.session, self._circumstances.clock.now_ms())
        return await self._lineage.reached(stored.session)

    def _answer(self, session: Session, above: list[Session]) -> Authorized:
        """Return what a session may do, has left and how long, as far as those above it let it."""
        line = (session, *above)
        expires_at_ms = min((at_ms for one in line if one.limits and (at_ms := one.limits.expire_at_ms)), default=None)
        return Authorized(
            session.key,
            reduce(meet, (one.access or Access() for one in line)).permissions,
            None if expires_at_ms is None else max(0, expires_at_ms - self._circumstances.clock.now_ms()),
            remaining(*(one.quotas for one in line)),
        )

    def _log(self, session: Session, event: str, wish: Wish, **fields: str) -> None:
        if session.options is not None and session.options.execution_logging:
            log.info(event, session=session.key, operation=wish.operation, function=wish.function, **fields)


def _as_now(place: Place, draft: Draft) -> Place:
    """Return a place with the access that the session has now, should it have been narrowed meanwhile."""
    return Place(place.key, place.namespace, draft.access, place.above)


def _is_known(session: Session, request: Request | None) -> bool:
    """Whether a request was carried out before."""
    return request is not None and requests.carried_out(session.requests.get(request.id), request)


def _remember(draft: Draft, request: Request | None, now_ms: int) -> None:
    """Note that a session was used, and remember the request."""
    if draft.is_native and now_ms > draft.record.used_at_ms:
        draft.set("record", used_at_ms=now_ms)
    if request:
        requests.remember(draft, request, now_ms)
