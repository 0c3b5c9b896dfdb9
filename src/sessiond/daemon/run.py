"""The life of the process: start, ready, reload on SIGHUP, drain and exit on SIGTERM."""

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
import uvloop

from sessiond.core.errors import Fenced
from sessiond.daemon import logs
from sessiond.daemon.config import ConfigError, load
from sessiond.daemon.wiring import Daemon

log = structlog.get_logger(__name__)

STARTED_WRONG: Final = 2
SEARCH: Final = (20_000, 20, 50)
"""After how many more objects than were freed the youngest are searched for cycles; after how many searches others."""


def run(path: Path) -> int:
    """Run the daemon until it is told to stop; return the exit status."""
    try:
        config = load(path)
        logs.configure(config.log_level)
        for note in config.notes:
            log.warning("config_note", note=str(note))
        return uvloop.run(_live(Daemon(config, path)))
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return STARTED_WRONG


async def _live(daemon: Daemon) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.operator.stop)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon)
    try:
        if await _started(daemon):
            _schedule("SCHED_OTHER")
            _spare_the_search()
            log.info("ready", listen=daemon.address, metrics=daemon.metrics_address, pid=os.getpid())
            _notify("READY=1")
            await daemon.operator.stopped.wait()
        _notify("STOPPING=1")
        log.info("stopping")
    except Fenced:
        daemon.give_way()
    finally:
        await daemon.close()
    log.info("stopped")
    return daemon.exit_status


async def _started(daemon: Daemon) -> bool:
    """Start; return False if the daemon was told to stop before it had everything that it waits for."""
    _schedule("SCHED_BATCH")
    starting = asyncio.ensure_future(daemon.start())
    stopped = asyncio.ensure_future(daemon.operator.stopped.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


def _schedule(policy: str) -> None:
    """Choose how this thread is scheduled, and the threads that are started from now on (sched(7)).

    Those of gRPC wake up for every message. As SCHED_BATCH they take turns with the loop where they share its core,
    instead of interrupting it several times in each call.
    """
    if hasattr(os, policy):
        with suppress(OSError):  # a container may forbid it; then everything is as usual
            os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))


def _spare_the_search() -> None:
    """Search less for cycles: what was loaded is there to stay, and values of sessions have none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SEARCH)


def _notify(state: str) -> None:
    """Tell systemd, if it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning("sd_notify_failed", text=str(error))
