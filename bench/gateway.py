"""What a gateway says to the daemon in a benchmark: devices by number, each with two rules and two rating groups."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

from bench import processes
from bench.load import Channel, call_all, channel
from bench.peers import RATING_GROUPS
from bench.processes import Measured
from bench.rows import Plan
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecord, RuleRecordTable
from sessiond.pb.magma.lte.session_context_pb2 import CommonSessionContext, LTESessionContext, RatSpecificContext
from sessiond.pb.magma.lte.session_manager_pb2 import (
    LocalCreateSessionRequest,
    LocalEndSessionRequest,
    UpdateTunnelIdsRequest,
)
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID

EPOCH: Final = 1_700_000_000
APN: Final = "internet"
BEARER_ID: Final = 5
RULES: Final = [{"id": f"rule{group}", "rating_group": group, "tracking_type": "ONLY_OCS"} for group in RATING_GROUPS]


class Scene:
    """The MME and pipelined, as clients of the daemon."""

    def __init__(self, connection: Channel) -> None:
        self.connection = connection

    @staticmethod
    def config(plan: Plan, others: Measured, *, eventd: bool = False) -> dict[str, Any]:
        """Return the sections of the configuration for peers and rules."""
        names = ("session_proxy", "pipelined", "spgw", "directoryd", *(("eventd",) if eventd else ()))
        peers = dict.fromkeys(names, others.address)
        return {"peers": peers, "enable_ipfix": False, **processes.rules_file(plan.folder, RULES)}

    @staticmethod
    def name(method: str) -> str:
        """Return the full name of a method."""
        return f"/magma.lte.LocalSessionManager/{method}"

    async def set_up(self) -> None:
        """Let pipelined announce itself, and wait until the daemon has set it up."""
        await self.report_nothing()
        probe = self.creates(range(1_000_000, 1_000_001))
        for _ in range(50):
            try:
                await call_all(self.connection, self.name("CreateSession"), probe, 1)
            except Exception as error:
                if "not ready" not in str(error):
                    raise
            else:
                return
        raise RuntimeError("pipelined is not set up")

    async def report_nothing(self) -> None:
        """Let pipelined report that there is no flow with usage: whoever is ending has then reported everything."""
        table = RuleRecordTable(epoch=EPOCH).SerializeToString()
        await call_all(self.connection, self.name("ReportRuleStats"), [table], 1)

    async def attach(self, devices: Sequence[int], callers: int = 64) -> None:
        """Create and connect a session for each device."""
        await call_all(self.connection, self.name("CreateSession"), self.creates(devices), callers)
        await call_all(self.connection, self.name("UpdateTunnelIds"), self.tunnels(devices), callers)

    @staticmethod
    def creates(devices: Iterable[int]) -> list[bytes]:
        """Return what the MME says when devices attach."""
        lte = LTESessionContext(
            bearer_id=BEARER_ID, imei="3538900000000001", plmn_id="00101", user_location=b"\x82" * 13
        )
        rat = RatSpecificContext(lte_context=lte)
        return [
            LocalCreateSessionRequest(
                common_context=CommonSessionContext(
                    sid=SubscriberID(id=subscriber(device)),
                    apn=APN,
                    ue_ipv4=address(device),
                    msisdn=b"49%010d" % device,
                ),
                rat_specific_context=rat,
            ).SerializeToString()
            for device in devices
        ]

    @staticmethod
    def tunnels(devices: Iterable[int]) -> list[bytes]:
        """Return what the MME says when the tunnels of devices stand."""
        return [
            UpdateTunnelIdsRequest(
                sid=SubscriberID(id=subscriber(device)),
                bearer_id=BEARER_ID,
                enb_teid=2 * device + 1,
                agw_teid=2 * device + 2,
            ).SerializeToString()
            for device in devices
        ]

    @staticmethod
    def ends(devices: Iterable[int]) -> list[bytes]:
        """Return what the MME says when devices detach."""
        return [
            LocalEndSessionRequest(sid=SubscriberID(id=subscriber(device)), apn=APN).SerializeToString()
            for device in devices
        ]

    @staticmethod
    def table(devices: Iterable[int], octets: int) -> bytes:
        """Return what pipelined reports when every rule of every device has carried so many octets up and down."""
        records = [
            RuleRecord(
                sid=subscriber(device),
                ue_ipv4=address(device),
                teid=2 * device + 2,
                rule_id=f"rule{group}",
                rule_version=1,
                bytes_tx=octets,
                bytes_rx=octets,
            )
            for device in devices
            for group in RATING_GROUPS
        ]
        return RuleRecordTable(records=records, epoch=EPOCH).SerializeToString()


def subscriber(device: int) -> str:
    """Return the subscriber of a device."""
    return f"IMSI00101{device:010d}"


def address(device: int) -> str:
    """Return the address of a device."""
    return f"10.{device >> 16 & 255}.{device >> 8 & 255}.{device & 255}"


async def ended(others: Measured, count: int) -> None:
    """Wait until the policy side has heard of so many ends."""
    async with channel(others.address) as connection:
        for _ in range(100):
            load = await call_all(connection, "/bench.Peers/Count", [b""], 1)
            if int(load.answers[0]) >= count:
                return
            await others.quiet()
    raise RuntimeError(f"only {load.answers[0].decode()} of {count} sessions have ended")


def sizes(messages: Sequence[bytes]) -> int:
    """Return the median size of messages."""
    return int(statistics.median(len(message) for message in messages))
