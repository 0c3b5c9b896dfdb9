"""The MME: devices attach and detach, and get dedicated bearers when sessiond asks for them.

What the MME knows is a table of devices; `Mme` moves it on over the wire, `Bearers` serves what sessiond asks.
"""

import asyncio
import ipaddress
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import grpc
import grpc.aio
from msgspec import Struct

from sessiond.pb.magma.lte import spgw_pb2_grpc
from sessiond.pb.magma.lte.qos_pb2 import QosInformationRequest
from sessiond.pb.magma.lte.session_context_pb2 import (
    CommonSessionContext,
    LTESessionContext,
    RatSpecificContext,
    RATType,
    Teids,
)
from sessiond.pb.magma.lte.session_manager_pb2 import (
    LocalCreateSessionRequest,
    LocalEndSessionRequest,
    PolicyBearerBindingRequest,
    UpdateTunnelIdsRequest,
)
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.lte.spgw_pb2 import (
    CreateBearerRequest,
    CreateBearerResult,
    DeleteBearerRequest,
    DeleteBearerResult,
)
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.simulator.config import Access
from sessiond.simulator.wire import Context

DEFAULT_BEARER: Final = 5
LAST_BEARER: Final = 15
"""EPS bearer identities are 5 to 15 (TS 24.007 clause 11.2.3.1.5)."""
DEFAULT_QCI: Final = 9
CALL_DEADLINE_S: Final = 10.0
"""How long an MME waits for sessiond (rpc.md section 0)."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 2.0
USER_LOCATION: Final = bytes.fromhex("8200f110000100f11000000101")
"""Tracking area 1 and cell 257 of network 00101 (TS 29.061 clause 16.4.7.2)."""


class State(StrEnum):
    """Where a device is in its life."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    REFUSED = "refused"
    DETACHED = "detached"
    DROPPED = "dropped"
    """sessiond took its default bearer away."""


class Bearer(Struct, frozen=True):
    """A tunnel of its own for one rule, or the default one."""

    id: int
    enb_teid: int
    agw_teid: int
    rule: str = ""


class Device(Struct, kw_only=True):
    """A subscriber at this gateway."""

    subscriber: str
    number: int
    apn: str
    address: str
    state: State = State.ATTACHING
    session_id: str = ""
    why: str = ""
    bearers: dict[int, Bearer]


class Devices:
    """All devices by subscriber, and what is given to each: an address, tunnel ends, bearer ids."""

    def __init__(self, settings: Access) -> None:
        self._settings = settings
        self._known: dict[str, Device] = {}
        self._addresses = 0
        self._tunnels = 0

    def __iter__(self) -> Iterator[Device]:
        return iter(self._known.values())

    def get(self, subscriber: str) -> Device | None:
        """Return the device of a subscriber."""
        return self._known.get(subscriber)

    def arrive(self, subscriber: str) -> Device:
        """Take a device in, under an address that none had before."""
        first = ipaddress.ip_address(self._settings.first_address)
        device = Device(
            subscriber=subscriber,
            number=self._addresses + 1,
            apn=self._settings.apn,
            address=str(first + self._addresses),
            bearers={DEFAULT_BEARER: self._bearer(DEFAULT_BEARER)},
        )
        self._addresses += 1
        self._known[subscriber] = device
        return device

    def addresses(self) -> set[str]:
        """Return the addresses that are in use."""
        return {device.address for device in self if device.state in {State.ATTACHING, State.ATTACHED}}

    def dedicate(self, device: Device, rule: str) -> Bearer:
        """Give a rule a bearer of its own, the same if it has one; id 0 says that all are taken."""
        for bearer in device.bearers.values():
            if bearer.rule == rule:
                return bearer
        free = next((number for number in range(DEFAULT_BEARER, LAST_BEARER + 1) if number not in device.bearers), 0)
        if not free:
            return Bearer(0, 0, 0, rule)
        device.bearers[free] = self._bearer(free, rule)
        return device.bearers[free]

    def _bearer(self, number: int, rule: str = "") -> Bearer:
        self._tunnels += 1
        return Bearer(number, 0x1000 + self._tunnels, 0x2000 + self._tunnels, rule)


class Mme:
    """Attaches and detaches devices at a sessiond."""

    def __init__(self, devices: Devices, sessiond: LocalSessionManagerStub, settings: Access) -> None:
        self.devices = devices
        self._sessiond = sessiond
        self._settings = settings

    async def attach(self, subscriber: str) -> Device:
        """Create the session of a subscriber and its tunnel; the state of the device says what came of it."""
        device = self.devices.arrive(subscriber)
        try:
            async with asyncio.timeout(self._settings.attach_limit_s):
                device.session_id = await self._create(device)
            tunnel = device.bearers[DEFAULT_BEARER]
            await self._sessiond.UpdateTunnelIds(
                UpdateTunnelIdsRequest(
                    sid=SubscriberID(id=subscriber),
                    bearer_id=tunnel.id,
                    enb_teid=tunnel.enb_teid,
                    agw_teid=tunnel.agw_teid,
                ),
                timeout=CALL_DEADLINE_S,
            )
        except grpc.aio.AioRpcError as error:
            device.state, device.why = State.REFUSED, f"{error.code().name}: {error.details()}"
        except TimeoutError:
            device.state, device.why = State.REFUSED, f"no session within {self._settings.attach_limit_s} s"
        else:
            device.state = State.ATTACHED
        return device

    async def detach(self, subscriber: str) -> None:
        """End the session of a subscriber, if it has one."""
        device = self.devices.get(subscriber)
        if device is None or device.state is not State.ATTACHED:
            return
        device.state = State.DETACHED
        request = LocalEndSessionRequest(sid=SubscriberID(id=subscriber), apn=device.apn)
        try:
            await self._sessiond.EndSession(request, timeout=CALL_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            device.why = f"{error.code().name}: {error.details()}"

    async def attach_all(self, subscribers: list[str]) -> list[Device]:
        """Attach many, some at once."""
        gate = asyncio.Semaphore(self._settings.attaches_at_once)

        async def one(subscriber: str) -> Device:
            async with gate:
                return await self.attach(subscriber)

        return await asyncio.gather(*map(one, subscribers))

    async def detach_all(self) -> None:
        """Detach everyone, some at once."""
        gate = asyncio.Semaphore(self._settings.attaches_at_once)

        async def one(subscriber: str) -> None:
            async with gate:
                await self.detach(subscriber)

        await asyncio.gather(*[one(device.subscriber) for device in self.devices])

    async def _create(self, device: Device) -> str:
        """Ask for a session until sessiond is ready to make one."""
        pause = FIRST_RETRY_S
        while True:
            try:
                answer = await self._sessiond.CreateSession(session_request(device), timeout=CALL_DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                device.why = f"{error.code().name}: {error.details()}"
            else:
                device.why = ""
                return answer.session_id
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY_S)


class Bearers(spgw_pb2_grpc.SpgwServiceServicer):
    """The bearer service of the MME."""

    def __init__(self, devices: Devices, sessiond: LocalSessionManagerStub) -> None:
        self._devices = devices
        self._sessiond = sessiond
        self._bindings: set[asyncio.Task[None]] = set()

    async def CreateBearer(self, request: CreateBearerRequest, _context: Context) -> CreateBearerResult:
        """Make a dedicated bearer per rule; sessiond hears of each through BindPolicy2Bearer."""
        device = self._devices.get(request.sid.id)
        for rule in request.policy_rules:
            bearer = self._devices.dedicate(device, rule.id) if device else Bearer(0, 0, 0, rule.id)
            task = asyncio.create_task(self._bind(request.sid.id, request.link_bearer_id, bearer))
            self._bindings.add(task)
            task.add_done_callback(self._bindings.discard)
        return CreateBearerResult()

    async def DeleteBearer(self, request: DeleteBearerRequest, _context: Context) -> DeleteBearerResult:
        """Take bearers down; without the default one the device is gone."""
        device = self._devices.get(request.sid.id)
        if device is not None and device.address == request.ip_addr:
            for number in request.eps_bearer_ids:
                device.bearers.pop(number, None)
            if DEFAULT_BEARER not in device.bearers:
                device.state = State.DROPPED
        return DeleteBearerResult()

    async def _bind(self, subscriber: str, default_bearer: int, bearer: Bearer) -> None:
        request = PolicyBearerBindingRequest(
            sid=SubscriberID(id=subscriber),
            linked_bearer_id=default_bearer,
            policy_rule_id=bearer.rule,
            bearer_id=bearer.id,
            teids=Teids(enb_teid=bearer.enb_teid, agw_teid=bearer.agw_teid),
        )
        try:
            await self._sessiond.BindPolicy2Bearer(request, timeout=CALL_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            if (device := self._devices.get(subscriber)) is not None:
                device.why = f"no bearer for {bearer.rule}: {error.code().name}: {error.details()}"


def session_request(device: Device) -> LocalCreateSessionRequest:
    """Return what an MME says about a device when it attaches."""
    number = int(device.subscriber.removeprefix("IMSI")) % 10**10
    return LocalCreateSessionRequest(
        common_context=CommonSessionContext(
            sid=SubscriberID(id=device.subscriber),
            ue_ipv4=device.address,
            apn=device.apn,
            msisdn=f"{number:010d}".encode(),
            rat_type=RATType.TGPP_LTE,
        ),
        rat_specific_context=RatSpecificContext(
            lte_context=LTESessionContext(
                spgw_ipv4="10.0.2.1",
                imei=f"35703100{device.number:08d}",
                plmn_id="00101",
                imsi_plmn_id=device.subscriber.removeprefix("IMSI")[:5],
                user_location=USER_LOCATION,
                bearer_id=DEFAULT_BEARER,
                charging_characteristics="0800",
                qos_info=QosInformationRequest(
                    apn_ambr_dl=100_000_000,
                    apn_ambr_ul=50_000_000,
                    priority_level=15,
                    preemption_capability=1,
                    qos_class_id=DEFAULT_QCI,
                ),
            )
        ),
    )
