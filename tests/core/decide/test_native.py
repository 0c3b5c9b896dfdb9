"""Native sessions: how they begin, go on and end, and what is refused by name."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond.core.access import Access, Isolation, Permissions, Quota
from sessiond.core.decide import native as decide
from sessiond.core.decide.native import NewSession, new_session, profile_of
from sessiond.core.decide.requests import Request
from sessiond.core.draft import Draft
from sessiond.core.errors import FailedPrecondition, InvalidArgument, SessionError
from sessiond.core.lifecycle import State
from sessiond.core.session import Limits, Options, Peer, Remembered, Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from tests.core.builders import NOW_MS, situation, started
from tests.core.decide.native_sessions import KEY, USSD, after, at, native, profile

SECOND_MS = 1000


def refusal(act: Callable[[], Any]) -> SessionError:
    """Return how something is refused."""
    with pytest.raises(SessionError) as caught:
        act()
    return caught.value


class TestBeginning:
    """A new session."""

    def test_it_is_active_with_what_its_profile_says(self) -> None:
        """What its owner leaves out, the profile gives."""
        session = native()
        assert (session.key, session.scope, session.type) == (KEY, KEY, "ussd")
        assert (session.head.state, session.head.activated_at_ms) == (State.ACTIVE, NOW_MS)
        assert session.limits == Limits(expire_at_ms=NOW_MS + 3_600_000)
        assert (session.options, session.access, session.quotas) == (USSD.options, USSD.access, {})
        assert session.record is not None
        assert (session.record.changes, session.record.used_at_ms) == (1, NOW_MS)

    def test_it_has_what_its_owner_says(self) -> None:
        """What the owner says counts before the profile."""
        permissions, isolation = Permissions(execute_functions=True), Isolation(barrier=True)
        options, peer = Options(auto_expire=False), Peer(address="a:1")
        session = native(
            kind=profile(quotas={"bytes": Quota(5), "executions": Quota(7)}),
            request=Request("r", "d"),
            permissions=permissions,
            isolation=isolation,
            options=options,
            peer=peer,
            quotas={"bytes": 9},
            associates=("b", "a", "b"),
            details={"x": 1},
            idle_timeout_ms=0,
            ttl_ms=5000,
        )
        assert session.access == Access(permissions, isolation)
        assert (session.options, session.peer, session.details) == (options, peer, {"x": 1})
        assert session.quotas == {"bytes": Quota(9), "executions": Quota(7)}
        assert session.associates == {"1": "b", "2": "a"}
        assert session.requests == {"r": Remembered("d", NOW_MS)}
        assert session.limits == Limits(expire_at_ms=NOW_MS + 5000)

    @pytest.mark.parametrize(
        ("wanted", "access"),
        [
            ({"permissions": Permissions()}, Access(Permissions(), Isolation(barrier=True))),
            ({"isolation": Isolation()}, Access(Permissions(execute_functions=True), Isolation())),
        ],
    )
    def test_half_of_the_access_is_said(self, wanted: dict[str, Any], access: Access) -> None:
        """The other half is that of the profile."""
        kind = profile(access=Access(Permissions(execute_functions=True), Isolation(barrier=True)))
        assert native(kind=kind, **wanted).access == access

    def test_it_can_be_left_inactive(self) -> None:
        """It is CREATED then, and remembers that."""
        session = native(leave_inactive=True, sensitive_details=("pin",))
        assert (session.head.state, session.head.activated_at_ms) == (State.CREATED, 0)
        assert session.options == Options(leave_inactive=True, sensitive_details=("pin",))

    @pytest.mark.parametrize(
        ("fields", "wanted", "decide_by_ms"),
        [
            ({"confirm_within_ms": 5000}, {}, NOW_MS + 5000),
            ({"confirm_within_ms": 5000}, {"ttl_ms": 3000}, NOW_MS + 3000),
            ({"confirm_within_ms": 5000, "ttl_ms": 0}, {}, NOW_MS + 5000),
        ],
    )
    def test_it_can_need_to_be_confirmed(
        self, fields: dict[str, Any], wanted: dict[str, Any], decide_by_ms: int
    ) -> None:
        """It is REQUESTED, for as long as the profile says, and never longer than it may last."""
        session = native(kind=profile(**fields), **wanted)
        assert session.head.state is State.REQUESTED
        assert session.limits is not None
        assert session.limits.decide_by_ms == decide_by_ms

    @pytest.mark.parametrize(
        ("fields", "wanted", "expire_at_ms"),
        [
            ({"ttl_ms": 0}, {}, 0),
            ({"ttl_ms": 0}, {"expire_at_ms": NOW_MS + 7}, NOW_MS + 7),
            ({"max_duration_ms": 50}, {}, NOW_MS + 50),
            ({"max_duration_ms": 50, "ttl_ms": 0}, {}, NOW_MS + 50),
            ({"max_duration_ms": 50}, {"max_duration_ms": 40}, NOW_MS + 40),
            ({}, {"max_duration_ms": 40}, NOW_MS + 40),
            ({"max_duration_ms": 50}, {"ttl_ms": 20}, NOW_MS + 20),
        ],
    )
    def test_its_maximum_duration_holds_every_other_time(
        self, fields: dict[str, Any], wanted: dict[str, Any], expire_at_ms: int
    ) -> None:
        """It expires by whichever comes first."""
        limits = native(kind=profile(**fields), **wanted).limits
        assert limits is not None
        assert limits.expire_at_ms == expire_at_ms

    @pytest.mark.parametrize(
        ("key", "fields", "wanted", "error", "field"),
        [
            ("IMSI001010000000001-5", {}, {}, "INVALID_CONFIGURATION", "session.key"),
            (KEY, {"max_duration_ms": 5}, {"max_duration_ms": 6}, "INVALID_CONFIGURATION", "session.max_duration"),
            (KEY, {"max_duration_ms": 5}, {"max_duration_ms": 0}, "INVALID_CONFIGURATION", "session.max_duration"),
            (KEY, {}, {"expire_at_ms": NOW_MS}, "INVALID_CONFIGURATION", "session.expire_time"),
            (KEY, {"most_associates": 1}, {"associates": ("a", "b")}, "QUOTA_EXCEEDED", "session.associate_keys"),
            (KEY, {}, {"associates": ("a", KEY)}, "ASSOCIATE_IS_SELF", "session.associate_keys"),
            (KEY, {"most_data_octets": 5}, {"details": {"a": 1}}, "QUOTA_EXCEEDED", "session.details"),
        ],
    )
    def test_what_contradicts_the_profile_is_refused(
        self, key: str, fields: dict[str, Any], wanted: dict[str, Any], error: str, field: str
    ) -> None:
        """The error has a reason and the path of the field."""
        said = NewSession(**{"type": "ussd", **wanted})
        refused = refusal(lambda: new_session(key, said, profile(**fields), None, at()))
        assert (refused.reason, refused.field) == (error, field)

    @pytest.mark.parametrize("kind", ["nothing", "lte", "wlan", "stream", ""])
    def test_only_types_of_this_surface_are_made_here(self, kind: str) -> None:
        """A type without a profile, or of another surface, is refused."""
        refused = refusal(lambda: profile_of(kind, Settings()))
        assert (type(refused), refused.reason) == (InvalidArgument, "INVALID_CONFIGURATION")
        assert refused.field == "session.type"

    def test_the_profile_of_a_type(self) -> None:
        """It is that of the settings."""
        assert profile_of("ussd", Settings()) is USSD


def now(ahead_ms: int = SECOND_MS, **fields: Any) -> Situation:
    """Return a later moment."""
    return at(NOW_MS + ahead_ms, **fields)


class TestLife:
    """What is wanted of a session that is there."""

    def test_a_pending_session_is_confirmed(self) -> None:
        """Who activates it confirms it; nothing is waited for any more."""
        pending = native(kind=profile(confirm_within_ms=5000))
        active = after(pending, lambda draft: decide.activate(draft, now()))
        assert (active.head.state, active.head.activated_at_ms) == (State.ACTIVE, NOW_MS + SECOND_MS)
        assert active.limits is not None
        assert active.limits.decide_by_ms == 0

    def test_a_pending_session_that_is_to_be_left_inactive(self) -> None:
        """It is CREATED first, and activated a second time."""
        pending = native(kind=profile(confirm_within_ms=5000), leave_inactive=True)
        created = after(pending, lambda draft: decide.activate(draft, now()))
        assert (created.head.state, created.head.activated_at_ms) == (State.CREATED, 0)
        assert after(created, lambda draft: decide.activate(draft, now())).head.state is State.ACTIVE

    def test_a_handshake_begins_with_the_confirmation(self) -> None:
        """Where nodes may shake hands for some time only, that begins when their session is agreed to."""
        pending = native(kind=profile(confirm_within_ms=5000), leave_inactive=True)
        confirmed = after(pending, lambda draft: decide.activate(draft, at(NOW_MS + 7, activate_within_ms=50)))
        assert confirmed.head.state is State.ACTIVATING
        assert confirmed.limits is not None
        assert confirmed.limits.decide_by_ms == NOW_MS + 57

    def test_a_handshake_ends(self) -> None:
        """A session that is ACTIVATING becomes ACTIVE, and its time to do so is over."""
        session = native(leave_inactive=True)
        head = Session(**{**_fields(session), "head": _with(session.head, state=State.ACTIVATING)})
        active = after(head, lambda draft: decide.activate(draft, now()))
        assert active.head.state is State.ACTIVE

    def test_it_is_paused_and_resumed(self) -> None:
        """The moment of its activation stays the first."""
        paused = after(native(), lambda draft: decide.pause(draft, now()))
        resumed = after(paused, lambda draft: decide.resume(draft, now()))
        assert (paused.head.state, resumed.head.state) == (State.PAUSED, State.ACTIVE)
        assert resumed.head.activated_at_ms == NOW_MS

    @pytest.mark.parametrize("act", [decide.activate, decide.resume])
    def test_what_its_state_does_not_allow_is_refused(self, act: Callable[[Draft, Situation], None]) -> None:
        """The lifecycle says so, by name."""
        assert refusal(lambda: act(Draft(native()), now())).reason == "TRANSITION_REFUSED"

    @pytest.mark.parametrize(
        ("wanted", "ttl_ms", "expire_at_ms"),
        [
            ({"ttl_ms": 5000}, 5000, NOW_MS + 6000),
            ({"ttl_ms": 5000}, 3000, NOW_MS + 5000),
            ({"ttl_ms": 5000}, None, NOW_MS + 5000),
            ({"ttl_ms": 5000, "max_duration_ms": 5500}, 5000, NOW_MS + 5500),
            ({"ttl_ms": 0}, 5000, 0),
        ],
    )
    def test_a_touch_puts_off_its_end(self, wanted: dict[str, Any], ttl_ms: int | None, expire_at_ms: int) -> None:
        """Never to an earlier time, and not beyond its maximum duration; what has no end gets none."""
        limits = after(native(**wanted), lambda draft: decide.touch(draft, ttl_ms, now())).limits
        assert limits is not None
        assert limits.expire_at_ms == expire_at_ms

    def test_it_ends(self) -> None:
        """It is CLOSED at once, for its client, and kept for a while."""
        ended = after(native(), lambda draft: decide.end(draft, "bye", 0, now(retention_after_end_ms=7)))
        head = ended.head
        assert (head.state, head.reason, head.message) == (State.CLOSED, "CLIENT", "bye")
        assert (head.closing_at_ms, head.closed_at_ms) == (NOW_MS + SECOND_MS, NOW_MS + SECOND_MS)
        assert head.forget_at_ms == NOW_MS + SECOND_MS + 7

    def test_it_ended_earlier(self) -> None:
        """Its owner may say when that was."""
        ended = after(native(), lambda draft: decide.end(draft, "", NOW_MS + 5, now()))
        assert (ended.head.closed_at_ms, ended.head.message) == (NOW_MS + 5, "")

    @pytest.mark.parametrize("ended_at_ms", [NOW_MS - 1, NOW_MS + SECOND_MS + 1])
    def test_it_cannot_have_ended_then(self, ended_at_ms: int) -> None:
        """Not before it was there, and not in the future."""
        refused = refusal(lambda: decide.end(Draft(native()), "", ended_at_ms, now()))
        assert (refused.reason, refused.field) == ("TIME_INVALID", "end_time")

    def test_a_second_end_changes_nothing(self) -> None:
        """It stays as its first end left it."""
        ended = after(native(), lambda draft: decide.end(draft, "first", 0, now()))
        assert after(ended, lambda draft: decide.end(draft, "second", 5, now(9))) is ended

    def test_a_pending_session_is_cancelled(self) -> None:
        """It never began, which is its reason."""
        pending = native(kind=profile(confirm_within_ms=5000))
        ended = after(pending, lambda draft: decide.end(draft, "", 0, now()))
        assert (ended.head.state, ended.head.reason) == (State.CLOSED, "CANCELLED")

    def test_others_are_left_to_their_surface(self) -> None:
        """A gateway session is changed by its gateway."""
        gateway = Draft(started(situation()).session)
        assert refusal(lambda: decide.check_native(gateway)).reason == "SESSION_OF_OTHER_SURFACE"

    def test_what_has_ended_is_not_changed(self) -> None:
        """An ended session refuses it by name (W5)."""
        ended = after(native(), lambda draft: decide.end(draft, "", 0, now()))
        refused = refusal(lambda: decide.check_native(Draft(ended)))
        assert (type(refused), refused.reason) == (FailedPrecondition, "SESSION_ENDED")
        decide.check_native(Draft(native()))
        decide.check_in_time(Draft(ended))


def _fields(session: Session) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__struct_fields__}


def _with(value: Any, **fields: Any) -> Any:
    return type(value)(**{**_fields(value), **fields})
