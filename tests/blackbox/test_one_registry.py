"""Sessions of all surfaces live in one daemon and do not meet (requirement X1)."""

import json
from pathlib import Path

import pytest

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from tests.blackbox.harness import gateway
from tests.blackbox.messages import Device
from tests.blackbox.streams import AioClient, create, current, end, info

pytestmark = pytest.mark.blackbox


async def test_gateway_and_stream_sessions_do_not_meet(tmp_path: Path) -> None:
    """Clients of streams find no gateway session, under no name; the gateway's operator sees no stream."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        client = AioClient(whole.daemon.address)
        key = await whole.attach(device)
        before = await whole.states()
        stream = await create(client, device.subscriber)
        assert await whole.states() == before
        assert await current(client, device.subscriber) == [stream]
        assert await current(client, "") == []
        assert await info(client, key) == api.GetSessionInfoResponse()
        assert await end(client, key) == api.EndSessionResponse()
        request = api.UpdateSessionDetailsRequest(session_key=key, details={"a": "b"})
        assert not (await client.call("UpdateSessionDetails", request)).success
        assert await whole.states() == before
        await whole.detach(device)
        assert json.dumps(await whole.states()) == "{}"
        assert not (await info(client, stream)).is_complete
        assert (await end(client, stream)).success
        await client.close()
