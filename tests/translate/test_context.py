"""Contexts: what a client says about a session goes to the peers as it came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.errors import FailedPrecondition
from sessiond.core.rules import Teids
from sessiond.core.session import Context, DestinationHosts, LteContext, QosInformation, Rat, WlanContext
from sessiond.pb.magma.lte import session_context_pb2
from sessiond.translate.context import (
    common_context_to_wire,
    context_from_wire,
    hosts_from_wire,
    hosts_to_wire,
    rat_specific_context_to_wire,
    rat_to_wire,
    teids_from_wire,
    teids_to_wire,
)

UINT32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
LATIN = st.text(st.characters(codec="latin-1"), max_size=20)
QOS = st.builds(
    QosInformation,
    apn_ambr_dl=UINT32,
    apn_ambr_ul=UINT32,
    priority_level=UINT32,
    preemption_capability=UINT32,
    preemption_vulnerability=UINT32,
    qci=UINT32,
    kbps=st.booleans(),
)
LTE = st.builds(
    LteContext,
    spgw_ipv4=TEXT,
    imei=TEXT,
    plmn_id=TEXT,
    imsi_plmn_id=TEXT,
    user_location=st.binary(max_size=20),
    qos=st.none() | QOS,
    bearer_id=UINT32,
    charging_characteristics=TEXT,
)
WLAN = st.builds(WlanContext, mac_addr_binary=st.binary(max_size=6), mac_addr=TEXT, radius_session_id=TEXT)
ACCESS = st.one_of(
    LTE.map(lambda lte: {"rat": Rat.LTE, "lte": lte}),
    WLAN.map(lambda wlan: {"rat": Rat.WLAN, "wlan": wlan}),
    st.sampled_from(Rat).map(lambda rat: {"rat": rat}),
)
COMMON = st.fixed_dictionaries(
    {
        "subscriber": TEXT,
        "apn": TEXT,
        "ue_ipv4": TEXT,
        "ue_ipv6": TEXT,
        "msisdn": LATIN,
        "teids": st.builds(Teids, enb=UINT32, agw=UINT32),
    }
)
CONTEXTS = st.builds(lambda common, access: Context(**common, **access), COMMON, ACCESS)


@given(CONTEXTS)
def test_context_survives_the_wire(context: Context) -> None:
    """What goes out and comes in again is the same context."""
    common, specific = common_context_to_wire(context), rat_specific_context_to_wire(context)
    assert context_from_wire(common, specific) == context


@pytest.mark.parametrize("rat_type", [2, 3, 77])
def test_other_radio_access_is_refused(rat_type: int) -> None:
    """Only LTE and carrier wifi are known; the text is the one that clients know."""
    number = session_context_pb2.RATType.ValueType(rat_type)
    common = session_context_pb2.CommonSessionContext(rat_type=number)
    with pytest.raises(FailedPrecondition) as caught:
        context_from_wire(common, session_context_pb2.RatSpecificContext())
    assert caught.value.reason == "RAT_TYPE_INVALID"
    assert caught.value.text == f"Received an invalid RAT type {rat_type}"
    assert caught.value.field == "common_context.rat_type"


def test_what_is_not_known_is_not_sent() -> None:
    """Neither a subscriber nor a tunnel is a message without content."""
    common = common_context_to_wire(Context(subscriber=""))
    assert not common.HasField("sid")
    assert not common.HasField("teids")


def test_context_of_another_access_is_passed_over() -> None:
    """A 5G context that comes with LTE is not ours to read."""
    specific = session_context_pb2.RatSpecificContext(
        m5gsm_session_context=session_context_pb2.RatSpecificContext().m5gsm_session_context
    )
    context = context_from_wire(session_context_pb2.CommonSessionContext(), specific)
    assert (context.lte, context.wlan) == (None, None)


@pytest.mark.parametrize(("rat", "number"), [(Rat.LTE, 0), (Rat.WLAN, 1)])
def test_radio_access_has_its_number(rat: Rat, number: int) -> None:
    """The numbers are those of the wire."""
    assert rat_to_wire(rat) == number


@pytest.mark.parametrize("teids", [Teids(), Teids(enb=1), Teids(agw=1), Teids(2**32 - 1, 2**32 - 1)])
def test_tunnel_survives_the_wire(teids: Teids) -> None:
    """A tunnel of which an end is known is sent; one of which nothing is known is not."""
    sent = teids_to_wire(teids)
    assert (sent is None) == (teids == Teids())
    assert teids_from_wire(sent or session_context_pb2.Teids()) == teids


@pytest.mark.parametrize("hosts", [DestinationHosts(), DestinationHosts("pcrf", ""), DestinationHosts("pcrf", "ocs")])
def test_hosts_survive_the_wire(hosts: DestinationHosts) -> None:
    """The Diameter hosts are sent back as they were learnt."""
    assert hosts_from_wire(hosts_to_wire(hosts)) == hosts
