#!/usr/bin/env python3
"""How late sessions end that expire within a minute, and how long other calls take meanwhile.

    bench/expiry.py [--sessions 100000] [--within 60] [--lead 205] [--valkey]

A daemon is started for it, in memory or with a Valkey of its own. None may end early; 99 of 100 are to end at most a
second late. Also how late one is told who watches: a stream of gRPC brings one event after the other, some thousands in
a second of a free machine.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.blackbox.expiry import at, expire
from tests.store.servers import Server, binary_of


async def run(count: int, within_ms: int, lead_ms: int, url: str) -> int:
    """Print how late sessions ended; the exit status is 1 if that is early, or too late."""
    with tempfile.TemporaryDirectory() as folder:
        expiry = await expire(Path(folder), count, within_ms, lead_ms=lead_ms, store={"url": url})
    print(f"{count} sessions within {within_ms / 1000:g} s, store {url}")
    for name, times_ms in ("late", expiry.late_ms), ("told", expiry.told_ms), ("calls", expiry.calls_ms):
        p50, p99, last = at(0.5, times_ms), at(0.99, times_ms), times_ms[-1]
        print(f"  {name:7} p50 {p50:.1f} ms, p99 {p99:.1f} ms, last {last:.1f} ms, of {len(times_ms)}")
    print(f"  early   {sum(late < 0 for late in expiry.late_ms)}")
    print(f"  daemon  {expiry.cpu_s:.1f} s of CPU, {expiry.cpu_s / (within_ms / 1000 + 1):.0%} of a core")
    return int(expiry.late_ms[0] < 0 or at(0.99, expiry.late_ms) > 1000)


def main() -> int:
    """Run with what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--within", type=float, default=60, help="seconds")
    parser.add_argument("--lead", type=float, help="seconds for making them (default: 5, and one for each 500)")
    parser.add_argument("--valkey", action="store_true", help="keep the sessions in a Valkey of its own")
    arguments = parser.parse_args()
    count, within_ms = arguments.sessions, int(arguments.within * 1000)
    lead_ms = int(1000 * (5 + count / 500 if arguments.lead is None else arguments.lead))
    if not arguments.valkey:
        return uvloop.run(run(count, within_ms, lead_ms, "memory:"))
    with tempfile.TemporaryDirectory() as folder:
        server = Server(binary_of("valkey"), Path(folder))
        url = server.start().url
        try:
            return uvloop.run(run(count, within_ms, lead_ms, url))
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
