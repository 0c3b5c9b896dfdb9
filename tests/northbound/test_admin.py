"""AdminService over a real server: what an operator asks, and how mistakes are answered."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status as StatusMessage
from prometheus_client import CollectorRegistry

from sessiond.app.delivery import FIRST_RETRY_MS
from sessiond.app.resync import Readiness
from sessiond.core.errors import InvalidArgument
from sessiond.core.lifecycle import State
from sessiond.northbound.native.services import services
from sessiond.northbound.operations import PeerState, PeerStatus, Reloaded, Status, StoreStatus
from sessiond.northbound.server import Server
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from sessiond.testing.gateway import SimulatedGateway
from sessiond.testing.peers import unreachable
from tests.app.scenes import VIDEO, gateway, ue

STATUS = Status(
    version="9.9",
    started_at_ms=1_700_000_000_000,
    ready=True,
    draining=False,
    log_level="WARNING",
    config_file="/etc/sessiond.yml",
    config_loaded_at_ms=1_700_000_001_000,
    store=StoreStatus(
        kind="redis",
        url="redis://store:6379/0",
        connected=False,
        survives=("restart of the daemon",),
        epoch=7,
        last_error="refused",
    ),
    peers=[
        PeerStatus(name="session_proxy", address="a:1", state=PeerState.FAILING, last_error="away", pending=4),
        PeerStatus(name="pipelined", address="b:2", state=PeerState.CONNECTED, last_answer_ms=1_700_000_002_000),
        PeerStatus(name="mme"),
    ],
    setup=Readiness.SETTING_UP,
    states={State.ACTIVE: 3},
    pending=5,
    watchers=6,
    next_timer_ms=1_700_000_003_000,
)


class Operations:
    """Operations that remember what they were asked."""

    def __init__(self) -> None:
        self.started_at_s = 1_700_000_000
        self.device_id = "device"
        self.registry = CollectorRegistry()
        self.levels: list[tuple[str | None, int]] = []
        self.reloads: list[bool] = []
        self.refusal: InvalidArgument | None = None
        self.stopped = False

    def status(self) -> Status:
        """Return a status with something everywhere."""
        return STATUS

    def stop(self) -> None:
        """Remember that."""
        self.stopped = True

    def set_log_level(self, level: str | None, duration_ms: int = 0) -> str:
        """Remember that; it was INFO before."""
        self.levels.append((level, duration_ms))
        return "INFO"

    async def reload(self, *, validate_only: bool = False) -> Reloaded:
        """Remember that; refuse if the test wants it."""
        self.reloads.append(validate_only)
        if self.refusal is not None:
            raise self.refusal
        return Reloaded(("log_level",), ("store.url",))


class World:
    """A server of our own API over a simulated gateway."""

    def __init__(self, whole: SimulatedGateway, operations: Operations, admin: AdminServiceStub) -> None:
        self.whole = whole
        self.operations = operations
        self.admin = admin


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Serve, and give a client."""
    async with gateway() as whole:
        operations = Operations()
        offered = list(services(whole.application, whole.circumstances, operations))
        server = Server([add for _, add in offered], [name for name, _ in offered], reflect=False)
        port = await server.listen("127.0.0.1:0", None)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield World(whole, operations, AdminServiceStub(channel))
        await server.close(0.1)


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, list[tuple[str, str]]]:
    """Return status, reason and violations of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reason, violations = "", list[tuple[str, str]]()
    for key, value in caught.value.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in StatusMessage.FromString(value).details:
                info, request = ErrorInfo(), BadRequest()
                if detail.Unpack(info):
                    reason = info.reason
                elif detail.Unpack(request):
                    violations = [(one.field, one.description) for one in request.field_violations]
    return caught.value.code(), reason, violations


async def test_status_shows_everything(world: World) -> None:
    """All that the daemon says of itself reaches the operator; every state is listed, with zero too."""
    answer = await world.admin.GetStatus(admin_service_pb2.GetStatusRequest())
    assert (answer.version, answer.ready, answer.draining, answer.config_file) == (
        "9.9",
        True,
        False,
        "/etc/sessiond.yml",
    )
    assert answer.start_time.seconds == 1_700_000_000
    assert answer.config_load_time.seconds == 1_700_000_001
    assert answer.next_timer_time.seconds == 1_700_000_003
    assert answer.log_level == admin_service_pb2.LOG_LEVEL_WARNING
    assert (answer.store.kind, answer.store.url, answer.store.connected) == ("redis", "redis://store:6379/0", False)
    assert (list(answer.store.survives), answer.store.exclusive, answer.store.epoch) == (
        ["restart of the daemon"],
        True,
        7,
    )
    assert answer.store.last_error == "refused"
    assert [(peer.name, peer.address, peer.state, peer.last_error, peer.pending_requests) for peer in answer.peers] == [
        ("session_proxy", "a:1", admin_service_pb2.PEER_STATE_FAILING, "away", 4),
        ("pipelined", "b:2", admin_service_pb2.PEER_STATE_CONNECTED, "", 0),
        ("mme", "", admin_service_pb2.PEER_STATE_ABSENT, "", 0),
    ]
    assert [peer.HasField("last_answer_time") for peer in answer.peers] == [False, True, False]
    assert answer.pipelined_setup == admin_service_pb2.SETUP_STATE_SETTING_UP
    assert {count.state: count.count for count in answer.states} == {
        state: 3 if state == session_pb2.SESSION_STATE_ACTIVE else 0
        for state in session_pb2.SessionState.values()
        if state != session_pb2.SESSION_STATE_UNSPECIFIED
    }
    assert (answer.pending_requests, answer.watchers) == (5, 6)


async def test_log_level_is_set_for_some_time(world: World) -> None:
    """Level and duration reach the daemon, and the answer says what it was before."""
    request = admin_service_pb2.SetLogLevelRequest(
        level=admin_service_pb2.LOG_LEVEL_DEBUG, duration=Duration(seconds=60)
    )
    answer = await world.admin.SetLogLevel(request)
    assert answer.previous_level == admin_service_pb2.LOG_LEVEL_INFO
    assert world.operations.levels == [("DEBUG", 60_000)]


async def test_log_level_that_cannot_be(world: World) -> None:
    """It is refused, and nothing is set."""
    request = admin_service_pb2.SetLogLevelRequest(level=admin_service_pb2.LogLevel.ValueType(77))
    code, reason, violations = await refusal(world.admin.SetLogLevel(request))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LOG_LEVEL_UNKNOWN")
    assert [field for field, _ in violations] == ["level"]
    assert world.operations.levels == []


@pytest.mark.parametrize("validate_only", [False, True])
async def test_reload_says_what_changes(world: World, validate_only: bool) -> None:
    """The keys that are in force now, and those that wait."""
    answer = await world.admin.ReloadConfig(admin_service_pb2.ReloadConfigRequest(validate_only=validate_only))
    assert (list(answer.changed_keys), list(answer.restart_keys)) == (["log_level"], ["store.url"])
    assert world.operations.reloads == [validate_only]


async def test_reload_of_a_broken_configuration(world: World) -> None:
    """Each problem is a violation; of very many, as many are told as fit into an answer."""
    problems = [(f"key{number}", f"sessiond.yml:{number}: {'x' * 1000}") for number in range(100)]
    world.operations.refusal = InvalidArgument("INVALID_CONFIGURATION", "broken", violations=problems)
    code, reason, violations = await refusal(world.admin.ReloadConfig(admin_service_pb2.ReloadConfigRequest()))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert [field for field, _ in violations] == [field for field, _ in problems[:20]]
    assert violations[3][1].startswith("sessiond.yml:3: xxx")


async def test_policy_of_a_session(world: World) -> None:
    """A session is found by its key, as long as anything is left to be done for it."""
    world.whole.policy.script("create", VIDEO)
    key = await world.whole.attach(ue())
    answer = await world.admin.GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest(key=key))
    assert (answer.session.key, [rule.id for rule in answer.rules]) == (key, ["video"])
    assert answer.rules[0].rating_group == 1


async def test_what_a_peer_does_not_take(world: World) -> None:
    """A request that failed is shown with its attempts, its error and when it is made again, until it is taken."""
    world.whole.policy.script("create", VIDEO)
    world.whole.data_plane.script("activate", unreachable(), unreachable())
    key = await world.whole.attach(ue())
    ask = admin_service_pb2.GetSessionPolicyRequest(key=key)
    (failed,) = (await world.admin.GetSessionPolicy(ask)).pending_requests
    assert (failed.method, failed.attempts) == ("/magma.lte.Pipelined/ActivateFlows", 1)
    assert failed.last_error.startswith("UNAVAILABLE: ")
    assert failed.next_attempt_time.ToMilliseconds() == world.whole.clock.now_ms() + FIRST_RETRY_MS
    await world.whole.advance(FIRST_RETRY_MS)
    assert (await world.admin.GetSessionPolicy(ask)).pending_requests[0].attempts == 2
    await world.whole.advance(60_000)
    assert not (await world.admin.GetSessionPolicy(ask)).pending_requests


async def test_policy_of_no_session(world: World) -> None:
    """An unknown key is NOT_FOUND, an empty one a mistake."""
    unknown = world.admin.GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest(key="nobody"))
    assert await refusal(unknown) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", [])
    code, reason, violations = await refusal(world.admin.GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest()))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SESSION_KEY_MISSING")
    assert [field for field, _ in violations] == ["key"]


async def test_drain_ends_the_sessions_and_keeps_new_ones_out(world: World) -> None:
    """The answer comes when each end is decided; new sessions are refused until they are welcome again."""
    world.whole.policy.usually("create", VIDEO)
    keys = [await world.whole.attach(ue(number)) for number in (1, 2)]
    drain = admin_service_pb2.DrainSessionsRequest
    counted = await world.admin.DrainSessions(drain(validate_only=True, refuse_new=True))
    assert (counted.matched, counted.closing, counted.draining) == (2, 0, False)
    kept = await world.admin.DrainSessions(drain(keep_sessions=True, refuse_new=True))
    assert (kept.matched, kept.closing, kept.draining) == (2, 0, True)
    drained = await world.admin.DrainSessions(drain(message="moving house"))
    assert (drained.matched, drained.closed, drained.closing, drained.draining) == (2, 0, 2, True)
    policy = await world.admin.GetSessionPolicy(admin_service_pb2.GetSessionPolicyRequest(key=keys[0]))
    assert policy.session.end_reason == session_pb2.END_REASON_OPERATOR
    welcome = await world.admin.DrainSessions(drain(accept_new=True, keep_sessions=True))
    assert not welcome.draining


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"refuse_new": True, "accept_new": True}, grpc.StatusCode.INVALID_ARGUMENT, "CONTRADICTION"),
        ({"message": "x" * 257, "refuse_new": True}, grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LONG"),
        ({"filter": "type ~ lte", "refuse_new": True}, grpc.StatusCode.INVALID_ARGUMENT, "FILTER_INVALID"),
    ],
)
async def test_drain_that_cannot_be(world: World, fields: dict[str, Any], code: grpc.StatusCode, reason: str) -> None:
    """It is refused and changes nothing."""
    call = world.admin.DrainSessions(admin_service_pb2.DrainSessionsRequest(**fields))
    assert (await refusal(call))[:2] == (code, reason)
    assert not world.whole.application.draining.welcome.refuses_new
