"""Log lines: one JSON object per line on standard error, with a level that can be changed while the daemon runs.

Every line has event, level, timestamp and logger, then what was bound to the logger or to the context of the call. Code
anywhere writes `structlog.get_logger(__name__)` and knows nothing of this module. Lines of libraries, which use the
standard library's logging, come out in the same form.
"""

import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, BinaryIO, Final

import msgspec
import structlog

LEVELS: Final[Mapping[str, int]] = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
_BY_METHOD: Final[dict[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)


class _Output:
    """Where lines go, and from which level on: one for the process, as loggers are kept for good once they are made."""

    stream: BinaryIO | None = None
    threshold: int = logging.INFO


class _Lines:
    """The end of a logger: it knows its name, and writes a line."""

    def __init__(self, name: str = "sessiond") -> None:
        self.name = name

    def write(self, line: bytes) -> None:
        """Write the line at once. That nobody reads the log must not stop the call that wrote to it."""
        stream = _Output.stream or sys.stderr.buffer
        try:
            stream.write(line)
            stream.flush()
        except (OSError, ValueError):
            pass

    debug = info = warning = error = critical = write


class _FromStandardLibrary(logging.Handler):
    """Takes the lines of libraries to where ours go."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record under the name of its logger."""
        try:
            event = record.getMessage()
        except _UNENCODABLE:
            event = str(record.msg)
        write = getattr(structlog.get_logger(record.name), _method(record.levelno))
        write(event, exc_info=record.exc_info or False)


def configure(level: str = "INFO", stream: BinaryIO | None = None) -> None:
    """Log from this level on to the stream, by default standard error."""
    _Output.stream = stream
    structlog.configure(
        processors=[
            _drop_what_is_not_wanted,
            structlog.contextvars.merge_contextvars,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _as_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _FromStandardLibrary)]
    root.addHandler(_FromStandardLibrary())
    set_level(level)


def set_level(name: str) -> None:
    """Log from this level on, from now on; libraries speak from WARNING on."""
    if name not in LEVELS:
        raise ValueError(f"{name} is no log level; it is one of {', '.join(LEVELS)}")
    _Output.threshold = LEVELS[name]
    logging.getLogger().setLevel(max(logging.WARNING, _Output.threshold))


def level() -> str:
    """Return the name of the level from which on lines are written."""
    return next(name for name, number in LEVELS.items() if number == _Output.threshold)


def _method(number: int) -> str:
    """Return the name of the highest of our levels that is not above this one; libraries make up their own."""
    return next((name for name, ours in reversed(_BY_METHOD.items()) if ours <= number), "debug")


def _drop_what_is_not_wanted(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _BY_METHOD[method] < _Output.threshold:
        raise structlog.DropEvent
    return event


def _as_line(logger: _Lines, method: str, event: MutableMapping[str, Any]) -> bytes:
    head = {
        "event": event.pop("event", ""),
        "level": method,
        "timestamp": event.pop("timestamp"),
        "logger": logger.name,
    }
    line = {**head, **event}
    try:
        return _ENCODER.encode(line) + b"\n"
    except _UNENCODABLE:
        return _ENCODER.encode(dict(_as_text(line.items()))) + b"\n"


def _as_text(items: Iterable[tuple[object, object]]) -> Iterable[tuple[str, str]]:
    """Yield what could not be encoded as text that can be, whatever it is."""
    for key, value in items:
        text = value if isinstance(value, str) else repr(value)
        yield str(key), text.encode(errors="backslashreplace").decode()


_ENCODER = msgspec.json.Encoder(enc_hook=repr)
