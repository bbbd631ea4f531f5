"""Which runs there are, in the order in which they are made, and what has been measured of them so far."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

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


class Measured:
    """Results kept in a file of JSON lines, so that a benchmark goes on where it was stopped.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[Run, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                self._found[Run(**record["run"])] = record["result"]

    def __contains__(self, run: Run) -> bool:
        return run in self._found and not self._found[run]["failed"]

    def add(self, run: Run, result: dict[str, Any]) -> None:
        """Keep a result."""
        self._found[run] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": asdict(run), "result": result}) + "\n")

    @property
    def sizes(self) -> list[int]:
        """Sizes that something was measured at, ascending."""
        return sorted({run.events for run in self._found})

    def of(self, contestant: str, events: int) -> list[dict[str, Any]]:
        """Results of all rounds, failures left out."""
        return [
            result
            for run, result in self._found.items()
            if run.contestant == contestant and run.events == events and not result["failed"]
        ]

    def middle(self, contestant: str, events: int, field: str = "cpu_s") -> float | None:
        """Median of a number over the rounds."""
        found = [result[field] for result in self.of(contestant, events)]
        return median(found) if found else None

    def failures(self) -> dict[Run, str]:
        """Runs that ended in an error."""
        return {run: result["failed"] for run, result in self._found.items() if result["failed"]}
