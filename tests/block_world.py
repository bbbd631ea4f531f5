"""Clean events as tables: of the random worlds, and dense random ones where nearly everything ties with something."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import spark_world

from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.block_tables import TablesAsOf, tables_as_of
from segmenter_plugin.data.event_block import EventBlock, event_columns, microseconds
from segmenter_plugin.schemas import TIMESTAMP, numeric_columns

CUTOFF, OBSERVATION = spark_world.CUTOFF, spark_world.OBSERVATION
CODED_LIST = pa.list_(pa.dictionary(pa.int32(), pa.string()))
#: Sorted otherwise by UTF-8 bytes than by UTF-16 units, and than by any alphabet.
WORDS = (None, "", "a", "Z", "ä", "zz", "\uffee", "😀")


def clean_schema(config: Config, user_type: pa.DataType | None = None) -> pa.Schema:
    types: dict[str, pa.DataType] = {"user_id": user_type or pa.string(), "event_timestamp": TIMESTAMP}
    types |= dict.fromkeys(numeric_columns(config), pa.float64())
    return pa.schema([(name, types.get(name, pa.string())) for name in event_columns(config)])


def clean_table(rows: Iterable[dict[str, Any]], config: Config) -> pa.Table:
    """Raw rows of `spark_world`, cleaned by its plain Python."""
    by_user = spark_world.clean(rows, config)
    events = [event | {"user_id": user} for user, events in by_user.items() for event in events]
    return pa.Table.from_pylist(events, schema=clean_schema(config))


def at(rows: Iterable[dict[str, Any]], config: Config, cutoff: datetime, complete_through: datetime) -> TablesAsOf:
    """What the package makes of raw rows of `spark_world`."""
    (tables,) = tables_as_of(EventBlock.of(clean_table(rows, config), config), [cutoff], complete_through, config)
    return tables


def by_user(table: pa.Table) -> dict[Any, dict[str, Any]]:
    """A table's rows by user, without the cutoff."""
    return {row.pop("user_id"): row for row in table.drop_columns("event_timestamp").to_pylist()}


def plain(table: pa.Table) -> pa.Table:
    """A table with text instead of dictionaries of text in its lists, which may differ where the text does not."""
    types = [
        pa.list_(pa.string()) if pa.types.is_list(field.type) and field.type.equals(CODED_LIST) else field.type
        for field in table.schema
    ]
    fields = [field.with_type(kind) for field, kind in zip(table.schema, types, strict=True)]
    return table.cast(pa.schema(fields)).combine_chunks()


def dense_config(**sections: Any) -> Config:
    """Every optional column, a task of every kind, and event types that nobody named."""
    names = ["user_id", "item_id", "event_type", "event_timestamp", "event_id", "order_id", "session_id", "category"]
    names += ["brand", "price", "quantity", "text"]
    columns = {name: name for name in names} | {"categorical": ["channel"], "numeric": ["weight"]}
    types = {"view": ["view"], "purchase": ["purchase"], "return": ["return"], "never": ["never"]}
    tree = {
        "events": {"path": "unused", "columns": columns, "types": types, "unknown_type": "keep"},
        "windows": {"observation_days": OBSERVATION, "activity_days": [1, 7]},
        "sequences": {"length": 6},
        "tasks": [
            {"name": "cart", "kind": "binary", "event_type": "cart", "prediction_days": 3},
            {"name": "spend", "kind": "value", "prediction_days": 5, "gap_days": 1},
            {"name": "depth", "kind": "multiclass", "prediction_days": 3, "ladder": ["view", "cart", "purchase"]},
            {"name": "taste", "kind": "multilabel", "prediction_days": 5, "target": "category", "event_type": "view"},
            {"name": "item", "kind": "multilabel", "prediction_days": 5, "target": "item_id"},
            {"name": "later", "kind": "value", "prediction_days": 9},
            {"name": "latest", "kind": "multilabel", "prediction_days": 9, "target": "brand"},
            {
                "name": "interest",
                "kind": "multiclass",
                "prediction_days": 5,
                "ladder": ["view", "cart", "purchase"],
                "target": "category",
            },
        ],
    }
    return parse_config(tree | sections)


def dense_events(config: Config, seed: int, users: int = 300, rows: int = 6000, *, whole: bool = False) -> pa.Table:
    """Clean events, most of which share their time, and many everything but one column, with another.

    Args:
        config: Which columns there are.
        seed: Of the generator.
        users: How many there are; the first has a tenth of all events, some have one.
        rows: How many events.
        whole: Whether users are whole numbers.
    """
    random = np.random.default_rng(seed)
    owner = np.where(random.random(rows) < 0.1, 0, np.floor(users * random.random(rows) ** 2)).astype(int)
    ids = [(1 << 40) - 7 * number if whole else f"{WORDS[number % 7 + 1]}{number}" for number in range(users)]
    edges = [-OBSERVATION, -7, -1, 0, 1, 3, 5, 6, 9]
    hours = np.where(random.random(rows) < 0.4, 24 * random.choice(edges, rows), random.integers(-700, 300, rows))
    micros = hours * 3_600_000_000 + random.choice([-1, 0, 0, 1, 1_800_000_000, 1_800_000_001], rows)
    values: dict[str, list[Any]] = {
        "user_id": [ids[number] for number in owner],
        "event_timestamp": [CUTOFF + timedelta(microseconds=int(number)) for number in micros],
        "event_type": random.choice(["view", "purchase", "return", "cart"], rows).tolist(),
        "amount": random.choice(np.array([None, 0.0, 0.1, 0.2, 19.99, 0.125, 1.005, 123456.78]), rows).tolist(),
        "quantity": random.choice(np.array([None, 1.0, 3.0]), rows).tolist(),
        "weight": random.choice(np.array([None, -0.5, 0.0, 2e300]), rows).tolist(),
    }
    schema = clean_schema(config, pa.int64() if whole else pa.string())
    for name in schema.names:
        if name not in values:
            values[name] = [WORDS[place] for place in random.integers(0, len(WORDS), rows)]
    return pa.table({name: values[name] for name in schema.names}, schema=schema)


def shuffled(table: pa.Table, seed: int) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(seed).permutation(len(table))))


def before(table: pa.Table, cutoff: datetime) -> pa.Table:
    return table.filter(pa.array(table["event_timestamp"].cast(pa.int64()).to_numpy() < microseconds(cutoff)))
