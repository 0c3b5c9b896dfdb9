"""What a user sees of a run."""

from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sessiond.simulator import balance, state_file, view
from sessiond.simulator.access import State
from sessiond.simulator.accounts import Books, Meter
from sessiond.simulator.balance import Line, Octets
from sessiond.simulator.events import Event
from sessiond.simulator.gateway import Gateway, is_address_line, is_ready_line
from sessiond.simulator.run_directory import InUse, RunDirectory, free_addresses
from sessiond.simulator.screen import drawn
from sessiond.simulator.view import Row, Volumes
from tests.simulator.scenes import ADDRESS, GY, SUBSCRIBER, activation, charged, simulation
from tests.simulator.test_switch import START, a_switch

CREATED = Event("sessiond", "session_created", SUBSCRIBER, {"ip_addr": ADDRESS})


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """Hand out a run in which one subscriber is attached and has used something; nothing is started."""
    plans = simulation(plans="[{name: plain}]", subscribers="{groups: [{plan: plain, count: 2}]}")
    run = Gateway(plans, RunDirectory(tmp_path), lambda: START, print)
    device = run.peers.devices.arrive(SUBSCRIBER)
    device.state = State.ATTACHED
    run.peers.policy.sessions["s"] = Books(
        session_id="s",
        subscriber=SUBSCRIBER,
        address=ADDRESS,
        apn="a",
        plan="plain",
        updates=3,
        credits={"1": Meter(granted=2000, reported_tx=500), "2": Meter(unlimited=True)},
        monitors={"m": Meter(granted=10)},
    )
    switch = a_switch()
    switch.activate(activation((charged(), 1)))
    switch.advance(START + 1)
    state_file.write(run.folder.switch, switch.state())
    run.peers.events.last.append(CREATED)
    yield run
    await run.peers.close()


async def test_a_row_puts_together_what_the_peers_know(gateway: Gateway) -> None:
    """State from the MME, rules and use from the switch, grants and reports from the policy side."""
    gateway.peers.devices.arrive("IMSI001010000000002")
    first, second = view.rows(gateway)
    (passed,) = gateway.switch().ledger
    assert first == Row(
        subscriber=SUBSCRIBER,
        plan="plain",
        state="active",
        rules=("internet",),
        charged=Volumes(passed.tx + passed.rx, None, 500),
        monitored=Volumes(0, 10, 0),
        updates=3,
    )
    assert second == Row(subscriber="IMSI001010000000002", plan="plain", state="attaching")
    assert first.cells()[:4] == (SUBSCRIBER, "plain", "active", "internet")
    assert first.cells()[5:] == ("no limit", "500 B", "0 B", "10 B", "0 B", "3")
    assert second.cells()[4:] == ("", "", "", "", "", "", "0")


async def test_a_row_says_how_far_a_session_is(gateway: Gateway) -> None:
    """Restricted by a Gy rule, ending when detached, ended when the policy side has the last usage."""
    switch = a_switch()
    switch.activate(activation((charged("redirect"), 1), origin=GY))
    state_file.write(gateway.folder.switch, switch.state())
    assert view.rows(gateway)[0].state == "restricted"
    (device,) = gateway.peers.devices
    device.state = State.DETACHED
    assert view.rows(gateway)[0].state == "ending"
    gateway.peers.policy.sessions["s"].terminated = True
    assert view.rows(gateway)[0].state == "ended"


async def test_the_screen_has_sessions_and_events(gateway: Gateway) -> None:
    """A table with a row per session over the last events."""
    console = Console(width=160, record=True, file=StringIO())
    console.print(drawn(7, gateway, 40))
    text = console.export_text()
    for shown in (SUBSCRIBER, "active", "internet", "no limit", f"session_created {SUBSCRIBER} {ADDRESS}", "7 s"):
        assert shown in text


async def test_what_does_not_fit_on_the_screen_is_counted(gateway: Gateway) -> None:
    """A small terminal shows the first sessions, and the events all the same."""
    for number in range(2, 30):
        gateway.peers.devices.arrive(f"IMSI0010100000000{number:02d}")
    console = Console(width=160, height=20, record=True, file=StringIO())
    console.print(drawn(7, gateway, 20))
    text = console.export_text()
    assert "and 24 more" in text
    assert "session_created" in text
    assert text.count("\n") <= 20


async def test_progress_is_one_line(gateway: Gateway) -> None:
    """How many sessions, how much, how many updates."""
    (passed,) = gateway.switch().ledger
    used = view.octets(passed.tx + passed.rx)
    line = view.progress(12, gateway)
    assert line.startswith(f"  12 s  1 open, 0 ended; charged {used}, reported 500 B; monitored 0 B, reported 0 B; ")
    assert line.endswith("; 3 updates, 0 events")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_550_000, "1.6 MB"),
        (5 * 10**15, "5000.0 TB"),
        (None, "no limit"),
    ],
)
def test_octets_are_readable(count: int | None, text: str) -> None:
    """A number with a unit."""
    assert view.octets(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, ""),
        ({"failure_reason": "no"}, "no"),
        ({"total_tx": 1, "total_rx": 2000}, "1 B up, 2.0 kB down"),
        (
            {
                "list_of_updates": [
                    {"update_reason": "QUOTA_EXHAUSTED", "rating_group": 1},
                    {"update_reason": "USAGE_REPORT", "monitoring_key": "m"},
                ]
            },
            "QUOTA_EXHAUSTED(1) USAGE_REPORT(m)",
        ),
    ],
)
def test_an_event_is_one_line(value: dict[str, object], text: str) -> None:
    """What happened, to whom, and what is worth a glance."""
    assert view.described(Event("sessiond", "x", SUBSCRIBER, value)) == f"x {SUBSCRIBER} {text}".rstrip()


def test_the_ledger_shows_every_account() -> None:
    """Octets in both directions, and what they come to."""
    even = Line(session="s", subscriber="i", kind="OCS", key="1", generated=Octets(5, 6), reported=Octets(5, 6))
    odd = Line(session="s", subscriber="i", kind="PCRF", key="m", generated=Octets(5, 6), problem="not terminated")
    over = Line(session="s", subscriber="i", kind="PCRF", key="n", generated=Octets(5, 6), ended=True)
    head, first, second, third = view.ledger([even, odd, over])
    assert "generated up" in head
    assert first.split() == ["s", "OCS", "1", "5", "6", "5", "6", "balanced"]
    assert second.endswith("DIFFERENT by -5 up, -6 down: not terminated")
    assert third.endswith("balanced (the monitor had ended)")
    assert view.verdict([even], []).startswith(
        "balanced: 0 sessions, 1 accounts; bytes generated = bytes reported: 11 to the OCS, 0 to the PCRF"
    )
    assert view.verdict([even, odd], []).startswith("DIFFERENT: 1 of 2 accounts")
    assert view.verdict([], []).startswith("nothing was carried")
    assert balance.lines([], []) == []


def test_a_ready_line_is_recognised() -> None:
    """Among all that a daemon, or a process of peers, may write."""
    assert is_ready_line(b'{"event": "ready", "level": "info"}')
    assert not any(map(is_ready_line, (b"", b"ready", b'"ready"', b'{"event": "stopped"}')))
    assert is_address_line(b'{"pipelined": "127.0.0.1:1"}')
    assert not is_address_line(b"Traceback")


def test_a_run_directory_is_taken_once(tmp_path: Path) -> None:
    """Two runs in one folder would overwrite each other's files; what an earlier one left is cleared."""
    (tmp_path / "switch.json").write_text("old", encoding="utf-8")
    first, second = RunDirectory(tmp_path), RunDirectory(tmp_path)
    first.take()
    assert not first.switch.exists()
    with pytest.raises(InUse):
        second.take()
    first.leave()
    second.leave()
    second.take()
    second.leave()


def test_free_addresses_differ() -> None:
    """No two listeners of a run get the same port."""
    assert len(set(free_addresses(20))) == 20
