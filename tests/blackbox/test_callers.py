"""Who may call, over the wire: tokens and certificates, namespaces, and every method of our own API (L5)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from sessiond.pb.ma.streaming.api.v1.api_pb2 import CreateSessionRequest as CreateStream
from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_service_pb2
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.blackbox.canaries import canary
from tests.blackbox.harness import Refusal, refusal
from tests.blackbox.native import Client, NativeDaemon, details_of, said, sessions
from tests.certificate import make_certificate

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
TOKENS: Final = {name: canary(f"token-of-{name}") for name in ("billing", "support", "admin", "operator")}
SERVICES: Final = (
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
METHODS: Final = [method for offered in SERVICES for method in offered.methods]
Code = grpc.StatusCode


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that knows three callers, and nobody else."""
    folder = tmp_path_factory.mktemp("callers")
    for name, token in TOKENS.items():
        (folder / name).write_text(f"{token}\n")
    callers: dict[str, Any] = {
        "billing": {"token_file": "billing", "namespaces": ["billing", "pay-*"]},
        "support": {"token_file": "support", "namespaces": ["support"], "readable_namespaces": ["billing"]},
        "admin": {"token_file": "admin", "namespaces": ["*"]},
        "operator": {"token_file": "operator", "operator": True},
    }
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    (folder / "keys").write_text("k1:" + "QUJD" * 10 + "QUI=\n")
    config = {"store": {"url": url}, "access": {"callers": callers}, "encryption": {"keys_file": "keys"}}
    async with sessions(folder, **config) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def billing(daemon: NativeDaemon) -> Client:
    """Give the caller whose sessions these are."""
    return daemon.client(TOKENS["billing"])


@pytest_asyncio.fixture(loop_scope="module")
async def support(daemon: NativeDaemon) -> Client:
    """Give a caller who may only read them."""
    return daemon.client(TOKENS["support"])


@pytest_asyncio.fixture(loop_scope="module")
async def admin(daemon: NativeDaemon) -> Client:
    """Give the operator."""
    return daemon.client(TOKENS["admin"])


def unknown(refused: Refusal) -> bool:
    """Whether it is not known who calls."""
    return (refused.code, refused.reason) == (Code.UNAUTHENTICATED, "CALLER_UNKNOWN")


async def called(client: Client, method: Any) -> Refusal:
    """Return how a method answers an empty request that it cannot carry out."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request = GetMessageClass(method.input_type)()
    if method.server_streaming:
        watch: aio.UnaryStreamMultiCallable[bytes, bytes] = client.channel.unary_stream(path)
        return await refusal(watch(request.SerializeToString()).read())
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(path)
    return await refusal(call(request.SerializeToString()))


class TestL5:
    """Namespaces are bound to who calls."""

    @pytest.mark.parametrize("method", METHODS, ids=lambda method: str(method.name))
    async def test_nobody_calls_anything_unknown(self, daemon: NativeDaemon, method: Any) -> None:
        """Every method of both services wants to know who calls, before all else."""
        assert unknown(await called(daemon.client(), method))
        assert unknown(await called(daemon.client("wrong"), method))

    @pytest.mark.parametrize("method", list(SERVICES[1].methods), ids=lambda method: str(method.name))
    async def test_only_operators_run_the_daemon(self, billing: Client, method: Any) -> None:
        """Everybody else is refused by every method."""
        refused = await called(billing, method)
        assert (refused.code, refused.reason) == (Code.PERMISSION_DENIED, "PERMISSION_DENIED")

    async def test_an_operator_runs_the_daemon(self, daemon: NativeDaemon, billing: Client) -> None:
        """He is answered, and drains what he could not even get: that is not bound to namespaces."""
        operator = daemon.client(TOKENS["operator"])
        admin = AdminServiceStub(operator.channel)
        assert (await admin.GetStatus(admin_service_pb2.GetStatusRequest())).ready
        key = (await billing.create("ussd", namespace="pay-drained")).key
        assert (await refusal(operator.get(key))).reason == "SESSION_NOT_FOUND"
        drained = await admin.DrainSessions(admin_service_pb2.DrainSessionsRequest(filter='namespace = "pay-drained"'))
        assert (drained.matched, drained.closed) == (1, 1)
        assert (await billing.get(key)).state == session_pb2.SESSION_STATE_CLOSED

    async def test_other_surfaces_ask_nobody(self, daemon: NativeDaemon) -> None:
        """Their callers cannot say who they are."""
        stub = SessionManagementServiceStub(daemon.client().channel)
        assert (await stub.CreateSession(CreateStream(data_source="Car"))).success

    async def test_sessions_are_made_at_home(self, billing: Client, admin: Client) -> None:
        """In the caller's first namespace if it says none, in one of its own if it does, and nowhere else."""
        assert (await billing.create("ussd")).namespace == "billing"
        assert (await billing.create("ussd", namespace="pay-2")).namespace == "pay-2"
        assert (await admin.create("ussd")).namespace == "default"
        refused = await refusal(billing.create("ussd", namespace="support"))
        assert (refused.code, refused.reason) == (Code.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert refused.fields == ("session.namespace",)

    async def test_request_ids_are_each_callers_own(self, billing: Client, support: Client, admin: Client) -> None:
        """The same id, chosen by several callers who name no namespace, makes a session for each."""
        answers = [await client.made(said("ussd"), request_id="mine") for client in (billing, support, admin)]
        assert [answer.created for answer in answers] == [True] * 3
        assert len({answer.session.key for answer in answers}) == 3
        assert (await support.made(said("ussd"), request_id="mine")).session.key == answers[1].session.key

    async def test_a_key_that_is_taken_is_taken_for_everybody(self, billing: Client, support: Client) -> None:
        """Whose it is does not matter, nor whether the request has an id."""
        for owner, other in ((support, billing), (billing, support)):
            key = (await owner.made(said("ussd"), request_id="taken")).session.key
            for request_id in ("", "taken", "another"):
                refused = await refusal(other.made(said("ussd", key=key), request_id=request_id))
                assert (refused.code, refused.reason) == (Code.ALREADY_EXISTS, "SESSION_EXISTS")

    async def test_the_default_namespace_has_a_name(self, admin: Client) -> None:
        """A session that was made without a namespace is found by it, and it can be said again."""
        made = await admin.create("ussd")
        assert made.namespace == "default"
        found = f'key = "{made.key}" AND namespace = "default"'
        listed = await admin.stub.ListSessions(service.ListSessionsRequest(filter=found))
        assert [session.key for session in listed.sessions] == [made.key]
        assert (await admin.update(made.key, namespace="default", identifier="a")).identifier == "a"
        assert (await refusal(admin.update(made.key, namespace="other"))).reason == "FIELD_IMMUTABLE"

    async def test_sessions_reach_no_further_than_their_makers(self, support: Client) -> None:
        """Nobody gets through a session what he may not do himself."""
        await support.create("ussd", isolation=session_pb2.Isolation(readable_namespaces=["billing"]))
        reaching = {
            "readable_namespaces": session_pb2.Isolation(readable_namespaces=["voice"]),
            "writable_namespaces": session_pb2.Isolation(writable_namespaces=["billing"]),
        }
        for field, isolation in reaching.items():
            refused = await refusal(support.create("ussd", isolation=isolation))
            assert (refused.code, refused.fields) == (Code.PERMISSION_DENIED, (f"session.isolation.{field}",))

    async def test_what_is_only_readable_is_read(self, billing: Client, support: Client) -> None:
        """It is found, and nothing of it can be changed; what is sensitive stays hidden."""
        made = await billing.create("ussd", details={"pin": canary("pin"), "step": "1"}, sensitive_details=["pin"])
        assert details_of(await support.get(made.key)) == {"pin": "***", "step": "1"}
        assert details_of(await billing.get(made.key))["pin"].startswith("CANARY")
        for refused in [await refusal(change) for change in changes(support, made.key)]:
            assert (refused.code, refused.reason) == (Code.PERMISSION_DENIED, "PERMISSION_DENIED")

    async def test_what_is_not_readable_is_not_there(self, billing: Client, support: Client, admin: Client) -> None:
        """It is not found by anybody else, whatever is wanted of it; the operator finds it."""
        key = (await support.create("ussd", msisdn="+15550001111")).key
        there = [await refusal(call) for call in (billing.get(key), *changes(billing, key))]
        nowhere = [await refusal(call) for call in (billing.get("nobody"), *changes(billing, "nobody"))]
        assert [(one.code, one.reason) for one in there] == [(one.code, one.reason) for one in nowhere]
        assert {one.reason for one in there} == {"SESSION_NOT_FOUND"}
        assert {one.text.replace(key, "") for one in there} == {one.text.replace("nobody", "") for one in nowhere}
        lookup = service.ActiveLookup(msisdn="+15550001111", type="ussd")
        wanted = service.GetSessionRequest(active=lookup)
        assert (await refusal(billing.stub.GetSession(wanted))).reason == "SESSION_NOT_FOUND"
        assert (await admin.stub.GetSession(wanted)).session.key == key
        await admin.end(key)

    async def test_lists_and_counts_have_what_the_caller_may_see(
        self, billing: Client, support: Client, admin: Client
    ) -> None:
        """Whatever the filter says: each caller is told of its own and of what it may read."""
        data_source = canary("source")
        mine = (
            await billing.create("ussd", data_source=data_source, details={"pin": "1"}, sensitive_details=["pin"])
        ).key
        theirs = (await support.create("ussd", data_source=data_source)).key
        for client, expected in ((billing, {mine}), (support, {mine, theirs}), (admin, {mine, theirs})):
            for narrowed in (f'data_source = "{data_source}"', f'data_source = "{data_source}" AND state = ACTIVE'):
                listed = await client.stub.ListSessions(service.ListSessionsRequest(filter=narrowed))
                assert {session.key for session in listed.sessions} == expected
                assert {details_of(session).get("pin", "***") for session in listed.sessions} == {"***"}
                counted = await client.stub.GetStatistics(service.GetStatisticsRequest(filter=narrowed))
                assert counted.total == len(expected)
        one = await billing.stub.ListSessions(service.ListSessionsRequest(filter=f'key = "{theirs}"'))
        assert list(one.sessions) == []

    async def test_watchers_are_told_of_what_they_may_see(
        self, billing: Client, support: Client, admin: Client
    ) -> None:
        """Each hears of its own sessions and of those it may read; what is sensitive is nobody's news."""
        data_source = canary("watched")
        request = service.WatchSessionsRequest(filter=f'data_source = "{data_source}"')
        clients = {"billing": billing, "support": support, "admin": admin}
        watches: dict[str, Any] = {name: client.stub.WatchSessions(request) for name, client in clients.items()}
        for watch in watches.values():
            assert (await watch.read()).WhichOneof("update") in {None, "heartbeat"}
        secret: dict[str, Any] = {"details": {"pin": canary("pin")}, "sensitive_details": ["pin"]}
        theirs = (await support.create("ussd", data_source=data_source, **secret)).key
        mine = (await billing.create("ussd", data_source=data_source, **secret)).key
        heard = {name: await news_until(watch, mine) for name, watch in watches.items()}
        assert {name: [event.session.key for event in events] for name, events in heard.items()} == {
            "billing": [mine],
            "support": [theirs, mine],
            "admin": [theirs, mine],
        }
        assert {details_of(event.session)["pin"] for events in heard.values() for event in events} == {"***"}
        for watch in watches.values():
            watch.cancel()

    async def test_who_acts_for_a_session_must_own_it(self, billing: Client, support: Client) -> None:
        """Nobody makes a session in the name of one that is not his."""
        key = (await billing.create("execution")).key
        refused = await refusal(support.create("execution", parent_key=key))
        assert refused.code is Code.PERMISSION_DENIED

    async def test_associates_of_others_are_passed_over(self, billing: Client, support: Client, admin: Client) -> None:
        """An end goes on to those associates only that the caller may end."""
        theirs = (await support.create("ussd")).key
        mine = (await billing.create("ussd")).key
        top = (await billing.create("ussd", associate_keys=[theirs, mine])).key
        ended = await billing.stub.EndSession(service.EndSessionRequest(key=top, end_associates=True))
        assert list(ended.ended_associate_keys) == [mine]
        assert (await admin.get(theirs)).state == session_pb2.SESSION_STATE_ACTIVE


async def news_until(watch: Any, key: str) -> list[service.SessionEvent]:
    """Return what a watcher hears up to the first news of a session."""
    heard: list[service.SessionEvent] = []
    while not heard or heard[-1].session.key != key:
        message = await watch.read()
        if message.HasField("event"):
            heard.append(message.event)
    return heard


def changes(client: Client, key: str) -> list[Any]:
    """Return a call of every method that changes a session, or what belongs to it."""
    stub = client.stub
    return [
        client.update(key, identifier="x"),
        client.end(key),
        client.delete(key, force=True),
        client.activate(key),
        client.pause(key),
        client.resume(key),
        client.touch(key),
        client.associate(key, "other"),
        stub.AuthorizeExecution(service.AuthorizeExecutionRequest(key=key, operation=service.OPERATION_EXECUTE)),
        stub.RecordTraffic(service.RecordTrafficRequest(key=key)),
        stub.RotateSessionKey(service.RotateSessionKeyRequest(key=key)),
    ]


async def test_l5_certificates_say_who_calls(tmp_path: Path) -> None:
    """A SPIFFE id or a common name binds a caller to its namespaces; a certificate nobody knows is no caller."""
    names = {"billing": "URI:spiffe://example.org/billing", "support": "DNS:x", "stranger": "DNS:y"}
    server = make_certificate(tmp_path)
    pem = {name: make_certificate(tmp_path, alternative, name).read_bytes() for name, alternative in names.items()}
    authority = tmp_path / "authority.pem"
    authority.write_bytes(b"".join((server.read_bytes(), *pem.values())))
    callers = {
        "billing": {"identities": ["spiffe://example.org/billing"], "namespaces": ["billing"]},
        "support": {"identities": ["CN=support"], "readable_namespaces": ["billing"]},
    }
    tls = {"cert": str(server), "key": str(server), "client_ca": str(authority)}
    config = {"server": {"listen": "127.0.0.1:0", "tls": tls}, "access": {"callers": callers}}
    async with sessions(tmp_path, **config) as daemon:
        address = f"localhost:{daemon.process.address.rpartition(':')[2]}"
        clients = {
            name: Client(address, credentials=grpc.ssl_channel_credentials(server.read_bytes(), octets, octets))
            for name, octets in pem.items()
        }
        made = (await clients["billing"].made(said("ussd"))).session
        assert made.namespace == "billing"
        assert (await clients["support"].get(made.key)).key == made.key
        assert (await refusal(clients["support"].create("ussd"))).code is Code.PERMISSION_DENIED
        assert unknown(await refusal(clients["stranger"].get(made.key)))
        for client in clients.values():
            await client.close()


async def test_tokens_are_changed_while_running(tmp_path: Path) -> None:
    """After a reload the new ones count, and the old ones do not."""
    old, new = canary("token-old"), canary("token-new")
    (tmp_path / "tokens").write_text(old)
    access = {"callers": {"billing": {"token_file": "tokens", "namespaces": ["billing"]}}}
    async with sessions(tmp_path, access=access) as daemon:
        key = (await daemon.client(old).create("ussd")).key
        (tmp_path / "tokens").write_text(f"{new}\n")
        daemon.reload()
        await daemon.process.logged("reloaded")
        assert unknown(await refusal(daemon.client(old).get(key)))
        assert (await daemon.client(new).get(key)).key == key


async def test_everybody_calls_by_default(tmp_path: Path) -> None:
    """On an address of this machine nobody is asked; a caller that is named closes it, unless it is said to be open."""
    (tmp_path / "tokens").write_text(canary("token"))
    access = {"open": True, "callers": {"billing": {"token_file": "tokens", "namespaces": ["billing"]}}}
    async with sessions(tmp_path, access=access) as daemon:
        key = (await daemon.client().create("ussd", namespace="billing")).key
        assert unknown(await refusal(daemon.client("wrong").get(key)))
