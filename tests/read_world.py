"""A dict-backed online store of ours, Feast's own reading code over the same dict, and a project to ask them in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Float32, Int64, String, UnixTimestamp
from google.protobuf.timestamp_pb2 import Timestamp

from segmenter_plugin.store.lookups import FetchedView, ViewLookup
from segmenter_plugin.store.online import ArrowOnlineStore
from segmenter_plugin.store.rows import EncodedRows, encode_rows
from segmenter_plugin.store.wire import encode_times

#: (view, entity key) to a row: its serialised time, and cells by feature.
Rows = dict[tuple[str, bytes], tuple[bytes, dict[str, bytes]]]

NOON = datetime(2017, 10, 1, 12, tzinfo=UTC)


class StockDictStore(OnlineStore):
    """Feast's base class with nothing overridden but the reading of rows."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.fetches = 0

    def online_read(self, config, table, entity_keys, requested_features=None):  # noqa: ARG002
        answers = []
        for key in entity_keys:
            row = self.rows.get((table.name, serialize_entity_key(key, 3)))
            if row is None:
                answers.append((None, None))
                continue
            time, cells = row
            names = [name for name in requested_features if name in cells]
            found = {name: Value.FromString(cells[name]) for name in names}
            answers.append((Timestamp.FromString(time).ToDatetime(tzinfo=UTC), found))
        return answers

    async def online_read_async(self, config, table, entity_keys, requested_features=None):
        return self.online_read(config, table, entity_keys, requested_features)

    def online_write_batch(self, config, table, data, progress):
        raise NotImplementedError

    def update(self, *arguments: Any, **options: Any) -> None: ...

    def teardown(self, *arguments: Any, **options: Any) -> None: ...


class DictWriter:
    def __init__(self, rows: Rows, view: str) -> None:
        self._rows, self._view = rows, view

    def write(self, rows: EncodedRows) -> int:
        times = encode_times(rows.event_times).to_pylist()
        for place, (key, time) in enumerate(zip(rows.keys.to_pylist(), times, strict=True)):
            cells = {name: column[place].as_py() for name, column in rows.values.items()}
            self._rows[self._view, key] = (time, cells)
        return len(rows)

    def finish(self) -> None: ...


class ArrowDictStore(ArrowOnlineStore, StockDictStore):
    """Ours over the same dict."""

    @contextmanager
    def writer(self, config, view, *, strict_stock=False) -> Iterator[DictWriter]:  # noqa: ARG002
        yield DictWriter(self.rows, view.name)

    def fetch(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:  # noqa: ARG002
        self.fetches += 1
        return [self._fetched(lookup) for lookup in lookups]

    def _fetched(self, lookup: ViewLookup) -> FetchedView:
        rows = [self.rows.get((lookup.name, key), (None, {})) for key in lookup.keys]
        cells = [[row.get(name) for _, row in rows] for name in lookup.features]
        return FetchedView(cells, [time for time, _ in rows])


class AsyncDictStore(ArrowDictStore):
    """The same with an asynchronous client."""

    async def fetch_async(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        return self.fetch(config, lookups)


def project(folder: Path, *objects: Any, **online: Any) -> FeatureStore:
    """A project with these objects applied; its online store is SQLite until `over` puts another in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    config = RepoConfig(
        project="reads",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=online or {"type": "sqlite", "path": str(folder / "online.db")},
        offline_store="duckdb",
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    store.apply(list(objects), partial=True)
    return store


def over(store: FeatureStore, online_store: OnlineStore) -> FeatureStore:
    """The project, read through that store object."""
    store._get_provider()._online_store = online_store
    return store


def source(name: str) -> FileSource:
    return FileSource(
        name=f"{name}_source",
        path="rows.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )


USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
ITEM = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)


def declared(ttl: timedelta | None = None) -> dict[str, Any]:
    """A view of users, one of items, one of both together, and a service over the first two."""
    key = {"user": Field(name="user_id", dtype=String), "item": Field(name="item_id", dtype=Int64)}
    tastes = FeatureView(
        name="tastes",
        entities=[USER],
        ttl=ttl or timedelta(0),
        schema=[
            key["user"],
            Field(name="embedding", dtype=Array(Float32)),
            Field(name="spend", dtype=Float32),
            Field(name="visits", dtype=Int64),
            Field(name="segment", dtype=String),
            Field(name="seen", dtype=UnixTimestamp),
        ],
        source=source("tastes"),
    )
    prices = FeatureView(
        name="prices",
        entities=[ITEM],
        schema=[key["item"], Field(name="price", dtype=Float32)],
        source=source("prices"),
    )
    pairs = FeatureView(
        name="pairs",
        entities=[USER, ITEM],
        schema=[*key.values(), Field(name="clicks", dtype=Int64)],
        source=source("pairs"),
    )
    service = FeatureService(name="shelf", features=[tastes, prices])
    views = {"tastes": tastes, "prices": prices, "pairs": pairs}
    return {"user": USER, "item": ITEM, **views, "service": service}


def tastes_batch(users: Sequence[str], time: datetime = NOON, dim: int = 4) -> pa.RecordBatch:
    """Rows for `tastes`; every third user has no spend."""
    stamp = pa.array([time] * len(users), pa.timestamp("us", "UTC"))
    spend = [None if i % 3 == 2 else i / 3 for i in range(len(users))]
    return pa.record_batch(
        {
            "user_id": list(users),
            "embedding": pa.array([[i + j / 8 for j in range(dim)] for i in range(len(users))], pa.list_(pa.float32())),
            "spend": pa.array(spend, pa.float32()),
            "visits": pa.array(range(len(users)), pa.int64()),
            "segment": pa.array([f"größe-{i % 2}" for i in range(len(users))]),
            "seen": stamp,
            "event_timestamp": stamp,
            "created_timestamp": stamp,
        }
    )


def prices_batch(items: Sequence[int]) -> pa.RecordBatch:
    """Rows for `prices`, which has no ttl."""
    stamp = pa.array([NOON] * len(items), pa.timestamp("us", "UTC"))
    price = pa.array([item / 2 for item in items], pa.float32())
    return pa.record_batch(
        {"item_id": list(items), "price": price, "event_timestamp": stamp, "created_timestamp": stamp}
    )


def put(store: OnlineStore, config: RepoConfig, view: FeatureView, batch: pa.RecordBatch) -> None:
    """Write a batch."""
    with store.writer(config, view) as writer:
        writer.write(encode_rows(batch, view))
        writer.finish()
