"""Run benchmarks, and print and keep what they give."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import grpc
import uvloop

from bench import calls, memory, processes, restart, tables, usage, watch
from bench.report import plot, table
from bench.rows import Benchmark, Plan, Row

BENCHMARKS: dict[str, Benchmark] = {
    "native": calls.native,
    "gateway": calls.gateway,
    "tables": tables.tables,
    "watch": watch.watch,
    "usage": usage.usage,
    "memory": memory.memory,
    "restart": restart.restart,
}


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--rounds", type=int, default=5, help="how often daemon and yardstick take turns (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the full numbers, to try something out (1)")
    parser.add_argument(
        "--out",
        type=Path,
        help="write results into this folder; other rows there stay",
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return options


def progress(text: str) -> None:
    """Say what is going on: on a terminal always on the same line."""
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{text:<79}", end=end, file=sys.stderr, flush=True)


async def measure(names: list[str], rounds: int, scale: float) -> list[Row]:
    """Run benchmarks one after the other."""
    rows: list[Row] = []
    for name in names or list(BENCHMARKS):
        with tempfile.TemporaryDirectory() as folder:
            async for row in BENCHMARKS[name](Plan(Path(folder), rounds, scale, progress)):
                rows.append(row)
                print(table([row], heading=len(rows) == 1), flush=True)
    return rows


def machine() -> dict[str, str]:
    """Return where and with what was measured."""
    (model,) = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    } or {platform.processor()}
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": model,
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
    }


def merged(path: Path, rows: list[Row]) -> list[Row]:
    """Return the rows of an earlier run with those of the same name measured anew."""
    kept = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    found = {row["name"]: Row.of_plain(row) for row in kept} | {row.name: row for row in rows}
    return list(found.values())


def main() -> None:
    """Measure, print, and write the results if asked to."""
    options = arguments()
    os.environ["GRPC_VERBOSITY"] = "ERROR"  # gRPC warns of every process that is started
    processes.pin(processes.OTHER_CORE)
    rows = uvloop.run(measure(options.names, options.rounds, options.scale))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        rows = merged(options.out / "results.json", rows)
        results = {"machine": machine(), "rows": [row.plain() for row in rows]}
        (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        (options.out / "table.md").write_text(table(rows) + "\n", encoding="utf-8")
        (options.out / "plot.svg").write_text(plot(rows), encoding="utf-8")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
