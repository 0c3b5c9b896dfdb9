"""Executions and traffic: what a session may do is counted, what it may not uses nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import UNSET, structs

from sessiond.core import keys
from sessiond.core.access import Access, Isolation, Operation, Permissions, Place, Quota
from sessiond.core.decide import executions, native
from sessiond.core.decide.change import Wanted, change
from sessiond.core.decide.executions import MOST_FUNCTIONS, Wish
from sessiond.core.decide.native import NewSession, new_session, resume_by_token
from sessiond.core.decide.tick import TimerKind, timers
from sessiond.core.draft import Draft
from sessiond.core.errors import InvalidArgument, PermissionDenied, SessionError
from sessiond.core.keys import Handshake, SessionSecret
from sessiond.core.lifecycle import State
from sessiond.core.profiles import BUILT_IN, Profile
from sessiond.core.session import Options, Peer, Session
from sessiond.core.traffic import Executions, Traffic
from sessiond.core.update import apply
from tests.core.builders import NOW_MS, situation
from tests.core.builders import started as gateway_life

AT = situation()
PROFILE = Profile(access=Access(Permissions(execute_functions=True)))
PAY = Wish(Operation.EXECUTE, "pay")


def made(**fields: Any) -> Session:
    """Return a session that may execute."""
    return new_session("k", NewSession(type="execution", **fields), PROFILE, None, AT)


def place(session: Session) -> Place:
    """Return where a session stands, with nothing above it."""
    assert session.access is not None
    return Place(session.key, "default", session.access)


def authorized(session: Session, wish: Wish = PAY) -> Session:
    """Return a session after something was authorised."""
    draft = Draft(session)
    executions.authorize(draft, place(session), None, wish, AT)
    assert apply(session, draft.criteria()) == draft.session()
    return draft.session()


def reason(call: Callable[[], object]) -> str:
    """Return why a call is refused."""
    with pytest.raises(SessionError) as caught:
        call()
    return caught.value.reason


def test_what_is_authorised_is_counted() -> None:
    """One execution, whatever was said of it, and what it uses beside."""
    quotas = {"executions": 5, "sms": 9}
    session = authorized(authorized(made(quotas=quotas)), Wish(Operation.EXECUTE, "pay", {"sms": 2, "sheep": 1}))
    assert session.quotas == {"executions": Quota(5, 2), "sms": Quota(9, 2)}
    assert session.executions == Executions(authorized=2, last_at_ms=NOW_MS)
    assert authorized(session, Wish(Operation.EXECUTE, "", {"executions": 3})).quotas["executions"].used == 5


@pytest.mark.parametrize(
    ("change", "wish", "expected"),
    [
        ({"head": State.PAUSED}, PAY, "SESSION_NOT_ACTIVE"),
        ({"head": State.CLOSED}, PAY, "SESSION_NOT_ACTIVE"),
        ({}, Wish(Operation.COMPOSE), "PERMISSION_DENIED"),
        ({}, Wish(Operation.EXECUTE, "no"), "POLICY_VIOLATION"),
        ({}, Wish(Operation.EXECUTE, "pay", {"executions": 4}), "QUOTA_EXCEEDED"),
    ],
)
def test_what_is_refused_uses_nothing(change: dict[str, Any], wish: Wish, expected: str) -> None:
    """Each refusal has its reason, leaves the quotas as they are, and can be counted as one."""
    session = made(quotas={"executions": 3}, isolation=Isolation(denied_functions=("no",)))
    if change:
        session = structs.replace(session, head=structs.replace(session.head, state=change["head"]))
    draft = Draft(session)
    with pytest.raises(SessionError) as caught:
        executions.authorize(draft, place(session), None, wish, AT)
    assert caught.value.reason == expected
    assert executions.is_refusal(caught.value)
    assert not draft.changed
    for times in (1, 2):
        executions.refuse(draft)
        assert draft.executions == Executions(refused=times)
    assert draft.session().quotas == session.quotas


def test_other_errors_are_no_refusals() -> None:
    """A question that is none is not counted."""
    assert not executions.is_refusal(InvalidArgument("X", "x"))
    session = gateway_life(AT, credits_=[]).session
    draft = Draft(session)
    where = Place("k", "default", Access())
    assert reason(lambda: executions.authorize(draft, where, None, PAY, AT)) == "SESSION_OF_OTHER_SURFACE"


def test_functions_are_counted_where_that_is_wanted() -> None:
    """By name, and no more names than a person reads."""
    session = made(options=Options(performance_monitoring=True))
    for number in range(MOST_FUNCTIONS + 2):
        session = authorized(session, Wish(Operation.EXECUTE, f"f{number}"))
    session = authorized(authorized(session, Wish(Operation.EXECUTE, "f1")), Wish(Operation.EXECUTE))
    counted = session.executions
    assert counted is not None
    assert len(counted.functions) == MOST_FUNCTIONS
    assert (counted.functions["f1"], counted.authorized) == (2, MOST_FUNCTIONS + 4)
    assert authorized(made()).executions == Executions(authorized=1, last_at_ms=NOW_MS)


def test_traffic_is_counted() -> None:
    """Beyond a quota too, which is told afterwards."""
    draft = Draft(made(quotas={"bytes": 10}))
    executions.record(draft, Traffic(bytes_sent=4, packets_sent=1))
    executions.check_traffic_quotas(draft.quotas)
    executions.record(draft, Traffic(bytes_received=7))
    assert draft.traffic == Traffic(bytes_sent=4, bytes_received=7, packets_sent=1)
    assert draft.quotas["bytes"] == Quota(10, 11)
    assert reason(lambda: executions.check_traffic_quotas(draft.quotas)) == "QUOTA_EXCEEDED"


def test_what_is_used_below_is_used_above() -> None:
    """It is held against the quotas there, traffic is not, and what has not come about is given back."""
    session = made(quotas={"executions": 2, "bytes": 10})
    draft = Draft(session)
    executions.share(draft, executions.used_by(Wish(Operation.EXECUTE, usage={"sheep": 3})))
    assert draft.quotas["executions"] == Quota(2, 1)
    assert reason(lambda: executions.share(draft, {"executions": 2})) == "QUOTA_EXCEEDED"
    executions.share_traffic(draft, {"bytes": 11, "packets": 1})
    assert (draft.quotas["bytes"], draft.traffic) == (Quota(10, 11), None)
    executions.give_back(draft, {"executions": 1, "sheep": 3})
    assert draft.quotas["executions"] == Quota(2)
    assert apply(session, draft.criteria()) == draft.session()
    native.pause(draft, AT)
    assert reason(lambda: executions.share(draft, {})) == "SESSION_NOT_ACTIVE"


def test_access_and_quotas_are_narrowed() -> None:
    """A change that narrows is made, one that says the same makes nothing, one that widens is refused."""
    session = made(quotas={"executions": 5}, permissions=Permissions(execute_functions=True, compose_functions=True))
    draft = Draft(session)
    same = Wanted(permissions=session.access.permissions if session.access else UNSET, quotas={"executions": 5})
    change(draft, same, PROFILE, AT)
    assert not draft.changed
    less = Wanted(
        permissions=Permissions(execute_functions=True),
        isolation=Isolation(barrier=True),
        quotas={"executions": 4, "sms": 1, "gone": None},
    )
    change(draft, less, PROFILE, AT)
    assert draft.access == Access(Permissions(execute_functions=True), Isolation(barrier=True))
    assert draft.quotas == {"executions": Quota(4), "sms": Quota(1)}
    with pytest.raises(PermissionDenied):
        change(draft, Wanted(permissions=Permissions(compose_functions=True)), PROFILE, AT)


def test_the_key_of_a_session_has_a_time() -> None:
    """A session waits for its next key until it is over."""
    session = made(secret=SessionSecret(version=1, sealed="x", rotate_at_ms=NOW_MS + 5))
    waits = (TimerKind.KEY_ROTATION, "", NOW_MS + 5)
    assert waits in list(timers(session))
    over = structs.replace(session, head=structs.replace(session.head, state=State.CLOSED))
    assert waits not in list(timers(over))


def test_a_session_is_resumed() -> None:
    """On the transport it had or on another; a paused one is active again."""
    draft = Draft(made())
    resume_by_token(draft, "", AT)
    assert draft.session().peer == Peer(resumptions=1)
    draft = Draft(made(peer=Peer(transport="udp")))
    native.pause(draft, AT)
    resume_by_token(draft, "tcp", AT)
    assert draft.head.state is State.ACTIVE
    assert draft.session().peer == Peer(transport="tcp", previous_transport="udp", resumptions=1)


def test_nodes_that_shake_hands_are_activating() -> None:
    """For as long as their profile lets them."""
    wanted = NewSession(type="peer", leave_inactive=True)
    session = new_session("0123456789abcdef", wanted, BUILT_IN["peer"], None, AT)
    assert session.head.state is State.ACTIVATING
    assert session.limits is not None
    assert session.limits.decide_by_ms == NOW_MS + BUILT_IN["peer"].activate_within_ms


def test_a_token_is_of_one_key() -> None:
    """The next key has another."""
    _, first = keys.derived(
        Handshake(
            initiator_node_id=b"a" * 32, responder_node_id=b"b" * 32, initiator_nonce=b"a" * 8, responder_nonce=b"b" * 8
        )
    )
    token = keys.resumption_token(first)
    assert keys.is_token(first, token)
    assert not keys.is_token(keys.rotated("k", first), token)
    assert not keys.is_token(first, b"")
