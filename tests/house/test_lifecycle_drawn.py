"""docs/lifecycle.md shows the lifecycle as it is."""

from sessiond.core.lifecycle import TABLE
from tests.house.lifecycle import FILE, diagram, drawn


def test_the_diagram_is_fresh() -> None:
    """It is what the table draws; `python -m tests.house.lifecycle` draws it anew."""
    text = FILE.read_text(encoding="utf-8")
    assert diagram() in text
    assert text == drawn(text)


def test_every_step_is_drawn() -> None:
    """Each state and event of the table is in the diagram."""
    for state, events in TABLE.items():
        assert state in diagram()
        for event, after in events.items():
            (line,) = (line for line in diagram().splitlines() if line.startswith(f"    {state} --> {after}: "))
            assert event.lower() in line
