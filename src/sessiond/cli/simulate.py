"""`sessiond simulate`: the peers of a gateway to try a sessiond with, or a whole gateway at work."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

from sessiond.simulator import view
from sessiond.simulator.config import ConfigError, Simulation, load, members, scaled
from sessiond.simulator.display import Display, Lines
from sessiond.simulator.gateway import Failed, Gateway
from sessiond.simulator.peers import NAMES, Peers
from sessiond.simulator.run_directory import InUse, RunDirectory
from sessiond.simulator.wire import CannotListen

BALANCED, DIFFERENT, UNUSABLE = 0, 1, 2
ALIASES: Final = {"policy": "session_proxy", "ocs": "session_proxy", "data_plane": "pipelined"}
LONGEST_S, MOST = 86_400, 10_000
CONFIG: Final = Path("config/simulation.yml")


def now_s() -> float:
    """Return the unix time; the simulator is told the time, and this is where from."""
    return time.time()  # noqa: TID251 - the simulated gateway has its own clock, as the machines it stands for do


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the two forms of the command."""
    parser.description = __doc__
    parser.set_defaults(run=run)
    forms = parser.add_subparsers(dest="form", required=True, parser_class=argparse.ArgumentParser)
    peers = forms.add_parser("peers", help="run simulated peers until SIGINT or SIGTERM")
    peers.add_argument("--config", type=Path, default=CONFIG, help="simulation.yml (default: %(default)s)")
    peers.add_argument("--only", type=_names, default=NAMES, metavar="NAME,...", help=f"which of {', '.join(NAMES)}")
    peers.add_argument("--attach", action="store_true", help="attach the subscribers, and detach them at the end")
    peers.add_argument("--events", action="store_true", help="print every event that eventd gets, as a line of JSON")
    gateway = forms.add_parser("gateway", help="run a daemon with peers and subscribers, and check the ledger")
    gateway.add_argument("--config", type=Path, default=CONFIG, help="simulation.yml (default: %(default)s)")
    gateway.add_argument("--duration", type=_seconds, metavar="S", help="end after so many seconds, not on Ctrl-C only")
    gateway.add_argument("--plain", action="store_true", help="a line per second in place of a live table")
    gateway.add_argument("--subscribers", type=_number, metavar="N", help="how many attach, over all plans")
    gateway.add_argument("--run-dir", type=Path, metavar="DIR", help="where logs go (default: .run)")


def run(args: argparse.Namespace) -> int:
    """Do what the arguments say; 0 is well, 1 a ledger that does not balance, 2 that it could not be tried."""
    try:
        simulation = load(args.config)
        if args.form == "peers":
            return asyncio.run(_peers(simulation, args))
        if args.subscribers is not None:
            simulation = scaled(simulation, args.subscribers)
        return asyncio.run(_gateway(simulation, args))
    except (ConfigError, CannotListen, Failed, InUse, OSError) as error:
        print(error, file=sys.stderr)
        return UNUSABLE
    except asyncio.CancelledError:
        print("given up", file=sys.stderr)
        return UNUSABLE


async def _peers(simulation: Simulation, args: argparse.Namespace) -> int:
    peers = Peers(simulation, now_s)
    with _signals() as stop:
        try:
            if args.events:
                peers.events.listen(lambda event: print(json.dumps({"event": event.type, **event.value}), flush=True))
            await peers.open(args.only)
            print(json.dumps(peers.addresses), flush=True)
            attaching = asyncio.create_task(_attached(peers, simulation)) if args.attach else None
            await _first(stop.wait(), peers.failed())
            if attaching is not None:
                attaching.cancel()
                await peers.mme.detach_all()
        finally:
            await peers.close()
    return 0


async def _attached(peers: Peers, simulation: Simulation) -> None:
    for device in await peers.mme.attach_all([subscriber for subscriber, _ in members(simulation.subscribers)]):
        if device.why:
            print(f"{device.subscriber}: {device.state}: {device.why}", file=sys.stderr)


async def _gateway(simulation: Simulation, args: argparse.Namespace) -> int:
    folder = RunDirectory(args.run_dir or _run_directory())
    folder.take()
    display = Lines() if args.plain or not sys.stdout.isatty() else _screen()
    gateway = Gateway(simulation, folder, now_s, display.note)
    with _signals() as stop:
        try:
            await gateway.open()
            with display:
                await _first(
                    _course(gateway, display, stop, args.duration), _drawing(gateway, display), gateway.broken()
                )
        finally:
            await gateway.close()
            folder.leave()
    return _settled(gateway)


async def _course(gateway: Gateway, display: Display, stop: asyncio.Event, duration_s: float | None) -> None:
    """Attach everyone, let time pass, end everything."""
    await gateway.attach()
    display.note("all attached; Ctrl-C ends the sessions")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), duration_s)
    display.note("ending all sessions")
    await gateway.end_sessions()


async def _drawing(gateway: Gateway, display: Display) -> None:
    started_s = now_s()
    while True:
        display.draw(int(now_s() - started_s), gateway)
        await asyncio.sleep(display.interval_s)


def _settled(gateway: Gateway) -> int:
    """Print the ledger and return what it comes to."""
    accounts = gateway.balance()
    print("\n".join(view.ledger(accounts)))
    print(view.verdict(accounts, gateway.peers.policy.sessions.values()))
    is_balanced = bool(accounts) and all(line.is_balanced for line in accounts)
    return BALANCED if is_balanced else DIFFERENT


def _screen() -> Display:
    """Return the live table; rich is needed for that alone."""
    try:
        from sessiond.simulator.screen import Screen  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError:
        print("there is no live table without the package rich: install sessiond[cli]", file=sys.stderr)
        return Lines()
    return Screen()


def _run_directory() -> Path:
    """Return `.run` here, or a new folder elsewhere if nothing can be written here."""
    return Path(".run") if os.access(".", os.W_OK) else Path(tempfile.mkdtemp(prefix="sessiond-"))


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Hand out an event that the first SIGINT or SIGTERM sets; the second gives up."""
    stop, loop, task = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()

    def stop_or_give_up() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop_or_give_up)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of these is through, raise what it raised, cancel the others."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _names(text: str) -> tuple[str, ...]:
    names = [ALIASES.get(name, name) for name in text.split(",")]
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"there is no peer {unknown[0]}; there are {', '.join(NAMES)}")
    return tuple(names)


def _seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"a number of seconds, above 0 and at most {LONGEST_S}")
    return seconds


def _number(text: str) -> int:
    if not 1 <= (number := int(text)) <= MOST:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST}")
    return number
