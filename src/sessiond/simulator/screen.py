"""The live table in a terminal, drawn by rich."""

from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sessiond.simulator.gateway import Gateway
from sessiond.simulator.view import COLUMNS, TEXT_COLUMNS, described, progress, rows

EVENTS = 8
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
        self._live.update(drawn(second, gateway), refresh=True)


def drawn(second: int, gateway: Gateway) -> RenderableType:
    """Return what is on the screen."""
    table = Table(title=progress(second, gateway).strip(), expand=True)
    for index, name in enumerate(COLUMNS):
        is_text = index < TEXT_COLUMNS
        table.add_column(name, justify="left" if is_text else "right", no_wrap=name != "rules")
    for row in rows(gateway):
        table.add_row(*map(Text, row.cells()), style=COLOURS.get(row.state, ""))
    events = list(gateway.peers.events.last)[-EVENTS:]
    return Group(table, Panel(Text("\n".join(map(described, events))), title="events"))
