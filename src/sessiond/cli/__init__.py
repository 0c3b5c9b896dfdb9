"""The command line: one file per command, nothing decided here."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

DESCRIPTION = "One daemon that owns sessions. Without a command it runs in the foreground until SIGTERM."
EPILOG = "SIGTERM drains and stops the daemon; SIGHUP reads configuration and rules again."
COMMANDS: Final = {
    "check": "check a configuration file and the rules it names",
    "import-magma": "take over the sessions of a Magma gateway",
    "simulate": "play the rest of a gateway",
}
"""The commands, each a module beside this one; only the one that is asked for is imported, so that all start sooner."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


class _Command(argparse.ArgumentParser):
    """The parser of a command, which gets its arguments from the module of the command when it is asked for."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse what follows the name of the command."""
        import_module(f"sessiond.cli.{self.prog.split()[-1].replace('-', '_')}").fill(self)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sessiond", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"sessiond {version('sessiond')}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=Path("sessiond.yml"), help="default: sessiond.yml in this folder"
    )
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Command)
    for name, purpose in COMMANDS.items():
        commands.add_parser(name, help=purpose)
    return parser


def _serve(options: argparse.Namespace) -> int:
    status: int = import_module("sessiond.cli.serve").run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
