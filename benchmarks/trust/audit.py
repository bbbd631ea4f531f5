"""What an audit of the clocks costs: memory and rows a second of `segmenter audit` over synthetic rows.

    cd benchmarks && python -m trust.audit --rows 5000000

One cutoff of behaviour in many files, as `build` writes them (row groups of 16,384), and its activity published in one
file, as `publish` does: each row is read three times, for its clocks, for its user, and for what it was published from.
There is no event log, so nothing is derived again; that is done a bucket at a time, as `build` does it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.clock import MICROS_PER_DAY
from segmenter_plugin.config import Config, load_config
from segmenter_plugin.data.block_files import write_block_table
from segmenter_plugin.data.event_block import microseconds
from segmenter_plugin.data.partition import fingerprint, new_partition, new_published
from segmenter_plugin.data.segment_part import part_file
from segmenter_plugin.schemas import TIMESTAMP, activity_fields, behaviour_schema
from segmenter_plugin.spark.output import ROWS_PER_GROUP
from segmenter_plugin.stages.audit_tables import made_from
from segmenter_plugin.stages.layout import Layout

CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)
WINDOW, OBSERVATION, FILE_ROWS, PUBLISHED_GROUP = 7, 28, 250_000, 32_768
TOML = f"""
[events]
path = "events.parquet"
columns = {{ user_id = "u", item_id = "i", event_type = "k", event_timestamp = "t", price = "p" }}
types = {{ view = ["view"], purchase = ["buy"] }}

[windows]
observation_days = {OBSERVATION}
activity_days = [{WINDOW}]

[store]
root = "run"
"""


def measure(rows: int, folder: Path) -> dict[str, Any]:
    """Write so many rows of behaviour and of activity, and audit them in a process of its own.

    Args:
        rows: Users of the one cutoff.
        folder: An empty folder; it is left with the rows.

    Returns:
        ``rows`` (of both tables), ``files``, ``gigabytes`` on disk, ``wall_s``, ``cpu_s``, ``peak_mb`` (all processes,
        shared pages once), ``rows_per_s``, ``leaks`` and ``exit_code``.
    """
    (folder / "segmenter.toml").write_text(TOML, encoding="utf-8")
    files = write_rows(load_config(folder / "segmenter.toml"), rows)
    command = [sys.executable, "-c", "from segmenter_plugin.cli import main; main()", "-q", "audit"]
    command += ["--config", str(folder / "segmenter.toml")]
    metered = [sys.executable, "-m", "build_speed.meter", *command]
    done = subprocess.run(metered, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    *_, result, cost = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {
        "rows": 2 * rows,
        "files": len(files),
        "gigabytes": round(sum(path.stat().st_size for path in files) / 1e9, 2),
        "wall_s": cost["wall_s"],
        "cpu_s": cost["cpu_s"],
        "peak_mb": cost["peak_mb"],
        "rows_per_s": round(2 * rows / cost["wall_s"]),
        "leaks": len(result["leaks"]),
        "exit_code": cost["code"],
    }


def write_rows(config: Config, rows: int) -> list[Path]:
    """Behaviour of so many users, and what was published of it; the files."""
    layout = Layout.of(config)
    made = made_from("behaviour", CUTOFF, "no log", CUTOFF, config)
    manifest: dict[str, Any] = {"stage": "behaviour", "fingerprint": made, "complete_through": CUTOFF.isoformat()}
    names = [field.name for field in activity_fields(config)]
    published = {"stage": "publish", "fingerprint": fingerprint("publish", {"source": str(made)}, {})}
    activity = layout.feature("user_activity", CUTOFF)
    with (
        new_partition(layout.behaviour(CUTOFF), layout.root, manifest) as folder,
        new_published(activity, layout.root, published) as place,
    ):
        writer: pq.ParquetWriter | None = None
        for number, table in enumerate(tables(config, rows)):
            write_block_table(table, part_file(folder, number), ROWS_PER_GROUP)
            feature = table.select(["user_id", "event_timestamp", *names])
            feature = feature.append_column("created_timestamp", pa.array([CUTOFF] * len(table), TIMESTAMP))
            writer = writer or pq.ParquetWriter(place / "part-00000.parquet", feature.schema, compression="zstd")
            writer.write_table(feature, row_group_size=PUBLISHED_GROUP)
        if writer is not None:
            writer.close()
    return sorted([*layout.behaviour(CUTOFF).rglob("*.parquet"), *activity.glob("*.parquet")])


def tables(config: Config, rows: int) -> Iterator[pa.Table]:
    """Honest rows of users with two events each, a file at a time."""
    schema = behaviour_schema(config, pa.int64())
    for first in range(0, rows, FILE_ROWS):
        count = min(FILE_ROWS, rows - first)
        random = np.random.default_rng(first)
        ages = np.sort(random.integers(1, OBSERVATION * MICROS_PER_DAY, (count, 2)), axis=1)
        columns = {field.name: pa.array(np.zeros(count), field.type) for field in schema if _is_number(field.type)}
        inside = (ages <= WINDOW * MICROS_PER_DAY).sum(axis=1)
        recency, tenure = (ages / float(MICROS_PER_DAY)).T
        offsets = pa.array(np.arange(0, 2 * count + 1, 2), pa.int32())
        times = (microseconds(CUTOFF) - ages[:, ::-1]).ravel()
        words = pa.array(random.choice(["view", "purchase"], 2 * count))
        columns |= {field.name: pa.ListArray.from_arrays(offsets, words) for field in schema if _is_text(field.type)}
        columns |= {
            "user_id": pa.array(np.arange(first, first + count)),
            "event_timestamp": pa.array([CUTOFF] * count, TIMESTAMP),
            "event_timestamp_sequence": pa.ListArray.from_arrays(offsets, pa.array(times).view(TIMESTAMP)),
            "amount_sequence": pa.ListArray.from_arrays(offsets, pa.array(random.gamma(2.0, 5.0, 2 * count).round(2))),
            "sequence_length": pa.array(np.full(count, 2, np.int32)),
            "recency_days": pa.array(recency),
            "tenure_days": pa.array(tenure),
            f"event_count_{WINDOW}d": pa.array(inside),
            f"event_count_{OBSERVATION}d": pa.array(np.full(count, 2)),
        }
        yield pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_string(kind.value_type))


def main() -> None:
    """Measure, and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000, help="Of both tables together.")
    parser.add_argument("--folder", type=Path, help="Where to write; by default a temporary folder, removed again.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(json.dumps(measure(given.rows // 2, folder)))


if __name__ == "__main__":
    main()
