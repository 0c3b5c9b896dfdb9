"""`sessiond.client` and a real daemon: whole lives, short TTLs, a daemon that is killed and comes back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sessiond.client import Client, Session, SessionLost, connect, errors
from sessiond.pb.sessiond.v1 import session_pb2
from tests.blackbox.native import NativeDaemon, details_of, reason_of, sessions, state_of
from tests.store.servers import Server, free_port

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["memory", "valkey"])
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share: each has sessions of its own."""
    url = "memory:" if request.param == "memory" else f"{request.getfixturevalue('one_valkey').url}?db=1"
    async with sessions(tmp_path_factory.mktemp("native"), store={"url": url}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> AsyncIterator[Client]:
    """Give a client."""
    async with connect(daemon.process.address) as connected:
        yield connected


async def test_a_whole_life(client: Client) -> None:
    """Made, found, changed, suspended, touched, tied, ended and removed; each answer is the session after that."""
    made = await client.create("voice", key="life", msisdn="+15550400001", details={"menu": "a", "step": 1}, ttl_s=60)
    assert (made.key, state_of(made)) == ("life", "ACTIVE")
    assert await client.get("life", peek=True) == made
    assert (await client.get_active("voice", "+15550400001", peek=True)).key == "life"
    assert (await client.create("voice", msisdn="+15550400001", reuse_active=True)).key == "life"
    changed = await client.update(
        "life", etag=made.etag, details={"step": 2}, remove_details=["menu"], identifier="Ann"
    )
    assert (details_of(changed), changed.identifier) == ({"step": 2.0}, "Ann")
    with pytest.raises(errors.EtagMismatch):
        await client.update("life", etag=made.etag, identifier="Bob")
    assert state_of(await client.pause("life")) == "PAUSED"
    assert state_of(await client.resume("life")) == "ACTIVE"
    assert (await client.touch("life", ttl_s=600)).expire_time.seconds > made.expire_time.seconds
    assert (await client.associate("life", "other")).associate_keys == ["other"]
    assert [one.key async for one in client.list("key = life")] == ["life"]
    assert dict((await client.statistics("key = life")).types) == {"voice": 1}
    ended = await client.end("life", message="done")
    assert (state_of(ended), reason_of(ended), ended.end_message) == ("CLOSED", "CLIENT", "done")
    with pytest.raises(errors.SessionEnded):
        await client.update("life", identifier="Bob")
    await client.delete("life")
    with pytest.raises(errors.SessionNotFound):
        await client.get("life")
    await client.delete("life", allow_missing=True)
    assert (await client.status()).ready


async def test_what_is_wrong_is_named(client: Client) -> None:
    """The path of the field is in the error."""
    with pytest.raises(errors.InvalidArgument) as caught:
        await client.create("ussd", msisdn="nonsense")
    assert [field for field, _ in caught.value.violations] == ["session.msisdn"]
    with pytest.raises(errors.InvalidArgument) as wrong:
        _ = [one async for one in client.list("colour = red")]
    assert wrong.value.reason == "FILTER_INVALID"


async def test_pages_are_walked_through(client: Client) -> None:
    """More sessions than a page has come one after the other, each once."""
    keys = [f"page-{number:04d}" for number in range(1030)]
    for start in range(0, len(keys), 200):
        await asyncio.gather(*(client.create("execution", key=key) for key in keys[start : start + 200]))
    found = [one.key async for one in client.list("key = page-*", order_by="key", fields=["key"])]
    assert found == keys
    assert [one.key async for one in client.list("key = page-*", order_by="key desc", limit=3)] == keys[:-4:-1]


async def until_later(client: Client, key: str, than: Session) -> Session:
    """Return a session as soon as it expires later than it did."""
    while True:
        seen = await client.get(key, peek=True)
        if seen.expire_time.ToMilliseconds() > than.expire_time.ToMilliseconds():
            return seen
        await asyncio.sleep(0.02)


async def test_a_short_session_lives_as_long_as_its_block(client: Client) -> None:
    """It outlives its TTL several times, and is over with the block."""
    async with client.session("ussd", msisdn="+15550400002", ttl_s=1.5) as session:
        seen = session.value
        for _ in range(3):
            seen = await until_later(client, session.key, seen)
        assert state_of(seen) == "ACTIVE"
    assert state_of(await client.get(session.key, peek=True)) == "CLOSED"


async def test_who_is_ended_by_another_is_told(client: Client) -> None:
    """The block is cancelled as soon as the next touch says that the session has ended."""

    async def work() -> None:
        async with client.session("ussd", msisdn="+15550400003", ttl_s=1.5) as session:
            await client.end(session.key)
            await asyncio.Event().wait()

    with pytest.raises(SessionLost) as caught:
        await work()
    assert isinstance(caught.value.why, errors.SessionEnded)


async def test_a_block_ends_with_the_maximum_duration(client: Client) -> None:
    """Nothing puts it off beyond that: the session is lost when it is over, not before."""
    lease = client.session("ussd", msisdn="+15550400004", ttl_s=1, max_duration_s=1.2)

    async def work() -> None:
        async with lease:
            await asyncio.Event().wait()

    with pytest.raises(SessionLost) as caught:
        await work()
    assert isinstance(caught.value.why, errors.NotFound)
    assert lease.value.expire_time.ToMilliseconds() == lease.value.create_time.ToMilliseconds() + 1200


async def test_who_calls_is_proved(tmp_path: Path, certificate: Path) -> None:
    """Over TLS, with the authority that is trusted, and by a token; without it nobody is let in."""
    (tmp_path / "tokens").write_text("a-token-of-tests-1234\n", encoding="utf-8")
    tls = {"cert": str(certificate), "key": str(certificate)}
    access = {"callers": {"tests": {"token_file": "tokens", "namespaces": ["tests"]}}}
    async with sessions(tmp_path, server={"listen": "127.0.0.1:0", "tls": tls}, access=access) as daemon:
        address = daemon.process.address
        async with connect(address, ca=certificate, token="a-token-of-tests-1234") as client:  # noqa: S106
            made = await client.create("ussd", msisdn="+15550400006")
            assert made.namespace == "tests"
            async with client.session("sms") as session:
                assert [one.key async for one in client.list("type = sms")] == [session.key]
        async with connect(address, ca=certificate) as stranger:
            with pytest.raises(errors.Unauthenticated):
                await stranger.get(made.key)
        async with connect(address, timeout_s=0.5) as unencrypted:
            with pytest.raises(errors.Unavailable):
                await unencrypted.get(made.key)


async def test_a_daemon_that_is_killed_is_waited_for(tmp_path: Path, one_valkey: Server) -> None:
    """Calls that it was killed in are sent again to its successor, and are done once; a block does not notice."""
    listen = f"127.0.0.1:{free_port()}"
    store = {"url": f"{one_valkey.url}?db=2"}
    async with sessions(tmp_path, store=store, server={"listen": listen}) as daemon, connect(listen) as client:
        client._link.timeout_s = 60
        async with client.session("ussd", msisdn="+15550400005", ttl_s=30) as session:
            numbers = range(40)
            calls = [asyncio.create_task(client.create("execution", details={"number": number})) for number in numbers]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            await daemon.process.stop(signal.SIGKILL)
            restarted = asyncio.create_task(daemon.process.start())
            made = await asyncio.gather(*calls)
            await restarted
            listed = {one.key: one async for one in client.list("type = execution")}
            assert listed.keys() == {one.key for one in made}
            assert sorted(details_of(one)["number"] for one in listed.values()) == [*numbers]
            assert state_of(await client.get(session.key)) == "ACTIVE"
        assert (await client.get(session.key)).state == session_pb2.SESSION_STATE_CLOSED
