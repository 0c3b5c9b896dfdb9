"""`sessiond import-magma --redis URL`: take over the sessions of a Magma gateway, after showing what there is."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sessiond.core.errors import SessionError
from sessiond.core.rules import in_force
from sessiond.core.session import Session
from sessiond.daemon import logs
from sessiond.daemon.config import ConfigError, load
from sessiond.daemon.importing import found_in, imported
from sessiond.translate.magma_table import Found, Refused

FINE, SOME_REFUSED, UNUSABLE = 0, 1, 2
EPILOG: Final = """Exit status: 0 all sessions can be imported, or are; 1 some are refused, each with its reason; 2
nothing could be done. Neither the gateway's sessiond nor the daemon of this configuration may run meanwhile. See
docs/import.md."""
EVERY: Final = 1000
"""Sessions between two lines of progress, where no terminal shows one line that changes."""


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = "Shows what a Magma gateway keeps in its table of sessions, and with --yes imports it."
    parser.epilog = EPILOG
    parser.add_argument("--redis", required=True, metavar="URL", help="its Redis, such as redis://127.0.0.1:6380/0")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=Path("sessiond.yml"), help="default: sessiond.yml in this folder"
    )
    parser.add_argument("--table", metavar="NAME", help="its table (default: sessions_table of the configuration)")
    parser.add_argument("--yes", action="store_true", help="import, into the store of the configuration")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show, and import if that is wanted; return the exit status."""
    try:
        return asyncio.run(_run(options))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
    except SessionError as error:
        print(error.text, file=sys.stderr)
    except (ImportError, RuntimeError, ValueError) as error:
        print(f"{options.redis}: cannot be used: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("given up; what is imported is imported: run the command again", file=sys.stderr)
    return UNUSABLE


async def _run(options: argparse.Namespace) -> int:
    config = load(options.config)
    logs.configure("WARNING")
    entries = await found_in(options.redis, options.table or config.sessions_table, config, options.config)
    found = [entry for entry in entries if isinstance(entry, Found)]
    refused = [entry for entry in entries if isinstance(entry, Refused)]
    _show(found)
    if options.yes and found:
        refused += await imported(found, config, options.config, _progress(len(found)))
    _show_refused(refused)
    written = len(found) - (len(refused) - (len(entries) - len(found)))
    if options.yes:
        print(f"{written} sessions imported, {len(refused)} refused")
    else:
        print(f"{len(found)} sessions to import, {len(refused)} refused; nothing is changed without --yes")
    return SOME_REFUSED if refused else FINE


def _show(found: Sequence[Found]) -> None:
    """Print a table of the sessions."""
    rows = [("SUBSCRIBER", "SESSION", "RULES", "CREDITS", "MONITORS", "UP", "DOWN", "NOTES")]
    rows += [(*_row(entry.session), "; ".join(entry.notes)) for entry in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        names = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [text.rjust(width) for text, width in zip(row[2:-1], widths[2:], strict=True)]
        print("  ".join([*names, *numbers, row[-1]]).rstrip())


def _row(session: Session) -> tuple[str, str, str, str, str, str, str]:
    """Return who a session is and what it has; bytes are those that its quotas count, each quota by itself."""
    quotas = [*session.credits.values(), *session.monitors.values()]
    return (
        session.scope,
        session.key,
        str(sum(in_force(rule) or rule.gy is not None for rule in session.rules.values())),
        str(len(session.credits)),
        str(len(session.monitors)),
        str(sum(quota.used_tx for quota in quotas)),
        str(sum(quota.used_rx for quota in quotas)),
    )


def _show_refused(refused: Sequence[Refused]) -> None:
    for entry in refused:
        print(f"refused: {entry.subscriber} {entry.session_id}: {entry.why}")


def _progress(count: int) -> Callable[[int], None]:
    """Return what says how far an import is: one line that changes on a terminal, else a line now and then."""
    at_terminal = sys.stderr.isatty()

    def say(done: int) -> None:
        if at_terminal:
            print(f"\r{done} of {count}", end="\n" if done == count else "", file=sys.stderr, flush=True)
        elif done % EVERY == 0 or (done == count and count > EVERY):
            print(f"{done} of {count}", file=sys.stderr, flush=True)

    return say
