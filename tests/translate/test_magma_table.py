"""Sessions of a Magma gateway's table become ours, with all they have used; what makes no sense is refused."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.charging import FinalAction, ReAuth, RedirectServer, Service
from sessiond.core.credit import CreditLimit, Tracking, unreported
from sessiond.core.decide.usage import UsageRecord, count
from sessiond.core.draft import Draft
from sessiond.core.effects import DeactivateFlows, QuotaState
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level
from sessiond.core.quantity import GrantedUnits, Volume
from sessiond.core.rules import Bearer, Rule, Seen, Target, Teids
from sessiond.core.session import DestinationHosts, Rat, Revalidation, RevalidationState, Session
from sessiond.pb.magma.lte import credit_pb2, policy_pb2, session_context_pb2
from sessiond.translate.magma_table import Found, Refused, sessions_in
from tests.core.builders import ocs, situation
from tests.translate import magma
from tests.translate.magma import KEY, LOCATION, SUBSCRIBER

AT = situation(ocs("web", 1))


def read(value: bytes, field: str = SUBSCRIBER) -> list[Found | Refused]:
    """Return what is in a field of the table."""
    return sessions_in(field.encode(), value, AT.catalogue, AT)


def found(**fields: Any) -> Found:
    """Return a session of the table with some members changed."""
    (one,) = read(magma.entry(magma.session(**fields)))
    assert isinstance(one, Found), one
    return one


def session(**fields: Any) -> Session:
    """Return a session of the table with some members changed, about which there is nothing to say."""
    one = found(**fields)
    assert one.notes == ()
    return one.session


def why(**fields: Any) -> str:
    """Return why a session of the table is refused."""
    (one,) = read(magma.entry(magma.session(**fields)))
    assert isinstance(one, Refused), one
    assert one.subscriber == SUBSCRIBER
    return one.why


def test_who_and_where() -> None:
    """Names, addresses, tunnels and every octet of what the MME said are kept; the session goes on as it was."""
    one = session()
    assert (one.key, one.scope, one.type, one.head.state) == (KEY, SUBSCRIBER, "lte", State.ACTIVE)
    assert (one.head.created_at_ms, one.head.activated_at_ms) == (1_700_000_000_000, 1_700_000_000_000)
    context = one.context
    assert context is not None
    assert context.lte is not None
    assert (context.apn, context.ue_ipv4, context.msisdn) == ("internet", "10.0.0.42", "4915100000042")
    assert (context.teids, context.lte.user_location) == (Teids(0xFFFFFFF0, 77), LOCATION)
    gateway = one.gateway
    assert gateway is not None
    assert (gateway.request_number, gateway.hosts) == (4, DestinationHosts("pcrf", "ocs"))
    assert (gateway.revalidation, gateway.quota_state, gateway.answer) == (None, None, None)


def test_a_credit_with_its_counters() -> None:
    """What was granted, used and reported stays, so that the rest is reported once."""
    credit = session().credits["1"]
    assert (credit.limit, credit.tracking) == (CreditLimit.FINITE, Tracking.TOTAL_ONLY)
    assert credit.granted == GrantedUnits(total=2000)
    assert (credit.used_tx, credit.used_rx, credit.allowed_total, credit.floor_total) == (700, 200, 3000, 1000)
    assert unreported(credit) == Volume(300, 100)
    assert (credit.first_usage_s, credit.last_usage_s) == (1_700_000_100, 1_700_000_200)
    assert (credit.expires_at_ms, credit.service, credit.reauth) == (None, Service.ENABLED, ReAuth.NOT_NEEDED)


def test_a_final_credit() -> None:
    """Final action, where to, validity and state of the service."""
    server = credit_pb2.RedirectServer(
        redirect_address_type=credit_pb2.RedirectServer.URL, redirect_server_address="http://top.up"
    )
    final = {"final_action": 1, "redirect_server": magma.octets(server), "restrict_rules": ["free"]}
    grant = magma.grant(
        is_final=True,
        final_action_info=magma.text(final),
        expiry_time="1700009999",
        service_state=5,
        reauth_state=2,
        suspended=True,
    )
    credit = session(charging_pool=magma.pool((1, 12, grant))).credits["1/12"]
    assert (credit.is_final, credit.final_action) == (True, FinalAction.REDIRECT)
    assert (credit.redirect, credit.restrict_rules) == (RedirectServer("URL", "http://top.up"), ("free",))
    assert (credit.expires_at_ms, credit.service, credit.suspended) == (1_700_009_999_000, Service.REDIRECTED, True)
    assert credit.reauth is ReAuth.REQUIRED  # the report that would have settled it is nobody's any more


def test_a_monitor_with_its_counters() -> None:
    """Its key may have any octets; a session level key is kept."""
    one = session(session_level_key="m\xfc")
    monitor = one.monitors["m\xfc"]
    assert (monitor.level, monitor.used_tx, monitor.used_rx) == (Level.PCC_RULE_LEVEL, 50, 60)
    assert one.gateway is not None
    assert one.gateway.session_monitor == "m\xfc"


def test_rules_with_their_versions() -> None:
    """Static rules count on what the catalogue says, dynamic ones on what they say; versions and counters go on."""
    rules = session().rules
    assert sorted(rules) == ["dyn", "web"]
    web, dyn = rules["web"], rules["dyn"]
    assert (web.version, web.seen_ipv4, web.target) == (2, Seen(2, 400, 100, 0, 3), Target("1"))
    assert (web.moved_tx, web.moved_rx) == (700, 200)
    assert web.gx is not None
    assert web.gx.rule is None
    assert (dyn.version, dyn.seen_ipv4, dyn.target) == (1, Seen(), Target(monitor="m\xfc"))
    assert dyn.gx is not None
    assert dyn.gx.rule is not None
    assert dyn.gx.rule.id == "dyn"


def test_usage_goes_on_where_it_was() -> None:
    """The same report again counts nothing, and one with more counts the difference."""
    draft = Draft(session())
    count(draft, [UsageRecord("web", 2, 400, 100)], AT)
    assert draft.credits["1"].used_tx == 700
    count(draft, [UsageRecord("web", 2, 450, 100)], AT)
    assert draft.credits["1"].used_tx == 750


def test_who_has_two_addresses_has_one_counter_for_both() -> None:
    """Nothing counts twice; who has only an IPv6 address has it for that."""
    both = session(config=magma.text(magma.context(ue_ipv6="2001:db8::1"))).rules["web"]
    assert both.seen_ipv4 == both.seen_ipv6 == Seen(2, 400, 100, 0, 3)
    only = session(config=magma.text(magma.context(ue_ipv4="", ue_ipv6="2001:db8::1"))).rules["web"]
    assert (only.seen_ipv4, only.seen_ipv6) == (Seen(), Seen(2, 400, 100, 0, 3))


def test_rules_that_are_gone_keep_their_version() -> None:
    """What was counted under it may still be reported, and the next installation counts on."""
    one = session(static_rule_ids=[]).rules["web"]
    assert (one.version, one.gx, one.target) == (2, None, Target("1"))


def test_dedicated_bearers() -> None:
    """A rule has its tunnel, whose ids are written as signed; one that wants a bearer and has none waits for it."""
    bearer = {"type": 2, "rule_id": "dyn", "bearer_id": 6, "agw_teid": -1, "enb_teid": 8}
    other = {"type": 1, "rule_id": "dyn", "bearer_id": 7, "agw_teid": 1, "enb_teid": 1}
    qos = policy_pb2.FlowQos(qci=policy_pb2.FlowQos.QCI_1)
    rule = magma.octets(magma.dynamic(qos=qos))
    dyn = session(bearer_id_by_policy=magma.text([bearer, other]), dynamic_rules=[rule]).rules["dyn"]
    assert dyn.bearer == Bearer(6, Teids(8, 0xFFFF_FFFF))
    assert dyn.gx is not None
    assert not dyn.gx.awaits_bearer
    waiting = session(dynamic_rules=[rule]).rules["dyn"]
    assert waiting.gx is not None
    assert waiting.gx.awaits_bearer


def test_gy_rules() -> None:
    """A redirection is in force beside the rules of the policy side."""
    redirect = session(gy_dynamic_rules=[magma.octets(magma.dynamic("redirect"))]).rules["redirect"]
    assert redirect.gx is None
    assert redirect.gy is not None
    assert redirect.version == 1


@pytest.mark.parametrize(("state", "is_now"), [(0, RevalidationState.PENDING), (1, RevalidationState.READY), (2, None)])
def test_a_revalidation(state: int, is_now: RevalidationState | None) -> None:
    """One that is to come is kept; one that is over is none."""
    triggers = {"event_trigger_keys": ["17"], "event_trigger_map": {"17": state}}
    one = session(
        pending_event_triggers=magma.text(triggers), revalidation_time=magma.octets(Timestamp(seconds=1_700_050_000))
    )
    assert one.gateway is not None
    expected = Revalidation(is_now, 1_700_050_000_000) if is_now is not None else None
    assert one.gateway.revalidation == expected


def test_carrier_wifi() -> None:
    """It has the state of its wallet."""
    common = session_context_pb2.CommonSessionContext(rat_type=session_context_pb2.TGPP_WLAN, apn="wifi")
    common.sid.id = SUBSCRIBER
    wlan = session_context_pb2.WLANSessionContext(mac_addr="01:a1:20:c2:0f:bb", radius_session_id="r")
    specific = session_context_pb2.RatSpecificContext(wlan_context=wlan)
    config = {"common_context": magma.octets(common), "rat_specific_context": magma.octets(specific)}
    one = session(config=magma.text(config), subscriber_quota_state=1)
    assert (one.type, one.gateway and one.gateway.quota_state) == ("wlan", QuotaState.NO_QUOTA)
    assert one.context is not None
    assert one.context.rat is Rat.WLAN


def test_a_session_that_is_being_released_goes_on_ending() -> None:
    """Its flows are taken down once more, and its final usage is awaited."""
    one = found(fsm_state=6)
    assert one.notes == ("it is being released",)
    assert (one.session.head.state, one.session.head.reason) == (State.CLOSING, "ENDED")
    assert any(isinstance(effect, DeactivateFlows) for effect in one.session.effects.values())


def test_what_an_operator_should_know() -> None:
    """That a report was on its way, and that nobody defines a rule."""
    grant = magma.grant(magma.credit(reporting=True))
    one = found(charging_pool=magma.pool((1, 0, grant)), static_rule_ids=["web", "lost"])
    assert set(one.notes) == {
        "a report was on its way",
        "nobody defines lost: their usage counts on nothing",
    }
    assert one.session.rules["lost"] == Rule(version=1, gx=one.session.rules["web"].gx)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fsm_state": 7}, "not allowed by the policy side yet"),
        ({"fsm_state": 8}, "5G"),
        ({"fsm_state": 4}, "over already"),
        ({"fsm_state": 99}, "state 99, which nobody knows"),
        ({"imsi": "IMSI9"}, "stands under"),
        ({"session_id": "radius-7"}, "its id is not"),
        ({"session_id": f"{SUBSCRIBER}-4839201"}, "its id is not"),
        ({"config": magma.text(magma.context("42"))}, "not a subscriber id"),
        ({"config": magma.text(magma.context("IMSI7"))}, "stands under"),
        ({"create_session_response": "x", "static_rule_ids": []}, "its tunnels are not known yet"),
        ({"charging_pool": magma.pool((1, 12, magma.grant()), (11, 2, magma.grant()))}, "two of its credits"),
        ({"charging_pool": magma.pool((1, 0, magma.grant(magma.credit(reported=(900, 0)))))}, "more of a quota"),
        ({"charging_pool": "{"}, "not JSON"),
        ({"charging_pool": magma.pool((1, 0, magma.grant(service_state=-1)))}, "malformed"),
        ({"charging_pool": magma.pool((1, 0, magma.without(magma.grant(), "suspended")))}, "malformed"),
        ({"charging_pool": magma.text({"credit_keys": [], "credit_map": 7})}, ""),
        ({"tgpp_context": "\xff\xff"}, "malformed"),
        ({"tgpp_context": "\u20ac"}, "malformed"),
        ({"monitor_map": magma.text([])}, "malformed"),
        ({"request_number": "four"}, "malformed"),
        ({"config": 7}, "a text with JSON was expected"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(fields: dict[str, Any], reason: str) -> None:
    """One session after the other."""
    if not reason:
        assert session(**fields).credits == {}
        return
    assert reason in why(**fields)


def test_5g_is_refused() -> None:
    """By its radio, or by its context."""
    config = magma.context()
    common = session_context_pb2.CommonSessionContext.FromString(config["common_context"].encode("latin-1"))
    common.rat_type = session_context_pb2.TGPP_NR
    assert "5G" in why(config=magma.text({**config, "common_context": magma.octets(common)}))
    specific = session_context_pb2.RatSpecificContext(
        m5gsm_session_context=session_context_pb2.RatSpecificContext().m5gsm_session_context
    )
    assert "5G" in why(config=magma.text({**config, "rat_specific_context": magma.octets(specific)}))


@pytest.mark.parametrize(
    "member", sorted(magma.session().keys() - {"shard_id", "pdp_end_time", "pdr_list", "subscriber_quota_state"})
)
def test_a_session_that_lacks_a_member_is_refused(member: str) -> None:
    """Nothing is made up; its neighbours in the entry are taken."""
    broken = magma.without(magma.session(), member)
    refused, one = read(magma.entry(broken, magma.session(number=7)))
    assert isinstance(refused, Refused)
    assert isinstance(one, Found)
    assert one.session.key == f"{SUBSCRIBER}-7"


@pytest.mark.parametrize("value", [b"", b"{", b"{}", b"7", b"\xff", b"[" * 100_000])
def test_an_entry_that_is_no_list_is_refused_as_a_whole(value: bytes) -> None:
    """Whatever it is."""
    (refused,) = read(value)
    assert isinstance(refused, Refused)
    assert "the entry is no list of sessions" in refused.why


@pytest.mark.parametrize("value", [b"[7]", b'["7"]', b'["{"]', b'["[]"]', b'["{}"]', b"[null]"])
def test_what_is_no_session_is_refused(value: bytes) -> None:
    """Whatever stands in its place."""
    (refused,) = read(value)
    assert isinstance(refused, Refused)
