"""The live table in a terminal, drawn by rich."""

from typing import Literal, Self

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sessiond.simulator.gateway import Gateway
from sessiond.simulator.view import COLUMNS, TEXT_COLUMNS, described, progress, rows

EVENTS = 6
MIN_WIDTH = 8
FRAME = 9
"""Lines that are neither a session nor an event: title, head, borders, and one to spare."""
COLOURS = {"active": "green", "restricted": "yellow", "ending": "blue", "ended": "dim", "refused": "red"}


class Screen:
    """A table of sessions over a panel of events; notes scroll by above them."""

    interval_s = 0.5

    def __init__(self) -> None:
        self._live = Live(auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Show a line above the table."""
        self._live.console.print(Text(text))

    def draw(self, second: int, gateway: Gateway) -> None:
        """Draw the table."""
        self._live.update(drawn(second, gateway, self._live.console.height), refresh=True)


def drawn(second: int, gateway: Gateway, height: int) -> RenderableType:
    """Return what is on a screen of so many lines; sessions that do not fit are counted."""
    every = rows(gateway)
    shown = every[: max(1, height - FRAME - EVENTS)]
    table = Table(title=progress(second, gateway).strip(), expand=True, box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(COLUMNS):
        is_text, gives_way = index < TEXT_COLUMNS, name == "rules"
        width = None if gives_way else max(MIN_WIDTH, len(name), *(len(row.cells()[index]) for row in shown))
        side: Literal["left", "right"] = "left" if is_text else "right"
        table.add_column(name, justify=side, no_wrap=True, min_width=width, ratio=1 if gives_way else None)
    for row in shown:
        table.add_row(*map(Text, row.cells()), style=COLOURS.get(row.state, ""))
    if hidden := len(every) - len(shown):
        table.add_row(f"and {hidden} more")
    events = list(gateway.peers.events.last)[-EVENTS:]
    return Group(table, Panel(Text("\n".join(map(described, events)), no_wrap=True), title="events"))
