"""Usage of many credits at once: no request that a gRPC server would refuse, and nothing left out or told twice."""

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from sessiond.pb.magma.lte.session_proxy_pb2 import CreateSessionRequest, CreateSessionResponse, UpdateSessionRequest
from tests.blackbox.harness import Gateway, gateway
from tests.blackbox.messages import Device, allowed, quota
from tests.blackbox.peers import answering

pytestmark = pytest.mark.blackbox

MAX_BYTES: Final = 65_536
MANY, TOO_MANY = 300, 1500
"""Credits of a session of which a few go into one request, and of one that is larger than a request by itself."""


def credits_of(number: int) -> int:
    """Return how many credits the session of a device has."""
    return TOO_MANY if number == 3 else MANY


def with_many_credits(request: CreateSessionRequest) -> CreateSessionResponse:
    """Allow a session with credits that have nothing to spend, so that all of them are due with the first table."""
    number, key = int(request.common_context.ue_ipv4.rpartition(".")[2]), request.session_id
    return allowed(key, [], [quota(key, 0, rating_group) for rating_group in range(1, credits_of(number) + 1)])


async def attached(whole: Gateway, devices: list[Device]) -> dict[str, int]:
    """Attach devices; return how many credits each session has."""
    whole.policy.create.behaviour = answering(with_many_credits)
    return {await whole.attach(device): credits_of(device.number) for device in devices}


def reported(requests: list[UpdateSessionRequest]) -> Counter[tuple[str, int]]:
    """Return how often each credit was reported."""
    return Counter((update.session_id, update.usage.charging_key) for request in requests for update in request.updates)


async def test_p4_requests_are_cut_by_size(tmp_path: Path) -> None:
    """Sessions that are due together go out in requests of the configured size, a larger one by itself."""
    async with gateway(tmp_path, usage_report_max_bytes=MAX_BYTES) as whole:
        expected = await attached(whole, [Device(number) for number in range(1, 7)])
        wanted = {(key, rating_group) for key, credits_ in expected.items() for rating_group in range(1, credits_ + 1)}
        await whole.report()
        await whole.policy.update.asked(1, wanted=lambda _: reported(whole.policy.update.requests).keys() == wanted)
        requests = whole.policy.update.requests
        assert reported(requests) == Counter(dict.fromkeys(wanted, 1))
        sessions = [{update.session_id for update in request.updates} for request in requests]
        assert sum(len(keys) for keys in sessions) == len(expected)
        alone = [request for request, keys in zip(requests, sessions, strict=True) if len(keys) == 1]
        assert max(len(request.updates) for request in alone) == TOO_MANY
        assert all(request.ByteSize() <= MAX_BYTES for request in requests if len(request.updates) != TOO_MANY)
        assert any(len(keys) > 1 for keys in sessions)
