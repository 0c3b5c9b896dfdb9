"""What a benchmark gives: rows, each with a target, and what was measured in each of several rounds."""

import statistics
from collections.abc import AsyncIterator, Callable, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple


class Better(Enum):
    """Which side of the bound of a target is the good one."""

    MORE = "at least"
    LESS = "at most"


class Sample(NamedTuple):
    """One round: the daemon beside its yardstick, and what else is worth knowing, by name with its unit."""

    measured: float
    yardstick: float
    notes: Mapping[str, float] = MappingProxyType({})


class Row(NamedTuple):
    """A line of the table: what is compared, and what the comparison should give.

    `MORE`: yardstick / measured, how close the daemon is to its yardstick. `LESS`: measured / yardstick, how many
    times the yardstick it costs.
    """

    name: str
    better: Better
    bound: float
    of: str
    unit: str
    samples: tuple[Sample, ...]

    @property
    def ratios(self) -> list[float]:
        """The comparison in each round."""
        if self.better is Better.MORE:
            return [sample.yardstick / sample.measured for sample in self.samples]
        return [sample.measured / sample.yardstick for sample in self.samples]

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median is on the good side of the bound."""
        return self.ratio >= self.bound if self.better is Better.MORE else self.ratio <= self.bound

    @property
    def target(self) -> str:
        """The target in words."""
        return f"{self.better.value} {self.bound:g} {self.of}"

    def median(self, name: str) -> float:
        """Return the median of a note."""
        return statistics.median(sample.notes[name] for sample in self.samples)

    def plain(self) -> dict[str, Any]:
        """Return the row as JSON has it."""
        return {
            "name": self.name,
            "target": self.target,
            "met": self.met,
            "ratio": self.ratio,
            "ratios": self.ratios,
            "unit": self.unit,
            "measured": statistics.median(sample.measured for sample in self.samples),
            "yardstick": statistics.median(sample.yardstick for sample in self.samples),
            "notes": {name: self.median(name) for name in self.samples[0].notes},
            "kept": [self.better.name, self.bound, self.of],
            "samples": [[sample.measured, sample.yardstick, dict(sample.notes)] for sample in self.samples],
        }

    @classmethod
    def of_plain(cls, row: Mapping[str, Any]) -> "Row":
        """Return the row that JSON has."""
        better, bound, of = row["kept"]
        samples = tuple(Sample(*sample) for sample in row["samples"])
        return cls(row["name"], Better[better], bound, of, row["unit"], samples)


class Plan(NamedTuple):
    """How much is to be measured, and where to put files."""

    folder: Path
    rounds: int
    scale: float
    """1: as the targets say; less: smaller numbers of everything, to try a benchmark out."""
    progress: Callable[[str], None]

    def count(self, full: int) -> int:
        """Return how many of something there are to be."""
        return max(1, int(full * self.scale))


Benchmark = Callable[[Plan], AsyncIterator[Row]]
