"""Which runs there are, in the order in which they are made, and what has been measured of them so far."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Contestants of a materialisation, in the order of each round.
MATERIALISE = (
    "redis_default",
    "redis_arrow",
    "redis_tuned",
    "redis_packed",
    "floor_resp",
    "floor_redis_py",
    "sqlite_default",
    "sqlite_arrow",
    "sqlite_tuned",
    "floor_sqlite",
)
#: What ``--quick`` leaves of each.
QUICK = {
    "materialize": ("redis_default", "redis_arrow", "redis_tuned", "floor_resp", "sqlite_default", "sqlite_arrow"),
    "lookup": ("redis_stock", "redis_arrow", "redis_packed", "redis_packed_numpy", "floor_mget"),
    "concurrent": ("redis_tuned", "redis_arrow"),
}
CONCURRENT = ("redis_tuned", "redis_arrow", "redis_packed", "sqlite_tuned", "sqlite_arrow")
LOOKUP_USERS = (1, 10, 100, 500)

#: Rounds of what no ratio is made of, and of Feast's defaults, which take minutes, for the larger embeddings.
FEW = 3
ASIDE = ("redis_packed", "sqlite_tuned", "floor_redis_py", "floor_sqlite")


@dataclass(frozen=True)
class Run:
    """One measurement.

    Args:
        part: ``materialize``, ``lookup`` or ``concurrent``.
        contestant: Who is measured; ``all`` where the part drives them alternately itself.
        rows: Users in the store.
        dim: Numbers in an embedding.
        repeat: Which round.
    """

    part: str
    contestant: str
    rows: int
    dim: int
    repeat: int


def runs_of(part: str, rows: list[int], dims: list[int], repeats: int, read_rows: int) -> Iterator[Run]:
    """The runs of a part; contestants alternate.

    Args:
        part: As in `Run`.
        rows: Sizes of a materialisation.
        dims: Numbers in an embedding.
        repeats: Rounds of a materialisation.
        read_rows: Users of the stores that lookups and concurrent reads go to.
    """
    if part == "lookup":
        yield from (Run(part, "all", read_rows, dim, 0) for dim in dims)
    elif part == "concurrent":
        yield from (Run(part, contestant, read_rows, dims[0], 0) for contestant in CONCURRENT)
    else:
        for count in rows:
            for dim in dims:
                for repeat in range(repeats):
                    for contestant in MATERIALISE:
                        aside = contestant in ASIDE or (contestant.endswith("_default") and dim > dims[0])
                        if not aside or repeat < FEW:
                            yield Run(part, contestant, count, dim, repeat)


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
        return run in self._found

    def add(self, run: Run, result: dict[str, Any]) -> None:
        """Keep a result."""
        self._found[run] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": asdict(run), "result": result}) + "\n")

    def of(self, part: str, **where: Any) -> dict[Run, dict[str, Any]]:
        """Results of a part whose run has these values, failures left out."""
        return {
            run: result
            for run, result in self._found.items()
            if run.part == part
            and "failed" not in result
            and all(getattr(run, name) == value for name, value in where.items())
        }

    def failures(self) -> dict[Run, str]:
        """Runs that ended in an error."""
        return {run: result["failed"] for run, result in self._found.items() if "failed" in result}
