"""A daemon under test as its operator sees it: a process, its log, its peers, and clients of what it serves."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import pytest
import yaml
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_health.v1.health_pb2_grpc import HealthStub

from sessiond.pb.magma.lte.abort_session_pb2_grpc import AbortSessionResponderStub
from sessiond.pb.magma.lte.session_manager_pb2_grpc import LocalSessionManagerStub
from sessiond.pb.magma.lte.session_proxy_pb2 import SessionTerminateRequest
from sessiond.pb.magma.lte.session_proxy_responder_pb2_grpc import SessionProxyResponderStub
from sessiond.pb.magma.orc8r.common_pb2 import Void
from sessiond.pb.magma.orc8r.service303_pb2_grpc import Service303Stub
from tests.blackbox import canaries
from tests.blackbox.messages import EPOCH, RULES, Device, Record, Table
from tests.blackbox.peers import PATIENCE_S, Changes, Directoryd, Eventd, Peer, Pipelined, PolicyController, Spgw

Line = dict[str, Any]
REPORT_EVERY_S: Final = 0.1
"""How often the data plane of the tests reports while a test waits for what comes of it."""
PEERS: Final = ("session_proxy", "pipelined", "spgw", "directoryd", "eventd")
CLIENT_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # No call of a test waits for ever.
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "timeout": "30s"}]})),
)


class Finished(NamedTuple):
    """How a command that is no daemon ended."""

    status: int
    stdout: str
    stderr: str


async def sessiond(*arguments: str | Path) -> Finished:
    """Run the program with these arguments until it ends by itself."""
    process = await create_subprocess_exec(
        sys.executable, "-m", "sessiond", *arguments, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            stdout, stderr = await process.communicate()
    finally:
        _kill_group(process)
        await process.wait()
    return Finished(process.returncode or 0, stdout.decode(), stderr.decode())


class Daemon:
    """The process under test, in a process group of its own, and what it has said so far."""

    def __init__(self, config_file: Path, changes: Changes, environment: Mapping[str, str]) -> None:
        self.lines: list[Line] = []
        """The lines of its log."""
        self.noise: list[str] = []
        """What is on standard error and no line of the log, and all that is on standard output."""
        self.status: int | None = None
        """Its exit status, once it has ended."""
        self._said: list[str] = []
        """All that it has said, over every start."""
        self.expected_failures = 0
        """How many lines with an exception a test has provoked."""
        self._config_file = config_file
        self._changes = changes
        self._environment = {**os.environ, **environment}
        self._process: Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the process and wait until it is ready."""
        await self.begin()
        await self.logged("ready")

    async def begin(self) -> None:
        """Start the process; what earlier ones have said is forgotten."""
        self.lines, self.noise, self.status = [], [], None
        command = [sys.executable, "-m", "sessiond", "--config", str(self._config_file)]
        process = await create_subprocess_exec(
            *command, stdout=PIPE, stderr=PIPE, start_new_session=True, env=self._environment, limit=2**24
        )
        self._process = process
        self._tasks = [
            asyncio.create_task(self._read(process.stderr, self._take_line)),
            asyncio.create_task(self._read(process.stdout, self.noise.append)),
            asyncio.create_task(self._wait(process)),
        ]

    @property
    def address(self) -> str:
        """Where its services are."""
        return str(self._last("ready")["listen"])

    @property
    def metrics_address(self) -> str:
        """Where its metrics are."""
        return str(self._last("ready")["metrics"])

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    def find(self, event: str, **fields: Any) -> list[Line]:
        """Return the lines of an event that have these fields."""
        return [line for line in self.lines if line["event"] == event and fields.items() <= line.items()]

    async def logged(self, event: str, count: int = 1, timeout_s: float = PATIENCE_S, **fields: Any) -> Line:
        """Return the line of an event, or the last of so many, as soon as it is there."""

        def found() -> list[Line]:
            lines = self.find(event, **fields)
            if self.status is not None and len(lines) < count:
                raise AssertionError(f"ended with status {self.status} without {event}: {self.lines} {self.noise}")
            return lines[count - 1 : count]

        (line,) = await self._changes.until(found, f"{event} {fields} in {self.lines} {self.noise}", timeout_s)
        return line

    def failures(self) -> list[Line]:
        """Return the lines that tell of something nobody had thought of."""
        return [line for line in self.lines if "exception" in line]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, timeout_s: float = PATIENCE_S) -> int:
        """Return the exit status, as soon as the process has ended and all it said is read."""
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*self._tasks)
        assert self.status is not None
        return self.status

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends the process; return the exit status."""
        self.send(number)
        return await self.ended()

    async def close(self) -> None:
        """Kill what is left of the process and its children."""
        if self._process is not None:
            _kill_group(self._process)
            await asyncio.gather(*self._tasks)
        assert [line for line in self._said if canaries.found_in(line)] == [], "a secret is in the log"

    def _last(self, event: str) -> Line:
        return self.find(event)[-1]

    async def _read(self, stream: asyncio.StreamReader | None, take: Any) -> None:
        assert stream is not None
        while line := await stream.readline():
            self._said.append(line.decode(errors="replace"))
            take(self._said[-1])
            self._changes.tell()

    def _take_line(self, text: str) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and "event" in line:
            self.lines.append(line)
        else:
            self.noise.append(text)

    async def _wait(self, process: Process) -> None:
        self.status = await process.wait()
        self._changes.tell()


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Refusal(NamedTuple):
    """How a call failed: status and text, and what the details say beside them."""

    code: grpc.StatusCode
    text: str
    reason: str = ""
    fields: tuple[str, ...] = ()
    retry_after_ms: int = 0


async def refusal(call: Awaitable[object]) -> Refusal:
    """Return how a call fails; it must not succeed."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


def refusal_of(error: aio.AioRpcError) -> Refusal:
    """Return how a call failed."""
    plain = Refusal(error.code(), error.details() or "")
    packed = {key: value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"}
    if not packed:
        return plain
    status = Status.FromString(packed["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details()), "the details contradict"
    for detail in status.details:
        info, request, retry = ErrorInfo(), BadRequest(), RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "sessiond"
            plain = plain._replace(reason=info.reason)
        elif detail.Unpack(request):
            plain = plain._replace(fields=tuple(violation.field for violation in request.field_violations))
        elif detail.Unpack(retry):
            plain = plain._replace(retry_after_ms=retry.retry_delay.ToMilliseconds())
    return plain


class Gateway:
    """A daemon with everybody around it."""

    def __init__(
        self, folder: Path, config: Mapping[str, Any], rules: Iterable[Any], environment: Mapping[str, str]
    ) -> None:
        self.changes = Changes()
        self.policy = PolicyController(self.changes)
        self.pipelined = Pipelined(self.changes)
        self.spgw = Spgw(self.changes)
        self.directoryd = Directoryd(self.changes)
        self.eventd = Eventd(self.changes)
        self.rules_file = folder / "rules.json"
        self.config_file = folder / "sessiond.yml"
        self.write_rules(rules)
        self.config: dict[str, Any] = {
            "server": {"listen": "127.0.0.1:0"},
            "metrics": {"listen": "127.0.0.1:0"},
            "policies": {"file": self.rules_file.name},
            "session_force_termination_timeout_ms": 60_000,
            "enable_ipfix": False,
            **config,
        }
        self.config["peers"] = {name: peer.address for name, peer in self.peers.items()} | config.get("peers", {})
        self.write_config()
        self.daemon = Daemon(self.config_file, self.changes, environment)
        self._channels: list[aio.Channel] = []

    @property
    def peers(self) -> dict[str, Peer]:
        """The peers by the name they have in the configuration."""
        return dict(zip(PEERS, (self.policy, self.pipelined, self.spgw, self.directoryd, self.eventd), strict=True))

    def write_config(self, **changes: Any) -> None:
        """Write the configuration file, with some keys changed from now on."""
        self.config |= changes
        self.config_file.write_text(yaml.safe_dump(self.config), encoding="utf-8")

    def write_rules(self, rules: Iterable[Any]) -> None:
        """Write the file of static rules."""
        self.rules_file.write_text(json.dumps({"rules": list(rules)}), encoding="utf-8")

    async def start(self) -> None:
        """Start the daemon, and clients of it."""
        await self.daemon.start()
        self.connect()

    def connect(self) -> None:
        """Make clients of the daemon, as it is now."""
        self.channel = aio.insecure_channel(self.daemon.address, options=CLIENT_OPTIONS)
        self._channels.append(self.channel)
        self.sessions = LocalSessionManagerStub(self.channel)
        self.responder = SessionProxyResponderStub(self.channel)
        self.abort = AbortSessionResponderStub(self.channel)
        self.service = Service303Stub(self.channel)
        self.health = HealthStub(self.channel)

    async def close(self) -> None:
        """Leave nothing behind."""
        for channel in self._channels:
            await channel.close()
        await self.daemon.close()
        await asyncio.gather(*(peer.close() for peer in self.peers.values()))

    async def set_up(self, epoch: int = EPOCH) -> None:
        """Let pipelined announce itself, and wait until it is set up."""
        await self.report(epoch=epoch)
        await self.daemon.logged("data_plane_set_up", epoch=epoch)

    async def create(self, device: Device, imei: str = "") -> str:
        """Let a device attach; return its session."""
        return (await self.sessions.CreateSession(device.create(imei))).session_id

    async def attach(self, device: Device) -> str:
        """Let a device attach, and wait until its flows are installed; return its session."""
        session_id = await self.create(device)
        await self.sessions.UpdateTunnelIds(device.tunnels())
        await self.pipelined.activate.asked(wanted=lambda request: request.ip_addr == device.ue_ipv4)
        return session_id

    async def detach(self, device: Device, *others: Record) -> SessionTerminateRequest:
        """Let a device detach, and pipelined report only what others used; return what the policy side hears of it."""
        session_id = (await self.states())[device.subscriber][device.apn][-1]["session_id"]
        await self.sessions.EndSession(device.end())
        return await self.report_until_ended(session_id, *others)

    async def report(self, *records: Record, epoch: int = EPOCH) -> None:
        """Let pipelined report usage."""
        await self.sessions.ReportRuleStats(Table(records=records, epoch=epoch))

    async def report_until_ended(
        self, session_id: str, *records: Record, epoch: int = EPOCH
    ) -> SessionTerminateRequest:
        """Let pipelined report the same again and again, as it does, until the policy side hears of an end."""
        ended = self.policy.terminate.asked
        for _ in range(int(PATIENCE_S / REPORT_EVERY_S)):
            await self.report(*records, epoch=epoch)
            with suppress(AssertionError):
                return (await ended(wanted=lambda end: end.session_id == session_id, timeout_s=REPORT_EVERY_S))[0]
        raise AssertionError(f"{session_id} was not reported as over")

    async def states(self) -> dict[str, Any]:
        """Return what the operator sees of all sessions, by subscriber and APN, but for how long they last."""
        answer = await self.service.GetOperationalStates(Void())
        (state,) = answer.states
        subscribers: dict[str, Any] = json.loads(state.value)["subscribers"]
        for apns in subscribers.values():
            for sessions in apns.values():
                for session in sessions:
                    del session["active_duration_sec"]
        return subscribers

    @asynccontextmanager
    async def unchanged(self) -> AsyncIterator[None]:
        """Hold the operator's view of all sessions against what it was before."""
        before = await self.states()
        yield
        assert await self.states() == before

    async def call(self, method: str, message: bytes | Message) -> bytes:
        """Call a method by its full name with the octets of a message, whatever they are."""
        octets = message.SerializeToString() if isinstance(message, Message) else message
        raw: aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(method)
        return await raw(octets)


@asynccontextmanager
async def gateway(
    folder: Path,
    *,
    down: Sequence[str] = (),
    rules: Iterable[Any] = RULES,
    environment: Mapping[str, str] | None = None,
    set_up: bool = True,
    **config: Any,
) -> AsyncIterator[Gateway]:
    """Run a daemon with its peers, all but those that are `down`; it must not have met what it does not expect."""
    whole = Gateway(folder, config, rules, environment or {})
    async with AsyncExitStack() as stack:
        stack.push_async_callback(whole.close)
        for name, peer in whole.peers.items():
            if name not in down:
                await peer.start()
        await whole.start()
        if set_up:
            await whole.set_up()
        yield whole
        assert whole.daemon.failures()[whole.daemon.expected_failures :] == []


async def scraped(address: str) -> str:
    """Return what Prometheus reads."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text
