"""What acceptance tools, systemd and operators rely on: command line, log, health, reflection, signals, metrics."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from sessiond.pb.magma.lte.abort_session_pb2 import AbortSessionRequest
from sessiond.pb.magma.orc8r.common_pb2 import ERROR, INFO, Void
from sessiond.pb.magma.orc8r.metrics_pb2 import MetricsContainer
from sessiond.pb.magma.orc8r.service303_pb2 import LogLevelMessage, LogVerbosity, ReloadConfigResponse, ServiceInfo
from sessiond.pb.magma.orc8r.service303_pb2_grpc import Service303Stub
from tests.blackbox.harness import Gateway, gateway, refusal, scraped
from tests.blackbox.messages import RULES, Device, allowed
from tests.blackbox.peers import PATIENCE_S, answering

pytestmark = pytest.mark.blackbox
with_others = pytest.mark.asyncio(loop_scope="module")
"""Marks a test that needs no daemon of its own."""

SERVICES = {
    "magma.lte.LocalSessionManager",
    "magma.lte.SessionProxyResponder",
    "magma.lte.AbortSessionResponder",
    "magma.orc8r.Service303",
    "ma.streaming.api.v1.SessionManagementService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
}
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
ONE_MORE_RULE = {"id": "one_more", "tracking_type": "NO_TRACKING"}


async def listed(channel: grpc.aio.Channel) -> set[str]:
    """Return the services that reflection names."""
    call = ServerReflectionStub(channel).ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
    answers = [answer async for answer in call]
    return {service.name for answer in answers for service in answer.list_services_response.service}


def values_of(metrics: MetricsContainer, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a gauge or counter by its labels; of the two, only one is set."""
    (family,) = (family for family in metrics.family if family.name == name)
    return {
        tuple(label.value for label in metric.label): metric.gauge.value + metric.counter.value
        for metric in family.metric
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Run one daemon for the tests that look at it and leave it as it is."""
    async with gateway(tmp_path_factory.mktemp("contract")) as whole:
        yield whole


@contextmanager
def systemd(address: str) -> Iterator[socket.socket]:
    """Listen where systemd listens to a service."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.setblocking(False)
        yield listener


async def test_ready_line_comes_when_calls_are_accepted(tmp_path: Path) -> None:
    """The line names the addresses that answer from that moment on, and all that is said is JSON on standard error."""
    async with gateway(tmp_path, set_up=False) as whole:
        ready = whole.daemon.find("ready")[0]
        assert (ready["level"], ready["pid"]) == ("info", whole.daemon.pid)
        await whole.service.GetServiceInfo(Void())
        assert "sessiond_ready 1.0" in await scraped(whole.daemon.metrics_address)
        assert await whole.daemon.stop() == 0
        assert whole.daemon.noise == []
        assert [line["event"] for line in whole.daemon.lines] == ["ready", "stopping", "stopped"]


@with_others
async def test_health_is_serving(shared: Gateway) -> None:
    """The daemon as a whole is SERVING; of other names health knows nothing."""
    answer = await shared.health.Check(HealthCheckRequest(service=""))
    assert answer.status == HealthCheckResponse.SERVING
    assert (await refusal(shared.health.Check(HealthCheckRequest(service="x")))).code is grpc.StatusCode.NOT_FOUND


@with_others
async def test_reflection_lists_the_services(shared: Gateway) -> None:
    """Tools see every service that is there."""
    assert await listed(shared.channel) >= SERVICES


async def test_what_strangers_see_can_be_switched_off(tmp_path: Path) -> None:
    """With reflection: false nobody is told of services; with metrics.listen: null there is no HTTP endpoint."""
    server, metrics = {"listen": "127.0.0.1:0", "reflection": False}, {"listen": None}
    async with gateway(tmp_path, set_up=False, server=server, metrics=metrics) as whole:
        refused = await refusal(whole.call(REFLECTION, ServerReflectionRequest(list_services="")))
        assert refused.code is grpc.StatusCode.UNIMPLEMENTED
        assert whole.daemon.find("ready")[0]["metrics"] is None
        assert values_of(await whole.service.GetMetrics(Void()), "sessiond_ready") == {(): 1}


async def test_carrier_wifi_leaves_aborts_to_the_aaa_server(tmp_path: Path) -> None:
    """With support_carrier_wifi there is no AbortSessionResponder."""
    async with gateway(tmp_path, set_up=False, support_carrier_wifi=True) as whole:
        assert "magma.lte.AbortSessionResponder" not in await listed(whole.channel)
        refused = await refusal(whole.abort.AbortSession(AbortSessionRequest(user_name="IMSI1", session_id="IMSI1-1")))
        assert refused.code is grpc.StatusCode.UNIMPLEMENTED


@with_others
async def test_service_info_says_who_we_are(shared: Gateway) -> None:
    """Name, version and state are those that orchestrators compare."""
    info = await shared.service.GetServiceInfo(Void())
    assert (info.name, info.version, info.state) == ("sessiond", "1.0", ServiceInfo.ALIVE)
    assert info.start_time_secs > 0


async def test_metrics_are_the_same_by_grpc_and_by_http(tmp_path: Path) -> None:
    """GetMetrics and the Prometheus endpoint show the same gauges, and count sessions by state."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        await whole.report(Device(1).used(10, 0, rule="no such rule"))
        container = await whole.service.GetMetrics(Void())
        text = await scraped(whole.daemon.metrics_address)
        assert values_of(container, "sessiond_ready") == {(): 1}
        assert values_of(container, "sessiond_sessions")["ACTIVE",] == 1
        assert 'sessiond_sessions{state="ACTIVE"} 1.0' in text
        assert 'sessiond_usage_records_ignored_total{reason="RULE_UNKNOWN"} 1.0' in text
        assert {family.name for family in container.family} >= {"process_start_time_seconds", "sessiond_ready"}


async def test_usage_is_counted_in_metrics(tmp_path: Path) -> None:
    """Octets that are booked appear in ue_traffic by direction, by gRPC and by HTTP."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        await whole.report(Device(1).used(300, 400))
        text = await scraped(whole.daemon.metrics_address)
        assert 'ue_traffic{direction="up"} 300.0' in text
        assert 'ue_traffic{direction="down"} 400.0' in text
        assert values_of(await whole.service.GetMetrics(Void()), "ue_traffic") == {("up",): 300, ("down",): 400}


async def test_usage_is_shown_per_subscriber_on_demand(tmp_path: Path) -> None:
    """With metrics.per_subscriber the series have the labels of the reference, until the session is over."""
    async with gateway(tmp_path, metrics={"listen": "127.0.0.1:0", "per_subscriber": True}) as whole:
        device = Device(1)
        session_id = await whole.attach(device)
        await whole.report(device.used(300, 400))
        labels = f'IMSI="{device.subscriber}",direction="up",session_id="{session_id}"'
        assert f"ue_traffic{{{labels}}} 300.0" in await scraped(whole.daemon.metrics_address)
        await whole.detach(device)
        assert "ue_traffic{" not in await scraped(whole.daemon.metrics_address)


async def test_calls_are_measured(tmp_path: Path) -> None:
    """Each call counts under its method and status, once it is over."""
    counts = "sessiond_rpc_duration_seconds_count"
    created = f'{counts}{{code="OK",method="magma.lte.LocalSessionManager/CreateSession"}} 1.0'
    refused = f'{counts}{{code="FAILED_PRECONDITION",method="magma.lte.LocalSessionManager/EndSession"}} 1.0'
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        await refusal(whole.sessions.EndSession(Device(2).end()))
        text = ""
        async with asyncio.timeout(PATIENCE_S):  # a call is over a moment after its answer is there
            while not (created in text and refused in text):
                text = await scraped(whole.daemon.metrics_address)
        assert "sessiond_store_write_duration_seconds_count" in text


@with_others
async def test_log_level_can_be_set(shared: Gateway) -> None:
    """SetLogLevel decides from then on what is logged."""
    await shared.service.SetLogLevel(LogLevelMessage(level=ERROR))
    await shared.report(Device(101).used(1, 1))
    await shared.service.SetLogLevel(LogLevelMessage(level=INFO))
    await shared.report(Device(102).used(1, 1))
    await shared.daemon.logged("usage_of_unknown_session")
    seen = shared.daemon.find("usage_of_unknown_session")
    assert [line["subscriber"] for line in seen] == [Device(102).subscriber]


@with_others
async def test_verbosity_is_not_served(shared: Gateway) -> None:
    """There are levels but no verbosities, and the answer says so."""
    refused = await refusal(shared.service.SetLogVerbosity(LogVerbosity(verbosity=3)))
    assert refused.code is grpc.StatusCode.UNIMPLEMENTED
    assert "SetLogLevel" in refused.text


@with_others
async def test_operational_states_show_the_sessions(shared: Gateway) -> None:
    """The orchestrator sees each session under its subscriber and APN, with its rules."""
    device = Device(1)
    session_id = await shared.attach(device)
    (shown,) = (await shared.states())[device.subscriber][device.apn]
    (rule,) = shown.pop("active_policy_rules")
    assert '"id": "web"' in rule
    assert shown.pop("session_start_time") > 0
    assert shown == {
        "session_id": session_id,
        "msisdn": "491",
        "ipv4": device.ue_ipv4,
        "apn": "internet",
        "lifecycle_state": "SESSION_ACTIVE",
    }


async def rules_of(whole: Gateway, device: Device, **wanted: bool) -> None:
    """Let a device attach under some rules, and hold those that pipelined is told of against what is wanted."""
    whole.policy.create.behaviour = answering(lambda request: allowed(request.session_id, rules=list(wanted)))
    await whole.attach(device)
    (request,) = await whole.pipelined.activate.asked(wanted=lambda request: request.ip_addr == device.ue_ipv4)
    assert {policy.rule.id for policy in request.policies} == {rule for rule, there in wanted.items() if there}


async def test_sighup_reads_log_level_and_rules_again(tmp_path: Path) -> None:
    """After SIGHUP the level of the file holds, and its rules are in use."""
    async with gateway(tmp_path, rule_update_interval_sec=3600) as whole:
        whole.write_config(log_level="DEBUG")
        whole.write_rules([*RULES, ONE_MORE_RULE])
        whole.daemon.send(signal.SIGHUP)
        await whole.daemon.logged("reloaded", rules=len(RULES) + 1)
        await rules_of(whole, Device(1), web=True, one_more=True)
        whole.write_config(log_level="WARNING")
        whole.daemon.send(signal.SIGHUP)
        await whole.changes.until(lambda: whole.daemon.find("reloaded"), "reloaded")
        assert (await whole.service.ReloadServiceConfig(Void())).result == ReloadConfigResponse.RELOAD_SUCCESS


async def test_sighup_with_a_broken_configuration_changes_nothing(tmp_path: Path) -> None:
    """A file that cannot be used leaves level, rules and calls as they are; the log names what is wrong with it."""
    async with gateway(tmp_path, rule_update_interval_sec=3600) as whole:
        await whole.attach(Device(1))
        async with whole.unchanged():
            whole.write_config(log_level="LOUD", no_such_key=1)
            whole.write_rules([])
            whole.daemon.send(signal.SIGHUP)
            refused = await whole.daemon.logged("reload_refused")
            assert {problem.partition(": ")[2].partition(":")[0] for problem in refused["problems"]} == {
                "log_level",
                "no_such_key",
            }
            assert (await whole.service.ReloadServiceConfig(Void())).result == ReloadConfigResponse.RELOAD_FAILURE
        await rules_of(whole, Device(2), web=True)


async def test_rules_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    """A rule that is added while the daemon runs can be used without telling it; one that is gone cannot."""
    async with gateway(tmp_path) as whole:
        whole.write_rules([RULES[0], ONE_MORE_RULE])
        await whole.daemon.logged("rules_loaded", rules=2)
        await rules_of(whole, Device(1), web=True, one_more=True, free=False)


async def test_rules_that_cannot_be_read_leave_those_of_before(tmp_path: Path) -> None:
    """However the file is broken while the daemon runs, its old rules stay in use, until it is mended."""
    async with gateway(tmp_path) as whole:
        whole.rules_file.write_text('{"rules": [{"id": "web", "no_such_key": 1}]}', encoding="utf-8")
        refused = await whole.daemon.logged("rules_file_refused")
        assert refused["problems"] == [f"{whole.rules_file}:1: rules[0] (web): no_such_key: no such key"]
        whole.rules_file.write_text("[" * 100_000, encoding="utf-8")
        await whole.daemon.logged("rules_file_refused", count=2)
        whole.rules_file.unlink()
        await whole.daemon.logged("rules_file_refused", count=3)
        await rules_of(whole, Device(1), web=True)
        whole.write_rules([ONE_MORE_RULE])
        await whole.daemon.logged("rules_loaded", rules=1)
        await rules_of(whole, Device(2), web=False, one_more=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_end_the_daemon(tmp_path: Path, number: signal.Signals) -> None:
    """It says to health watchers that it is over, closes, and exits with 0."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        watch = HealthStub(whole.channel).Watch(HealthCheckRequest(service=""))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        whole.daemon.send(number)
        assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
        assert await whole.daemon.ended() == 0
        watch.cancel()


async def test_stop_service_ends_the_daemon(tmp_path: Path) -> None:
    """StopService is answered, and then the daemon exits with 0."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        assert await whole.service.StopService(Void()) == Void()
        assert await whole.daemon.ended() == 0


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
async def test_systemd_is_told_when_it_is_ready_and_when_it_stops(tmp_path: Path, abstract: bool) -> None:
    """NOTIFY_SOCKET, in the file system or abstract, hears READY=1 no later than the log says so, then STOPPING=1."""
    with TemporaryDirectory(prefix="sd-") as folder:  # the path of a socket must be short
        address = f"@{folder}" if abstract else f"{folder}/notify"
        with systemd(address) as listener:
            async with gateway(tmp_path, set_up=False, environment={"NOTIFY_SOCKET": address}) as whole:
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(5):
                    assert await loop.sock_recv(listener, 100) == b"READY=1"
                assert await whole.daemon.stop() == 0
                assert listener.recv(100) == b"STOPPING=1"


async def test_a_broken_notify_socket_is_no_reason_to_stop(tmp_path: Path) -> None:
    """If systemd cannot be told, the daemon logs it and runs all the same."""
    async with gateway(tmp_path, set_up=False, environment={"NOTIFY_SOCKET": f"{tmp_path}/nobody"}) as whole:
        await whole.daemon.logged("sd_notify_failed")
        await whole.service.GetServiceInfo(Void())


async def test_tls_lets_in_who_shows_a_certificate(tmp_path: Path, certificate: Path) -> None:
    """With server.tls calls are encrypted, and with client_ca only those are answered that the authority has signed."""
    pem = certificate.read_bytes()  # noqa: ASYNC240, nothing else runs yet
    files = dict.fromkeys(("cert", "key", "client_ca"), str(certificate))
    async with gateway(tmp_path, set_up=False, server={"listen": "127.0.0.1:0", "tls": files}) as whole:
        address = f"localhost:{whole.daemon.address.rpartition(':')[2]}"
        for credentials, welcome in (
            (grpc.ssl_channel_credentials(pem, pem, pem), True),
            (grpc.ssl_channel_credentials(pem), False),
        ):
            async with grpc.aio.secure_channel(address, credentials) as channel:
                call = Service303Stub(channel).GetServiceInfo(Void(), timeout=10)
                if welcome:
                    assert (await call).name == "sessiond"
                else:
                    assert (await refusal(call)).code is grpc.StatusCode.UNAVAILABLE
        assert (await refusal(whole.service.GetServiceInfo(Void()))).code is grpc.StatusCode.UNAVAILABLE
