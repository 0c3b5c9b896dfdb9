#!/usr/bin/env python3
"""Prints what happens to sessions, and remembers where it was: killed and started again, it misses nothing.

    examples/watch_sessions.py 'type = "ussd"' --token-file seen.token

The first time it begins with the sessions that there are. Only what was printed counts as seen: if it is killed right
after a line, that line comes once more. Ctrl-C ends it.
"""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

from sessiond.client import Watch, connect, errors


def remembered(token_file: Path) -> str:
    """Return where this program was when it ended, nothing if it begins."""
    return token_file.read_text(encoding="utf-8") if token_file.exists() else ""


async def main() -> None:
    """Follow the events, and write down the token of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("filter", nargs="?", default="", help="which sessions (docs/filters.md); all if not given")
    parser.add_argument("--token-file", type=Path, default=Path("sessions.token"), help="where it remembers its place")
    parser.add_argument("--address", default="127.0.0.1:50065", help="where the daemon listens (default: %(default)s)")
    args = parser.parse_args()
    token = remembered(args.token_file)
    async with connect(args.address) as client:
        try:
            await follow(client.watch(args.filter, snapshot=not token, token=token), args.token_file)
        except errors.ResumeTokenExpired:
            print("away for too long: beginning again with what there is", flush=True)
            await follow(client.watch(args.filter, snapshot=True), args.token_file)


async def follow(watch: Watch, token_file: Path) -> None:
    """Print each event; only then is it seen."""
    async with watch as events:
        async for event in events:
            print(event.kind, event.session.key, event.session.type, flush=True)
            if event.token:
                token_file.write_text(event.token, encoding="utf-8")  # noqa: ASYNC240, a line of text


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
