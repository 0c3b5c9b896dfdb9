"""The command line of the simulator, as processes: peers alone, and a whole gateway."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "config" / "simulation.yml"
SIMULATE = [sys.executable, "-m", "sessiond", "simulate"]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a folder; it is stopped at the end, whatever happened."""
    with subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGTERM)


def line_with(output: IO[str] | None, words: str) -> str:
    """Return the next line that has these words."""
    assert output is not None
    return next(line for line in output if words in line)


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the simulator to its end."""
    return subprocess.run([*SIMULATE, *arguments], cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.blackbox
def test_peers_say_where_they_are(tmp_path: Path) -> None:
    """One line of JSON with the address of each peer, under the name it has in sessiond.yml; SIGTERM ends it."""
    with running([*SIMULATE, "peers", "--config", str(FILE), "--only", "policy,spgw,mme,eventd"], tmp_path) as process:
        addresses = json.loads(line_with(process.stdout, "{"))
        assert set(addresses) == {"session_proxy", "spgw", "mme", "eventd"}
        assert all(address.startswith("127.0.0.1:") for address in addresses.values())
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.blackbox
def test_what_cannot_be_tried_is_said(tmp_path: Path) -> None:
    """An unknown key, an unknown peer and a port in use are errors of status 2 that name the culprit."""
    (tmp_path / "f.yml").write_text("sed: 1\n", encoding="utf-8")
    done = run("peers", "--config", "f.yml", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "f.yml:1: sed: there is no such key\n")
    done = run("peers", "--config", str(FILE), "--only", "sim", folder=tmp_path)
    assert (done.returncode, "there is no peer sim" in done.stderr) == (2, True)
    done = run("gateway", "--config", str(FILE), "--duration", "0", folder=tmp_path)
    assert (done.returncode, "a number of seconds" in done.stderr) == (2, True)
    (tmp_path / "g.yml").write_text("listen: {eventd: '127.0.0.1:1', aaa: '127.0.0.1:0'}\n", encoding="utf-8")
    with running([*SIMULATE, "peers", "--config", str(FILE), "--only", "eventd"], tmp_path) as process:
        taken = json.loads(line_with(process.stdout, "{"))["eventd"]
        (tmp_path / "g.yml").write_text(f"listen: {{eventd: '{taken}'}}\n", encoding="utf-8")
        done = run("peers", "--config", "g.yml", "--only", "eventd", folder=tmp_path)
        assert (done.returncode, f"cannot listen on {taken}" in done.stderr) == (2, True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.blackbox
@pytest.mark.slow
def test_a_run_balances_though_pipelined_is_killed(tmp_path: Path) -> None:
    """Twice killed, pipelined comes back, and every byte that passed was reported; SIGINT ends the run in order."""
    command = [*SIMULATE, "gateway", "--config", str(FILE), "--plain", "--subscribers", "8"]
    with running(command, tmp_path) as process:
        for _ in range(2):
            started = line_with(process.stdout, "pipelined: process ")
            line_with(process.stdout, "8 open")
            os.kill(int(started.split()[2].rstrip(";")), signal.SIGKILL)
        line_with(process.stdout, "pipelined: process ")
        for _ in range(5):
            line_with(process.stdout, "8 open")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(60) == 0, said
    assert said.splitlines()[-1].startswith("balanced: 8 sessions, 16 accounts; ")


@pytest.mark.blackbox
@pytest.mark.slow
def test_a_run_without_its_daemon_fails(tmp_path: Path) -> None:
    """When the daemon dies, the end of its log is shown and the status is 2."""
    command = [*SIMULATE, "gateway", "--config", str(FILE), "--plain", "--subscribers", "4"]
    with running(command, tmp_path) as process:
        daemon = int(line_with(process.stdout, "sessiond: process ").split()[2])
        line_with(process.stdout, "4 open")
        os.kill(daemon, signal.SIGKILL)
        assert process.stdout is not None
        said = process.stdout.read()
        assert process.wait(60) == 2
    assert "sessiond died with status -9" in said
    assert '"event":"ready"' in said
