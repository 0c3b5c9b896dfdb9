"""The examples for users work against a real daemon."""

import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from contextlib import suppress
from pathlib import Path

import pytest

from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.native import sessions, state_of
from tests.blackbox.streams import AioClient, StreamDaemon, create, end, streams
from tests.house.tree import ROOT

pytestmark = pytest.mark.blackbox

BALANCE = "your balance is 35; 9 back, 0 end"


async def test_the_menu_goes_on_where_it_was(tmp_path: Path) -> None:
    """It is walked through, killed and started again: the session still knows where it was; 0 ends it."""
    async with sessions(tmp_path) as daemon:
        command = [sys.executable, str(ROOT / "examples" / "ussd_menu.py"), "+15550500001"]

        async def walked(*typed: str) -> list[str]:
            """Type something, and kill the program after the last answer; return all that it has shown."""
            program = await create_subprocess_exec(
                *command, "--address", daemon.process.address, stdin=PIPE, stdout=PIPE
            )
            assert program.stdin is not None
            assert program.stdout is not None
            try:
                shown = [(await program.stdout.readline()).decode().strip()]
                for text in typed:
                    program.stdin.write(f"{text}\n".encode())
                    shown.append((await program.stdout.readline()).decode().strip())
                return shown
            finally:
                program.kill()
                await program.wait()

        assert await walked("2", "30") == ["1 balance, 2 top up, 0 end", "how much? 0 end", BALANCE]
        assert await walked("9", "0") == [BALANCE, "1 balance, 2 top up, 0 end", "bye"]
        listed = service.ListSessionsRequest(filter="msisdn = +15550500001")
        (ended,) = (await daemon.client().stub.ListSessions(listed)).sessions
        assert (state_of(ended), ended.end_message) == ("CLOSED", "hung up")


async def test_the_watcher_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed and started again, it prints what happened meanwhile; only the last line before may come once more."""
    async with sessions(tmp_path) as daemon:
        command = [sys.executable, str(ROOT / "examples" / "watch_sessions.py"), "type = sms"]
        options = ["--token-file", str(tmp_path / "token"), "--address", daemon.process.address]
        client = daemon.client()

        async def watched(last: str) -> list[list[str]]:
            """Make a session as soon as it runs, and kill it when it has told of that; return what it has printed."""
            program = await create_subprocess_exec(*command, *options, stdout=PIPE)
            try:
                printed = await words(program, 1)
                await client.create("sms", key=last)
                while printed[-1] != ["ACTIVATED", last, "sms"]:
                    printed += await words(program, 1)
                return printed
            finally:
                program.kill()
                await program.wait()

        assert await watched("a") == [["SNAPSHOT_COMPLETE"], ["CREATED", "a", "sms"], ["ACTIVATED", "a", "sms"]]
        await client.create("sms", key="b")
        again = [line for line in await watched("c") if line[1] != "a"]
        assert again == [[kind, key, "sms"] for key in "bc" for kind in ("CREATED", "ACTIVATED")]


async def words(process: Process, count: int) -> list[list[str]]:
    """Return the words of the next lines that a program prints."""
    assert process.stdout is not None
    return [(await process.stdout.readline()).decode().split() for _ in range(count)]


async def followed(daemon: StreamDaemon, monitor: Process) -> None:
    """Let things happen, and find them on the dashboard."""
    assert monitor.stderr is not None
    client = AioClient(daemon.process.address)
    assert await monitor.stderr.readline() == b"following\n"
    key = await create(client, "Car", identifier="Monza")
    await end(client, key)
    await client.close()
    listed, started, ended = await words(monitor, 3)
    assert listed[0] == "known"
    assert started[:4] == ["started", key, "Session", "Monza"]
    assert ended[:2] == ["ended", key]


async def test_the_stream_monitor_shows_what_happens(tmp_path: Path) -> None:
    """It lists what is there, prints a line for each session that begins or ends, and leaves on Ctrl-C."""
    async with streams(tmp_path) as daemon:
        client = AioClient(daemon.process.address)
        await create(client, "Car")
        await client.close()
        program = str(ROOT / "examples" / "stream_monitor.py")
        monitor = await create_subprocess_exec(
            sys.executable, program, "Car", "--address", daemon.process.address, stdout=PIPE, stderr=PIPE
        )
        try:
            await followed(daemon, monitor)
            monitor.send_signal(signal.SIGINT)
            assert await monitor.wait() == 0
        finally:
            with suppress(ProcessLookupError):
                monitor.kill()
            await monitor.communicate()
