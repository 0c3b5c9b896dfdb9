"""A daemon that was killed asks the access side which sessions still stand, and believes nothing but an answer."""
# ruff: noqa: N802, the names of methods are those of gRPC

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond.pb.magma.lte import mobility_pb2, mobility_pb2_grpc
from sessiond.pb.magma.lte.address_pb2 import IPAddress
from sessiond.pb.magma.lte.subscriber_pb2 import SubscriberID
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.pb.sessiond.peers.v1 import access_gateway_pb2, access_gateway_pb2_grpc
from tests.blackbox.harness import Gateway, gateway, scraped
from tests.blackbox.messages import EPOCH, Device, amounts
from tests.blackbox.peers import Changes, Method, Peer, refusing
from tests.store.servers import Server, binary_of, closing_down

pytestmark = pytest.mark.blackbox

STAYS, LEAVES, ALSO = Device(1), Device(2), Device(3)
DEVICES = (STAYS, LEAVES, ALSO)
LATER = EPOCH + 1


class Mobilityd(Peer, mobility_pb2_grpc.MobilityServiceServicer):
    """The addresses of the devices that are attached."""

    name = "mobilityd"

    def __init__(self) -> None:
        super().__init__(mobility_pb2_grpc.add_MobilityServiceServicer_to_server)
        self.attached: dict[Device, str] = {}
        """The devices, with their sessions."""
        self.asked = Method[Any, Any]("GetSubscriberIPTable", Changes(), lambda _: self._table())

    async def GetSubscriberIPTable(self, request: Void, context: Any) -> mobility_pb2.SubscriberIPTable:
        """Tell all addresses."""
        table: mobility_pb2.SubscriberIPTable = await self.asked(request, context)
        return table

    async def GetIPForSubscriber(self, request: Any, context: Any) -> IPAddress:
        """Nobody asks."""
        raise NotImplementedError

    async def GetSubscriberIDFromIP(self, request: Any, context: Any) -> SubscriberID:
        """Nobody asks."""
        raise NotImplementedError

    def _table(self) -> mobility_pb2.SubscriberIPTable:
        return mobility_pb2.SubscriberIPTable(
            entries=[
                mobility_pb2.SubscriberIPTableEntry(
                    sid=SubscriberID(id=device.subscriber.removeprefix("IMSI")),
                    ip=IPAddress(version=IPAddress.IPV4, address=ip_address(device.ue_ipv4).packed),
                    apn=device.apn,
                )
                for device in self.attached
            ]
        )


class Mme(Peer, access_gateway_pb2_grpc.AccessGatewayServicer):
    """The sessions of the devices that are attached, one to a page."""

    name = "mme"

    def __init__(self) -> None:
        super().__init__(access_gateway_pb2_grpc.add_AccessGatewayServicer_to_server)
        self.attached: dict[Device, str] = {}
        self.asked = Method[Any, Any]("ListAttachments", Changes(), self._page)

    async def ListAttachments(self, request: Any, context: Any) -> access_gateway_pb2.ListAttachmentsResponse:
        """Tell what is attached."""
        page: access_gateway_pb2.ListAttachmentsResponse = await self.asked(request, context)
        return page

    def _page(self, request: access_gateway_pb2.ListAttachmentsRequest) -> access_gateway_pb2.ListAttachmentsResponse:
        at = int(request.page_token or 0)
        here = [
            access_gateway_pb2.Attachment(subscriber=device.subscriber, session_id=session_id)
            for device, session_id in self.attached.items()
        ]
        more = str(at + 1) if at + 1 < len(here) else ""
        return access_gateway_pb2.ListAttachmentsResponse(attachments=here[at : at + 1], next_page_token=more)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """Give a Valkey."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    with closing_down(server):
        yield server.start()


@asynccontextmanager
async def attached(folder: Path, valkey: Server, access: Mobilityd | Mme, **peers: str) -> AsyncIterator[Gateway]:
    """Run a gateway with some devices that its access side knows."""
    config: dict[str, Any] = {"store": {"url": valkey.url}, "peers": {access.name: access.address, **peers}}
    await access.start()
    try:
        async with gateway(folder, **config) as whole:
            for device in DEVICES:
                access.attached[device] = await whole.attach(device)
            await whole.report(*(device.used(1000, 100) for device in DEVICES))
            yield whole
    finally:
        await access.close()


async def killed_and_back(whole: Gateway) -> None:
    """Kill the daemon and start it again, with a pipelined that goes on."""
    await whole.daemon.stop(signal.SIGKILL)
    await whole.start()
    await whole.set_up(LATER)


@pytest.mark.parametrize("kind", [Mobilityd, Mme])
async def test_who_left_meanwhile_is_ended_once(
    tmp_path: Path, valkey: Server, kind: type[Mobilityd] | type[Mme]
) -> None:
    """A device that detached while nobody listened is ended, with all its usage reported once; the others go on."""
    access = kind()
    async with attached(tmp_path, valkey, access) as whole:
        await whole.daemon.stop(signal.SIGKILL)
        session_id = access.attached.pop(LEAVES)
        await whole.start()
        await whole.set_up(LATER)
        await whole.report(*(device.used(1500, 150) for device in DEVICES), epoch=LATER)
        await whole.daemon.logged("reconciliation_done", kept=2, ended=1)
        (down,) = await whole.pipelined.deactivate.asked()
        assert down.sid.id == LEAVES.subscriber
        await whole.report(*(device.used(1700, 170) for device in DEVICES), epoch=LATER)
        await whole.report(STAYS.used(2000, 200), ALSO.used(2000, 200), epoch=LATER)
        (end,) = await whole.policy.terminate.asked()
        assert (end.session_id, amounts(end)) == (session_id, [(1700, 170)])
        assert set(await whole.states()) == {STAYS.subscriber, ALSO.subscriber}
        assert whole.spgw.delete_bearer.requests == []
        await whole.detach(STAYS, ALSO.used(2000, 200))
        metrics = await scraped(whole.daemon.metrics_address)
        assert 'sessiond_sessions_reconciled_total{outcome="ended"} 1.0' in metrics
        assert f'sessiond_reconciliation_unanswered{{peer="{access.name}"}} 0.0' in metrics
        await killed_and_back(whole)
        await whole.daemon.logged("reconciliation_done", ended=0)
        assert len([end for end in whole.policy.terminate.requests if end.session_id == session_id]) == 1


@pytest.mark.parametrize("kind", [Mobilityd, Mme])
async def test_nobody_is_ended_because_nobody_answers(
    tmp_path: Path, valkey: Server, kind: type[Mobilityd] | type[Mme]
) -> None:
    """While the access side is away, or refuses, all sessions go on and new ones come; a late answer counts."""
    access = kind()
    async with attached(tmp_path, valkey, access) as whole:
        await access.kill()
        session_id = access.attached.pop(LEAVES)
        await killed_and_back(whole)
        await whole.daemon.logged("reconciliation_waits", peer=access.name, status="UNAVAILABLE")
        usual = access.asked.behaviour
        access.asked.behaviour = refusing(grpc.StatusCode.INTERNAL, "Redis is away")
        await access.start()
        await whole.daemon.logged("reconciliation_waits", peer=access.name, status="INTERNAL")
        assert set(await whole.states()) == {device.subscriber for device in DEVICES}
        metrics = await scraped(whole.daemon.metrics_address)
        assert f'sessiond_reconciliation_unanswered{{peer="{access.name}"}} 1.0' in metrics
        await whole.attach(Device(4))
        access.asked.behaviour = usual
        await whole.daemon.logged("reconciliation_done", kept=2, ended=1)
        subscribers = set(await whole.states())
        assert {STAYS.subscriber, ALSO.subscriber, Device(4).subscriber} <= subscribers
        await whole.report_until_ended(session_id, epoch=LATER)


async def test_who_attaches_again_while_the_question_is_open_stands(tmp_path: Path, valkey: Server) -> None:
    """The answer knows nobody, since the MME has just started; who attaches meanwhile is not ended by it."""
    access = Mme()
    async with attached(tmp_path, valkey, access) as whole:
        access.attached.clear()
        await whole.daemon.stop(signal.SIGKILL)
        await whole.start()
        await whole.set_up(LATER)
        before = (await whole.states())[STAYS.subscriber]
        await whole.create(STAYS)
        await whole.daemon.logged("reconciliation_done", kept=1, ended=2)
        assert (await whole.states())[STAYS.subscriber] == before


async def test_of_both_the_mme_is_asked(tmp_path: Path, valkey: Server) -> None:
    """It knows sessions; mobilityd knows addresses, which may outlive them, and is not asked."""
    mobilityd, mme = Mobilityd(), Mme()
    async with attached(tmp_path, valkey, mme, mobilityd=mobilityd.address) as whole:
        await mobilityd.start()
        await killed_and_back(whole)
        await whole.daemon.logged("reconciliation_done", peer="mme", kept=3, ended=0)
        assert mobilityd.asked.requests == []
    await mobilityd.close()


async def test_without_anybody_to_ask_all_sessions_stand(tmp_path: Path, valkey: Server) -> None:
    """A gateway whose configuration names neither goes on with what is stored."""
    async with gateway(tmp_path, store={"url": valkey.url}) as whole:
        await whole.attach(STAYS)
        before = await whole.states()
        await killed_and_back(whole)
        assert await whole.states() == before
        assert whole.daemon.find("reconciliation_began") == []
