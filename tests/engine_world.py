"""A source of Parquet files, a view of it, and an online store in memory that takes Arrow rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.infra.common.materialization_job import MaterializationTask
from feast.repo_config import RepoConfig
from feast.types import Array, Float32, String, from_value_type

from segmenter_plugin.store.online import ArrowOnlineStore, FetchedView, StoreRestarted, ViewLookup
from segmenter_plugin.store.rows import EncodedRows

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
DAY = timedelta(days=1)
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def rows_of(users: Sequence[Any], times: Sequence[datetime | None], created: Sequence[Any] = (), **columns: Any):
    """A table of users with an embedding of two numbers that tells the rows apart."""
    numbers = range(len(users))
    return pa.table(
        {
            "user_id": pa.array(users),
            "event_timestamp": pa.array(times, TIME),
            "created_timestamp": pa.array(created or [NOON] * len(users), TIME),
            "embedding": pa.array([[float(i), 0.5] for i in numbers], pa.list_(pa.float32())),
            "name": pa.array([f"row {i}" for i in numbers]),
            **columns,
        }
    )


def write(path: Path, table: pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def source_of(path: str | Path, **options: Any) -> FileSource:
    names = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}
    return FileSource(path=str(path), **(names | options))


def view_of(source: Any, *, entity: Entity = USER, **options: Any) -> FeatureView:
    schema = [Field(name=entity.join_key, dtype=from_value_type(entity.value_type))]
    schema += [Field(name="embedding", dtype=Array(Float32)), Field(name="name", dtype=String)]
    declared = {"name": "taste", "entities": [entity], "schema": schema, "source": source}
    return FeatureView(**(declared | options))


def task_of(view: FeatureView, start: datetime = NOON - DAY, end: datetime = NOON + DAY, **options: Any):
    return MaterializationTask(project="team", feature_view=view, start_time=start, end_time=end, **options)


def config_of(folder: Path, **options: Any) -> RepoConfig:
    settings = {
        "project": "team",
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "online_store": {"type": "sqlite", "path": str(folder / "online.db")},
        "offline_store": {"type": "duckdb"},
        "entity_key_serialization_version": 3,
        "repo_path": folder,
    }
    return RepoConfig(**(settings | options))


class MemoryOnlineStore(ArrowOnlineStore):
    """Rows in a dict, by the rule of our stores; fails as it is told to.

    Args:
        restarts: How many times `finish` finds that the server was replaced.
        fails_at: Number of the batch whose writing raises.
    """

    def __init__(self, restarts: int = 0, fails_at: int | None = None) -> None:
        super().__init__()
        self.rows: dict[bytes, tuple[int, int, dict[str, bytes]]] = {}
        self.batches: list[int] = []
        self.strict: list[bool] = []
        self.closed = 0
        self._restarts, self._fails_at = restarts, fails_at

    @contextmanager
    def writer(self, config: RepoConfig, view: FeatureView, *, strict_stock: bool = False) -> Iterator[Any]:  # noqa: ARG002
        self.strict.append(strict_stock)
        try:
            yield self
        finally:
            self.closed += 1

    def write(self, rows: EncodedRows) -> int:
        if self._fails_at == len(self.batches):
            raise OSError("the disk is full")
        self.batches.append(len(rows))
        created = [0] * len(rows) if rows.created_times is None else rows.created_times.tolist()
        written = 0
        for i, key in enumerate(rows.keys.to_pylist()):
            age = (int(rows.event_times[i]), created[i])
            if key in self.rows and self.rows[key][:2] > age:
                continue
            self.rows[key] = (*age, {name: cells[i].as_py() for name, cells in rows.values.items()})
            written += 1
        return written

    def finish(self) -> None:
        if self._restarts:
            self._restarts -= 1
            self.rows.clear()
            raise StoreRestarted("the server was replaced.")

    def fetch(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        raise NotImplementedError

    def online_read(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def update(self, *args: Any, **options: Any) -> None: ...

    def teardown(self, *args: Any, **options: Any) -> None: ...
