"""Small tables as Spark, the encoder and the segments leave them, for the tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.config import Config, load_config
from segmenter_plugin.data.partition import new_partition
from segmenter_plugin.schemas import TIMESTAMP, behaviour_schema, scores_schema, segments_schema
from segmenter_plugin.stages.layout import Layout

DIMENSION = 8
NAMES = ("asleep", "regular", "generous")


def day(month: int, number: int) -> datetime:
    return datetime(2017, month, number, tzinfo=UTC)


TOML = """
[events]
path = "events.parquet"
timezone = "UTC"
columns = { user_id = "u", item_id = "i", event_type = "k", event_timestamp = "at", price = "p" }
types = { view = ["view"], purchase = ["buy"], return = ["back"] }

[windows]
observation_days = 90
activity_days = [7, 28]

[[tasks]]
name = "purchase"
kind = "binary"
prediction_days = 14

[[tasks]]
name = "spend"
kind = "value"
prediction_days = 14
gap_days = 7

[[tasks]]
name = "funnel"
kind = "multiclass"
prediction_days = 14
ladder = ["view", "purchase"]

[store]
root = "."
feature_repo = "feature_repo"
owner = "shop@example.com"
"""


def shop_config(root: Path, **store: Any) -> Config:
    """Write `segmenter.toml` under `root`, with further keys of `[store]`, and read it."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in store.items()]
    path = root / "segmenter.toml"
    path.write_text(TOML + "\n".join(lines) + "\n", encoding="utf-8")
    return load_config(path)


def users_of(count: int, user_type: pa.DataType) -> list[Any]:
    # Above 2**53, where a detour over floats would show.
    return [2**53 + 1 + 2 * n if user_type == pa.int64() else f"user-{n:05d}" for n in range(count)]


def _column(field: pa.Field, count: int, random: np.random.Generator) -> pa.Array:
    if pa.types.is_integer(field.type):
        return pa.array(random.integers(0, 50, count), field.type)
    if pa.types.is_floating(field.type):
        values = random.normal(size=count)
        values[0] = 0.0
        empty = random.random(count) < (0.2 if field.type == pa.float64() else 0.0)
        empty[0] = False
        return pa.array(values, mask=empty).cast(field.type)
    if pa.types.is_string(field.type):
        return pa.array(random.choice(NAMES, count), field.type)
    size = DIMENSION if field.name == "embedding" else 3
    return pa.array(list(random.normal(size=(count, size)).astype(np.float32)), field.type)


def table(schema: pa.Schema, users: Sequence[Any], cutoff: datetime, trained_through: datetime, seed: int) -> pa.Table:
    """Random rows of a schema, one a user."""
    random = np.random.default_rng(seed)
    known = {
        "user_id": pa.array(users, schema.field("user_id").type),
        "event_timestamp": pa.array([cutoff] * len(users), TIMESTAMP),
        "model_version": pa.array([f"version-{seed}"] * len(users)),
        "trained_through": pa.array([trained_through] * len(users), TIMESTAMP),
    }
    columns = [known[field.name] if field.name in known else _column(field, len(users), random) for field in schema]
    return pa.table(columns, schema=schema)


def write(folder: Path, root: Path, rows: pa.Table, made_from: str, files: int = 2) -> None:
    """A partition of several files."""
    with new_partition(folder, root, {"stage": "test", "fingerprint": made_from}) as staging:
        size = -(-rows.num_rows // files) or 1
        for number in range(files):
            pq.write_table(rows.slice(number * size, size), staging / f"part-{number:05d}.parquet")


def write_shop(
    config: Config,
    cutoff: datetime,
    *,
    users: Sequence[Any],
    user_type: pa.DataType,
    trained_through: datetime | None = None,
    seed: int = 1,
) -> dict[str, pa.Table]:
    """Behaviour (its aggregates), scores and segments of one cutoff; returns what was written."""
    layout, root = Layout.of(config), config.root_path
    seen = trained_through or cutoff - timedelta(days=3)
    behaviour = behaviour_schema(config, user_type)
    kept = pa.schema([field for field in behaviour if not field.name.endswith(("_sequence", "_length"))])
    schemas = {"behaviour": kept, "scores": scores_schema(config, user_type), "segments": segments_schema(user_type)}
    tables = {name: table(schema, users, cutoff, seen, seed) for name, schema in schemas.items()}
    for name, rows in tables.items():
        write(getattr(layout, name)(cutoff), root, rows, f"{name}-{cutoff}-{seed}")
    return tables
