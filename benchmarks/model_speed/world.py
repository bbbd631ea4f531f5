"""Users with heavy-tailed histories, and encoders with drawn weights: speed does not ask what was learnt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segmenter_plugin import schemas
from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.features import FeaturesFit
from segmenter_plugin.data.targets import Target
from segmenter_plugin.schemas import TIMESTAMP, activity_fields, behaviour_schema

LENGTH = 512
MEDIAN_EVENTS = 20
#: Of the logarithm: a user in three hundred has more than 512 events, of which the last 512 are read.
_SPREAD = 1.2
_CUTOFF = datetime(2024, 6, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
_ITEMS = 5_000
_CATEGORIES = 60


def config_of(preset: str) -> Config:
    """A shop with a purchase, a money and a category task, and the aggregates that come by default."""
    columns = {"user_id": "u", "item_id": "i", "event_type": "k", "event_timestamp": "at"}
    columns |= {"category": "c", "price": "p", "quantity": "q"}
    tree: dict[str, Any] = {
        "events": {
            "path": "events.parquet",
            "timezone": "UTC",
            "columns": columns,
            "types": {"view": ["view"], "purchase": ["buy"]},
        },
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 14},
            {"name": "spend", "kind": "value", "prediction_days": 28},
            {"name": "next", "kind": "multilabel", "prediction_days": 14, "target": "category", "top_count": 10},
        ],
        "sequences": {"length": LENGTH},
        "encoder": {"preset": preset},
    }
    return parse_config(tree)


def lengths_of(users: int, seed: int = 7) -> npt.NDArray[np.int64]:
    """Events of each user, (N,): lognormal, median 20, at most 512."""
    drawn = np.random.default_rng([seed, 1]).lognormal(np.log(MEDIAN_EVENTS), _SPREAD, users)
    return np.clip(np.rint(drawn), 1, LENGTH).astype(np.int64)


def behaviour_of(config: Config, lengths: npt.NDArray[np.int64], seed: int = 7) -> pa.Table:
    """Behaviour of users with so many events each, as `segmenter build` leaves it."""
    random = np.random.default_rng([seed, 2])
    users, count = len(lengths), int(lengths.sum())
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    owner = np.repeat(np.arange(users), lengths)
    ages = random.exponential(30.0, count)
    ages = ages[np.lexsort([-ages, owner])]
    item = np.minimum(random.zipf(1.2, count), _ITEMS)
    bought = random.random(count) < 0.2
    flat = {
        "event_timestamp_sequence": pa.array(
            int(_CUTOFF.timestamp()) * 1_000_000 - 1 - (ages * _DAY_US).astype(np.int64), TIMESTAMP
        ),
        "event_type_sequence": _texts(np.where(bought, 1, 0), ["view", "purchase"]),
        "item_id_sequence": _texts(item - 1, [f"item-{number}" for number in range(_ITEMS)]),
        "category_sequence": _texts(item % _CATEGORIES, [f"category-{number}" for number in range(_CATEGORIES)]),
        "amount_sequence": pa.array(np.exp(random.normal(2.0, 1.0, count)), mask=~bought),
        "quantity_sequence": pa.array(random.integers(1, 4, count).astype(float)),
    }
    columns: dict[str, pa.Array] = {name: pa.ListArray.from_arrays(offsets, values) for name, values in flat.items()}
    columns["sequence_length"] = pa.array(lengths, pa.int32())
    columns["user_id"] = pa.array(np.arange(users))
    columns["event_timestamp"] = pa.array(np.full(users, np.datetime64(_CUTOFF.replace(tzinfo=None), "us")), TIMESTAMP)
    for field in activity_fields(config):
        columns[field.name] = pa.array(random.lognormal(1.0, 1.0, users), mask=random.random(users) < 0.1)
    schema = behaviour_schema(config, pa.int64())
    return pa.table({field.name: columns[field.name].cast(field.type, safe=False) for field in schema}, schema=schema)


def _texts(places: npt.NDArray[np.int64], values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(values)).cast(pa.string())


def model_of(config: Config, table: pa.Table, seed: int = 7) -> Any:
    """A `UserEncoder` whose features fit the table and whose weights are drawn."""
    import torch

    from segmenter_plugin.model.artifact import UserEncoder
    from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
    from segmenter_plugin.model.heads import TaskHeads

    aggregates = tuple(field.name for field in activity_fields(config))
    fit = FeaturesFit(schemas.categorical_columns(config), schemas.numeric_columns(config), aggregates)
    for batch in table.slice(0, 5_000).to_batches():
        fit.add(batch)
    features = fit.features(config.encoder.min_count, config.encoder.max_vocabulary, config.sequences.length)
    targets = [
        Target(task, tuple(f"category-{number}" for number in range(10)) if task.kind == "multilabel" else ())
        for task in config.tasks
    ]
    torch.manual_seed(seed)
    encoder = SequenceEncoder(EncoderSettings.of(config.encoder, features))
    heads = TaskHeads(targets, encoder.settings.embedding_size, encoder.settings.dropout)
    return UserEncoder(encoder.eval(), features, _CUTOFF, heads.eval())


def backbone_of(config: Config) -> Any:
    """The preset's Hugging Face configuration."""
    from segmenter_plugin.model.backbone import backbone_config

    return backbone_config(config.encoder, LENGTH + 1)
