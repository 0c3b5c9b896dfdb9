"""The live screen: how many sessions there are, what goes through them, and which were used last."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from sessiond.client import Client, Session
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.sessionctl.main import Mistake
from sessiond.sessionctl.output import table
from sessiond.sessionctl.running import Work
from sessiond.sessionctl.sessions import COLUMNS, now_s, octets, row

SHOWN: Final = 15
"""Sessions where nobody says how high the screen is."""
HEAD: Final = 5
"""Lines above the sessions."""
LATEST: Final = "last_activity_time desc"


class Frame(Struct, frozen=True):
    """What is seen at one look, at a time (unix seconds)."""

    counted: session_service_pb2.GetStatisticsResponse
    sessions: list[Session]
    at_s: float


def top(where: str, interval_s: float, *, once: bool) -> Work:
    """Return the work of `top`; where no terminal is, it looks once."""

    async def work(client: Client) -> None:
        if once or not sys.stdout.isatty():
            print("\n".join(lines(await _look(client, where, SHOWN))))
        else:
            await _live(client, where, interval_s)

    return work


def lines(frame: Frame, before: Frame | None = None) -> Iterator[str]:
    """Yield what is on the screen; `before` is what was, for what has come in between."""
    counted, traffic = frame.counted, frame.counted.traffic
    states = ((session_pb2.SessionState.Name(one.state), one.count) for one in counted.states if one.count)
    yield f"sessions  {counted.total}  " + _listed(
        (name.removeprefix("SESSION_STATE_"), count) for name, count in states
    )
    yield "types     " + _listed(sorted(counted.types.items()))
    sent = octets(traffic.bytes_sent) + _rate(frame, before, "bytes_sent")
    yield f"traffic   sent {sent}, received {octets(traffic.bytes_received)}{_rate(frame, before, 'bytes_received')}"
    yield ""
    yield from table([name for name, _ in COLUMNS], (row(session, COLUMNS, frame.at_s) for session in frame.sessions))


def _listed(counts: "Iterator[tuple[str, int]] | list[tuple[str, int]]") -> str:
    return ", ".join(f"{name} {count}" for name, count in counts)


def _rate(frame: Frame, before: Frame | None, leg: str) -> str:
    if before is None or frame.at_s <= before.at_s:
        return ""
    gained = getattr(frame.counted.traffic, leg) - getattr(before.counted.traffic, leg)
    return f" ({octets(max(0, round(gained / (frame.at_s - before.at_s))))}/s)"


async def _look(client: Client, where: str, count: int) -> Frame:
    counted = await client.statistics(where)
    sessions = [session async for session in client.list(where, order_by=LATEST, limit=count)]
    return Frame(counted, sessions, now_s())


async def _live(client: Client, where: str, interval_s: float) -> None:
    """Look again and again; what is on the screen before comes back at the end."""
    try:
        from rich.live import Live  # noqa: PLC0415 - nothing else needs it
        from rich.text import Text  # noqa: PLC0415
    except ModuleNotFoundError:
        raise Mistake(
            "there is no live screen without the package rich: install sessiond[cli], or say --once"
        ) from None
    before: Frame | None = None
    with Live(auto_refresh=False, screen=True) as screen:
        while True:
            frame = await _look(client, where, max(1, screen.console.height - HEAD))
            text = Text("\n".join(lines(frame, before)), no_wrap=True, overflow="ellipsis")
            screen.update(text, refresh=True)
            before = frame
            await asyncio.sleep(interval_s)
