"""Devices with IPv6 addresses: whose a usage record is, and what the peers are told (known problem B4).

The bearer calls of the MME have no field for an IPv6 address: a bearer is named by its subscriber and its default
bearer, which is enough.
"""

import pytest

from sessiond.app.ports.peers import UnknownFlows
from sessiond.app.usage import TableRow
from sessiond.core.rules import PolicyRule
from sessiond.core.session import Context
from sessiond.northbound.gateway.messages import table_rows
from sessiond.pb.magma.lte import spgw_pb2
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecord, RuleRecordTable
from sessiond.southbound.access.messages import create_bearer_request, delete_bearer_request
from sessiond.testing.gateway import SimulatedGateway, row
from tests.app.scenes import RULES, VIDEO, gateway, plan, ue

ONLY_IPV6 = ue(ue_ipv4="", ue_ipv6="2001:db8::1")
DUAL_STACK = ue(ue_ipv6="2001:db8::1")
QOS = PolicyRule(id="qos", rating_group=1, qci=1)


async def used(at: SimulatedGateway, key: str) -> tuple[int, int]:
    """Return what a session used of its one credit."""
    charge = (await at.session(key)).credits["1"]
    return charge.used_tx, charge.used_rx


async def video(at: SimulatedGateway, context: Context) -> str:
    """Attach a device with one charged rule."""
    at.policy.script("create", VIDEO)
    return await at.attach(context)


async def test_b4_records_of_a_device_with_ipv6_only() -> None:
    """Its traffic is counted and reported, and it ends when its records stop coming."""
    async with gateway() as at:
        key = await video(at, ONLY_IPV6)
        await at.report(row(ONLY_IPV6, "video", version=1, tx=600, rx=300, ipv6=True))
        assert await used(at, key) == (600, 300)
        assert len(at.policy.updates) == 1
        await at.detach(ONLY_IPV6)
        await at.report(row(ONLY_IPV6, "video", version=1, tx=700, rx=300, ipv6=True))
        assert at.policy.terminated == []
        await at.report()
        assert at.policy.ledger.credit(key, "1").tx == 700
        assert at.data_plane.calls("deactivate_unknown") == []


async def test_b4_both_addresses_of_a_device_add_up() -> None:
    """Each IP version has its own cumulative counter of the same rule and version.

    reference: LocalEnforcerTest.test_aggregate_records_mixed_ips, SessiondTest.end_to_end_success.
    """
    async with gateway() as at:
        key = await video(at, DUAL_STACK)
        for tx, rx in ((10, 20), (11, 22)):
            await at.report(
                row(DUAL_STACK, "video", version=1, tx=tx, rx=rx),
                row(DUAL_STACK, "video", version=1, tx=5, rx=15, ipv6=True),
            )
            assert await used(at, key) == (tx + 5, rx + 15)


async def test_b4_an_absent_address_equals_nothing() -> None:
    """Of two sessions without IPv6, a record goes to the one with its IPv4 address, not to the first."""
    async with gateway() as at:
        first, second = ue(apn="internet"), ue(apn="ims")
        keys = [await video(at, context) for context in (first, second)]
        await at.report(row(second, "video", version=1, tx=7))
        assert [await used(at, key) for key in keys] == [(0, 0), (7, 0)]


async def test_b4_sessions_of_one_subscriber_by_ipv6() -> None:
    """Each of two sessions has the records of its own IPv6 address."""
    async with gateway() as at:
        first, second = ue(ue_ipv6="2001:db8::1"), ue(apn="ims", ue_ipv4="", ue_ipv6="2001:db8::2")
        keys = [await video(at, context) for context in (first, second)]
        await at.report(
            row(first, "video", version=1, tx=1, ipv6=True),
            row(second, "video", version=1, tx=2, ipv6=True),
            row(first, "video", version=1, tx=4),
        )
        assert [await used(at, key) for key in keys] == [(5, 0), (2, 0)]


@pytest.mark.parametrize("address", ["", "2001:db8::9"])
async def test_b4_records_of_no_session(address: str) -> None:
    """A record of another address, or of none, is not counted for a session that has none itself."""
    async with gateway() as at:
        device = ue(ue_ipv6="2001:db8::1")
        key = await video(at, device)
        await at.report(TableRow(device.subscriber, "", address, 0, "video", 1, 9, 9))
        assert await used(at, key) == (0, 0)
        (call,) = at.data_plane.calls("deactivate_unknown")
        assert call.arguments == (UnknownFlows(device.subscriber, "", address),)


async def test_b4_flows_of_nobody_by_address() -> None:
    """Flows of an unknown device go once for each of its addresses."""
    async with gateway() as at:
        rows = [
            row(DUAL_STACK, name, version=1, tx=1, ipv6=ipv6) for name in ("video", "web") for ipv6 in (False, True)
        ]
        await at.report(*rows)
        unknown = [call.arguments[0] for call in at.data_plane.calls("deactivate_unknown")]
        assert sorted(unknown, key=repr) == sorted(
            [
                UnknownFlows(DUAL_STACK.subscriber, DUAL_STACK.ue_ipv4),
                UnknownFlows(DUAL_STACK.subscriber, "", DUAL_STACK.ue_ipv6),
            ],
            key=repr,
        )


async def test_b4_a_dedicated_bearer_without_an_ipv4_address() -> None:
    """The MME is asked for it by subscriber and default bearer, and asked to take it down the same way."""
    async with gateway(catalogue={**RULES, "qos": QOS}) as at:
        at.policy.script("create", plan("qos"))
        key = await at.attach(ONLY_IPV6)
        (call,) = at.access.calls("create_bearer")
        request = create_bearer_request(*call.arguments)
        assert request is not None
        assert ONLY_IPV6.lte is not None
        asked = (request.sid.id, request.ip_addr, request.link_bearer_id)
        assert asked == (ONLY_IPV6.subscriber, "", ONLY_IPV6.lte.bearer_id)
        assert [rule.id for rule in request.policy_rules] == ["qos"]
        await at.application.manager.abort_session(ONLY_IPV6.subscriber, key)
        await at.settle()
        (call,) = at.access.calls("delete_bearer")
        assert delete_bearer_request(*call.arguments).sid.id == ONLY_IPV6.subscriber
    assert {field.name for field in spgw_pb2.CreateBearerRequest.DESCRIPTOR.fields} == {
        "sid",
        "ip_addr",
        "link_bearer_id",
        "policy_rules",
    }


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "counts_as_ipv6"),
    [("10.0.0.1", "", False), ("", "2001:db8::1", True), ("10.0.0.1", "2001:db8::1", False), ("", "", False)],
)
def test_b4_which_counter_a_record_belongs_to(ipv4: str, ipv6: str, counts_as_ipv6: bool) -> None:
    """Pipelined names one address in each record; one that names both is taken by its IPv4 address."""
    record = RuleRecord(sid="IMSI1", rule_id="web", rule_version=1, ue_ipv4=ipv4, ue_ipv6=ipv6, bytes_tx=1)
    (found,) = table_rows(RuleRecordTable(records=[record]))
    assert (found.ue_ipv4, found.ue_ipv6, found.record.ipv6) == (ipv4, ipv6, counts_as_ipv6)
