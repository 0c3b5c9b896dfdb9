"""Lists and counts of sessions of every surface, over the wire (requirement X1)."""

from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1.session_service_pb2_grpc import SessionServiceStub
from tests.blackbox.harness import gateway, refusal
from tests.blackbox.messages import Device
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
        sessions, client = SessionServiceStub(whole.channel), AioClient(whole.daemon.address)

        async def keys(**fields: object) -> list[str]:
            request = session_service_pb2.ListSessionsRequest(**fields)  # type: ignore[arg-type]
            return [session.key for session in (await sessions.ListSessions(request)).sessions]

        attached, stream = await whole.attach(Device(1)), await create(client, "Car", identifier="Monza")
        other = await create(client, "Bike")
        await end(client, other)
        assert await keys() == [attached, stream, other]
        assert await keys(order_by="create_time desc") == [other, stream, attached]
        assert await keys(filter="state = ACTIVE") == [attached, stream]
        assert await keys(filter=f'subscriber = "{Device(1).subscriber}"') == [attached]
        assert await keys(filter="data_source = Car OR data_source = Bike") == [stream, other]
        assert await keys(filter="origin = GATEWAY OR identifier = Mon*") == [attached, stream]
        request = session_service_pb2.ListSessionsRequest(page_size=2, read_mask=FieldMask(paths=["key"]))
        page = await sessions.ListSessions(request)
        assert list(page.sessions) == [session_pb2.Session(key=attached), session_pb2.Session(key=stream)]
        assert await keys(page_token=page.next_page_token) == [other]
        refused = await refusal(keys(page_token=page.next_page_token, filter="state = ACTIVE"))
        assert (refused.reason, refused.fields) == ("PAGE_TOKEN_INVALID", ("page_token",))
        counted = await sessions.GetStatistics(session_service_pb2.GetStatisticsRequest())
        assert (counted.total, dict(counted.types)) == (3, {"lte": 1, "stream": 1})
        await client.close()
