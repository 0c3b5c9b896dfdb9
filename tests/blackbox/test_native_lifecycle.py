"""The lifecycle over the wire (requirements L1 to L3 and L9): every call in every state, confirmation, profiles."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import product
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from sessiond.core.lifecycle import State
from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from sessiond.pb.sessiond.v1.admin_service_pb2 import GetSessionPolicyRequest
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.blackbox.canaries import note
from tests.blackbox.harness import Gateway, gateway, refusal, refusal_of
from tests.blackbox.messages import Device
from tests.blackbox.native import Client, NativeDaemon, reason_of, said, sessions, state_of
from tests.blackbox.peers import hanging, refusing
from tests.blackbox.streams import AioClient, create
from tests.blackbox.watching import kinds, watching

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
Code = grpc.StatusCode
PROFILES: Final = {
    "approval": {"confirm_within_s": 600, "ttl_s": 3600},
    "hasty": {"confirm_within_s": 1, "ttl_s": 3600},
    "shy": {"activate_within_s": 1},
    "short": {
        "ttl_s": 60,
        "idle_limit_s": 30,
        "maximum_duration_s": 120,
        "permissions": ["execute_functions"],
        "quotas": {"executions": 3, "associates": 1, "data_bytes": 20},
        "settings": {"execution_logging": True},
    },
    "ussd": {"ttl_s": 180},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share: each has sessions of its own."""
    folder = tmp_path_factory.mktemp("life")
    (folder / "keys").write_text("k1:" + "QUJD" * 10 + "QUI=\n")
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    config = {"store": {"url": url}, "profiles": PROFILES, "encryption": {"keys_file": "keys"}}
    async with sessions(folder, **config) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


ALL_SETTINGS: Final = session.Settings(auto_expire=True, execution_logging=True, performance_monitoring=True)


# -- every call in every state


async def requested(client: Client) -> str:
    """Return a session that waits to be confirmed."""
    return (await client.made(said("approval"), return_immediately=True)).session.key


async def created(client: Client) -> str:
    """Return a session that is left inactive."""
    return (await client.made(said("sms"), leave_inactive=True)).session.key


async def activating(client: Client) -> str:
    """Return a session between nodes that have not shaken hands yet."""
    return (await client.made(said("peer"), leave_inactive=True)).session.key


async def active(client: Client) -> str:
    """Return a session that is in use."""
    return (await client.create("sms")).key


async def paused(client: Client) -> str:
    """Return a session that is suspended."""
    return (await client.pause(await active(client))).key


async def closed(client: Client) -> str:
    """Return a session that has ended."""
    return (await client.end(await active(client))).key


async def expired(client: Client) -> str:
    """Return a session whose time is over."""
    key = (await client.create("sms", ttl=Duration(nanos=1_000_000))).key
    async with asyncio.timeout(15):
        while True:
            try:
                await client.get(key)
            except grpc.aio.AioRpcError as error:
                assert refusal_of(error).reason == "SESSION_EXPIRED"  # noqa: PT017, it is waited for
                return key


MAKE: Final = {
    "REQUESTED": requested,
    "CREATED": created,
    "ACTIVATING": activating,
    "ACTIVE": active,
    "PAUSED": paused,
    "CLOSED": closed,
    "EXPIRED": expired,
}


async def deleted(client: Client, key: str, *, force: bool = False) -> session.Session:
    """Remove a session; return what there is of it after that."""
    await client.delete(key, force=force)
    return await client.get(key)


async def created_again(client: Client, key: str) -> session.Session:
    """Make a session of a key that there is."""
    return await client.create("sms", key=key)


async def authorized(client: Client, key: str) -> session.Session:
    """Ask for what needs no permission; return the session after that."""
    wish = service.AuthorizeExecutionRequest(key=key, operation=service.OPERATION_READ)
    await client.stub.AuthorizeExecution(wish)
    return await client.get(key)


async def recorded(client: Client, key: str) -> session.Session:
    """Record traffic; return the session after that."""
    traffic = session.Traffic(bytes_sent=1)
    await client.stub.RecordTraffic(service.RecordTrafficRequest(key=key, traffic=traffic))
    return await client.get(key)


async def rotated(client: Client, key: str) -> session.Session:
    """Give a session a new key; return the session after that."""
    answer = await client.stub.RotateSessionKey(service.RotateSessionKeyRequest(key=key))
    note(answer.secret.secret)
    return await client.get(key)


async def counted(client: Client, key: str) -> session.Session:
    """Read what a session has done; return its state as it is told there."""
    answer = await client.stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=key))
    return session.Session(key=answer.key, state=answer.state)


CALLS: Final[dict[str, Callable[[Client, str], Awaitable[session.Session]]]] = {
    "CreateSession": created_again,
    "GetSession": lambda client, key: client.get(key),
    "UpdateSession": lambda client, key: client.update(key, identifier="new"),
    "ActivateSession": lambda client, key: client.activate(key),
    "PauseSession": lambda client, key: client.pause(key),
    "ResumeSession": lambda client, key: client.resume(key),
    "TouchSession": lambda client, key: client.touch(key),
    "AssociateSession": lambda client, key: client.associate(key, "other"),
    "EndSession": lambda client, key: client.end(key),
    "DeleteSession": deleted,
    "DeleteSession with force": lambda client, key: deleted(client, key, force=True),
    "AuthorizeExecution": authorized,
    "RecordTraffic": recorded,
    "RotateSessionKey": rotated,
    "GetSessionStatistics": counted,
}
TABLE: Final = """
    call                      REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              CLOSED
    CreateSession             SESSION_EXISTS      SESSION_EXISTS      SESSION_EXISTS      SESSION_EXISTS      SESSION_EXISTS      SESSION_EXISTS
    GetSession                REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              CLOSED
    UpdateSession             REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              SESSION_ENDED
    ActivateSession           ACTIVE              ACTIVE              ACTIVE              TRANSITION_REFUSED  TRANSITION_REFUSED  SESSION_ENDED
    PauseSession              TRANSITION_REFUSED  TRANSITION_REFUSED  TRANSITION_REFUSED  PAUSED              TRANSITION_REFUSED  SESSION_ENDED
    ResumeSession             TRANSITION_REFUSED  TRANSITION_REFUSED  TRANSITION_REFUSED  TRANSITION_REFUSED  ACTIVE              SESSION_ENDED
    TouchSession              REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              SESSION_ENDED
    AssociateSession          REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              SESSION_ENDED
    EndSession                CLOSED              CLOSED              CLOSED              CLOSED              CLOSED              CLOSED
    DeleteSession             SESSION_NOT_ENDED   SESSION_NOT_ENDED   SESSION_NOT_ENDED   SESSION_NOT_ENDED   SESSION_NOT_ENDED   SESSION_NOT_FOUND
    DeleteSession with force  SESSION_NOT_FOUND   SESSION_NOT_FOUND   SESSION_NOT_FOUND   SESSION_NOT_FOUND   SESSION_NOT_FOUND   SESSION_NOT_FOUND
    AuthorizeExecution        SESSION_NOT_ACTIVE  SESSION_NOT_ACTIVE  SESSION_NOT_ACTIVE  ACTIVE              SESSION_NOT_ACTIVE  SESSION_NOT_ACTIVE
    RecordTraffic             REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              SESSION_ENDED
    RotateSessionKey          REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              SESSION_ENDED
    GetSessionStatistics      REQUESTED           CREATED             ACTIVATING          ACTIVE              PAUSED              CLOSED
"""  # noqa: E501, a table
"""What every call brings about in every state: the state after it, or the reason for which it is refused."""
STATUS: Final = {
    "INVALID_CONFIGURATION": Code.INVALID_ARGUMENT,
    "SESSION_EXISTS": Code.ALREADY_EXISTS,
    "SESSION_NOT_ACTIVE": Code.FAILED_PRECONDITION,
    "SESSION_NOT_FOUND": Code.NOT_FOUND,
    "SESSION_EXPIRED": Code.NOT_FOUND,
    "SESSION_ENDED": Code.FAILED_PRECONDITION,
    "SESSION_NOT_ENDED": Code.FAILED_PRECONDITION,
    "SESSION_OF_OTHER_SURFACE": Code.FAILED_PRECONDITION,
    "TRANSITION_REFUSED": Code.FAILED_PRECONDITION,
}


def outcomes(table: str) -> dict[tuple[str, str], str]:
    """Return the outcome of each call in each state."""
    rows = [[cell for cell in line.split("  ") if cell] for line in table.split("\n") if line.strip()]
    (_, *states), *calls = [[cell.strip() for cell in row] for row in rows]
    return {(call, state): outcome for call, *cells in calls for state, outcome in zip(states, cells, strict=True)}


ONCE_EXPIRED: Final = {"CreateSession": "SESSION_EXISTS"} | dict.fromkeys(
    ("DeleteSession", "DeleteSession with force"), "SESSION_NOT_FOUND"
)
EXPECTED: Final = outcomes(TABLE) | {(call, "EXPIRED"): ONCE_EXPIRED.get(call, "SESSION_EXPIRED") for call in CALLS}


async def outcome(call: Awaitable[session.Session]) -> str:
    """Return the state after a call, or the reason for which it is refused."""
    try:
        return state_of(await call)
    except grpc.aio.AioRpcError as error:
        refused = refusal_of(error)
        assert refused.code is STATUS[refused.reason]
        return refused.reason


@pytest.mark.parametrize(("call", "state"), list(product(CALLS, MAKE)))
async def test_l1_every_call_in_every_state(client: Client, call: str, state: str) -> None:
    """A call leads where the lifecycle says, or is refused by name and changes nothing."""
    key = await MAKE[state](client)
    assert await outcome(CALLS[call](client, key)) == EXPECTED[call, state]
    if EXPECTED[call, state] in STATUS and not call.startswith("DeleteSession"):
        after = state if state != "EXPIRED" else "SESSION_EXPIRED"
        assert await outcome(client.get(key)) == after


@pytest.mark.parametrize("state", MAKE)
async def test_l1_every_view_of_every_state(client: Client, state: str) -> None:
    """Lists, counts, watchers and operators see the same state; what has expired is closed by then."""
    key = await MAKE[state](client)
    expected = "CLOSED" if state == "EXPIRED" else state
    narrowed = f'key = "{key}" AND state = {expected}'
    listed = await client.stub.ListSessions(service.ListSessionsRequest(filter=narrowed))
    assert [(one.key, state_of(one)) for one in listed.sessions] == [(key, expected)]
    counted_ = await client.stub.GetStatistics(service.GetStatisticsRequest(filter=f'key = "{key}"'))
    assert {one.state: one.count for one in counted_.states if one.count} == {listed.sessions[0].state: 1}
    watch: Any = client.stub.WatchSessions(service.WatchSessionsRequest(filter=narrowed, snapshot=True))
    while (message := await watch.read()).WhichOneof("update") == "heartbeat":
        pass
    assert (message.event.session.key, state_of(message.event.session)) == (key, expected)
    watch.cancel()
    policy = await AdminServiceStub(client.channel).GetSessionPolicy(GetSessionPolicyRequest(key=key))
    assert state_of(policy.session) == expected


@pytest.mark.parametrize("state", ["CREATED", "ACTIVE", "PAUSED"])
@pytest.mark.parametrize(("field", "reason"), [("ttl", "EXPIRED"), ("idle_timeout", "IDLE")])
async def test_l1_time_ends_every_open_state(client: Client, state: str, field: str, reason: str) -> None:
    """Whatever waits, is used or is suspended ends when its time is over, and nothing wakes it again."""
    key = await MAKE[state](client)
    soon: dict[str, Any] = {field: Duration(nanos=100_000_000)}
    await client.update(key, **soon)
    ended = service.ListSessionsRequest(filter=f'key = "{key}" AND state = CLOSED')
    async with asyncio.timeout(15):
        while not (found := (await client.stub.ListSessions(ended)).sessions):
            pass
    assert reason_of(found[0]) == reason
    woken = await refusal(client.resume(key))
    assert woken.reason == ("SESSION_EXPIRED" if reason == "EXPIRED" else "SESSION_ENDED")


@pytest.mark.parametrize(("kind", "state"), [("hasty", "REQUESTED"), ("shy", "ACTIVATING")])
async def test_l1_no_state_on_the_way_lasts(client: Client, kind: str, state: str) -> None:
    """What waits for somebody else is withdrawn when that takes too long."""
    made = (await client.made(said(kind), leave_inactive=True, return_immediately=True)).session
    assert state_of(made) == state
    async with asyncio.timeout(15):
        while (withdrawn := await client.get(made.key, peek=True)).state != session.SESSION_STATE_CLOSED:
            pass
    assert reason_of(withdrawn) == "TIMED_OUT"
    assert (await refusal(client.activate(made.key))).reason == "ACTIVATION_FAILED"


async def test_l1_no_call_and_no_state_is_left_out() -> None:
    """Every method of the service is held against every state in which a session can be."""
    methods = {method.name for method in service.DESCRIPTOR.services_by_name["SessionService"].methods}
    views = {"ListSessions", "GetStatistics", "WatchSessions"}
    assert {call.partition(" ")[0] for call in CALLS} | views == methods
    assert EXPECTED.keys() == set(product(CALLS, MAKE))
    assert MAKE.keys() | {state for _, state in outcomes(OTHERS)} == {*State, "EXPIRED", "stream"}


OTHERS: Final = """
    call                      CREATING                  ACTIVE                    CLOSING                   stream
    CreateSession             INVALID_CONFIGURATION     INVALID_CONFIGURATION     INVALID_CONFIGURATION     SESSION_EXISTS
    GetSession                CREATING                  ACTIVE                    CLOSING                   ACTIVE
    UpdateSession             SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    ActivateSession           SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    PauseSession              SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    ResumeSession             SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    TouchSession              SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    AssociateSession          SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    EndSession                CLOSING                   CLOSING                   CLOSING                   CLOSED
    DeleteSession             SESSION_NOT_ENDED         SESSION_NOT_ENDED         SESSION_NOT_FOUND         SESSION_NOT_ENDED
    DeleteSession with force  SESSION_NOT_FOUND         SESSION_NOT_FOUND         SESSION_NOT_FOUND         SESSION_NOT_FOUND
    AuthorizeExecution        SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    RecordTraffic             SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    RotateSessionKey          SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE  SESSION_OF_OTHER_SURFACE
    GetSessionStatistics      CREATING                  ACTIVE                    CLOSING                   ACTIVE
"""  # noqa: E501, a table
"""The same for sessions of other surfaces, which can be looked at, ended and removed."""


async def of_gateway(whole: Gateway, client: Client, state: str, device: Device) -> str:
    """Return a gateway session in a state."""
    if state == "CREATING":
        begun = asyncio.ensure_future(whole.create(device))
        begun.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may fail: nobody waits for it
        (asked,) = await whole.policy.create.asked(
            wanted=lambda request: request.common_context.sid.id == device.subscriber
        )
        return asked.session_id
    key = await whole.attach(device)
    if state == "CLOSING":
        await client.end(key)
    return key


@pytest.mark.parametrize("state", ["CREATING", "ACTIVE", "CLOSING", "stream"])
async def test_x1_every_call_on_sessions_of_other_surfaces(tmp_path: Path, state: str) -> None:
    """They are got, ended and removed through our own API, and changed by their own surface alone."""
    expected = outcomes(OTHERS)
    async with gateway(tmp_path) as whole:
        client, streams = Client(whole.daemon.address), AioClient(whole.daemon.address)
        if state == "CREATING":
            whole.policy.create.behaviour = hanging
        for number, call in enumerate(CALLS, start=1):
            if state == "stream":
                key = await create(streams, "Car")
            else:
                key = await of_gateway(whole, client, state, Device(number))
            assert await outcome(CALLS[call](client, key)) == expected[call, state], (call, state)
        await streams.close()
        await client.close()


@pytest.mark.parametrize("store", STORES)
async def test_l1_a_creation_that_fails(tmp_path: Path, request: pytest.FixtureRequest, store: str) -> None:
    """A session that the policy side refuses is seen while it is asked, then closed with that reason, and gone."""
    url = "memory:" if store == "memory" else f"{request.getfixturevalue('one_valkey').url}?db=1"
    async with gateway(tmp_path, store={"url": url}, support_stateless=store != "memory") as whole:
        whole.policy.create.behaviour = refusing(Code.PERMISSION_DENIED, "no such subscriber")
        async with watching(whole.daemon.address) as watcher:
            assert (await refusal(whole.create(Device(1)))).code is Code.PERMISSION_DENIED
            begun, over = await watcher.events(2)
    assert (kinds(begun), state_of(begun.session), begun.session.pending) == ("CREATED", "CREATING", True)
    assert (kinds(over), state_of(over.session)) == ("CLOSED DELETED", "CLOSED")
    assert (over.session.key, reason_of(over.session)) == (begun.session.key, "CREATION_FAILED")


async def test_x1_ending_a_gateway_session_is_its_whole_termination(tmp_path: Path) -> None:
    """Its flows and its bearer go, its final usage is awaited, and the policy side hears of its end."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        client = Client(whole.daemon.address)
        key = await whole.attach(device)
        ending = await client.end(key, message="not needed any more")
        assert (state_of(ending), reason_of(ending)) == ("CLOSING", "CLIENT")
        await whole.pipelined.deactivate.asked(wanted=lambda request: request.ip_addr == device.ue_ipv4)
        await whole.spgw.delete_bearer.asked()
        ended = await whole.report_until_ended(key)
        assert ended.session_id == key
        await client.close()


# -- confirmation


async def test_l9_a_session_is_visible_until_it_is_confirmed(client: Client) -> None:
    """Who does not want to wait has it at once, as pending; whoever activates it confirms it."""
    made = (await client.made(said("approval"), return_immediately=True)).session
    assert (state_of(made), made.pending) == ("REQUESTED", True)
    assert (await client.get(made.key)).pending
    confirmed = await client.activate(made.key)
    assert (state_of(confirmed), confirmed.pending) == ("ACTIVE", False)
    assert confirmed.HasField("activate_time")


async def test_l9_who_waits_is_told_of_the_confirmation(client: Client) -> None:
    """Without return_immediately the answer comes when it is confirmed, and says so."""
    waiting = asyncio.ensure_future(client.made(said("approval", key="to-confirm")))
    async with asyncio.timeout(15):
        while await outcome(client.get("to-confirm")) != "REQUESTED":
            pass
    await client.activate("to-confirm")
    answer = await waiting
    assert (state_of(answer.session), answer.created) == ("ACTIVE", True)
    await client.delete("to-confirm", force=True)


async def test_l9_who_waits_is_told_of_the_withdrawal(client: Client) -> None:
    """It is cancelled, or nobody agrees in time: the session is withdrawn, which is the answer."""
    waiting = asyncio.ensure_future(refusal(client.made(said("approval", key="to-cancel"))))
    async with asyncio.timeout(15):
        while await outcome(client.get("to-cancel")) != "REQUESTED":
            pass
    cancelled = await client.end("to-cancel")
    assert (state_of(cancelled), reason_of(cancelled)) == ("CLOSED", "CANCELLED")
    refused = await waiting
    assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "CREATION_FAILED")
    await client.delete("to-cancel")


async def test_l1_what_is_not_confirmed_times_out(client: Client) -> None:
    """A session that nobody agrees to is withdrawn; who comes too late is told."""
    late = await refusal(client.made(said("hasty", key="late")))
    assert (late.code, late.reason) == (Code.FAILED_PRECONDITION, "CREATION_FAILED")
    withdrawn = await client.get("late")
    assert (state_of(withdrawn), reason_of(withdrawn)) == ("CLOSED", "TIMED_OUT")
    too_late = await refusal(client.activate("late"))
    assert (too_late.code, too_late.reason) == (Code.FAILED_PRECONDITION, "ACTIVATION_FAILED")
    await client.delete("late")


async def test_l1_what_is_pending_times_out_with_its_time_to_live(client: Client) -> None:
    """A time to live that is over before anybody agreed is the end: for all who ask from then on, the same one."""
    made = (await client.made(said("approval"), return_immediately=True)).session
    await client.update(made.key, ttl=Duration(nanos=1_000_000))
    async with asyncio.timeout(15):
        while (state := await outcome(client.get(made.key, peek=True))) == "REQUESTED":
            pass
    assert (state, reason_of(await client.get(made.key))) == ("CLOSED", "TIMED_OUT")
    await client.delete(made.key)


async def test_l9_confirmation_leaves_inactive_what_is_to_be(client: Client) -> None:
    """It is confirmed first, and activated with a second call."""
    made = (await client.made(said("approval"), return_immediately=True, leave_inactive=True)).session
    assert state_of(await client.activate(made.key)) == "CREATED"
    assert state_of(await client.activate(made.key)) == "ACTIVE"


# -- profiles


async def test_l2_a_profile_gives_what_its_sessions_are_not_told(client: Client) -> None:
    """Times, permissions, quotas and settings come from the profile of the type."""
    made = await client.create("short")
    assert made.expire_time.ToMilliseconds() - made.create_time.ToMilliseconds() == 60_000
    assert (made.max_duration.seconds, made.idle_timeout.seconds) == (120, 30)
    assert made.permissions == session.Permissions(execute_functions=True)
    assert made.quotas["executions"].limit == 3
    assert made.settings == session.Settings(auto_expire=True, execution_logging=True)
    assert (await client.create("ussd")).expire_time.seconds - made.create_time.seconds in range(179, 200)


async def test_l2_a_type_without_a_profile(client: Client) -> None:
    """It is refused, and the answer says which there are."""
    refused = await refusal(client.create("unheard-of"))
    assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
    assert refused.fields == ("session.type",)
    assert "approval, execution, hasty, payment, peer, short, shy, sms, ussd, voice" in refused.text
    assert (await refusal(client.create(""))).reason == "SESSION_TYPE_MISSING"
    assert (await refusal(client.create("lte"))).reason == "INVALID_CONFIGURATION"


async def test_l3_the_maximum_duration_holds_whatever_is_said(client: Client) -> None:
    """No time to live, touch or update goes beyond it, and it can only be lowered."""
    made = await client.create("short", ttl=Duration(seconds=500))
    limit_ms = made.create_time.ToMilliseconds() + 120_000
    for act in (client.touch(made.key, ttl=Duration(seconds=500)), client.update(made.key, ttl=Duration(seconds=500))):
        assert (await act).expire_time.ToMilliseconds() == limit_ms
    lower = await client.update(made.key, max_duration=Duration(seconds=100))
    assert lower.expire_time.ToMilliseconds() == limit_ms - 20_000
    for seconds in (110, 0):
        higher = await refusal(client.update(made.key, "max_duration", max_duration=Duration(seconds=seconds)))
        assert (higher.reason, higher.fields) == ("INVALID_CONFIGURATION", ("session.max_duration",))
    long = await refusal(client.create("short", max_duration=Duration(seconds=121)))
    assert (long.reason, long.fields) == ("INVALID_CONFIGURATION", ("session.max_duration",))


async def test_l3_settings_are_those_of_the_profile_or_the_session(daemon: NativeDaemon, client: Client) -> None:
    """Executions are logged, and counted by function, where that is wanted; without auto-expire nothing is ended."""
    loud = await client.create("short", settings=ALL_SETTINGS)
    silent = await client.create("execution", ttl=Duration(nanos=1_000_000), settings=session.Settings())
    assert (loud.settings, silent.settings) == (ALL_SETTINGS, session.Settings())
    wish = service.AuthorizeExecutionRequest(key=loud.key, operation=service.OPERATION_EXECUTE, function="pay")
    await client.stub.AuthorizeExecution(wish)
    await daemon.process.logged("execution_authorized", session=loud.key, function="pay")
    done = await client.stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=loud.key))
    assert dict(done.executions_by_function) == {"pay": 1}
    async with asyncio.timeout(15):
        while await outcome(client.get(silent.key)) != "SESSION_EXPIRED":
            pass
    ended = service.ListSessionsRequest(filter="end_reason = EXPIRED")
    assert silent.key not in {one.key for one in (await client.stub.ListSessions(ended)).sessions}
    await client.delete(silent.key)


async def test_l2_a_profile_is_read_again(daemon: NativeDaemon, client: Client) -> None:
    """New sessions have what the file says by then; what there is stays as it was made."""
    before = await client.create("ussd")
    text = daemon.file.read_text(encoding="utf-8")
    assert "ttl_s: 180" in text
    await reloaded(daemon, text.replace("ttl_s: 180", "ttl_s: 240"))
    after = await client.create("ussd")
    assert after.expire_time.seconds - after.create_time.seconds in range(239, 242)
    assert (await client.get(before.key)).expire_time == before.expire_time
    await reloaded(daemon, text)


async def reloaded(daemon: NativeDaemon, text: str) -> None:
    """Write the configuration anew, and have it read."""
    daemon.file.write_text(text, encoding="utf-8")
    count = len(daemon.process.find("reloaded"))
    daemon.process.send(signal.SIGHUP)
    await daemon.process.logged("reloaded", count=count + 1)
