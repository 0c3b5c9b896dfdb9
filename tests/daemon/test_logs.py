"""The log: one JSON object per line, at a level that can be changed, and never a reason to fail."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from sessiond.daemon import logs

CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


class Stream(io.BytesIO):
    """What was logged, as lines."""

    def lines(self) -> list[dict[str, Any]]:
        """Return each line as JSON."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


class Broken(io.BytesIO):
    """A stream whose reader is gone."""

    def write(self, _: Any) -> int:
        """Fail as a pipe does."""
        raise BrokenPipeError


@pytest.fixture
def stream() -> Iterator[Stream]:
    """Log to a stream at level INFO, and put all back after the test."""
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    stream = Stream()
    logs.configure("INFO", stream)
    yield stream
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.getLogger().handlers = handlers
    logging.getLogger().setLevel(level)


def test_a_line_has_event_level_time_and_logger_first(stream: Stream) -> None:
    """What every line has comes first, then what this one has."""
    structlog.get_logger("sessiond.app.commit").warning("conflict", session="IMSI1-2", attempt=3)
    (line,) = stream.lines()
    assert list(line) == ["event", "level", "timestamp", "logger", "session", "attempt"]
    assert (line["event"], line["level"], line["logger"]) == ("conflict", "warning", "sessiond.app.commit")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", line["timestamp"])


def test_what_is_bound_is_in_the_line(stream: Stream) -> None:
    """A logger and the context of a call both carry values into each line."""
    structlog.contextvars.bind_contextvars(rpc="CreateSession")
    structlog.get_logger("x").bind(session="a").info("done")
    (line,) = stream.lines()
    assert (line["rpc"], line["session"]) == ("CreateSession", "a")


def test_lines_below_the_level_are_not_written(stream: Stream) -> None:
    """At INFO a debug line costs little and says nothing."""
    structlog.get_logger("x").debug("detail")
    assert stream.lines() == []


def test_the_level_can_be_changed_while_running(stream: Stream) -> None:
    """A logger that has been in use follows the new level, up and down."""
    log = structlog.get_logger("x").bind(a=1)
    for name in ("DEBUG", "ERROR", "INFO", "FATAL", "WARNING"):
        logs.set_level(name)
        assert logs.level() == name
        for method in ("debug", "info", "warning", "error", "critical"):
            getattr(log, method)(name)
    written: dict[str, int] = {}
    for line in stream.lines():
        written[line["event"]] = written.get(line["event"], 0) + 1
    assert written == {"DEBUG": 5, "ERROR": 2, "INFO": 4, "FATAL": 1, "WARNING": 3}


def test_an_unknown_level_is_refused(stream: Stream) -> None:
    """The old level stays; the message lists what there is."""
    with pytest.raises(ValueError, match="LOUD is no log level; it is one of DEBUG, INFO, WARNING, ERROR, FATAL"):
        logs.set_level("LOUD")
    assert (logs.level(), stream.lines()) == ("INFO", [])


def test_an_exception_is_text_within_the_line(stream: Stream) -> None:
    """A traceback does not break the line in two."""
    try:
        raise KeyError("k")  # noqa: TRY301  the traceback is what is tested
    except KeyError:
        structlog.get_logger("x").exception("failed")
    (line,) = stream.lines()
    assert line["level"] == "error"
    assert line["exception"].endswith("KeyError: 'k'")


def test_libraries_are_heard_from_warning_on(stream: Stream) -> None:
    """Lines of the standard library's logging have the same form; their information is left out."""
    logging.getLogger("grpc").info("noise")
    logging.getLogger("grpc").warning("cannot connect to %s", "h:1")
    (line,) = stream.lines()
    assert (line["event"], line["level"], line["logger"]) == ("cannot connect to h:1", "warning", "grpc")


@pytest.mark.parametrize(
    ("number", "written"), [(35, "warning"), (45, "error"), (60, "critical"), (25, "info"), (5, None)]
)
def test_levels_that_libraries_make_up_are_rounded_down(stream: Stream, number: int, written: str | None) -> None:
    """A level of our own scale is shown, the highest that is not above."""
    library = logging.getLogger("lib")
    library.setLevel(1)
    library.log(number, "said")
    library.setLevel(logging.NOTSET)
    assert [line["level"] for line in stream.lines()] == ([written] if written else [])


def test_a_library_line_that_cannot_be_formatted_is_shown_raw(stream: Stream) -> None:
    """A wrong format in a library is not our exception."""
    logging.getLogger().handlers = []  # pytest has one that fails
    logs.configure("INFO", stream)
    logging.getLogger("lib").error("%d things", "no")
    assert stream.lines()[0]["event"] == "%d things"


def test_exceptions_of_libraries_are_shown(stream: Stream) -> None:
    """The event loop logs the exception of a lost task; it must not get lost again."""
    logging.getLogger("asyncio").error("lost", exc_info=KeyError("k"))
    assert "KeyError: 'k'" in stream.lines()[0]["exception"]


def test_python_warnings_are_lines(stream: Stream) -> None:
    """A warning of the interpreter does not appear as bare text among the JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("INFO", stream)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    (line,) = stream.lines()
    assert line["logger"] == "py.warnings"
    assert "old thing" in line["event"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (object, "<class 'object'>"),
        ({1, 2}, [1, 2]),
        (float("nan"), None),
        ("\udcff", "\\udcff"),
        (2**200, 2**200),
        (CIRCLE, "[[...]]"),
    ],
)
def test_any_value_can_be_logged(stream: Stream, value: object, shown: object) -> None:
    """What JSON has no form for is shown as text; logging never raises."""
    structlog.get_logger("x").info("odd", value=value)
    assert stream.lines()[0]["value"] == shown


def test_a_log_that_nobody_reads_stops_nothing(stream: Stream) -> None:
    """A broken pipe at standard error does not reach the caller."""
    logs.configure("INFO", Broken())
    structlog.get_logger("x").info("unheard")
    assert stream.lines() == []


def test_standard_error_is_the_default(stream: Stream, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Without a stream, lines go to the standard error of the process."""
    logs.configure()
    structlog.get_logger("x").info("ready")
    assert json.loads(capfdbinary.readouterr().err)["event"] == "ready"
    assert stream.lines() == []


def test_configuring_twice_does_not_double_the_lines(stream: Stream) -> None:
    """A reload may configure again."""
    logs.configure("INFO", stream)
    logging.getLogger("lib").warning("once")
    assert len(stream.lines()) == 1
