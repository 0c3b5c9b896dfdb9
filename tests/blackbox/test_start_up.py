"""What a daemon that cannot start says, and what `sessiond check` says of the same files without starting anything."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.blackbox.harness import Finished, sessiond

pytestmark = pytest.mark.blackbox

ROOT = Path(__file__).parents[2]
LISTEN = "server: {listen: 127.0.0.1:0}\nmetrics: {listen: 127.0.0.1:0}\n"
MISTAKES = """\
server:
  listen: 127.0.0.1:0
  reflexion: false
metrics: {listen: 127.0.0.1:0}
log_level: LOUD
usage_reporting_threshold: high
peers:
  session_proxy: nowhere
support_stateless: true
log_level: INFO
"""
WANTED_PEER = "expected host:port, such as 127.0.0.1:50065, or null"
WANTED_LEVEL = "expected one of DEBUG, INFO, WARNING, ERROR, FATAL"
BROKEN_PROMISE = "true promises that sessions outlive a restart, which store.url memory: cannot keep"
PROBLEMS = [
    "sessiond.yml:3: server.reflexion: unknown key; did you mean server.reflection?",
    f'sessiond.yml:5: log_level: {WANTED_LEVEL}, found the text "LOUD"',
    'sessiond.yml:6: usage_reporting_threshold: expected a number, found the text "high"',
    f'sessiond.yml:8: peers.session_proxy: {WANTED_PEER}, found the text "nowhere"',
    f"sessiond.yml:9: support_stateless: {BROKEN_PROMISE}; set store.url to a Redis, or this to false",
    "sessiond.yml:10: log_level: given twice, first in line 5",
]
RULES = '{"rules": [\n  {"id": "web"},\n  {"id": "video",\n   "priority": -1,\n   "no_such_key": 1}\n]}\n'
RULE_PROBLEMS = [
    "rules.json:4: rules[1] (video): priority: ",
    "rules.json:5: rules[1] (video): no_such_key: no such key",
]


@pytest.fixture
def taken() -> Iterator[str]:
    """Return an address on which somebody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def write(folder: Path, config: str, rules: str | None = None) -> Path:
    """Write a configuration, and the file of rules that it may name; return the name of the configuration."""
    file = folder / "sessiond.yml"
    file.write_text(config, encoding="utf-8")
    if rules is not None:
        (folder / "rules.json").write_text(rules, encoding="utf-8")
    return file


def said(finished: Finished, folder: Path) -> list[str]:
    """Return what is said against files of a folder, without its name."""
    return [line.replace(f"{folder}/", "") for line in finished.stderr.splitlines() if line.startswith(str(folder))]


async def refused(file: Path) -> list[str]:
    """Return what a daemon says that refuses to start: problems with its files, and no more."""
    started = await sessiond("--config", file)
    assert (started.status, started.stdout) == (2, "")
    problems = said(started, file.parent)
    assert len(problems) == len(started.stderr.splitlines())
    return problems


async def refused_by_both(file: Path) -> list[str]:
    """Return what the daemon says when it refuses to start, which `sessiond check` must say too."""
    checked, problems = await asyncio.gather(sessiond("check", "--config", file), refused(file))
    assert (checked.status, checked.stdout) == (2, "")
    assert said(checked, file.parent) == problems
    return problems


async def test_check_accepts_the_documented_configuration() -> None:
    """The file that explains every key has no problem."""
    finished = await sessiond("check", "--config", ROOT / "config" / "sessiond.yml")
    assert (finished.status, finished.stderr) == (0, "")
    assert "0 static rules" in finished.stdout


async def test_check_tells_what_is_odd_but_no_error(tmp_path: Path) -> None:
    """A value that is not used as it is written is noted, with its line."""
    file = write(tmp_path, f"{LISTEN}usage_reporting_threshold: 0.3\n")
    finished = await sessiond("check", "--config", file)
    assert finished.status == 0
    assert f"note: {file}:3: usage_reporting_threshold: 0.3 is not between" in finished.stderr


async def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    """All problems of a configuration come at once, each with file, line and key, and nothing is started."""
    assert await refused_by_both(write(tmp_path, MISTAKES)) == PROBLEMS


async def test_a_rule_with_mistakes_stops_the_start(tmp_path: Path) -> None:
    """Each mistake in the rules is told with the line and the key it is in."""
    problems = await refused_by_both(write(tmp_path, f"{LISTEN}policies: {{file: rules.json}}\n", RULES))
    assert len(problems) == len(RULE_PROBLEMS)
    assert all(problem.startswith(wanted) for problem, wanted in zip(problems, RULE_PROBLEMS, strict=True))


async def test_rules_that_are_not_there_stop_the_start(tmp_path: Path) -> None:
    """A file of rules that cannot be read is traced to the line and key that name it."""
    (problem,) = await refused(write(tmp_path, f"{LISTEN}policies:\n  file: rules.json\n"))
    assert problem == "sessiond.yml:4: policies.file: rules.json cannot be read: No such file or directory"


async def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    """The file is named, and why it cannot be read."""
    assert await refused(tmp_path / "sessiond.yml") == ["sessiond.yml: cannot be read: No such file or directory"]


async def test_a_configuration_that_is_no_yaml(tmp_path: Path) -> None:
    """The line is named at which it is no YAML any more."""
    (problem,) = await refused(write(tmp_path, "server: {listen: 127.0.0.1:0\n"))
    assert problem.startswith("sessiond.yml:2: not YAML: ")


@pytest.mark.parametrize("key", ["server", "metrics"])
async def test_a_port_in_use_stops_the_start(tmp_path: Path, taken: str, key: str) -> None:
    """The daemon does not share a port, and says which key asks for it."""
    addresses = {"server": "127.0.0.1:0", "metrics": "127.0.0.1:0", key: taken}
    text = "".join(f"{name}:\n  listen: {address}\n" for name, address in addresses.items())
    file = write(tmp_path, text)
    finished = await sessiond("--config", file)
    assert finished.status == 2
    line = {"server": 2, "metrics": 4}[key]
    (problem,) = said(finished, tmp_path)
    assert problem.startswith(f"sessiond.yml:{line}: {key}.listen: cannot listen on {taken}: ")
    assert "in use" in problem


async def test_an_address_of_another_machine_stops_the_start(tmp_path: Path) -> None:
    """An address that cannot be taken is named with its key."""
    file = write(tmp_path, "server:\n  listen: 192.0.2.1:50065\n  insecure: true\nmetrics: {listen: 127.0.0.1:0}\n")
    finished = await sessiond("--config", file)
    assert finished.status == 2
    (problem,) = said(finished, tmp_path)
    assert problem.startswith("sessiond.yml:2: server.listen: cannot listen on 192.0.2.1:50065: ")


@pytest.mark.parametrize("key", ["key", "client_ca"])
async def test_a_certificate_that_is_none_stops_the_start(tmp_path: Path, certificate: Path, key: str) -> None:
    """Files that are there but do not hold what they should are told as that, with their key."""
    (tmp_path / "none.pem").write_text("no certificate", encoding="utf-8")
    files = {"cert": certificate, "key": certificate, "client_ca": certificate, key: tmp_path / "none.pem"}
    tls = "".join(f"    {name}: {file}\n" for name, file in files.items())
    file = write(tmp_path, f"server:\n  listen: 127.0.0.1:0\n  tls:\n{tls}metrics: {{listen: 127.0.0.1:0}}\n")
    finished = await sessiond("--config", file)
    assert finished.status == 2
    (problem,) = said(finished, tmp_path)
    line = {"key": "4: server.tls.cert", "client_ca": "6: server.tls.client_ca"}[key]
    assert problem.startswith(f"sessiond.yml:{line}: cannot be used: ")
