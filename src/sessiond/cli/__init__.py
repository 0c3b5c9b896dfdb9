"""The command line: one file per command, nothing decided here."""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sessiond.cli import check, serve, simulate

DESCRIPTION = "One daemon that owns sessions. Without a command it runs in the foreground until SIGTERM."
EPILOG = "SIGTERM drains and stops the daemon; SIGHUP reads configuration and rules again."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sessiond", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"sessiond {version('sessiond')}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=Path("sessiond.yml"), help="default: sessiond.yml in this folder"
    )
    parser.set_defaults(run=serve.run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    check.add_parser(commands)
    simulate.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
