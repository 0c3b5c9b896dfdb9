"""`sessionctl` as it is typed: what it prints, where, and the status it ends with (requirement X5)."""

import asyncio
import base64
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.blackbox.canaries import canary, note
from tests.blackbox.harness import Finished, gateway
from tests.blackbox.messages import Device
from tests.blackbox.native import Client, NativeDaemon, sessions
from tests.blackbox.streams import AioClient, create
from tests.store.servers import Server, binary_of

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S: Final = 60
LEAVE: Final = b"\x1b[?1049l"
"""What a terminal is told to show again what it showed before."""
PROGRAM: Final = (sys.executable, "-m", "sessiond.sessionctl")


class Command:
    """`sessionctl` with the address of a daemon."""

    def __init__(self, address: str) -> None:
        self._environment = {**os.environ, "SESSIOND_ADDRESS": address, "PYTHONWARNINGS": "ignore"}

    async def __call__(self, *arguments: str, stdin: bytes | None = None, **environment: str) -> Finished:
        """Run it until it ends by itself; nothing it prints is a traceback."""
        process = await self._begin(*arguments, environment=environment)
        async with asyncio.timeout(PATIENCE_S):
            stdout, stderr = await process.communicate(stdin)
        assert b"Traceback" not in stderr
        return Finished(process.returncode or 0, stdout.decode(), stderr.decode())

    async def json(self, *arguments: str) -> Any:
        """Return what it prints as JSON; it succeeds."""
        done = await self(*arguments, "-o", "json")
        assert (done.status, done.stderr) == (0, "")
        return json.loads(done.stdout)

    @asynccontextmanager
    async def running(self, *arguments: str, terminal: int = PIPE) -> AsyncIterator[Process]:
        """Run it for the time of a block, perhaps at a terminal."""
        process = await self._begin(*arguments, environment={"TERM": "xterm", "LINES": "24"}, stdout=terminal)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def _begin(self, *arguments: str, environment: dict[str, str], stdout: int = PIPE) -> Process:
        return await create_subprocess_exec(
            *PROGRAM, *arguments, stdin=PIPE, stdout=stdout, stderr=PIPE, env={**self._environment, **environment}
        )


NOBODY: Final = Command("127.0.0.1:1")
"""The command where there is no daemon."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["memory", "valkey"])
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_valkey: Server
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share, over each kind of store in turn: each test has sessions of its own."""
    folder = tmp_path_factory.mktemp("native")
    config: dict[str, Any] = {"store": {"url": "memory:"}}
    if request.param == "valkey":
        (folder / "keys").write_text(f"one:{base64.b64encode(note(b'o' * 32)).decode()}")
        config = {"store": {"url": one_valkey.url}, "encryption": {"keys_file": "keys"}}
    async with sessions(folder, **config) as running:
        yield running


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Server]:
    """Give a Valkey of its own: a daemon takes over from others on the same one."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    yield server.start()
    server.stop()


@pytest.fixture
def client(daemon: NativeDaemon) -> Client:
    """Give a client that is faster than a command."""
    return daemon.client()


@pytest.fixture
def sessionctl(daemon: NativeDaemon) -> Command:
    """Give the command."""
    return Command(daemon.process.address)


async def begun(process: Process) -> None:
    """Return when a command calls a daemon, or does so in vain: it has a thread of gRPC then; nothing else says so."""
    async with asyncio.timeout(PATIENCE_S):
        while not has_thread_of_grpc(process.pid):  # noqa: ASYNC110, each look takes its time
            await asyncio.sleep(0.02)


def has_thread_of_grpc(pid: int) -> bool:
    """Whether a process has begun to use a channel."""
    return any("grpc" in name.read_text() for name in Path(f"/proc/{pid}/task").glob("*/comm"))


def steady(text: str) -> str:
    """Return what was printed without what differs from run to run: times, spans, etags, the width of columns."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "<time>", text)
    text = re.sub(r"\b(in )?\d+[smhd](\d+[smhd])?\b", r"\1<span>", text)
    text = re.sub(r"(etag +)\S+", r"\1<etag>", text)
    return "\n".join(re.sub(r"  +", "  ", line).rstrip() for line in text.splitlines())


async def test_a_session_from_its_making_to_its_end(sessionctl: Command) -> None:
    """create, get, list, update, timeline and end, as a person sees them."""
    made = await sessionctl(
        *("create", "ussd", "--key", "life-1", "--msisdn", "+15550300001", "--identifier", "Ann"),
        *("--set", "menu=balance", "--set", "step=2", "--details", '{"paid": false}', "--ttl", "15m"),
    )
    assert (made.status, made.stderr) == (0, "")
    facts = """\
key  life-1
type  ussd
origin  NATIVE
namespace  default
msisdn  +15550300001
identifier  Ann
details  {"menu": "balance", "paid": false, "step": 2}
state  ACTIVE
create_time  <time>
update_time  <time>
activate_time  <time>
last_activity_time  <time>
expire_time  <time>
settings.auto_expire  true
etag  <etag>"""
    assert steady(made.stdout) == facts
    assert steady((await sessionctl("get", "life-1")).stdout) == facts
    listed = await sessionctl("list", "key = life-1")
    assert steady(listed.stdout) == (
        "KEY  TYPE  STATE  WHO  AGE  ENDS\nlife-1  ussd  ACTIVE  +15550300001  <span>  in <span>"
    )
    wide = await sessionctl("list", "msisdn = +15550300001", "-o", "wide")
    assert steady(wide.stdout) == (
        "KEY  TYPE  STATE  WHO  ORIGIN  NAMESPACE  NAME  CREATED  LAST USED  EXPIRES  ENDED  REASON  SENT  RECEIVED\n"
        "life-1  ussd  ACTIVE  +15550300001  native  default  Ann  <time>  <time>  <time>  -  -  0 B  0 B"
    )
    changed = await sessionctl("update", "life-1", "--set", "step=3", "--unset", "paid", "--identifier", "Bob")
    assert 'details  {"menu": "balance", "step": 3}' in steady(changed.stdout)
    assert "identifier  Bob" in steady(changed.stdout)
    ended = await sessionctl("end", "life-1", "--message", "done")
    assert steady(ended.stdout).splitlines()[1] == "life-1  ussd  CLOSED  +15550300001  <span>  CLIENT"
    story = [line.split("  ")[1:] for line in steady((await sessionctl("timeline", "life-1")).stdout).splitlines()]
    assert story[:3] == [["WHAT", "ABOUT"], ["CREATED", "through the native surface"], ["ACTIVATED", "-"]]
    happened = [moment for moment in story if moment[0] in {"UPDATED", "CLOSED"}]
    assert happened == [["UPDATED", "identifier, details"], ["CLOSED", "CLIENT done"]]
    assert ["DUE", "RETENTION"] in story


async def test_json_for_programs(sessionctl: Command, client: Client) -> None:
    """Proto JSON under the names that filters know: one value, or one line each."""
    for number in (1, 2):
        await client.create("sms", key=f"json-{number}", msisdn=f"+1555031000{number}")
    assert (await sessionctl.json("get", "json-1"))["state"] == "SESSION_STATE_ACTIVE"
    listed = await sessionctl.json("list", "key = json-*", "--order", "key desc")
    assert [one["key"] for one in listed] == ["json-2", "json-1"]
    lines = (await sessionctl("list", "key = json-*", "--limit", "1", "-o", "jsonl")).stdout.splitlines()
    assert [json.loads(line)["last_activity_time"][:2] for line in lines] == ["20"]
    assert await sessionctl.json("list", "key = nobody") == []
    assert (await sessionctl.json("stats", "key = json-*"))["types"] == {"sms": "2"}
    assert (await sessionctl.json("status"))["ready"] is True
    told = await sessionctl.json("timeline", "json-1")
    assert {"CREATED", "ACTIVATED"} <= {moment["what"] for moment in told}


async def test_how_it_ends(sessionctl: Command, client: Client) -> None:
    """The status says who must act: the documented numbers, and one line on standard error."""
    made = await client.create("voice", key="status-1", msisdn="+15550320001")
    await client.update("status-1", identifier="changed")

    async def ended(*arguments: str) -> tuple[int, str]:
        done = await sessionctl(*arguments)
        return done.status, done.stderr.splitlines()[0] if done.stderr else ""

    assert await ended("get", "nobody") == (3, "sessionctl: there is no session nobody (SESSION_NOT_FOUND)")
    wrong = "sessionctl: at character 1: a session has no field colour (FILTER_INVALID)"
    assert await ended("list", "colour = red") == (2, wrong)
    assert (await ended("dance"))[0] == 2
    assert (await ended("update", "status-1")) == (2, "sessionctl: nothing to change: say what, as in --set lap=12")
    assert (await ended("update", "status-1", "--ttl", "soon"))[0] == 2
    assert (await ended("update", "status-1", "--set", "a=2", "--etag", made.etag))[0] == 6
    assert (await ended("end", "status-1", "nobody"))[0] == 3
    assert (await ended("update", "status-1", "--set", "a=2"))[0] == 4
    assert (await ended("--address", "127.0.0.1:1", "--timeout", "0.2", "list"))[0] == 5
    assert (await ended("--ca", "/nowhere", "list")) == (1, "sessionctl: /nowhere: No such file or directory")


async def test_many_are_ended_if_somebody_agrees(sessionctl: Command, client: Client) -> None:
    """Who has no terminal must say yes beforehand; what has ended already is not among them."""
    for number in (1, 2, 3):
        await client.create(key=f"many-{number}", msisdn=f"+1555033000{number}")
    await client.end("many-1")
    wrong = await sessionctl("end", "--filter", "colour = red")
    assert (wrong.status, wrong.stderr[:27]) == (2, "sessionctl: at character 1:")
    asked = await sessionctl("end", "--filter", "key = many-*")
    assert asked.status == 2
    assert "end 2 sessions?" in asked.stderr
    done = await sessionctl("end", "--filter", "key = many-*", "--yes")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["KEY", "many-2", "many-3"]


async def test_what_was_written_cannot_move_the_cursor(sessionctl: Command, client: Client) -> None:
    """A name with a control sequence is shown, not obeyed; without a terminal there are no colours."""
    await client.create(key="evil-1", identifier="\x1b[31mred\n", msisdn="+15550340001")
    printed = (await sessionctl("list", "key = evil-1", "-o", "wide")).stdout
    assert "\x1b" not in printed
    assert "\\x1b[31mred\\n" in printed
    assert len(printed.splitlines()) == 2


async def test_the_screen_without_a_terminal(sessionctl: Command, client: Client) -> None:
    """Top looks once, and prints what it sees."""
    await client.create("payment", key="top-1", msisdn="+15550350001")
    seen = steady((await sessionctl("top", "key = top-1")).stdout).splitlines()
    assert seen[:3] == ["sessions  1  ACTIVE 1", "types  payment 1", "traffic  sent 0 B, received 0 B"]
    assert seen[-1] == "top-1  payment  ACTIVE  +15550350001  <span>  in <span>"


async def test_the_live_screen(sessionctl: Command, client: Client) -> None:
    """On a terminal top draws again and again until Ctrl-C, and leaves the screen as it was."""
    await client.create("payment", key="live-1", msisdn="+15550350002")
    ours, its = os.openpty()
    try:
        async with sessionctl.running("top", "key = live-1", "--interval", "0.2", terminal=its) as process:
            screen = await shown_at(ours, b"live-1")
            process.send_signal(signal.SIGINT)
            screen += await shown_at(ours, LEAVE)
            assert await process.wait() == 0
    finally:
        os.close(ours)
        os.close(its)
    assert b"Traceback" not in screen
    assert b"payment 1" in screen


async def shown_at(terminal: int, until: bytes) -> bytes:
    """Return what is drawn on a terminal until something is there."""
    shown = b""
    async with asyncio.timeout(PATIENCE_S):
        while until not in shown:
            shown += await asyncio.to_thread(os.read, terminal, 65_536)
    return shown


async def test_a_pipe_that_is_closed_is_no_failure(sessionctl: Command, client: Client) -> None:
    """Who has read enough may go: nothing is said about it."""
    for number in range(3):
        await client.create(key=f"pipe-{number}", msisdn=f"+1555036000{number}")
    async with sessionctl.running("list", "-o", "jsonl") as process:
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]
        assert await process.wait() == 0
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion(shell: str) -> None:
    """Each shell has its script."""
    script = (await NOBODY("completion", shell)).stdout
    assert "_SESSIONCTL_COMPLETE" in script


async def test_it_says_which_version_it_is() -> None:
    """Asked for its version, it says that and does nothing else; no daemon has to be there."""
    done = await Command("127.0.0.1:1")("--version")
    assert (done.status, done.stdout, done.stderr) == (0, f"sessionctl {version('sessiond')}\n", "")


async def test_commands_are_completed() -> None:
    """What has been begun is completed, as the script of bash asks for it."""
    completed = await NOBODY(COMP_WORDS="sessionctl ti", COMP_CWORD="1", _SESSIONCTL_COMPLETE="complete_bash")
    assert completed.stdout.split() == ["timeline"]


async def test_sessions_of_every_surface(tmp_path: Path) -> None:
    """Gateway and stream sessions are listed and ended like all others; a gateway session in its whole way (X1, X5)."""
    async with gateway(tmp_path) as whole:
        client, sessionctl = AioClient(whole.daemon.address), Command(whole.daemon.address)
        attached, stream = await whole.attach(Device(1)), await create(client, "Car")
        listed = {one["key"]: one["origin"] for one in await sessionctl.json("list")}
        assert listed == {attached: "SESSION_ORIGIN_GATEWAY", stream: "SESSION_ORIGIN_STREAM_API"}
        ended = await sessionctl.json("end", attached, stream)
        assert [one["state"] for one in ended] == ["SESSION_STATE_CLOSING", "SESSION_STATE_CLOSED"]
        assert (await whole.report_until_ended(attached)).session_id == attached
        await client.close()


async def lines(process: Process, count: int) -> list[str]:
    """Return the next lines that a command prints."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]


async def test_what_happens_is_printed_as_it_happens(sessionctl: Command, client: Client) -> None:
    """First what there is, then a line for each event, until Ctrl-C; with a token one goes on after it."""
    await client.create(key="watch-1", msisdn="+15550370001")
    async with sessionctl.running("watch", "key = watch-*", "--snapshot", "-o", "jsonl") as process:
        there, complete = (json.loads(line) for line in await lines(process, 2))
        await client.create(key="watch-2", msisdn="+15550370002")
        created, activated = (json.loads(line) for line in await lines(process, 2))
        await client.end("watch-1", message="done")
        (closed,) = (json.loads(line) for line in await lines(process, 1))
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        assert process.stderr is not None
        assert await process.stderr.read() == b""
    assert (there["kind"], there["session"]["key"], complete["kind"]) == ("EXISTS", "watch-1", "SNAPSHOT_COMPLETE")
    assert [one["kind"] for one in (created, activated, closed)] == ["CREATED", "ACTIVATED", "CLOSED"]
    async with sessionctl.running("watch", "key = watch-*", "--since", activated["token"]) as process:
        (line,) = await lines(process, 1)
    assert steady(line) == "<time> CLOSED  watch-1 ussd +15550370001 CLIENT"


async def story_of(sessionctl: Command, key: str, *also: str) -> list[tuple[str, str]]:
    """Return what a timeline tells, without its times."""
    return [(moment["what"], moment["about"]) for moment in await sessionctl.json("timeline", key, *also)]


async def test_a_timeline_tells_all_that_happened(sessionctl: Command, client: Client) -> None:
    """Each event that is kept, in its order, and what else is known; of others, and of what is not told, nothing."""
    made = await client.create(key="past-1", msisdn="+15550390001")
    await client.create(key="past-10", msisdn="+15550390010")
    await client.update("past-1", identifier="Ann")
    await client.update("past-1", identifier="Bob", details={"step": "2"})
    await client.pause("past-1")
    await client.resume("past-1")
    story = await story_of(sessionctl, "past-1")
    happened = [one for one in story if one[0] != "DUE"]
    assert happened == [
        ("CREATED", "through the native surface"),
        ("ACTIVATED", ""),
        ("UPDATED", "identifier"),
        ("UPDATED", "identifier, details"),
        ("PAUSED", ""),
        ("RESUMED", ""),
    ]
    await client.end(made.key, message="bye")
    await client.delete(made.key)
    assert (await story_of(sessionctl, "past-1"))[6:] == [("CLOSED", "CLIENT bye"), ("DELETED", "")]
    assert (await sessionctl("timeline", "past-1", "--follow")).status == 0
    await client.create(key="past-1", msisdn="+15550390001")
    again = await story_of(sessionctl, "past-1")
    assert [what for what, _ in again if what in {"CREATED", "DELETED"}] == ["CREATED", "DELETED", "CREATED"]


async def test_what_happened_can_be_watched_first(sessionctl: Command, client: Client) -> None:
    """`watch --history` begins with the past, says that it is complete, and goes on."""
    await client.create(key="history-1", msisdn="+15550391001")
    async with sessionctl.running("watch", "key = history-1", "--history", "-o", "jsonl") as process:
        past = [json.loads(line)["kind"] for line in await lines(process, 3)]
        await client.pause("history-1")
        (paused,) = await lines(process, 1)
    assert past == ["CREATED", "ACTIVATED", "HISTORY_COMPLETE"]
    assert json.loads(paused)["kind"] == "PAUSED"
    assert (await sessionctl("watch", "--history", "--snapshot")).status == 2


async def test_a_timeline_outlives_the_daemon(tmp_path: Path, own_valkey: Server) -> None:
    """Over a store the past is told by the next run; where events are lost, what the record says of it is told."""
    async with sessions(tmp_path, store={"url": own_valkey.url}) as running:
        client = running.client()
        await client.create(key="lives-1", msisdn="+15550392001")
        for name in ("Ann", "Bob"):
            await client.update("lives-1", identifier=name)
        await running.process.stop(signal.SIGKILL)
        await running.process.start()
        sessionctl = Command(running.process.address)
        told = [what for what in await story_of(sessionctl, "lives-1") if what[0] not in {"USED", "DUE"}]
        assert told[1:] == [("ACTIVATED", ""), ("UPDATED", "identifier"), ("UPDATED", "identifier")]
        with own_valkey.client() as redis:
            redis.delete("session-feed")
        told = [what for what in await story_of(sessionctl, "lives-1") if what[0] not in {"USED", "DUE"}]
        assert told[1:] == [("ACTIVATED", ""), ("UPDATED", "last change of its record")]


async def test_a_timeline_goes_on(sessionctl: Command, client: Client) -> None:
    """What happened, and then what happens, until the record is gone."""
    await client.create(key="story-1", msisdn="+15550380001")
    async with sessionctl.running("timeline", "story-1", "--follow", "-o", "jsonl") as process:
        past = [json.loads(line) for line in await lines(process, 3)]
        await client.end("story-1")
        await client.delete("story-1")
        then = [json.loads(line)["kind"] for line in await lines(process, 2)]
        assert await process.wait() == 0
    assert [one["what"] for one in past] == ["CREATED", "ACTIVATED", "DUE"]
    assert then == ["CLOSED", "DELETED"]


async def test_ctrl_c_is_a_clean_end() -> None:
    """What runs until Ctrl-C ends well by it; what was interrupted says so."""
    async with NOBODY.running("--timeout", "50", "list") as process:
        await begun(process)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert process.stderr is not None
        assert await process.stderr.read() == b""


async def test_w8_what_is_sensitive_is_on_no_screen(sessionctl: Command, client: Client) -> None:
    """Whatever is printed in whichever form: it has a mask."""
    made = await client.create("ussd", details={"pin": canary("pin"), "step": "1"}, sensitive_details=["pin"])
    for arguments in (("get", made.key), ("list", f"key = {made.key}")):
        for form in ("table", "json", "jsonl"):
            done = await sessionctl(*arguments, "-o", form)
            assert done.status == 0
            assert "CANARY" not in done.stdout
    assert (await sessionctl.json("get", made.key))["details"] == {"pin": "***", "step": "1"}
