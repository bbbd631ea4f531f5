"""A small view and its rows in SQLite stores, ours and stock."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Float32, Int64, String
from feast.utils import _convert_arrow_to_proto

from segmenter_plugin.store.online import ViewLookup
from segmenter_plugin.store.rows import encode_rows, join_keys_of

OURS = "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")


def view_of(schema: dict, name: str = "taste", created: str | None = "created") -> FeatureView:
    """A view of users with these features."""
    source = FileSource(path="rows.parquet", timestamp_field="event_timestamp", created_timestamp_column=created or "")
    fields = [Field(name="user_id", dtype=String), *(Field(name=key, dtype=dtype) for key, dtype in schema.items())]
    return FeatureView(name=name, entities=[USER], schema=fields, source=source)


SMALL = view_of({"embedding": Array(Float32), "score": Float32, "visits": Int64, "model": String})


def open_store(path: Path, *views: FeatureView, kind: str = OURS, apply: bool = True, **options) -> SimpleNamespace:
    """A store in a folder, with the tables of `views`."""
    config = RepoConfig(
        project="team",
        provider="local",
        registry=str(path / "registry.db"),
        online_store={"type": kind, "path": str(path / "online.db"), **options},
        entity_key_serialization_version=3,
    )
    store = get_online_store_from_config(config.online_store)
    if apply:
        store.update(config, [], list(views), [], [], True)
    return SimpleNamespace(store=store, config=config, path=path / "online.db")


def stock_beside(ours: SimpleNamespace) -> SimpleNamespace:
    """A stock store on the same file."""
    return open_store(ours.path.parent, kind="sqlite", apply=False)


def users(count: int, event: datetime = NOON, created: datetime | None = NOON, value: float = 0.1) -> pa.RecordBatch:
    """A batch for `SMALL`, whose cells all follow from `value`."""
    return pa.record_batch(
        {
            "user_id": pa.array([f"u{i * 7919 % count:06d}" for i in range(count)]),
            "event_timestamp": pa.array([event] * count, TIME),
            "created": pa.array([created] * count, TIME),
            "embedding": pa.array([[value, value]] * count, pa.list_(pa.float32())),
            "score": pa.array([value] * count, pa.float32()),
            "visits": pa.array([int(value * 10)] * count, pa.int64()),
            "model": pa.array([f"m{value}"] * count),
        }
    )


def write(target: SimpleNamespace, *batches: pa.RecordBatch, view: FeatureView = SMALL, **options) -> list[int]:
    """Write batches by a writer of ours; how many rows of each went online."""
    with target.store.writer(target.config, view, **options) as writer:
        counts = [writer.write(encode_rows(batch, view)) for batch in batches]
        writer.finish()
    return counts


def write_stock(target: SimpleNamespace, batch: pa.RecordBatch, view: FeatureView = SMALL) -> None:
    """Write a batch as Feast does."""
    rows = _convert_arrow_to_proto(batch, view, join_keys_of(view))
    SqliteOnlineStore.online_write_batch(target.store, target.config, view, rows, None)


def dump(path: Path, table: str = "team_taste") -> list[tuple]:
    """All rows, with the storage class of each value."""
    with sqlite3.connect(path) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        kinds = ", ".join(f"{name}, typeof({name})" for name in columns)
        query = f"SELECT {kinds} FROM {table} ORDER BY entity_key, feature_name"  # noqa: S608
        rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def keys_of(batch: pa.RecordBatch) -> list[bytes]:
    """Serialised keys of a batch."""
    return encode_rows(batch, SMALL).keys.to_pylist()


def fetch(target: SimpleNamespace, keys: list[bytes], *features: str, view: FeatureView = SMALL):
    """One view's answer of `ArrowSqliteOnlineStore.fetch`."""
    names = features or tuple(feature.name for feature in view.features)
    (found,) = target.store.fetch(target.config, [ViewLookup(view, view.name, keys, names)])
    return found


def scores(target: SimpleNamespace, keys: list[bytes]) -> list[float | None]:
    (cells,) = fetch(target, keys, "score").cells
    return [None if cell is None else round(Value.FromString(cell).float_val, 3) for cell in cells]
