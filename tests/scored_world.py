"""A small world with signal in it, as Spark and the encoder leave it: what evaluate and segment read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.partition import new_partition
from segmenter_plugin.schemas import TIMESTAMP, activity_fields, behaviour_schema, labels_schema, scores_schema
from segmenter_plugin.stages.layout import Layout

CATEGORIES = ("BREAD", "CHEESE", "TOYS")
TRAINING = ("2017-08-01", "2017-09-01")
LATER = datetime(2017, 10, 1, tzinfo=UTC)


def world_config(root: Path, **sections: Any) -> Config:
    tree = {
        "events": {
            "path": "events.parquet",
            "timezone": "UTC",
            "columns": {
                "user_id": "u",
                "item_id": "i",
                "event_type": "k",
                "event_timestamp": "t",
                "category": "c",
                "price": "p",
            },
            "types": {"view": ["view"], "purchase": ["buy"]},
        },
        "windows": {"observation_days": 90, "activity_days": [7, 28]},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 14},
            {"name": "spend", "kind": "value", "prediction_days": 14},
            {"name": "funnel", "kind": "multiclass", "prediction_days": 14, "ladder": ["view", "purchase"]},
            {"name": "taste", "kind": "multilabel", "prediction_days": 14, "target": "category", "top_count": 3},
        ],
        "training": {"cutoffs": list(TRAINING), "validation_share": 0.2, "seed": 3},
        "segments": {"tiers": 1, "count": 3, "seed": 5},
        "store": {"root": str(root)},
    }
    return parse_config(tree | sections)


def latent(users: int, seed: int) -> dict[str, np.ndarray]:
    """Who the users are: how much they buy, what they like, and what a good model would say."""
    random = np.random.default_rng(seed)
    rate = random.gamma(1.2, 1.0, users)
    # The encoder orders the labels of a task by how frequent they are.
    taste = random.choice(len(CATEGORIES), users, p=[0.5, 0.3, 0.2])
    probability = 1 - np.exp(-rate)
    return {"rate": rate, "taste": taste, "probability": probability, "noise": random.normal(size=(users, 6)) * 0.1}


def behaviour_table(
    config: Config, cutoff: datetime, people: dict[str, np.ndarray], seed: int, ids: pa.Array
) -> pa.Table:
    random, count = np.random.default_rng(seed), len(ids)
    columns: dict[str, Any] = {"user_id": ids, "event_timestamp": pa.array([cutoff] * count, TIMESTAMP)}
    for field in activity_fields(config):
        window = re.search(r"_(\d+)d$", field.name)
        scale = int(window[1]) / 28 if window else 1.0
        amount = random.poisson(people["rate"] * 4 * scale)
        values = amount * 12.5 if "_sum_" in field.name or "amount" in field.name else amount
        if field.name.endswith("recency_days"):
            values = 30.0 / (0.5 + people["rate"]) * random.uniform(0.5, 1.5, count)
        columns[field.name] = pa.array(values.astype(np.float64)).cast(field.type)
    lengths = random.integers(1, 12, count)
    columns["purchase_recency_days"] = pa.array(
        np.asarray(columns["recency_days"]), mask=(people["rate"] < 0.1), type=pa.float64()
    )
    columns["sequence_length"] = pa.array(lengths, pa.int32())
    offsets = pa.array(np.r_[0, np.cumsum(lengths)], pa.int32())
    total = int(lengths.sum())
    liked = np.repeat(people["taste"], lengths)
    drawn = np.where(random.random(total) < 0.7, liked, random.integers(0, len(CATEGORIES), total))
    flat = {
        "event_timestamp_sequence": pa.array([cutoff - timedelta(days=1)] * total, TIMESTAMP),
        "event_type_sequence": pa.array(random.choice(["view", "purchase"], total)),
        "item_id_sequence": pa.array([f"item{number}" for number in random.integers(0, 50, total)]),
        "category_sequence": pa.array(np.array(CATEGORIES)[drawn]),
        "amount_sequence": pa.array(random.gamma(2.0, 5.0, total)),
    }
    columns |= {name: pa.ListArray.from_arrays(offsets, values) for name, values in flat.items()}
    schema = behaviour_schema(config, ids.type)
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def labels_table(config: Config, cutoff: datetime, people: dict[str, np.ndarray], seed: int, ids: pa.Array) -> pa.Table:
    random, count = np.random.default_rng(seed), len(ids)
    bought = random.random(count) < people["probability"]
    columns = {
        "user_id": ids,
        "event_timestamp": pa.array([cutoff] * count, TIMESTAMP),
        "purchase_14d_label": pa.array(bought),
        "spend_14d_label": pa.array(np.where(bought, people["rate"] * 20 * random.gamma(4.0, 0.25, count), 0.0)),
        "funnel_14d_label": pa.array(
            np.where(bought, "purchase", np.where(random.random(count) < 0.5, "view", "none"))
        ),
        "taste_14d_label": pa.array(
            [[CATEGORIES[t]] if b else [] for t, b in zip(people["taste"], bought, strict=True)]
        ),
    }
    schema = labels_schema(config, ids.type)
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)


def scores_table(
    config: Config,
    cutoff: datetime,
    people: dict[str, np.ndarray],
    ids: pa.Array,
    *,
    trained_through: datetime,
    version: str = "version-1",
) -> pa.Table:
    count = len(ids)
    probability, rate = people["probability"], people["rate"]
    embedding = np.column_stack([np.log(rate), people["taste"], people["noise"]])
    liked = (np.arange(len(CATEGORIES)) == people["taste"][:, None]) * probability[:, None] * 0.9 + 0.02
    ladder = np.column_stack([(1 - probability) / 2, (1 - probability) / 2, probability])
    columns = {
        "user_id": ids,
        "event_timestamp": pa.array([cutoff] * count, TIMESTAMP),
        "embedding": list(embedding.astype(np.float32)),
        "purchase_14d_probability": probability.astype(np.float32),
        "spend_14d_expected": (probability * rate * 20).astype(np.float32),
        "spend_14d_probability": probability.astype(np.float32),
        "spend_14d_p10": np.zeros(count, np.float32),
        "spend_14d_p50": np.where(probability > 0.5, rate * 15, 0.0).astype(np.float32),
        "spend_14d_p90": (rate * 40).astype(np.float32),
        "funnel_14d_probabilities": list(ladder.astype(np.float32)),
        "taste_14d_probabilities": list(liked.astype(np.float32)),
        "value_score": (probability / 2 + rate / (rate + 1) / 2).astype(np.float32),
        "model_version": [version] * count,
        "trained_through": pa.array([trained_through] * count, TIMESTAMP),
    }
    schema = scores_schema(config, ids.type)
    return pa.table({name: pa.array(columns[name]) for name in schema.names}).cast(schema)


def put(config: Config, folder: Path, table: pa.Table, made_from: str, files: int = 2) -> None:
    """A partition of several files."""
    with new_partition(folder, config.root_path, {"stage": "test", "fingerprint": made_from}) as staging:
        size = -(-table.num_rows // files)
        for number in range(files):
            pq.write_table(table.slice(number * size, size), staging / f"part-{number:05d}.parquet")


def build_world(
    config: Config, users: int = 500, seed: int = 1, user_type: pa.DataType | None = None
) -> dict[str, Any]:
    """Behaviour and labels at the training cutoffs and later, scores later; the tables of the later cutoff."""
    layout = Layout.of(config)
    # Above 2**53, where a detour over floats would show.
    ids = pa.array([f"user-{number:05d}" for number in range(users)])
    if user_type == pa.int64():
        ids = pa.array([2**53 + 1 + 2 * number for number in range(users)])
    people = latent(users, seed)
    tables: dict[str, pa.Table] = {}
    for place, cutoff in enumerate([*config.training_cutoffs, LATER]):
        tables["behaviour"] = behaviour_table(config, cutoff, people, seed + place, ids)
        tables["labels"] = labels_table(config, cutoff, people, seed + 100 + place, ids)
        put(config, layout.behaviour(cutoff), tables["behaviour"], f"behaviour {cutoff}")
        put(config, layout.labels(cutoff), tables["labels"], f"labels {cutoff}")
    through = datetime(2017, 9, 15, tzinfo=UTC)
    tables["scores"] = scores_table(config, LATER, people, ids, trained_through=through)
    # The encoder keeps the order of behaviour; what reads it must not depend on that.
    put(config, layout.scores(LATER), tables["scores"].take(np.random.default_rng(0).permutation(users)), "scores")
    return tables | {"people": people, "ids": ids}
