"""What acceptance tools, systemd and operators rely on: command line, log, health, reflection, signals, metrics."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from sessiond.pb.magma.lte.abort_session_pb2 import AbortSessionRequest
from sessiond.pb.magma.orc8r.common_pb2 import DEBUG, ERROR, Void
from sessiond.pb.magma.orc8r.metrics_pb2 import MetricsContainer
from sessiond.pb.magma.orc8r.service303_pb2 import LogLevelMessage, LogVerbosity, ReloadConfigResponse, ServiceInfo
from sessiond.pb.magma.orc8r.service303_pb2_grpc import Service303Stub
from tests.blackbox.harness import Gateway, gateway, refusal
from tests.blackbox.messages import RULES, Device, allowed
from tests.blackbox.peers import answering

pytestmark = pytest.mark.blackbox

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


async def scraped(address: str) -> str:
    """Return what Prometheus reads."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


def values_of(metrics: MetricsContainer, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a gauge or counter by its labels; of the two, only one is set."""
    (family,) = (family for family in metrics.family if family.name == name)
    return {
        tuple(label.value for label in metric.label): metric.gauge.value + metric.counter.value
        for metric in family.metric
    }


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


async def test_health_is_serving(tmp_path: Path) -> None:
    """The daemon as a whole is SERVING; of other names health knows nothing."""
    async with gateway(tmp_path, set_up=False) as whole:
        answer = await whole.health.Check(HealthCheckRequest(service=""))
        assert answer.status == HealthCheckResponse.SERVING
        assert (await refusal(whole.health.Check(HealthCheckRequest(service="x")))).code is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services(tmp_path: Path) -> None:
    """Tools see every service that is there."""
    async with gateway(tmp_path, set_up=False) as whole:
        assert await listed(whole.channel) >= SERVICES


async def test_reflection_can_be_switched_off(tmp_path: Path) -> None:
    """With server.reflection: false strangers are told nothing."""
    async with gateway(tmp_path, set_up=False, server={"listen": "127.0.0.1:0", "reflection": False}) as whole:
        request = ServerReflectionRequest(list_services="")
        refused = await refusal(whole.call(REFLECTION, request))
        assert refused.code is grpc.StatusCode.UNIMPLEMENTED


async def test_carrier_wifi_leaves_aborts_to_the_aaa_server(tmp_path: Path) -> None:
    """With support_carrier_wifi there is no AbortSessionResponder."""
    async with gateway(tmp_path, set_up=False, support_carrier_wifi=True) as whole:
        assert "magma.lte.AbortSessionResponder" not in await listed(whole.channel)
        refused = await refusal(whole.abort.AbortSession(AbortSessionRequest(user_name="IMSI1", session_id="IMSI1-1")))
        assert refused.code is grpc.StatusCode.UNIMPLEMENTED


async def test_service_info_says_who_we_are(tmp_path: Path) -> None:
    """Name, version and state are those that orchestrators compare."""
    async with gateway(tmp_path, set_up=False) as whole:
        info = await whole.service.GetServiceInfo(Void())
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


async def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    """With metrics.listen: null there is no HTTP endpoint."""
    async with gateway(tmp_path, set_up=False, metrics={"listen": None}) as whole:
        assert whole.daemon.find("ready")[0]["metrics"] is None
        assert values_of(await whole.service.GetMetrics(Void()), "sessiond_ready") == {(): 1}


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
    """Each call counts under its method and status."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        await refusal(whole.sessions.EndSession(Device(2).end()))
        text = await scraped(whole.daemon.metrics_address)
        counts = "sessiond_rpc_duration_seconds_count"
        assert f'{counts}{{code="OK",method="magma.lte.LocalSessionManager/CreateSession"}} 1.0' in text
        assert f'{counts}{{code="FAILED_PRECONDITION",method="magma.lte.LocalSessionManager/EndSession"}} 1.0' in text
        assert "sessiond_store_write_duration_seconds_count" in text


async def test_log_level_can_be_set(tmp_path: Path) -> None:
    """SetLogLevel decides from then on what is logged."""
    async with gateway(tmp_path) as whole:
        await whole.service.SetLogLevel(LogLevelMessage(level=ERROR))
        await whole.report(Device(1).used(1, 1))
        await whole.service.SetLogLevel(LogLevelMessage(level=DEBUG))
        await whole.report(Device(2).used(1, 1))
        await whole.daemon.logged("usage_of_unknown_session")
        seen = whole.daemon.find("usage_of_unknown_session")
        assert [line["subscriber"] for line in seen] == [Device(2).subscriber]


async def test_verbosity_is_not_served(tmp_path: Path) -> None:
    """There are levels but no verbosities, and the answer says so."""
    async with gateway(tmp_path, set_up=False) as whole:
        refused = await refusal(whole.service.SetLogVerbosity(LogVerbosity(verbosity=3)))
        assert refused.code is grpc.StatusCode.UNIMPLEMENTED
        assert "SetLogLevel" in refused.text


async def test_operational_states_show_the_sessions(tmp_path: Path) -> None:
    """The orchestrator sees each session under its subscriber and APN, with its rules."""
    device = Device(1)
    async with gateway(tmp_path) as whole:
        session_id = await whole.attach(device)
        (shown,) = (await whole.states())[device.subscriber][device.apn]
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
