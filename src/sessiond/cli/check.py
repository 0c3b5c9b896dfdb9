"""`sessiond check --config FILE`: say what is wrong with a configuration, without starting anything."""

import argparse
import sys
from pathlib import Path

from sessiond.daemon.access import callers_of, keys_of
from sessiond.daemon.config import ConfigError, load
from sessiond.daemon.rules import RulesFile

CANNOT_BE_USED = 2


def fill(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--config", type=Path, metavar="FILE", required=True)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print each problem with its line; return 0 if there is none, else 2."""
    try:
        config = load(options.config)
        rules = RulesFile(config.policies.file, options.config).read()
        callers_of(config, options.config)
        keys_of(config.encryption, options.config)
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return CANNOT_BE_USED
    for note in config.notes:
        sys.stderr.write(f"note: {note}\n")
    print(f"{options.config}: fine; {len(rules)} static rules")
    return 0
