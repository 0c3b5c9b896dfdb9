"""Native sessions: how one begins, goes on and ends, as its owners want it.

A session begins ACTIVE or, if that is wanted, CREATED. If its profile says that it needs to be confirmed, it begins
REQUESTED: everybody sees it, as pending, and whoever activates it in time confirms it; otherwise it is withdrawn.
"""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, structs

from sessiond.core import lifecycle
from sessiond.core.access import Access, Isolation, Permissions, Quota
from sessiond.core.decide.data import check_details
from sessiond.core.decide.lapse import TIMED_OUT, close
from sessiond.core.decide.registry import check_associate, numbered
from sessiond.core.decide.requests import Request
from sessiond.core.decide.retention import keep_for_now
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from sessiond.core.ids import scope_of
from sessiond.core.keys import SessionSecret
from sessiond.core.lifecycle import Event, State
from sessiond.core.profiles import OF_OTHER_SURFACES, Profile
from sessiond.core.session import GivenTime, Head, Identity, Limits, Options, Peer, Record, Remembered, Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation

OVER: Final = frozenset({State.CLOSING, State.CLOSED})


class NewSession(Struct, frozen=True, kw_only=True):
    """What a client says of the session it wants; None: as its profile says."""

    type: str
    namespace: str = ""
    data_source: str = ""
    msisdn: str = ""
    identifier: str = ""
    version: int = 0
    utc_offset: GivenTime | None = None
    details: Mapping[str, Any] = {}
    sensitive_details: tuple[str, ...] = ()
    associates: tuple[str, ...] = ()
    ttl_ms: int | None = None
    expire_at_ms: int | None = None
    max_duration_ms: int | None = None
    idle_timeout_ms: int | None = None
    permissions: Permissions | None = None
    isolation: Isolation | None = None
    quotas: Mapping[str, int] = {}
    options: Options | None = None
    peer: Peer | None = None
    parent: str = ""
    """The session that it acts for."""
    parent_created_at_ms: int = 0
    secret: SessionSecret | None = None
    leave_inactive: bool = False


def profile_of(session_type: str, settings: Settings) -> Profile:
    """Return the profile of a type whose sessions are made through our own API."""
    profile = settings.profiles.get(session_type)
    if profile is None:
        known = ", ".join(sorted(settings.profiles.keys() - OF_OTHER_SURFACES))
        text = f"there is no profile for sessions of type {session_type!r}; there are: {known}"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field="session.type")
    if session_type in OF_OTHER_SURFACES:
        text = f"sessions of type {session_type} are made through another surface"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field="session.type")
    return profile


def new_session(key: str, wanted: NewSession, profile: Profile, request: Request | None, at: Situation) -> Session:
    """Return a session of this profile; what contradicts itself or the profile is refused."""
    now_ms = at.now_ms
    if scope_of(key) != key:
        text = f"{key} is the key of a gateway session"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field="session.key")
    associates = tuple(dict.fromkeys(wanted.associates))
    check_associate(key, associates, "session.associate_keys")
    if profile.most_associates and len(associates) > profile.most_associates:
        raise ResourceExhausted(
            "QUOTA_EXCEEDED",
            f"a {wanted.type} session has at most {profile.most_associates} associates",
            field="session.associate_keys",
        )
    if wanted.details:
        check_details(wanted.details, profile)
    state = _beginning(wanted, profile)
    return Session(
        key=key,
        type=wanted.type,
        scope=key,
        head=Head(state=state, created_at_ms=now_ms, activated_at_ms=now_ms if state is State.ACTIVE else 0),
        identity=Identity(
            data_source=wanted.data_source,
            namespace=wanted.namespace,
            msisdn=wanted.msisdn,
            identifier=wanted.identifier,
            version=wanted.version,
            utc_offset=wanted.utc_offset,
            parent=wanted.parent,
            parent_created_at_ms=wanted.parent_created_at_ms,
        ),
        limits=_limits(wanted, profile, now_ms),
        record=Record(updated_at_ms=now_ms, used_at_ms=now_ms),
        options=_options(wanted, profile),
        access=_access(wanted, profile),
        peer=wanted.peer,
        secret=wanted.secret,
        details=wanted.details,
        associates=numbered(associates) if associates else {},
        quotas=_quotas(wanted, profile),
        requests={request.id: Remembered(request.digest, now_ms)} if request else {},
    )


def _beginning(wanted: NewSession, profile: Profile) -> State:
    """Return the state that a session begins in."""
    if profile.confirm_within_ms:
        return _BEGIN_REQUESTED
    if not wanted.leave_inactive:
        return _BEGIN_ACTIVE
    return _BEGIN_ACTIVATING if profile.activate_within_ms else _BEGIN_CREATED


def _limits(wanted: NewSession, profile: Profile, now_ms: int) -> Limits:
    max_duration_ms = profile.max_duration_ms if wanted.max_duration_ms is None else wanted.max_duration_ms
    if profile.max_duration_ms and not 0 < max_duration_ms <= profile.max_duration_ms:
        text = f"a {wanted.type} session lasts at most {profile.max_duration_ms / 1000:g} s"
        raise InvalidArgument("INVALID_CONFIGURATION", text, field="session.max_duration")
    if wanted.expire_at_ms is not None:
        expire_at_ms = wanted.expire_at_ms
        if expire_at_ms <= now_ms:
            raise InvalidArgument("INVALID_CONFIGURATION", "it is over already", field="session.expire_time")
    else:
        ttl_ms = profile.ttl_ms if wanted.ttl_ms is None else wanted.ttl_ms
        expire_at_ms = now_ms + ttl_ms if ttl_ms else 0
    expire_at_ms = held(expire_at_ms, max_duration_ms, now_ms)
    decide_within_ms = profile.confirm_within_ms or (profile.activate_within_ms if wanted.leave_inactive else 0)
    decide_by_ms = held(now_ms + decide_within_ms, expire_at_ms, 0) if decide_within_ms else 0
    return Limits(
        expire_at_ms=expire_at_ms,
        max_duration_ms=max_duration_ms,
        idle_timeout_ms=profile.idle_timeout_ms if wanted.idle_timeout_ms is None else wanted.idle_timeout_ms,
        decide_by_ms=decide_by_ms,
    )


def held(at_ms: int, max_duration_ms: int, since_ms: int) -> int:
    """Return a moment (0: never) held to a duration (0: without end) since another moment."""
    if not max_duration_ms:
        return at_ms
    return min(at_ms, since_ms + max_duration_ms) if at_ms else since_ms + max_duration_ms


def _options(wanted: NewSession, profile: Profile) -> Options:
    options = wanted.options or profile.options
    if not (wanted.sensitive_details or wanted.leave_inactive):
        return options
    return structs.replace(options, sensitive_details=wanted.sensitive_details, leave_inactive=wanted.leave_inactive)


def _access(wanted: NewSession, profile: Profile) -> Access:
    if wanted.permissions is None and wanted.isolation is None:
        return profile.access
    return Access(wanted.permissions or profile.access.permissions, wanted.isolation or profile.access.isolation)


def _quotas(wanted: NewSession, profile: Profile) -> Mapping[str, Quota]:
    if not wanted.quotas:
        return profile.quotas
    return {**profile.quotas, **{resource: Quota(limit) for resource, limit in wanted.quotas.items()}}


# -- what is wanted of a session that is there


def check_native(draft: Draft, over_is: str = "SESSION_ENDED") -> None:
    """Raise FailedPrecondition for a session of another surface, or one that has ended."""
    if not draft.is_native:
        text = f"session {draft.key} belongs to another surface: only that one changes it"
        raise FailedPrecondition("SESSION_OF_OTHER_SURFACE", text)
    if draft.head.state in OVER:
        raise FailedPrecondition(over_is, f"session {draft.key} has ended")


def check_in_time(draft: Draft) -> None:
    """Raise FailedPrecondition for a session that was withdrawn because nobody activated it in time."""
    if draft.head.reason == TIMED_OUT:
        raise FailedPrecondition("ACTIVATION_FAILED", f"session {draft.key} was not activated in time")


def activate(draft: Draft, at: Situation) -> None:
    """Confirm a session that is pending; else bring one into use that is not."""
    match draft.head.state:
        case State.REQUESTED:
            draft.step(Event.CREATE, at.now_ms)
            draft.step(Event.CONFIRM, at.now_ms)
            activate_within_ms = at.settings.profile(draft.type).activate_within_ms
            leave_inactive = draft.options.leave_inactive
            shakes_hands = leave_inactive and activate_within_ms > 0
            draft.set("limits", decide_by_ms=at.now_ms + activate_within_ms if shakes_hands else 0)
            if shakes_hands:
                draft.step(Event.ACTIVATE, at.now_ms)
            elif not leave_inactive:
                draft.step(Event.ACTIVATED, at.now_ms)
        case State.ACTIVATING:
            draft.step(Event.ACTIVATED, at.now_ms)
            draft.set("limits", decide_by_ms=0)
        case _:
            draft.step(Event.ACTIVATE, at.now_ms)
            draft.step(Event.ACTIVATED, at.now_ms)


def resume_by_token(draft: Draft, transport: str, at: Situation) -> None:
    """Bring a session on after its connection was lost, on this transport or, without one, on that it had."""
    if draft.head.state is not State.ACTIVE:
        draft.step(Event.RESUME, at.now_ms)
    peer = draft.session().peer or Peer()
    fields = {"transport": transport, "previous_transport": peer.transport} if transport else {}
    draft.put("peer", "", structs.replace(peer, resumptions=peer.resumptions + 1, **fields))


def pause(draft: Draft, at: Situation) -> None:
    """Suspend a session."""
    draft.step(Event.PAUSE, at.now_ms)


def resume(draft: Draft, at: Situation) -> None:
    """Bring a session back into use."""
    draft.step(Event.RESUME, at.now_ms)


def touch(draft: Draft, ttl_ms: int | None, at: Situation) -> None:
    """Put off the end of a session; never to an earlier time, and not beyond its maximum duration."""
    limits = draft.limits
    if ttl_ms is None or not limits.expire_at_ms:
        return
    later_ms = held(at.now_ms + ttl_ms, limits.max_duration_ms, draft.head.created_at_ms)
    if later_ms > limits.expire_at_ms:
        draft.set("limits", expire_at_ms=later_ms)


def end(draft: Draft, message: str, ended_at_ms: int, at: Situation, reason: str = "CLIENT") -> None:
    """End a session as somebody wants, by rights its owner; one that has ended stays as its first end left it."""
    match draft.head.state:
        case State.CLOSING | State.CLOSED:
            return
        case State.REQUESTED:
            close(draft, Event.CANCEL, "CANCELLED", at)
        case _:
            draft.step(Event.RELEASE, at.now_ms, reason)
            draft.step(Event.COMPLETE, at.now_ms)
            keep_for_now(draft, at.settings.profile(draft.type), at.now_ms)
    if message:
        draft.set("head", message=message)
    if ended_at_ms:
        if not draft.head.created_at_ms <= ended_at_ms <= at.now_ms:
            raise InvalidArgument(
                "TIME_INVALID", "it ended after its creation, and not later than now", field="end_time"
            )
        draft.set("head", closed_at_ms=ended_at_ms)


def _begun(*events: Event) -> State:
    state = State.REQUESTED
    for event in events:
        state = lifecycle.step(state, event)
    return state


_BEGIN_REQUESTED: Final = _begun()
_BEGIN_CREATED: Final = _begun(Event.CREATE, Event.CONFIRM)
_BEGIN_ACTIVATING: Final = _begun(Event.CREATE, Event.CONFIRM, Event.ACTIVATE)
"""Two nodes shake hands (requirement P2)."""
_BEGIN_ACTIVE: Final = _begun(Event.CREATE, Event.CONFIRM, Event.ACTIVATED)
