"""Running a command: a client for it, and what its end means: a status, and a line on standard error if it failed."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sessiond.client import Client, connect, errors
from sessiond.sessionctl import main
from sessiond.sessionctl.main import say
from sessiond.sessionctl.output import printable

Work = Callable[[Client], Awaitable[int | None]]
"""What a command does; it returns an exit status, None if all is well."""


STATUSES: Final[tuple[tuple[type[errors.SessiondError], int], ...]] = (
    (errors.InvalidArgument, main.USAGE),
    (errors.OutOfRange, main.USAGE),
    (errors.NotFound, main.NOT_FOUND),
    (errors.Refused, main.REFUSED),
    (errors.FailedPrecondition, main.REFUSED),
    (errors.AlreadyExists, main.REFUSED),
    (errors.ResourceExhausted, main.REFUSED),
    (errors.Unavailable, main.UNAVAILABLE),
    (errors.DeadlineExceeded, main.UNAVAILABLE),
    (errors.Aborted, main.CHANGED),
)


def run(connection: dict[str, Any], work: Work, *, endless: bool) -> int:
    """Return what a command comes to."""
    try:
        return asyncio.run(_worked(connection, work)) or main.OK
    except KeyboardInterrupt:
        return main.OK if endless else main.INTERRUPTED
    except BrokenPipeError:
        # Who reads what we print has had enough; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return main.OK
    except OSError as error:
        say(f"{error.filename or ''}: {error.strerror or error}")
        return main.FAILED
    except errors.SessiondError as error:
        return told(error)


def told(error: errors.SessiondError) -> int:
    """Print why a call failed; return the status that says so."""
    say(f"{printable(error.text)} ({error.reason or error.code.name})")
    for field, text in error.violations:
        if text != error.text:
            say(f"  {printable(field)}: {printable(text)}")
    return next((status for kind, status in STATUSES if isinstance(error, kind)), main.FAILED)


async def _worked(connection: dict[str, Any], work: Work) -> int | None:
    async with connect(**connection) as client:
        status = await work(client)
    sys.stdout.flush()
    return status
