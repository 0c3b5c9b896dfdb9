"""`sessiond --config FILE`: run the daemon."""

import argparse

from sessiond.daemon import run as daemon


def run(options: argparse.Namespace) -> int:
    """Run until told to stop."""
    return daemon.run(options.config)
