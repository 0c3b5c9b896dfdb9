"""mobilityd: which subscriber has which address, as the MME's table of devices says."""

import ipaddress
from collections.abc import Awaitable, Callable, Collection

import grpc
import grpc.aio

from sessiond.pb.magma.lte import mobility_pb2_grpc
from sessiond.pb.magma.lte.address_pb2 import IPAddress
from sessiond.pb.magma.lte.mobility_pb2 import IPLookupRequest, SubscriberIPTable, SubscriberIPTableEntry
from sessiond.pb.magma.lte.mobility_pb2_grpc import MobilityServiceStub
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.simulator.access import Device, Devices, State
from sessiond.simulator.wire import Context

ASK_DEADLINE_S = 1.0


class Mobility(mobility_pb2_grpc.MobilityServiceServicer):
    """The addresses of the devices that are attached."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices

    async def GetIPForSubscriber(self, request: IPLookupRequest, context: Context) -> IPAddress:
        """Return the address of a subscriber at an access point."""
        device = self._devices.get(request.sid.id)
        if device is None or not _is_here(device) or request.apn not in {"", device.apn}:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no address of {request.sid.id}")
        return _packed(device)

    async def GetSubscriberIDFromIP(self, request: IPAddress, context: Context) -> SubscriberID:
        """Return whose address it is, without the prefix."""
        device = next((device for device in self._devices if _is_here(device) and _packed(device) == request), None)
        if device is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nobody has this address")
        return SubscriberID(id=device.subscriber.removeprefix("IMSI"))

    async def GetSubscriberIPTable(self, _request: Void, _context: Context) -> SubscriberIPTable:
        """Return all addresses in use."""
        return SubscriberIPTable(
            entries=[
                SubscriberIPTableEntry(sid=SubscriberID(id=device.subscriber), ip=_packed(device), apn=device.apn)
                for device in self._devices
                if _is_here(device)
            ]
        )


def attached_at(mobilityd: MobilityServiceStub) -> Callable[[], Awaitable[Collection[str] | None]]:
    """Return a question for the addresses in use; without an answer it is what the last one said, at first all."""
    last: Collection[str] | None = None

    async def ask() -> Collection[str] | None:
        nonlocal last
        try:
            table = await mobilityd.GetSubscriberIPTable(Void(), timeout=ASK_DEADLINE_S)
        except grpc.aio.AioRpcError:
            return last
        last = {str(ipaddress.ip_address(entry.ip.address)) for entry in table.entries}
        return last

    return ask


def _is_here(device: Device) -> bool:
    return device.state in {State.ATTACHING, State.ATTACHED}


def _packed(device: Device) -> IPAddress:
    return IPAddress(version=IPAddress.IPV4, address=ipaddress.ip_address(device.address).packed)
