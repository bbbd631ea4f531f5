"""Behaviour and labels with a signal to learn, as Spark leaves them, for the tests of what trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.partition import new_partition
from segmenter_plugin.schemas import TIMESTAMP, behaviour_schema, labels_schema
from segmenter_plugin.stages.layout import Layout

DAY_US = 86_400_000_000
CUTOFFS = (datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC))
LATER = datetime(2024, 6, 1, tzinfo=UTC)
ITEMS = [f"item-{n}" for n in range(30)]


def signal_tree(root: Path, **sections: Any) -> dict[str, Any]:
    """A configuration with all four kinds of task; keyword arguments replace or extend sections."""
    tree: dict[str, Any] = {
        "events": {
            "path": "events.parquet",
            "timezone": "UTC",
            "columns": {
                "user_id": "u",
                "item_id": "i",
                "event_type": "k",
                "event_timestamp": "at",
                "category": "c",
                "price": "p",
                "quantity": "q",
                "categorical": ["channel"],
            },
            "types": {"view": ["view"], "purchase": ["buy"]},
        },
        "windows": {"observation_days": 60, "activity_days": [7, 28]},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 14},
            {"name": "spend", "kind": "value", "prediction_days": 14},
            {"name": "funnel", "kind": "multiclass", "prediction_days": 14, "ladder": ["view", "purchase"]},
            {"name": "liked", "kind": "multilabel", "prediction_days": 14, "target": "category", "top_count": 4},
        ],
        "sequences": {"length": 16},
        "training": {"cutoffs": [f"{cutoff:%Y-%m-%d}" for cutoff in CUTOFFS], "validation_share": 0.25, "seed": 5},
        "encoder": {"min_count": 2, "embedding_size": 8},
        "pretrain": {"epochs": 1, "batch_size": 32},
        "finetune": {"epochs": 2, "batch_size": 32},
        "store": {"root": str(root)},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return tree


def signal_config(root: Path, **sections: Any) -> Config:
    return parse_config(signal_tree(root, **sections))


def behaviour(config: Config, cutoff: datetime, users: Sequence[Any], seed: int = 0) -> pa.Table:
    """One row a user: keen users have more, newer and dearer events. The last user has none."""
    user_type = pa.int64() if isinstance(users[0], int) else pa.string()
    random = np.random.default_rng([seed, cutoff.month])
    keen = _keen(len(users))
    lengths = random.poisson(4 + 16 * keen)
    lengths[-1] = 0
    count = int(lengths.sum())
    owner = np.repeat(np.arange(len(users)), lengths)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    drawn = np.minimum(random.exponential(20 - 15 * keen[owner]), 59.0)
    ages = np.concatenate([np.sort(part)[::-1] for part in np.split(drawn, np.cumsum(lengths)[:-1])])
    end = int(cutoff.timestamp()) * 1_000_000
    item = random.integers(0, 15, count) + np.where(keen[owner] > 0.5, 15, 0)
    buys = random.random(count) < 0.3
    amount = np.where(buys, np.exp(random.normal(1 + 2 * keen[owner], 0.3)), np.nan)
    flat = {
        "event_timestamp_sequence": pa.array(end - 1 - (ages * DAY_US).astype(np.int64), TIMESTAMP),
        "event_type_sequence": pa.array(np.where(buys, "purchase", "view")),
        "item_id_sequence": pa.array([ITEMS[n] for n in item]),
        "category_sequence": pa.array([f"category-{n // 5}" for n in item]),
        "channel_sequence": pa.array(random.choice(["web", "app"], count), mask=random.random(count) < 0.1),
        "amount_sequence": pa.array(amount, from_pandas=True),
        "quantity_sequence": pa.array(random.integers(1, 4, count).astype(float)),
    }
    columns: dict[str, pa.Array] = {name: pa.ListArray.from_arrays(offsets, values) for name, values in flat.items()}
    columns["sequence_length"] = pa.array(lengths, pa.int32())
    spent = np.bincount(owner, np.nan_to_num(amount), minlength=len(users))
    recency = np.full(len(users), np.inf)
    np.minimum.at(recency, owner, ages)
    schema = behaviour_schema(config, user_type)
    for field in schema:
        if field.name in columns:
            continue
        values: Any = (
            lengths if "count" in field.name else spent if "sum" in field.name or "amount" in field.name else recency
        )
        columns[field.name] = pa.array(values.astype(float), from_pandas=True, mask=~np.isfinite(values.astype(float)))
    columns["user_id"] = pa.array(users, user_type)
    columns["event_timestamp"] = pa.array([cutoff] * len(users), TIMESTAMP)
    return pa.table({field.name: columns[field.name].cast(field.type) for field in schema}, schema=schema)


def labels(config: Config, cutoff: datetime, users: Sequence[Any], seed: int = 0) -> pa.Table:
    """Keen users buy, and spend more."""
    user_type = pa.int64() if isinstance(users[0], int) else pa.string()
    random = np.random.default_rng([seed, cutoff.month, 1])
    keen = _keen(len(users))
    bought = random.random(len(users)) < 0.1 + 0.8 * keen
    spent = np.where(bought, np.exp(random.normal(1 + 2 * keen, 0.5)), 0.0)
    seen = random.random(len(users)) < 0.5
    liked = [
        ["category-3", "category-4"] if b and k > 0.5 else ["category-0"] if b else []
        for b, k in zip(bought, keen, strict=True)
    ]
    by_kind = {
        "binary": pa.array(bought),
        "value": pa.array(spent),
        "multiclass": pa.array(np.where(bought, "purchase", np.where(seen, "view", "none"))),
        "multilabel": pa.array(liked, pa.list_(pa.string())),
    }
    columns = {
        task.label_column: by_kind[task.kind] if task.form != "category" else _rungs(bought, seen, keen)
        for task in config.tasks
    }
    columns["user_id"] = pa.array(users, user_type)
    columns["event_timestamp"] = pa.array([cutoff] * len(users), TIMESTAMP)
    schema = labels_schema(config, user_type)
    return pa.table({field.name: columns[field.name].cast(field.type) for field in schema}, schema=schema)


def _rungs(bought: np.ndarray, seen: np.ndarray, keen: np.ndarray) -> pa.Array:
    """Who buys does so in a category that depends on how keen they are; who looks looks at another one."""
    rows = [
        [{"value": "category-0", "rung": "view"}] * bool(s)
        + [{"value": "category-3" if k > 0.5 else "category-1", "rung": "purchase"}] * bool(b)
        for b, s, k in zip(bought, seen, keen, strict=True)
    ]
    return pa.array(rows, pa.list_(pa.struct([("value", pa.string()), ("rung", pa.string())])))


def users_of(count: int) -> list[str]:
    return [f"user-{n:04d}" for n in range(count)]


def write_partition(folder: Path, root: Path, rows: pa.Table, made_from: str) -> None:
    """A partition of two files."""
    with new_partition(folder, root, {"stage": "test", "fingerprint": made_from}) as staging:
        half = rows.num_rows // 2
        pq.write_table(rows.slice(0, half), staging / "part-0.parquet")
        pq.write_table(rows.slice(half), staging / "part-1.parquet")


def write_cutoff(config: Config, cutoff: datetime, users: Sequence[Any], change: Any = None) -> None:
    """Behaviour and labels of a cutoff; `change` takes and returns the labels."""
    layout, root = Layout.of(config), config.root_path
    write_partition(layout.behaviour(cutoff), root, behaviour(config, cutoff, users), f"behaviour-{cutoff}")
    rows = labels(config, cutoff, users)
    # The rows of labels need not come in the order of behaviour.
    rows = (rows if change is None else change(rows)).take(np.arange(len(users))[::-1])
    write_partition(layout.labels(cutoff), root, rows, f"labels-{cutoff}")


def _keen(count: int) -> np.ndarray:
    return np.random.default_rng(3).random(count)
