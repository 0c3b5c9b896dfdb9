"""Usage monitors: when they report, and how they end (credit.md section 7)."""

from typing import Any

import msgspec
import pytest

from sessiond.core import credit, monitors
from sessiond.core.credit import Report, Tracking
from sessiond.core.monitors import Level, Monitor, MonitorAction, MonitorAnswer
from sessiond.core.quantity import GrantedUnits, Volume
from sessiond.core.update import applied
from tests.core.builders import monitor_grant

IN_FLIGHT = Report(4, 100, 0, "USAGE_REPORT")


def of(*answers: MonitorAnswer, used: int = 0, **fields: Any) -> Monitor:
    """Return a monitor that these answers made, of which something is used."""
    monitor = Monitor()
    for answer in answers:
        monitor = monitors.answered(monitor, answer, taken=False)
    monitor = applied(monitor, credit.used(monitor, used, 0, 1))
    assert isinstance(monitor, Monitor)
    return msgspec.structs.replace(monitor, **fields)


@pytest.mark.parametrize(
    ("answers", "silent"),
    [
        ([], True),
        ([monitor_grant("m")], False),
        ([monitor_grant("m", 0)], True),
        ([monitor_grant("m", None)], True),
        ([monitor_grant("m"), monitor_grant("m", 0)], True),
        ([monitor_grant("m"), monitor_grant("m", None)], True),
        ([monitor_grant("m"), monitor_grant("m", granted=GrantedUnits(1, 0, 0))], False),
        ([monitor_grant("m", granted=GrantedUnits(3, 2, 2)), monitor_grant("m", granted=GrantedUnits(3, 0, 2))], True),
        ([monitor_grant("m", granted=GrantedUnits(tx=5)), monitor_grant("m", granted=GrantedUnits(0, 5, 0))], False),
    ],
)
def test_a_grant_of_nothing_on_a_tracked_leg_silences(answers: list[MonitorAnswer], silent: bool) -> None:
    """A monitor whose last grant left a tracked leg empty reports no more until the rest is used up."""
    assert monitors.silent(of(*answers)) is silent


@pytest.mark.parametrize(
    ("answers", "used", "ending", "due"),
    [
        ([monitor_grant("m")], 799, False, False),
        ([monitor_grant("m")], 800, False, True),
        ([monitor_grant("m")], 5000, False, True),
        ([monitor_grant("m"), monitor_grant("m", 0)], 999, False, False),
        ([monitor_grant("m"), monitor_grant("m", 0)], 1000, True, False),
        ([monitor_grant("m", None)], 0, True, False),
    ],
)
def test_when_a_monitor_reports_and_ends(answers: list[MonitorAnswer], used: int, ending: bool, due: bool) -> None:
    """A report is due at the threshold; after a zero grant nothing is, until all is used and the end has come."""
    monitor = of(*answers, used=used)
    assert (monitors.ending(monitor), monitors.due(monitor, 0.8)) == (ending, due)


def test_a_last_report_is_due_at_once() -> None:
    """A monitor that is to end reports whatever it has."""
    assert monitors.due(of(monitor_grant("m"), last_report=True), 0.8)


@pytest.mark.parametrize("fields", [{}, {"last_report": True}])
def test_nothing_is_due_while_a_report_is_in_flight(fields: dict[str, Any]) -> None:
    """A monitor waits for its answer before it reports again (known problem R7)."""
    assert not monitors.due(of(monitor_grant("m"), used=1000, in_flight=IN_FLIGHT, **fields), 0.8)


def test_a_grant_refills() -> None:
    """An answer takes the report and adds its grant; reference: SessionStateTest.test_insert_monitor."""
    monitor = of(monitor_grant("m", 1024), used=100, in_flight=IN_FLIGHT)
    after = monitors.answered(monitor, monitor_grant("m", 1024), taken=True)
    assert (after.allowed_total, after.reported_tx, after.in_flight) == (2048, 100, None)
    assert (after.tracking, monitors.silent(after)) == (Tracking.TOTAL_ONLY, False)


def test_a_grant_that_answers_nothing_takes_nothing() -> None:
    """A monitor that a re-authorisation request brings again keeps its report in flight."""
    monitor = of(monitor_grant("m"), used=100, in_flight=IN_FLIGHT)
    after = monitors.answered(monitor, monitor_grant("m"), taken=False)
    assert (after.in_flight, credit.unreported(after), after.allowed_total) == (IN_FLIGHT, Volume(0, 0), 2000)


@pytest.mark.parametrize("taken", [True, False])
def test_disable_asks_for_one_more_report(taken: bool) -> None:
    """DISABLE ends a monitor after one more report; the grant that comes with it is not taken."""
    monitor = of(monitor_grant("m"), used=100, in_flight=IN_FLIGHT)
    after = monitors.answered(monitor, monitor_grant("m", action=MonitorAction.DISABLE), taken=taken)
    assert (after.last_report, after.allowed_total, after.in_flight is None) == (True, 1000, taken)


def test_force_is_a_grant_like_any_other() -> None:
    """FORCE has no meaning of its own (known problem G10); its grant counts."""
    after = monitors.answered(of(monitor_grant("m")), monitor_grant("m", action=MonitorAction.FORCE), taken=False)
    assert (after.allowed_total, after.last_report) == (2000, False)


def test_a_monitor_counts_for_the_session_unless_told_otherwise() -> None:
    """The level that is not said is the first of its type on the wire."""
    assert Monitor().level is Level.SESSION_LEVEL
