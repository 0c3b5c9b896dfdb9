"""Moving in from a Magma gateway: shown, imported once, and used on without a gap and without counting twice."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.blackbox.harness import Finished, gateway, sessiond
from tests.blackbox.messages import RULES, Device, amounts
from tests.store.servers import Server, binary_of, closing_down
from tests.translate import magma

pytestmark = pytest.mark.blackbox

DEVICE = Device(42)
TABLE = "sessiond:sessions"


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """Give a Valkey: database 0 is the gateway's, database 1 is ours."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    with closing_down(server):
        yield server.start()


def magma_url(valkey: Server) -> str:
    """Return where the gateway keeps its table."""
    return f"redis://127.0.0.1:{valkey.port}/0"


def own_url(valkey: Server) -> str:
    """Return where our sessions are to be."""
    return f"redis://127.0.0.1:{valkey.port}/1"


def stored(**fields: Any) -> dict[str, Any]:
    """Return a session of the device: `web`, version 2, has moved 700 and 200 octets, of which 400 and 100 are told."""
    config = magma.text(magma.context(DEVICE.subscriber, DEVICE.ue_ipv4))
    return magma.session(DEVICE.subscriber, **{"config": config, "dynamic_rules": [], **fields})


def fill(valkey: Server, *fields: tuple[str, bytes]) -> None:
    """Put entries into the table of the gateway."""
    with valkey.client() as client:
        for field, value in fields:
            client.hset(TABLE, field, value)


async def imported(folder: Path, valkey: Server, *options: str, **config: Any) -> Finished:
    """Run the command."""
    file = folder / "import.yml"
    rules = folder / "import-rules.json"
    rules.write_text(json.dumps({"rules": list(RULES)}), encoding="utf-8")
    known = {"store": {"url": own_url(valkey)}, "policies": {"file": str(rules)}, **config}
    file.write_text(yaml.safe_dump(known), encoding="utf-8")
    return await sessiond("import-magma", "--redis", magma_url(valkey), "--config", file, *options)


async def test_it_shows_what_it_would_import_and_changes_nothing(tmp_path: Path, valkey: Server) -> None:
    """A line for each session, and for each that is refused with its reason; without --yes that is all."""
    fill(
        valkey,
        (DEVICE.subscriber, magma.entry(stored(), stored(fsm_state=7, session_id=f"{DEVICE.subscriber}-1"))),
        ("IMSI9", b"{"),
    )
    shown = await imported(tmp_path, valkey)
    assert (shown.status, shown.stderr) == (1, "")
    heading, session, *rest = shown.stdout.splitlines()
    assert heading.split() == ["SUBSCRIBER", "SESSION", "RULES", "CREDITS", "MONITORS", "UP", "DOWN", "NOTES"]
    assert session.split() == [DEVICE.subscriber, f"{DEVICE.subscriber}-483920", "1", "1", "1", "750", "260"]
    starting, malformed = sorted(rest[:-1])
    assert starting.endswith(f"{DEVICE.subscriber}-1: it is not allowed by the policy side yet")
    assert malformed.startswith("refused: IMSI9 ?: the entry is no list of sessions: not JSON")
    assert rest[-1] == "1 sessions to import, 2 refused; nothing is changed without --yes"
    with valkey.client(db=1) as client:
        assert client.dbsize() == 0


async def test_usage_goes_on_after_the_import(tmp_path: Path, valkey: Server) -> None:
    """What the gateway had counted counts on: no octet is missing at the policy side, none is there twice."""
    fill(valkey, (DEVICE.subscriber, magma.entry(stored())))
    done = await imported(tmp_path, valkey, "--yes")
    assert (done.status, done.stdout.splitlines()[-1]) == (0, "1 sessions imported, 0 refused")
    async with gateway(tmp_path, store={"url": own_url(valkey)}, set_up=False) as whole:
        assert list(await whole.states()) == [DEVICE.subscriber]
        await whole.set_up()
        (setup,) = whole.pipelined.set_up_policies.requests
        policies = [policy for request in setup.requests for policy in request.policies]
        assert [(policy.rule.id, policy.version) for policy in policies] == [("web", 2)]
        await whole.report(DEVICE.used(400, 100, version=2))
        await whole.report(DEVICE.used(550, 130, version=2))
        end = await whole.detach(DEVICE)
        assert end.request_number == 4
        assert amounts(end) == [(700 - 400 + 150, 200 - 100 + 30)]


async def test_a_second_import_refuses_what_is_there(tmp_path: Path, valkey: Server) -> None:
    """It changes nothing; what was refused the first time and is mended by now is imported."""
    fill(valkey, (DEVICE.subscriber, magma.entry(stored())), ("IMSI7", b"{"))
    assert (await imported(tmp_path, valkey, "--yes")).status == 1
    with valkey.client(db=1) as client:
        (name,) = client.scan_iter("session:*")
        before = client.hgetall(name)
    fill(valkey, ("IMSI7", magma.entry(magma.session("IMSI7"))))
    again = await imported(tmp_path, valkey, "--yes")
    assert again.status == 1
    assert f"refused: {DEVICE.subscriber} {DEVICE.subscriber}-483920: it is in the store already" in again.stdout
    assert again.stdout.splitlines()[-1] == "1 sessions imported, 1 refused"
    with valkey.client(db=1) as client:
        assert client.hgetall(name) == before
        assert len(list(client.scan_iter("session:*"))) == 2


async def test_many_sessions_and_another_table(tmp_path: Path, valkey: Server) -> None:
    """A long import says how far it is; the table may have another name."""
    with valkey.client() as client:
        client.hset("elsewhere", mapping=dict(magma.many(1200)))
    done = await imported(tmp_path, valkey, "--yes", "--table", "elsewhere")
    assert (done.status, done.stdout.splitlines()[-1]) == (0, "1200 sessions imported, 0 refused")
    assert done.stderr.splitlines() == ["1000 of 1200", "1200 of 1200"]
    nothing = await imported(tmp_path, valkey)
    assert (nothing.status, nothing.stdout.splitlines()[-1][:23]) == (0, "0 sessions to import, 0")


async def test_what_makes_no_sense_is_said(tmp_path: Path, valkey: Server) -> None:
    """A store in memory, a Redis that is not there, a URL that is none, and a table that is no hash: status 2."""
    fill(valkey, (DEVICE.subscriber, magma.entry(stored())))
    with valkey.client() as client:
        client.set("a text", "x")
    in_memory = await imported(tmp_path, valkey, "--yes", store={"url": "memory:"})
    assert (in_memory.status, "store.url: sessions in memory would be gone" in in_memory.stderr) == (2, True)
    wrong = await imported(tmp_path, valkey, "--table", "a text")
    assert (wrong.status, "WRONGTYPE" in wrong.stderr) == (2, True)
    file = tmp_path / "import.yml"
    for url in ("redis://127.0.0.1:1/0", "http://nowhere", "redis://127.0.0.1/0?colour=blue"):
        away = await sessiond("import-magma", "--redis", url, "--config", file)
        assert (away.status, away.stdout) == (2, ""), away
        assert away.stderr
        assert "Traceback" not in away.stderr
