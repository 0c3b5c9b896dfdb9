"""Sessions between nodes, over the wire, requirement by requirement: P1 to P9 (of P6, the lists: test_lists)."""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from sessiond.core import keys
from sessiond.core.keys import Handshake, KeyMaterial, derived
from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from sessiond.pb.sessiond.v1.admin_service_pb2 import GetSessionPolicyRequest
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.blackbox.canaries import note
from tests.blackbox.harness import refusal
from tests.blackbox.native import Client, NativeDaemon, reason_of, said, sessions, state_of
from tests.store.servers import Server, binary_of

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
NODE_A, NODE_B = b"A" * 32, b"B" * 32
Code = grpc.StatusCode

_numbers = count(1)


def configured(folder: Path, url: str, **profile: Any) -> dict[str, Any]:
    """Return a configuration whose store may keep secrets."""
    (folder / "keys").write_text("k1:" + "QUJD" * 10 + "QUI=\n")
    return {
        "store": {"url": url},
        "encryption": {"keys_file": "keys"},
        "profiles": {
            "peer": profile,
            "quick": {"key_rotation_interval_s": 1},
            "young": {"resumption_age_s": 1},
            "shy": {"activate_within_s": 1},
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share."""
    folder = tmp_path_factory.mktemp("peers")
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    async with sessions(folder, **configured(folder, url)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


@pytest.fixture
def address() -> str:
    """Return the address of a node that no other test has."""
    return f"192.0.2.7:{next(_numbers)}"


def handshake(**fields: bytes) -> service.Handshake:
    """Return what two nodes have said to each other, with nonces that no other test has."""
    number = next(_numbers).to_bytes(16, "big")
    said_by_both = {
        "initiator_node_id": NODE_A,
        "responder_node_id": NODE_B,
        "initiator_nonce": number,
        "responder_nonce": b"\x01" + number,
        "shared_secret": note(b"\x5e" * 31 + number),
    }
    return service.Handshake(**{**said_by_both, **fields})


def other_side(shaken: service.Handshake) -> Handshake:
    """Return the handshake as the other node knows it."""
    return Handshake(
        initiator_node_id=shaken.responder_node_id,
        responder_node_id=shaken.initiator_node_id,
        initiator_nonce=shaken.responder_nonce,
        responder_nonce=shaken.initiator_nonce,
        shared_secret=shaken.shared_secret,
    )


async def connected(client: Client, kind: str = "peer", **fields: Any) -> tuple[session.Session, KeyMaterial]:
    """Return a session between two nodes that have shaken hands, and the key that the other node has come to."""
    shaken = handshake()
    answer = await client.made(said(kind, **fields), handshake=shaken)
    key, material = derived(other_side(shaken))
    note(material.secret)
    assert (answer.session.key, answer.secret.secret) == (key, material.secret)
    return answer.session, material


async def rotate(client: Client, key: str, **fields: Any) -> service.RotateSessionKeyResponse:
    """Change the key of a session."""
    answer = await client.stub.RotateSessionKey(service.RotateSessionKeyRequest(key=key, **fields))
    note(answer.secret.secret)
    return answer


async def record(client: Client, key: str, request_id: str = "", **traffic: int) -> session.Traffic:
    """Record traffic."""
    request = service.RecordTrafficRequest(key=key, traffic=session.Traffic(**traffic), request_id=request_id)
    return (await client.stub.RecordTraffic(request)).traffic


async def statistics(client: Client, key: str) -> service.GetSessionStatisticsResponse:
    """Return what a session has done."""
    return await client.stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=key))


class TestP1:
    """Ids, node ids, capabilities, address, transport."""

    async def test_a_session_has_what_was_said(self, client: Client, address: str) -> None:
        """Its key is 8 bytes, made by the service or given."""
        peer = session.Peer(node_id=NODE_B, capabilities=["frames", "rtt"], address=address, transport="udp")
        made = await client.create("peer", peer=peer)
        assert made.peer == peer
        assert len(bytes.fromhex(made.key)) == 8
        given = f"{next(_numbers):016x}"
        assert (await client.create("peer", key=given)).key == given

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"key": "0123"}, "session.key"),
            ({"key": "0123456789ABCDEF"}, "session.key"),
            ({"peer": session.Peer(node_id=b"short")}, "session.peer.node_id"),
            ({"peer": session.Peer(capabilities=["x"] * 65)}, "session.peer.capabilities"),
        ],
    )
    async def test_what_is_none_is_refused(self, client: Client, fields: dict[str, Any], field: str) -> None:
        """By the path of its field."""
        refused = await refusal(client.create("peer", **fields))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
        assert refused.fields == (field,)


class TestP2:
    """Handshake, active, closing, closed."""

    async def test_while_nodes_shake_hands_it_is_activating(self, client: Client) -> None:
        """It becomes active with what they have said, from which both derive its secret."""
        made = (await client.made(said("peer"), leave_inactive=True)).session
        assert (state_of(made), made.key_version) == ("ACTIVATING", 0)
        shaken = handshake()
        request = service.ActivateSessionRequest(key=made.key, handshake=shaken, request_id="hands")
        for _ in range(2):
            answer = await client.stub.ActivateSession(request)
            assert (state_of(answer.session), answer.session.key_version) == ("ACTIVE", 1)
            assert answer.secret.secret == note(derived(other_side(shaken))[1].secret)
        ended = await client.end(made.key)
        assert (state_of(ended), reason_of(ended)) == ("CLOSED", "CLIENT")

    async def test_a_handshake_that_never_ends_is_given_up(self, client: Client) -> None:
        """After its time the session is closed, and whoever comes with the handshake then is told."""
        made = (await client.made(said("shy"), leave_inactive=True)).session
        assert state_of(made) == "ACTIVATING"
        assert reason_of(await until_closed(client, made.key)) == "TIMED_OUT"
        shaken = service.ActivateSessionRequest(key=made.key, handshake=handshake())
        assert (await refusal(client.stub.ActivateSession(shaken))).reason == "ACTIVATION_FAILED"


class TestP3:
    """Statistics."""

    async def test_traffic_adds_up(self, client: Client) -> None:
        """Bytes and packets each way, and errors; the same record counts once."""
        key = (await client.create("peer")).key
        await record(client, key, bytes_sent=10, packets_sent=1)
        for _ in range(2):
            total = await record(client, key, "r1", bytes_received=5, send_errors=2, receive_errors=3)
        assert total == session.Traffic(
            bytes_sent=10, packets_sent=1, bytes_received=5, send_errors=2, receive_errors=3
        )
        counted = await statistics(client, key)
        assert counted.traffic == total == (await client.get(key)).traffic
        assert (counted.key, counted.state, counted.key_version) == (key, session.SESSION_STATE_ACTIVE, 0)
        assert counted.uptime.ToMilliseconds() >= 0
        assert counted.idle_time.ToMilliseconds() >= 0

    async def test_uptime_ends_with_the_session(self, client: Client) -> None:
        """What has ended is up no longer, and takes no traffic."""
        key = (await client.create("peer")).key
        ended = await client.end(key)
        up_ms = ended.end_time.ToMilliseconds() - ended.activate_time.ToMilliseconds()
        assert (await statistics(client, key)).uptime.ToMilliseconds() == up_ms
        refused = await refusal(record(client, key, bytes_sent=1))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "SESSION_ENDED")

    async def test_traffic_beyond_a_quota_is_counted_all_the_same(self, client: Client) -> None:
        """And answered with QUOTA_EXCEEDED, also when it is repeated."""
        quotas = {"bytes": session.Quota(limit=10), "packets": session.Quota(limit=1)}
        key = (await client.create("peer", quotas=quotas)).key
        await record(client, key, bytes_sent=6, bytes_received=4, packets_sent=1)
        for _ in range(2):
            refused = await refusal(record(client, key, "again", bytes_sent=1))
            assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        seen = await client.get(key)
        assert (seen.traffic.bytes_sent, seen.quotas["bytes"].used, seen.quotas["packets"].used) == (7, 11, 1)

    async def test_numbers_that_would_run_over(self, client: Client) -> None:
        """They are refused by the path of their field."""
        key = (await client.create("peer")).key
        assert (await refusal(record(client, key, bytes_sent=2**63))).fields == ("traffic.bytes_sent",)


class TestP4:
    """Key material with a version; rotation on request and on a schedule."""

    async def test_both_nodes_come_to_the_next_key(self, client: Client) -> None:
        """With a nonce that both know; the next one depends on the one before."""
        made, theirs = await connected(client)
        for version in (2, 3):
            nonce = bytes([version]) * 32
            answer = await rotate(client, made.key, nonce=nonce)
            theirs = keys.rotated(made.key, theirs, nonce)
            assert (answer.secret.key_version, answer.secret.secret) == (version, theirs.secret)
            assert (answer.nonce, answer.HasField("key_rotation_time")) == (nonce, False)
        assert (await client.get(made.key)).key_version == 3

    async def test_the_service_makes_a_nonce(self, client: Client) -> None:
        """If none is given, and tells it; a session that had no key has one then."""
        made, theirs = await connected(client)
        answer = await rotate(client, made.key)
        assert answer.secret.secret == keys.rotated(made.key, theirs, answer.nonce).secret
        bare = (await client.create("peer")).key
        first = await rotate(client, bare)
        assert (first.secret.key_version, len(first.secret.secret), len(first.nonce)) == (1, 32, 32)

    async def test_the_same_request_is_answered_with_the_same_key(self, client: Client) -> None:
        """As long as it is the key of the session; once it was changed, its secret is told to nobody."""
        made, _ = await connected(client)
        answers = [await rotate(client, made.key, request_id="once") for _ in range(2)]
        assert answers[0] == answers[1]
        await rotate(client, made.key)
        refused = await refusal(rotate(client, made.key, request_id="once"))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "KEY_ROTATED_SINCE")
        assert (await client.get(made.key)).key_version == 3

    async def test_a_key_changes_by_itself(self, client: Client) -> None:
        """When its time has come; both nodes make that one without a word."""
        made, theirs = await connected(client, "quick")
        assert made.HasField("key_rotation_time")
        changed = await until_version(client, made.key, 2)
        assert changed.etag != made.etag
        theirs = keys.rotated(made.key, theirs)
        nonce = b"n" * 32
        answer = await rotate(client, made.key, nonce=nonce)
        while theirs.version < answer.secret.key_version - 1:
            theirs = keys.rotated(made.key, theirs)
        assert answer.secret.secret == keys.rotated(made.key, theirs, nonce).secret
        assert answer.key_rotation_time.ToMilliseconds() > made.key_rotation_time.ToMilliseconds()
        admin = AdminServiceStub(client.channel)
        policy = await admin.GetSessionPolicy(GetSessionPolicyRequest(key=made.key))
        assert 10 in {timer.kind for timer in policy.timers}
        await client.end(made.key)

    async def test_a_new_key_is_news_and_its_secret_is_not(self, client: Client) -> None:
        """Who watches hears that the key was changed, on request and by itself."""
        made, theirs = await connected(client, "quick")
        watch: Any = client.stub.WatchSessions(service.WatchSessionsRequest(filter=f'key = "{made.key}"'))
        await watch.read()
        await rotate(client, made.key)
        rotations: list[int] = []
        while len(rotations) < 2:
            message = await watch.read()
            assert theirs.secret not in message.SerializeToString()
            if service.SESSION_EVENT_KIND_KEY_ROTATED in message.event.kinds:
                rotations.append(message.event.session.key_version)
        assert rotations == sorted(rotations)
        watch.cancel()
        await client.end(made.key)

    async def test_no_session_shows_its_secret(self, client: Client) -> None:
        """Neither when it is read, nor when it is changed or ended."""
        made, theirs = await connected(client)
        messages = [made, await client.get(made.key), await client.touch(made.key), await client.end(made.key)]
        assert not any(theirs.secret in message.SerializeToString() for message in messages)

    @pytest.mark.parametrize("nonce", [b"short", b"x" * 33])
    async def test_what_is_no_nonce(self, client: Client, nonce: bytes) -> None:
        """It has 32 bytes."""
        key = (await client.create("peer")).key
        assert (await refusal(rotate(client, key, nonce=nonce))).fields == ("nonce",)

    async def test_an_ended_session_gets_no_key(self, client: Client) -> None:
        """It is over."""
        made, _ = await connected(client)
        await client.end(made.key)
        assert (await refusal(rotate(client, made.key))).reason == "SESSION_ENDED"


class TestP5:
    """Id and key are derived from both nonces and both node ids."""

    async def test_the_same_handshake_makes_the_same_session(self, client: Client, address: str) -> None:
        """Told by either node, it is the same id; repeated, the same answer; without a request id, it is taken."""
        shaken = handshake()
        wanted = said("peer", peer=session.Peer(node_id=NODE_B, address=address))
        answers = [await client.made(wanted, handshake=shaken, request_id=f"{address} made") for _ in range(2)]
        assert answers[0].session.key == answers[1].session.key
        assert answers[0].secret == answers[1].secret
        note(answers[0].secret.secret)
        seen_from_there = service.Handshake(
            initiator_node_id=NODE_B,
            responder_node_id=NODE_A,
            initiator_nonce=shaken.responder_nonce,
            responder_nonce=shaken.initiator_nonce,
            shared_secret=shaken.shared_secret,
        )
        refused = await refusal(client.made(said("peer"), handshake=seen_from_there))
        assert (refused.code, refused.reason) == (Code.ALREADY_EXISTS, "SESSION_EXISTS")

    async def test_another_handshake_makes_another(self, client: Client) -> None:
        """Another nonce, node or shared secret changes id and secret."""
        (one, first), (other, second) = await connected(client), await connected(client)
        assert one.key != other.key
        assert first.secret != second.secret

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"initiator_node_id": b"x"}, "handshake.initiator_node_id"),
            ({"responder_node_id": NODE_A}, "handshake.responder_node_id"),
            ({"responder_nonce": b"x"}, "handshake.responder_nonce"),
            ({"shared_secret": b"x"}, "handshake.shared_secret"),
        ],
    )
    async def test_what_is_no_handshake(self, client: Client, wrong: dict[str, bytes], field: str) -> None:
        """It is refused by the path of its field."""
        refused = await refusal(client.made(said("peer"), handshake=handshake(**wrong)))
        assert (refused.code, refused.fields) == (Code.INVALID_ARGUMENT, (field,))

    async def test_what_contradicts_a_handshake(self, client: Client) -> None:
        """Another key, and another node, than it leads to."""
        refused = await refusal(client.made(said("peer", key="0123456789abcdef"), handshake=handshake()))
        assert refused.fields == ("session.key",)
        stranger = said("peer", peer=session.Peer(node_id=b"C" * 32))
        assert (await refusal(client.made(stranger, handshake=handshake()))).fields == ("session.peer.node_id",)


class TestP7:
    """Idle sessions are found and closed; health is visible."""

    async def test_five_minutes_are_the_default(self, client: Client) -> None:
        """A session between nodes has no other end than that nobody uses it."""
        made = await client.create("peer")
        assert made.idle_timeout.seconds == 300
        assert not made.HasField("expire_time")

    async def test_what_nobody_uses_is_closed(self, client: Client, address: str) -> None:
        """By itself, not before its time, for that reason; its address is free again."""
        peer = session.Peer(address=address)
        made = await client.create("peer", idle_timeout=Duration(nanos=200_000_000), peer=peer)
        ended = await until_closed(client, made.key)
        assert reason_of(ended) == "IDLE"
        assert ended.end_time.ToMilliseconds() - made.last_activity_time.ToMilliseconds() >= 200
        lookup = service.GetSessionRequest(peer_address=address)
        assert (await refusal(client.stub.GetSession(lookup))).reason == "SESSION_NOT_FOUND"
        assert (await client.create("peer", peer=peer)).key != made.key

    @pytest.mark.parametrize("use", ["get", "traffic"])
    async def test_use_keeps_it(self, client: Client, use: str) -> None:
        """A read or traffic is use; it is closed that long after the last one."""
        made = await client.create("peer", idle_timeout=Duration(seconds=1))
        half_ms = made.last_activity_time.ToMilliseconds() + 500
        while (await client.create("sms")).create_time.ToMilliseconds() < half_ms:
            pass  # its time is half over
        if use == "get":
            await client.get(made.key)
        else:
            await record(client, made.key, bytes_received=1)
        used = await client.get(made.key, peek=True)
        assert used.last_activity_time.ToMilliseconds() >= half_ms
        ended = await until_closed(client, made.key)
        assert ended.end_time.ToMilliseconds() - used.last_activity_time.ToMilliseconds() >= 1000

    async def test_health_is_visible(self, client: Client, address: str) -> None:
        """How long it has been up and idle, what went wrong on it, and which ones were closed for being idle."""
        made = await client.create("peer", idle_timeout=Duration(nanos=300_000_000), peer=session.Peer(address=address))
        await record(client, made.key, send_errors=2, receive_errors=1)
        healthy = await statistics(client, made.key)
        assert (healthy.state, healthy.traffic.send_errors, healthy.traffic.receive_errors) == (made.state, 2, 1)
        while (later := await statistics(client, made.key)).idle_time.ToMilliseconds() == 0:
            assert later.state == made.state
        assert later.uptime.ToMilliseconds() >= later.idle_time.ToMilliseconds()
        await until_closed(client, made.key)
        narrowed = f'end_reason = IDLE AND peer.address = "{address}"'
        listed = await client.stub.ListSessions(service.ListSessionsRequest(filter=narrowed))
        assert [one.key for one in listed.sessions] == [made.key]


class TestP8:
    """Get or create by the address of the node."""

    async def test_there_is_one_per_address(self, client: Client, address: str) -> None:
        """The active one is given again; when it has ended, there is a new one."""
        wanted = said("peer", peer=session.Peer(address=address))
        first = await client.made(wanted, reuse_active=True)
        again = await client.made(wanted, reuse_active=True)
        assert (first.created, again.created) == (True, False)
        assert again.session.key == first.session.key
        lookup = service.GetSessionRequest(peer_address=address)
        assert (await client.stub.GetSession(lookup)).session.key == first.session.key
        refused = await refusal(client.made(wanted))
        assert refused.code is Code.ALREADY_EXISTS
        await client.end(first.session.key)
        assert (await refusal(client.stub.GetSession(lookup))).reason == "SESSION_NOT_FOUND"
        assert (await client.made(wanted, reuse_active=True)).created

    async def test_a_handshake_with_who_is_there_tells_no_secret(self, client: Client, address: str) -> None:
        """The session that is there has another key."""
        wanted = said("peer", peer=session.Peer(address=address))
        first = await client.made(wanted, reuse_active=True, handshake=handshake())
        note(first.secret.secret)
        again = await client.made(wanted, reuse_active=True, handshake=handshake())
        assert (again.session.key, again.HasField("secret")) == (first.session.key, False)


class TestP9:
    """A session is resumed by token."""

    async def test_who_has_the_token_goes_on(self, client: Client) -> None:
        """Whatever transport it comes on; both nodes have the token without having been told."""
        made, theirs = await connected(client, peer=session.Peer(node_id=NODE_B, transport="udp"))
        token = note(keys.resumption_token(theirs))
        resumed = await resume(client, made.key, token, transport="tcp")
        assert (state_of(resumed), resumed.peer.transport, resumed.peer.previous_transport) == ("ACTIVE", "tcp", "udp")
        await client.pause(made.key)
        resumed = await resume(client, made.key, token)
        assert (state_of(resumed), resumed.peer.transport, resumed.peer.resumptions) == ("ACTIVE", "tcp", 2)

    async def test_who_has_not_is_refused(self, client: Client) -> None:
        """A wrong token, that of the key before, and one for a session without a key."""
        made, theirs = await connected(client)
        token = note(keys.resumption_token(theirs))
        bare = (await client.create("peer")).key
        await rotate(client, made.key)
        for key, wrong in ((made.key, token), (made.key, b"x"), (bare, token)):
            refused = await refusal(resume(client, key, wrong))
            assert (refused.code, refused.reason) == (Code.PERMISSION_DENIED, "RESUMPTION_TOKEN_INVALID")

    async def test_a_key_that_is_too_old_resumes_nothing(self, client: Client) -> None:
        """After the time that its profile says the nodes have to shake hands again."""
        made, theirs = await connected(client, "young")
        token = note(keys.resumption_token(theirs))
        reasons = {"": True}
        while "RESUMPTION_EXPIRED" not in reasons:
            try:
                await resume(client, made.key, token)
            except grpc.aio.AioRpcError:
                reasons[(await refusal(resume(client, made.key, token))).reason] = True


async def resume(client: Client, key: str, token: bytes, **fields: Any) -> session.Session:
    """Resume a session by token."""
    request = service.ResumeSessionRequest(key=key, resumption_token=token, **fields)
    return (await client.stub.ResumeSession(request)).session


async def until_version(client: Client, key: str, version: int) -> session.Session:
    """Return a session as soon as its key has a version; each look is a call that takes its time."""
    while (seen := await client.get(key, peek=True)).key_version < version:
        pass
    return seen


async def until_closed(client: Client, key: str) -> session.Session:
    """Return a session as soon as it is closed; each look is a call that takes its time."""
    while state_of(seen := await client.get(key, peek=True)) != "CLOSED":
        pass
    return seen


async def test_p4_keys_outlive_a_restart_and_are_never_stored_in_clear(tmp_path: Path) -> None:
    """After kill -9 the next key still follows from the one before, and its time still comes."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    try:
        async with sessions(tmp_path, **configured(tmp_path, server.start().url)) as daemon:
            client = daemon.client()
            made, theirs = await connected(client)
            quick, _ = await connected(client, "quick")
            stored = str(server.client().hgetall(f"session:{{{made.key}}}"))
            assert "sealed:k1:" in stored
            for secret in (theirs.secret, keys.resumption_token(theirs)):
                assert secret.hex() not in stored
                assert repr(secret)[2:-1] not in stored
            await daemon.process.stop(9)  # type: ignore[arg-type]
            await daemon.process.start()
            client = daemon.client()
            answer = await rotate(client, made.key, nonce=b"n" * 32)
            assert answer.secret.secret == keys.rotated(made.key, theirs, b"n" * 32).secret
            await until_version(client, quick.key, 2)
    finally:
        server.stop()
