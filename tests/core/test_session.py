"""The session as a value: it survives being written down, and says when nothing is left to be done."""

import msgspec
import pytest
from hypothesis import given

from sessiond.core.charging import ChargingCredit, FinalAction, ReAuth, RedirectServer, Service, UpdateReason
from sessiond.core.credit import CreditLimit, Report, Tracking
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    TerminateSession,
    VersionedRule,
)
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, Monitor
from sessiond.core.quantity import GrantedUnits, RequestedUnits
from sessiond.core.rules import Bearer, Installed, Lifetime, PolicyRule, Rule, Seen, Target, Teids, TrackingType
from sessiond.core.session import (
    DestinationHosts,
    Gateway,
    Head,
    Revalidation,
    RevalidationState,
    Session,
    finished,
)
from tests.core.builders import KEY, NOW_MS, TEIDS, asked, lte_context, situation, started, wlan_context
from tests.core.strategies import SESSIONS

REPORT = Report(3, 5, 6, UpdateReason.QUOTA_EXHAUSTED, RequestedUnits(7, 8, 9), last=True)
DYNAMIC = PolicyRule(
    id="dynamic-1",
    rating_group=1,
    service_identifier=2,
    monitoring_key="m1",
    tracking=TrackingType.OCS_AND_PCRF,
    qci=1,
    redirect=RedirectServer("URL", "http://portal.test"),
    definition=b"\x00\xff",
)
CREDIT = ChargingCredit(
    limit=CreditLimit.INFINITE_METERED,
    tracking=Tracking.TX_ONLY,
    granted=GrantedUnits(None, 0, 7),
    used_tx=2**63 - 1,
    allowed_total=54321,
    in_flight=REPORT,
    is_final=True,
    final_action=FinalAction.RESTRICT_ACCESS,
    redirect=RedirectServer("URL", "http://portal.test"),
    restrict_rules=("restrict-1",),
    expires_at_ms=32,
    service=Service.NEEDS_ACTIVATION,
    reauth=ReAuth.REQUIRED,
    suspended=True,
)
RULE = Rule(
    version=4,
    base=1,
    gx=Installed(DYNAMIC, True, Lifetime(5, 6)),
    gy=DYNAMIC,
    bearer=Bearer(6, Teids(1, 2)),
    target=Target("1/2", "m1"),
    seen_ipv4=Seen(2, 3, 4),
    seen_ipv6=Seen(1, 2, 3),
)
FULL = Session(
    key=KEY,
    type="lte",
    scope="IMSI001010000000001",
    head=Head(state=State.CLOSING, created_at_ms=1, activated_at_ms=2, closing_at_ms=3, closed_at_ms=4, reason="ENDED"),
    context=lte_context(teids=TEIDS),
    gateway=Gateway(
        request_number=4,
        effects_made=5,
        hosts=DestinationHosts("gx.dest.com", "gy.dest.com"),
        session_monitor="m1",
        revalidation=Revalidation(RevalidationState.SENT, 32, 3),
        decide_by_ms=9,
        final=True,
    ),
    rules={"dynamic-1": RULE},
    credits={"1/2": CREDIT},
    monitors={"m1": Monitor(used_tx=12345, level=Level.PCC_RULE_LEVEL, last_report=True, in_flight=REPORT)},
    effects={
        "000001": ActivateFlows(teids=TEIDS, gy=True, rules=(VersionedRule("dynamic-1", 2),), not_before_ms=7),
        "000002": DeactivateFlows(teids=TEIDS, everything=True),
        "000003": CreateBearer(rules=("dynamic-1",)),
        "000004": DeleteBearer(bearer_ids=(5, 6)),
        "000005": TerminateSession(),
    },
)


def again(session: Session) -> Session:
    """Return a session as it is read after it was written as JSON."""
    return msgspec.json.decode(msgspec.json.encode(session), type=Session)


@given(SESSIONS)
def test_any_session_survives_json(session: Session) -> None:
    """A session that is written as JSON is read as the same session."""
    assert again(session) == session


def test_every_field_survives_json() -> None:
    """Nothing is lost of a session in which every field says something.

    reference: StoredStateTest.test_stored_session, test_stored_charging_credit_map, test_stored_monitor_map,
    test_stored_bearer_id_by_policy, test_stored_session_credit, test_stored_redirect_final_action_info,
    test_stored_restrict_final_action_info, test_policy_stats_map; SessionStateTest.test_marshal_unmarshal;
    ChargingGrantTest.test_marshal.
    """
    assert again(FULL) == FULL


def test_a_wlan_session_survives_json() -> None:
    """The context of a carrier wifi session is read as it was written; reference: test_stored_session_config."""
    life = started(situation(), context=wlan_context())
    assert again(life.session) == life.session


@pytest.mark.parametrize("reason", list(UpdateReason))
def test_a_report_keeps_its_reason_as_text(reason: UpdateReason) -> None:
    """The reason of a report in flight is the same before and after a restart."""
    report = Report(1, 0, 0, reason)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_a_session_is_finished_when_it_is_over_and_everybody_knows() -> None:
    """A closed session stays while a peer is still to be told, and not longer."""
    life = started(situation())
    assert not finished(life.session)
    life.release()
    life.final_usage_in()
    assert life.session.head.state is State.CLOSED
    assert not finished(life.session)
    life.struck()
    assert finished(life.session)


def test_only_gateway_sessions_finish_by_themselves() -> None:
    """A session of another type stays after its end: its retention is somebody else's decision."""
    head = Head(state=State.CLOSED, created_at_ms=NOW_MS)
    assert not finished(Session(key="stream", type="stream", scope="stream", head=head))


def test_a_new_session_waits_for_the_policy_side() -> None:
    """A session begins in CREATING, and nothing of it is finished."""
    life = asked(situation())
    assert (life.session.head.state, finished(life.session)) == (State.CREATING, False)
