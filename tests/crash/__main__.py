"""Kill a daemon very often, and hold everything against what it had acknowledged.

python -m tests.crash --kills 2000 --jobs 2     episodes of 40 kills, two at a time (scripts/kill does this)
python -m tests.crash --seed 17                 the episode of this seed alone, as when it failed
python -m tests.crash --step write.after        only at this step; --list says which there are
"""

import argparse
import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Final

from tests.crash.campaign import Tally, lone_episode
from tests.crash.steps import MOMENTS, STEPS
from tests.crash.take_over import lone_take_overs
from tests.crash.world import Failed

EPISODE: Final = 40
"""Kills in one world, before all of its sessions are ended and its books closed."""


def main() -> int:
    """Do what the command line says; return 1 if anything was not as it should be."""
    options = _options()
    if options.list:
        print("\n".join((*STEPS, *MOMENTS)))
        return 0
    steps = tuple(options.step or (*STEPS, *MOMENTS))
    work, count = (lone_take_overs, options.take_overs) if options.take_overs else (lone_episode, options.kills)
    whole, failed = Tally(), list[int]()
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        sizes = {options.seed + first // EPISODE: min(EPISODE, count - first) for first in range(0, count, EPISODE)}
        seeds = {pool.submit(work, seed, size, steps, faults=options.faults): seed for seed, size in sizes.items()}
        for done in as_completed(seeds):
            failed += _told(seeds[done], done, whole, count)
    _sum_up(whole, failed)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/kill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=EPISODE, metavar="N", help="how often a daemon is killed")
    parser.add_argument(
        "--take-overs", type=int, default=0, metavar="N", help="how often one is taken over from, instead"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="that of the first episode")
    parser.add_argument("--step", choices=(*STEPS, *MOMENTS), action="append", metavar="NAME", help="kill only there")
    parser.add_argument("--faults", action="store_true", help="let the way to the store fail again and again, too")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="episodes at once")
    parser.add_argument("--list", action="store_true", help="say which steps there are")
    return parser.parse_args()


def _told(seed: int, done: "Future[Tally]", whole: Tally, kills: int) -> Iterable[int]:
    """Say how an episode went; yield its seed if it failed."""
    try:
        tally = done.result()
    except Failed as error:
        print(f"seed {seed} FAILED; --seed {seed} does the same again\n{error}", flush=True)
        yield seed
        return
    whole.add(tally)
    print(
        f"seed {seed}: {tally.kills.total()} kills; {whole.kills.total()} of {kills} are as they should be", flush=True
    )


def _sum_up(whole: Tally, failed: Sequence[int]) -> None:
    print(f"\n{'times':>6} {'missed':>6}  step")
    for step, count in whole.kills.items():
        print(f"{count:6d} {whole.missed[step]:6d}  {step}")
    print(f"{whole.sessions} sessions, {whole.octets} octets passed and reported")
    print(f"reports told again: {whole.reports_repeated}; ends told again: {whole.ends_repeated}")
    print(f"FAILED: seeds {failed}" if failed else "nothing lost, nothing by halves, nothing twice")


if __name__ == "__main__":
    sys.exit(main())
