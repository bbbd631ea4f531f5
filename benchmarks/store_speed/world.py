"""What is measured: one feature view, its rows, and the Feast repositories of the contestants.

The view is fixed: an embedding ``Array(Float32)[D]``, three ``Float32``, one ``String``; one row a user, all of one
cutoff, as a publish writes them. User ids are strings ``u0000001``.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PROJECT = "speed"
VIEW = "user_profile"
SERVICE = "ranking"
FLOATS = ("score_a", "score_b", "score_c")
CUTOFF = datetime(2026, 1, 1, tzinfo=UTC)
FILES = 4
ROW_GROUP = 25_000

ENGINE = {"type": "segmenter_plugin.store.engine.ArrowComputeEngine"}
REDIS = {"type": "segmenter_plugin.store.redis.ArrowRedisOnlineStore"}
SQLITE = {"type": "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"}
DUCKDB = {"offline_store": {"type": "duckdb"}}
TUNED = DUCKDB | {"materialization": {"pull_latest_features": True, "online_write_batch_size": 10_000}}

#: What stands in each contestant's feature_store.yaml. "default" is Feast with nothing set but the online store.
CONTESTANTS: dict[str, dict[str, Any]] = {
    "redis_default": {"online_store": {"type": "redis"}},
    "redis_tuned": TUNED | {"online_store": {"type": "redis", "skip_dedup": True}},
    "redis_arrow": DUCKDB | {"online_store": REDIS, "batch_engine": ENGINE},
    "redis_packed": DUCKDB | {"online_store": REDIS | {"layout": "packed"}, "batch_engine": ENGINE},
    "sqlite_default": {"online_store": {"type": "sqlite", "path": "online.db"}},
    "sqlite_tuned": TUNED | {"online_store": {"type": "sqlite", "path": "online.db"}},
    "sqlite_arrow": DUCKDB | {"online_store": SQLITE | {"path": "online.db"}, "batch_engine": ENGINE},
}


def user_ids(first: int, count: int) -> list[str]:
    """Ids of `count` users."""
    return [f"u{number:07d}" for number in range(first, first + count)]


def table_of(first: int, count: int, dim: int) -> pa.Table:
    """Rows of some users; the same numbers whenever they are asked for."""
    numbers = np.random.default_rng(first).standard_normal((count, dim + 3), dtype=np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(numbers[:, :dim].reshape(-1)), dim)
    columns: dict[str, Any] = {
        "user_id": pa.array(user_ids(first, count)),
        "embedding": embedding.cast(pa.list_(pa.float32())),
    }
    columns |= {name: pa.array(numbers[:, dim + place].copy()) for place, name in enumerate(FLOATS)}
    columns["segment"] = pa.array([f"s{number % 12:02d}" for number in range(first, first + count)])
    return with_times(columns, count, CUTOFF)


def embeddings(rows: int, dim: int) -> np.ndarray:
    """(N, D) float32 of the first file of a source."""
    column = table_of(0, min(-(-rows // FILES), rows), dim).column("embedding").combine_chunks()
    return column.values.to_numpy().reshape(-1, dim)


def steady_table(users: int, dim: int, version: int, at: datetime) -> pa.Table:
    """Rows whose every number is the version, so that a row read half old and half new shows."""
    flat = pa.array(np.full(users * dim, version, dtype=np.float32))
    columns: dict[str, Any] = {
        "user_id": pa.array(user_ids(0, users)),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, dim).cast(pa.list_(pa.float32())),
    }
    columns |= {name: pa.array(np.full(users, version, dtype=np.float32)) for name in FLOATS}
    columns["segment"] = pa.array([f"v{version:04d}"] * users)
    return with_times(columns, users, at)


def with_times(columns: dict[str, Any], count: int, at: datetime) -> pa.Table:
    """Add the cutoff, and when the rows were published."""
    times = {"event_timestamp": at, "created_timestamp": at + timedelta(hours=6)}
    zoned = pa.timestamp("us", "UTC")
    return pa.table(columns | {name: pa.repeat(pa.scalar(time, zoned), count) for name, time in times.items()})


def write_source(folder: Path, rows: int, dim: int) -> None:
    """The view's Parquet files, made once for each size."""
    if (folder / "done").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    each = -(-rows // FILES)
    for number in range(FILES):
        first = number * each
        table = table_of(first, min(each, rows - first), dim)
        pq.write_table(table, folder / f"part_{number}.parquet", row_group_size=ROW_GROUP)
    (folder / "done").touch()


def open_store(
    repo: Path, contestant: str, source: str, port: int, *, db: int = 0, precompute_online: bool = False
) -> Any:
    """Write a contestant's repository, apply the view and its service, and open it.

    Args:
        repo: Folder for ``feature_store.yaml``, the registry and a SQLite file.
        contestant: One of `CONTESTANTS`.
        source: Glob of Parquet files.
        port: Where the redis-server listens.
        db: Redis database.
        precompute_online: Of the feature service; such a one is computed with each materialisation.
    """
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, String

    repo.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(CONTESTANTS[contestant]))
    if contestant.startswith("redis"):
        settings["online_store"]["connection_string"] = f"localhost:{port},db={db}"
    # Without the second setting reads are refused while a view is materialised.
    registry = {"path": "registry.db", "serve_features_while_materializing": True}
    settings |= {"project": PROJECT, "provider": "local", "registry": registry, "entity_key_serialization_version": 3}
    (repo / "feature_store.yaml").write_text(json.dumps(settings), encoding="utf-8")

    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    fields = [Field(name="embedding", dtype=Array(Float32)), *(Field(name=name, dtype=Float32) for name in FLOATS)]
    view = FeatureView(
        name=VIEW,
        entities=[user],
        ttl=timedelta(days=36_500),
        schema=[Field(name="user_id", dtype=String), *fields, Field(name="segment", dtype=String)],
        source=FileSource(
            name="profiles",
            path=source,
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
    )
    service = FeatureService(name=SERVICE, features=[view], precompute_online=precompute_online)
    store = FeatureStore(repo_path=str(repo))
    store.apply([user, view, service])
    return store


def materialise(store: Any, at: datetime = CUTOFF) -> None:
    """Bring the rows of one cutoff online; what Feast prints meanwhile is dropped."""
    with redirect_stdout(io.StringIO()):
        store.materialize(at - timedelta(hours=1), at, feature_views=[VIEW])
