"""Where `sessionctl` begins, and how it ends: its exit status says what became of the command."""

import os
import sys
from typing import Final

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
UNAVAILABLE: Final = 5
CHANGED: Final = 6
INTERRUPTED: Final = 130

COMPLETE: Final = "_SESSIONCTL_COMPLETE"
"""How a shell says that it wants to know what can follow."""


class Mistake(Exception):
    """What was typed makes no sense."""


def say(text: str) -> None:
    """Print a line where it does not get into what is piped on."""
    print(f"sessionctl: {text}", file=sys.stderr)


def main() -> None:
    """Run the command line, and exit."""
    try:
        from sessiond.sessionctl.app import app  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        say("the package typer is missing: install sessiond[cli]")
        sys.exit(FAILED)
    if COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415 - only shells ask for it

        completion_init()
    try:
        app(prog_name="sessionctl")
    except Mistake as mistake:
        say(str(mistake))
        sys.exit(USAGE)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
