#!/usr/bin/env python3
"""Shows the sessions of a data source as they begin and end: a small dashboard over both notification streams.

    examples/stream_monitor.py Car                      the daemon of this machine
    examples/stream_monitor.py Car --address host:50065
    examples/stream_monitor.py Car --plain              a line per event, for a log or a pipe

It lists what is there, and then follows the two streams. A stream that breaks, because the daemon was restarted or this
program was too slow, is opened again and the list is read anew, so that nothing is missed. With `rich` installed (the
extra `cli`) and a terminal it draws a table, else it prints a line per event. Ctrl-C ends it.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

import grpc
from grpc import aio

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.ma.streaming.api.v1.api_pb2_grpc import SessionManagementServiceStub as Stub

ROWS = 20
PAUSE_S = 1.0
Info = api.GetSessionInfoResponse


class View(Protocol):
    """How sessions are shown."""

    def begin(self) -> None:
        """Forget what was shown: the list comes anew."""
        ...

    def show(self, key: str, info: Info, event: str) -> None:
        """Show a session, and what has just happened to it."""
        ...

    def say(self, text: str) -> None:
        """Show how the connection is."""
        ...


class Lines:
    """A line per event."""

    def __init__(self) -> None:
        self._said = ""

    def begin(self) -> None:
        """Do nothing: what is printed is printed."""

    def show(self, key: str, info: Info, event: str) -> None:
        """Print what has happened to a session."""
        print(f"{event:<8} {key}  {info.type:<12} {info.identifier or '-':<24} {_duration(info)}", flush=True)

    def say(self, text: str) -> None:
        """Print how the connection is, apart from the events and only when that changes."""
        if text != self._said:
            print(text, file=sys.stderr, flush=True)
        self._said = text


class Table:
    """A table of the newest sessions, drawn with rich."""

    def __init__(self, data_source: str) -> None:
        from rich.live import Live  # noqa: PLC0415, the program works without rich

        self._data_source = data_source
        self._known: dict[str, Info] = {}
        self._text = ""
        self._live = Live(get_renderable=self._drawn, refresh_per_second=4)
        self._live.start()

    def begin(self) -> None:
        """Draw an empty table."""
        self._known = {}

    def show(self, key: str, info: Info, event: str) -> None:
        """Draw a session anew."""
        del event
        self._known[key] = info

    def say(self, text: str) -> None:
        """Show how the connection is, below the table."""
        self._text = text

    def stop(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def _drawn(self) -> Any:
        from rich.table import Table as RichTable  # noqa: PLC0415

        active = sum(not info.is_complete for info in self._known.values())
        title = f"{self._data_source}: {active} active, {len(self._known) - active} ended"
        table = RichTable("session", "type", "identifier", "since", "lasts", "details", title=title, caption=self._text)
        for key, info in list(self._known.items())[-ROWS:]:
            said = ", ".join(f"{name}={value}" for name, value in sorted(info.details.items()))
            style = "dim" if info.is_complete else "bold green"
            began = f"{info.creation_time.ToDatetime(UTC).astimezone():%H:%M:%S}"
            table.add_row(key, info.type, info.identifier, began, _duration(info), said, style=style)
        return table


async def follow(stub: Stub, data_source: str, view: View) -> None:
    """List what is there and follow both streams, for as long as they last.

    The streams come first: once their metadata is here, nothing that happens from then on is missed by the list.
    """
    starts = stub.GetSessionStartNotification(api.GetSessionStartNotificationRequest(data_source=data_source))
    stops = stub.GetSessionStopNotification(api.GetSessionStopNotificationRequest(data_source=data_source))

    async def show(key: str, event: str) -> None:
        info = await stub.GetSessionInfo(api.GetSessionInfoRequest(session_key=key))
        if info.success:
            view.show(key, info, event)

    async def read(stream: Any, event: str) -> None:
        async for notice in stream:
            await show(notice.session_key, event)

    try:
        await asyncio.gather(starts.initial_metadata(), stops.initial_metadata())
        listed = await stub.GetCurrentSessions(api.GetCurrentSessionsRequest(data_source=data_source))
        view.begin()
        for key in listed.session_keys:
            await show(key, "known")
        view.say("following")
        async with asyncio.TaskGroup() as both:
            both.create_task(read(starts, "started"))
            both.create_task(read(stops, "ended"))
    finally:
        starts.cancel()
        stops.cancel()


async def monitor(address: str, data_source: str, view: View) -> None:
    """Follow a data source for ever, through every loss of the connection."""
    async with aio.insecure_channel(address) as channel:
        stub = Stub(channel)
        while True:
            try:
                await follow(stub, data_source, view)
                view.say("the service is switched off there; trying again")
            except* aio.AioRpcError as errors:
                view.say(_reason(errors))
            await asyncio.sleep(PAUSE_S)


def _reason(errors: BaseExceptionGroup[aio.AioRpcError]) -> str:
    error = errors.exceptions[0]
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return f"cut off, beginning anew: {error.details()}"
    return f"connection lost, trying again: {error.details()}"


def _duration(info: Info) -> str:
    began = info.creation_time.ToDatetime(UTC)
    ended = info.termination_time.ToDatetime(UTC) if info.is_complete else datetime.now(UTC)  # noqa: TID251
    seconds = max(0, int((ended - began).total_seconds()))
    return f"{seconds // 3600:d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def view_of(data_source: str, *, plain: bool) -> tuple[View, Callable[[], None]]:
    """Return how sessions are shown, and what leaves the screen tidy."""
    if not plain and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        with suppress(ImportError):
            table = Table(data_source)
            return table, table.stop
    return Lines(), lambda: None


def main() -> None:
    """Run until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_source", help="whose sessions; the name is compared exactly")
    parser.add_argument("--address", default="127.0.0.1:50065", help="server.listen of the daemon (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="print a line per event, also on a terminal")
    options = parser.parse_args()
    view, stop = view_of(options.data_source, plain=options.plain)
    try:
        with suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(monitor(options.address, options.data_source, view))
    finally:
        stop()


if __name__ == "__main__":
    main()
