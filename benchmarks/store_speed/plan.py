"""Which runs there are, in the order in which they are made, and what has been measured of them so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measured import Results

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


class Measured(Results[Run]):
    """What has been measured.

    Args:
        path: Where it is kept.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, Run)

    def of(self, part: str, **where: Any) -> dict[Run, dict[str, Any]]:
        """Results of a part whose run has these values, failures left out."""
        return {
            run: result
            for run, result in self.succeeded.items()
            if run.part == part and all(getattr(run, name) == value for name, value in where.items())
        }
