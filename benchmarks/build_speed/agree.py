"""Whether a contestant made the same rows as DuckDB did: the number of rows, and every value of some users."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from build_speed import world
from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.data.partition import data_files

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from duckdb_reference.compare import differences  # lies among the tests

#: Above this many users, those are compared whose id ends so: one in a hundred.
_ALL_BELOW, _ENDING = 50_000, "37"


def files_of(contestant: str, out: Path, cutoff: datetime) -> dict[str, list[Path]]:
    """Name of a table -> its files; of a contestant's rows of a cutoff."""
    if contestant in ("native", "duckdb", "polars"):
        return {"both": sorted(out.glob("part-*.parquet"))}
    if contestant == "floor":
        return {name: sorted((out / name).glob("part-*.parquet")) for name in ("behaviour", "labels")}
    return {name: data_files(out / name / cutoff_key(cutoff)) for name in ("behaviour", "labels")}


def keep(tables: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Put tables where `kept` finds them."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, files in tables.items():
        (folder / name).mkdir(parents=True)
        for number, file in enumerate(files):
            os.link(file, folder / name / f"part-{number:05d}.parquet")


def kept(folder: Path) -> dict[str, list[Path]]:
    """Tables that were put there; none if there are none."""
    return {path.name: sorted(path.glob("part-*.parquet")) for path in folder.glob("*")}


def verdict(found: Mapping[str, Sequence[Path]], expected: Mapping[str, Sequence[Path]]) -> str:
    """A sentence; begins with "equal" where no difference was found."""
    rows = {_dataset(files).count_rows() for files in [*found.values(), *expected.values()]}
    if len(rows) > 1:
        return f"differs: {sorted(rows)} rows"
    is_sampled = max(rows) > _ALL_BELOW
    known = _joined(expected.values(), is_sampled=is_sampled)
    for files in found.values():
        mine = _read(files, is_sampled=is_sampled)
        names = [name for name in mine.column_names if name in known.column_names]
        if different := differences(mine.select(names), known.select(names)):
            return f"differs: {different[0]}"
    return f"equal: {max(rows):,} rows, {known.num_rows:,} compared in all values"


def _joined(tables: Iterable[Sequence[Path]], *, is_sampled: bool) -> pa.Table:
    first, *others = (_read(files, is_sampled=is_sampled).sort_by("user_id") for files in tables)
    for other in others:
        for name in other.column_names:
            if name not in first.column_names:
                first = first.append_column(name, other[name])
    return first


def _dataset(files: Sequence[Path]) -> ds.Dataset:
    return ds.dataset([str(file) for file in files])


def _read(files: Sequence[Path], *, is_sampled: bool) -> pa.Table:
    some = pc.ends_with(ds.field("user_id"), _ENDING) if is_sampled else None
    return _dataset(files).to_table(filter=some, batch_size=4_096)


def cutoff_of(contestant: str) -> datetime:
    """As of when a contestant's rows are compared."""
    return world.TODAY if contestant in ("increment", "rebuild") else world.CUTOFF
