"""Lists and counts of sessions of every surface, over the wire (requirement X1)."""

from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import gateway, refusal
from tests.blackbox.messages import Device
from tests.blackbox.native import sessions
from tests.blackbox.streams import AioClient, create, end
from tests.store.servers import Server

pytestmark = pytest.mark.blackbox


@pytest.mark.parametrize("store", ["memory", "valkey", "shared valkey"])
async def test_sessions_of_every_surface_are_listed(tmp_path: Path, one_valkey: Server, store: str) -> None:
    """One list, one filter language, one count, whatever the store and whoever made the session."""
    is_shared = store == "shared valkey"
    url = "memory:" if store == "memory" else f"{one_valkey.url}?db={int(is_shared)}"
    config = {"url": url, "exclusive": not is_shared}
    async with gateway(tmp_path, store=config, support_stateless=store != "memory") as whole:
        stub, client = SessionServiceStub(whole.channel), AioClient(whole.daemon.address)

        async def keys(**fields: object) -> list[str]:
            request = session_service_pb2.ListSessionsRequest(**fields)  # type: ignore[arg-type]
            return [session.key for session in (await stub.ListSessions(request)).sessions]

        attached, stream = await whole.attach(Device(1)), await create(client, "Car", identifier="Monza")
        other = await create(client, "Bike")
        await end(client, other)
        in_order = await keys()
        assert sorted(in_order) == sorted([attached, stream, other])
        assert await keys(order_by="create_time desc") == in_order[::-1]
        assert await keys(filter="state = ACTIVE") == [attached, stream]
        assert await keys(filter=f'subscriber = "{Device(1).subscriber}"') == [attached]
        assert await keys(filter="data_source = Car OR data_source = Bike") == [
            key for key in in_order if key != attached
        ]
        assert await keys(filter="origin = GATEWAY OR identifier = Mon*") == [attached, stream]
        request = session_service_pb2.ListSessionsRequest(page_size=2, read_mask=FieldMask(paths=["key"]))
        page = await stub.ListSessions(request)
        assert list(page.sessions) == [session_pb2.Session(key=key) for key in in_order[:2]]
        assert await keys(page_token=page.next_page_token) == in_order[2:]
        refused = await refusal(keys(page_token=page.next_page_token, filter="state = ACTIVE"))
        assert (refused.reason, refused.fields) == ("PAGE_TOKEN_INVALID", ("page_token",))
        counted = await stub.GetStatistics(session_service_pb2.GetStatisticsRequest())
        assert (counted.total, dict(counted.types)) == (3, {"lte": 1, "stream": 1})
        await client.close()


@pytest.mark.parametrize("store", ["memory", "valkey", "shared valkey"])
class TestL9:
    """Look-ups are served from memory, and counted."""

    async def test_hits_and_misses(self, tmp_path: Path, one_valkey: Server, store: str) -> None:
        """A daemon that is alone answers from memory; one of several asks the store each time, and says so."""
        is_shared = store == "shared valkey"
        url = "memory:" if store == "memory" else f"{one_valkey.url}?db={2 + is_shared}"
        async with sessions(tmp_path, store={"url": url, "exclusive": not is_shared}) as daemon:
            client = daemon.client()
            key = (await client.create()).key

            async def lookups() -> tuple[int, int]:
                answer = await client.stub.GetStatistics(session_service_pb2.GetStatisticsRequest(filter="key = none"))
                return answer.lookup_hits, answer.lookup_misses

            hits, misses = await lookups()
            for _ in range(3):
                await client.get(key)
            more = await lookups()
            assert (more[0] - hits >= 3, more[1] - misses >= 3) == (not is_shared, is_shared)
            assert (hits == 0) if is_shared else (misses == 0)


@pytest.mark.parametrize("store", ["memory", "valkey"])
class TestP6:
    """The manager's view of sessions between nodes."""

    async def test_the_view_of_a_manager(self, tmp_path: Path, one_valkey: Server, store: str) -> None:
        """Create, get, exists, list the active ones, close one, close all, and the counts of each state."""
        url = "memory:" if store == "memory" else f"{one_valkey.url}?db=4"
        async with sessions(tmp_path, store={"url": url}) as daemon:
            client = daemon.client()
            admin = AdminServiceStub(client.channel)

            async def listed(where: str) -> list[str]:
                request = session_service_pb2.ListSessionsRequest(filter=f"type = peer AND ({where})")
                return sorted(one.key for one in (await client.stub.ListSessions(request)).sessions)

            async def counts() -> dict[str, int]:
                request = session_service_pb2.GetStatisticsRequest(filter="type = peer")
                counted = await client.stub.GetStatistics(request)
                states = {session_pb2.SessionState.Name(one.state): one.count for one in counted.states if one.count}
                return {"total": counted.total, **states}

            made = [
                await client.create("peer", peer=session_pb2.Peer(address=f"192.0.2.{number}:4433"))
                for number in range(1, 5)
            ]
            keys = sorted(one.key for one in made)
            workflow = (await client.create("ussd")).key
            assert (await client.get(made[0].key, peek=True)).peer.address[:10] == "192.0.2.1:"
            assert (await client.missing("0123456789abcdef")).reason == "SESSION_NOT_FOUND"
            assert await listed("state = ACTIVE") == keys
            assert await counts() == {"total": 4, "SESSION_STATE_ACTIVE": 4}
            await client.end(keys[1])
            assert await listed("state = ACTIVE") == [keys[0], *keys[2:]]
            assert await listed("peer.address = 192.0.2.3*") == [made[2].key]
            assert await counts() == {"total": 4, "SESSION_STATE_ACTIVE": 3, "SESSION_STATE_CLOSED": 1}
            drained = await admin.DrainSessions(
                admin_service_pb2.DrainSessionsRequest(filter="type = peer", message="moving out")
            )
            assert (drained.matched, drained.closed, drained.closing) == (3, 3, 0)
            assert await counts() == {"total": 4, "SESSION_STATE_CLOSED": 4}
            assert await listed('end_reason = OPERATOR AND end_message = "moving out"') == [keys[0], *keys[2:]]
            assert (await client.get(workflow, peek=True)).state == session_pb2.SESSION_STATE_ACTIVE
