"""The diagram of the lifecycle, drawn from its table: `python -m tests.house.lifecycle` writes it into the document."""

import re
from pathlib import Path
from typing import Final

from sessiond.core.lifecycle import TABLE, State

FILE: Final = Path(__file__).parents[2] / "docs" / "lifecycle.md"
PLACE: Final = re.compile(r"<!-- the diagram -->\n(?:```mermaid\n.*?```\n)?", re.DOTALL)


def diagram() -> str:
    """Return the states and the steps between them, as mermaid."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for before, events in TABLE.items():
        for event, after in events.items():
            arrows.setdefault((before, after), []).append(event.lower())
    lines = [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    ends = [f"    {state} --> [*]" for state, events in TABLE.items() if not events]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {State.REQUESTED}", *lines, *ends, "```", ""])


def drawn(text: str) -> str:
    """Return the document with the diagram in its place."""
    return PLACE.sub(lambda _: f"<!-- the diagram -->\n{diagram()}", text)


if __name__ == "__main__":
    FILE.write_text(drawn(FILE.read_text(encoding="utf-8")), encoding="utf-8")
