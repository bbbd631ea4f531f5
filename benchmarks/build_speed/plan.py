"""Which runs there are, in the order in which they are made, and what has been measured of them so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measured import Results

#: In the order of each round; neighbours are what is compared most.
CONTESTANTS = (
    "empty",
    "duckdb",
    "ours",
    "native",
    "ours_reader",
    "floor",
    "ours_eight",
    "rebuild",
    "increment",
    "polars",
    "lifestream",
)


@dataclass(frozen=True)
class Run:
    """One measurement.

    Args:
        contestant: One of `CONTESTANTS`.
        events: Size of the shop.
        repeat: Which round.
    """

    contestant: str
    events: int
    repeat: int


def runs_of(events: int, rounds: int, only: tuple[str, ...]) -> Iterator[Run]:
    """The runs of one size; contestants alternate."""
    for repeat in range(rounds):
        for contestant in CONTESTANTS:
            if not only or contestant in only:
                yield Run(contestant, events, repeat)


class Measured(Results[Run]):
    """What has been measured.

    Args:
        path: Where it is kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, Run)

    @property
    def sizes(self) -> list[int]:
        """Sizes that something was measured at, ascending."""
        return sorted({run.events for run in self._found})

    def of(self, contestant: str, events: int) -> list[dict[str, Any]]:
        """Results of all rounds, failures left out."""
        return [
            result for run, result in self.succeeded.items() if run.contestant == contestant and run.events == events
        ]

    def middle(self, contestant: str, events: int, field: str = "cpu_s") -> float | None:
        """Median of a number over the rounds."""
        found = [result[field] for result in self.of(contestant, events)]
        return median(found) if found else None
