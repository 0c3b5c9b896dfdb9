"""Executions: asks whether a session may do something, and counts it; adds up traffic (requirements L6 and P3)."""

from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from msgspec import Struct

from sessiond.app.callers import check_reading, check_writing
from sessiond.app.lineage import Lineage
from sessiond.app.ports.store import Store
from sessiond.app.sessions import SessionManager
from sessiond.app.situation import Circumstances
from sessiond.core.access import Operation, Permissions, Place, remaining
from sessiond.core.decide import executions, lapse, requests
from sessiond.core.decide.executions import Wish
from sessiond.core.decide.requests import Request, Terms
from sessiond.core.draft import Draft
from sessiond.core.errors import NotFound, SessionError
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


class Executions:
    """What a client can ask to do in a session."""

    def __init__(self, sessions: SessionManager, store: Store, circumstances: Circumstances) -> None:
        self._sessions = sessions
        self._store = store
        self._lineage = Lineage(store)
        self._circumstances = circumstances

    async def authorize(self, key: str, wish: Wish, target_key: str, request: Request | None) -> Authorized:
        """Return that something may be done in a session, and count it; raise what forbids it, which is counted too."""
        session = await self._sessions.get(key, peek=True)
        check_writing(session)
        refused: list[SessionError] = []
        act = await self._authorizing(session, wish, target_key, refused)
        session = await self._sessions.use(key, Terms("", request), act, partial(_remember, refused))
        if refused:
            self._log(session, "execution_refused", wish, reason=refused[0].reason)
            raise refused[0]
        self._log(session, "execution_authorized", wish)
        return self._answer(session)

    async def record(self, key: str, more: Traffic, request: Request | None) -> Traffic:
        """Return all traffic of a session, with some more; raise ResourceExhausted if that is beyond a quota."""
        session = await self._sessions.use(
            key, Terms("", request), lambda draft, _: executions.record(draft, more), partial(_remember, [])
        )
        if any(resources(more).values()):
            executions.check_traffic_quotas(session.quotas)
        return session.traffic or Traffic()

    async def _authorizing(
        self, session: Session, wish: Wish, target_key: str, refused: list[SessionError]
    ) -> Callable[[Draft, Situation], None]:
        """Return the decision about a wish; a refusal is noted, so that it can be counted."""
        place: Place | None = None
        target: Place | None = None
        stands_in_vain: SessionError | None = None
        try:
            place = await self._lineage.acting(session, self._circumstances.clock.now_ms())
        except SessionError as error:
            stands_in_vain = error
        if wish.operation in REACHING and target_key not in {"", session.key}:
            target = await self._target(target_key)

        def act(draft: Draft, at: Situation) -> None:
            refused.clear()
            try:
                if stands_in_vain is not None or place is None:
                    raise stands_in_vain or RuntimeError("nowhere")
                executions.authorize(draft, _as_now(place, draft), target, wish, at)
            except SessionError as error:
                if not draft.is_native or not executions.is_refusal(error):
                    raise
                refused.append(error)
                executions.refuse(draft)

        return act

    async def _target(self, key: str) -> Place:
        """Return where the session stands that is to be reached, if the caller may know that it is there."""
        stored = await self._store.get(key)
        if stored is None or stored.session.head.forgotten:
            raise NotFound("SESSION_NOT_FOUND", f"there is no session {key}")
        check_reading(stored.session)
        lapse.check_found(stored.session, self._circumstances.clock.now_ms())
        return await self._lineage.reached(stored.session)

    def _answer(self, session: Session) -> Authorized:
        now_ms = self._circumstances.clock.now_ms()
        expire_at_ms = session.limits.expire_at_ms if session.limits else 0
        return Authorized(
            session.key,
            session.access.permissions if session.access else Permissions(),
            max(0, expire_at_ms - now_ms) if expire_at_ms else None,
            remaining(session.quotas),
        )

    def _log(self, session: Session, event: str, wish: Wish, **fields: str) -> None:
        if session.options is not None and session.options.execution_logging:
            log.info(event, session=session.key, operation=wish.operation, function=wish.function, **fields)


def _as_now(place: Place, draft: Draft) -> Place:
    """Return a place with the access that the session has now, should it have been narrowed meanwhile."""
    return Place(place.key, place.namespace, draft.access, place.above)


def _remember(refused: list[SessionError], draft: Draft, request: Request | None, now_ms: int) -> None:
    """Note that a session was used, and remember the request, unless it was refused: then it may be asked again."""
    if draft.is_native and now_ms > draft.record.used_at_ms:
        draft.set("record", used_at_ms=now_ms)
    if request and not refused:
        requests.remember(draft, request, now_ms)
