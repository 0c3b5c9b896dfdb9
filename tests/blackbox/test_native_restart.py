"""Native sessions outlive a daemon that is killed (requirements W3, W4 and W6): times, uses, requests, data."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from redis.asyncio import Redis

from sessiond.pb.sessiond.v1 import session_pb2 as session
from tests.blackbox.harness import refusal
from tests.blackbox.native import Client, NativeDaemon, details_of, reason_of, said, sessions, state_of
from tests.store.servers import Server

pytestmark = pytest.mark.blackbox


@pytest.fixture
async def daemon(tmp_path: Path, one_valkey: Server) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that keeps its sessions in Valkey."""
    async with sessions(tmp_path, store={"url": one_valkey.url}) as running:
        yield running


async def killed(daemon: NativeDaemon) -> Client:
    """Kill the daemon and start it again; return a client of the new one."""
    await daemon.process.stop(signal.SIGKILL)
    await daemon.process.start()
    return daemon.client()


async def until_ms(client: Client, at_ms: int) -> None:
    """Return when it is that time to the daemon."""
    async with asyncio.timeout(15):
        while (await client.create("sms")).create_time.ToMilliseconds() < at_ms:
            pass


async def test_w6_sessions_can_be_read_by_people(daemon: NativeDaemon, one_valkey: Server) -> None:
    """A session is a hash `session:{key}` of JSON texts, and Redis forgets it some day if nobody looks after it."""
    made = await daemon.client().create(msisdn="+15550100001", details={"menu": {"step": 2}})
    redis = Redis.from_url(one_valkey.url, decode_responses=True)
    name = f"session:{{{made.key}}}"
    fields = await redis.hgetall(name)
    assert fields["type"] == "ussd"
    assert json.loads(fields["identity"])["msisdn"] == "+15550100001"
    assert json.loads(fields["detail:menu"]) == {"step": 2}
    assert json.loads(fields["head"])["state"] == "ACTIVE"
    assert await redis.pttl(name) > made.expire_time.ToMilliseconds() - made.create_time.ToMilliseconds()
    await redis.aclose()


async def test_sessions_outlive_the_daemon(daemon: NativeDaemon) -> None:
    """What was acknowledged is there after a kill, to the last field; an etag and a request id still count."""
    before = daemon.client()
    wanted = said("payment", msisdn="+15550100002", details={"a": [1, {"b": None}]}, identifier="x")
    made = (await before.made(wanted, request_id="made")).session
    paused = await before.pause(made.key, request_id="paused")
    other = await before.create()
    await before.associate(made.key, other.key, etag=paused.etag)
    known = await before.get(made.key, peek=True)
    after = await killed(daemon)
    assert await after.get(made.key, peek=True) == known
    assert (await after.made(wanted, request_id="made")).session.key == made.key
    assert state_of(await after.pause(made.key, request_id="paused")) == "PAUSED"
    assert (await refusal(after.update(made.key, identifier="y", etag=made.etag))).reason == "ETAG_MISMATCH"
    assert details_of(await after.update(made.key, identifier="y", etag=known.etag)) == details_of(made)
    lookup = await refusal(after.create("payment", msisdn="+15550100002"))
    assert lookup.reason == "NAME_TAKEN"


async def test_w4_what_expires_while_nobody_is_there(daemon: NativeDaemon) -> None:
    """It is not found from the first moment on, and neither is what expires later."""
    before = daemon.client()
    short = await before.create("voice", ttl=Duration(nanos=100_000_000))
    longer = await before.create("voice", ttl=Duration(seconds=2))
    await daemon.process.stop(signal.SIGKILL)
    await daemon.process.start()
    after = daemon.client()
    assert (await after.missing(short.key)).reason == "SESSION_EXPIRED"
    await until_ms(after, longer.expire_time.ToMilliseconds())
    assert (await after.missing(longer.key)).reason == "SESSION_EXPIRED"


async def test_w3_nothing_is_taken_for_idle_too_early(daemon: NativeDaemon) -> None:
    """A use that was only known in memory keeps a session over a crash, though nobody has written it."""
    before = daemon.client()
    made = await before.create("peer", idle_timeout=Duration(seconds=2))
    await until_ms(before, made.create_time.ToMilliseconds() + 1500)
    used = await before.get(made.key)
    assert used.last_activity_time.ToMilliseconds() >= made.create_time.ToMilliseconds() + 1500
    after = await killed(daemon)
    await until_ms(after, used.last_activity_time.ToMilliseconds() + 1900)
    assert state_of(await after.get(made.key, peek=True)) == "ACTIVE"
    await after.end(made.key)


@pytest.mark.slow
async def test_w3_idle_time_goes_on_after_a_restart(daemon: NativeDaemon) -> None:
    """A session that nobody uses is closed by the next daemon, at the latest a step later than by the last one."""
    made = await daemon.client().create("peer", idle_timeout=Duration(nanos=500_000_000))
    after = await killed(daemon)
    async with asyncio.timeout(25):
        while (closed := await after.get(made.key, peek=True)).state != session.SESSION_STATE_CLOSED:
            pass
    assert reason_of(closed) == "IDLE"
    assert closed.end_time.ToMilliseconds() - made.last_activity_time.ToMilliseconds() >= 500
