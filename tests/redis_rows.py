"""A small view and rows of it for the Redis tests: all cells of a row say the same number, so a torn row shows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from feast import FeatureView, RepoConfig, ValueType
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Float32, Int64, String
from view_tables import TIME, declare

from segmenter_plugin.store.lookups import FetchedView, ViewLookup
from segmenter_plugin.store.redis import ArrowRedisOnlineStore
from segmenter_plugin.store.rows import EncodedRows, encode_rows

STORE = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
FEATURES = ("embedding", "score", "visits", "segment")
DIMENSION = 16
DAY = 86_400_000_000
START = 1_700_000_000_000_000  # microseconds since the epoch

LAYOUTS = ("stock", "packed")


def redis_config(
    address: str, *, kind: str = STORE, project: str = "shop", registry: str = "registry.db", **options: Any
) -> RepoConfig:
    """A project with its online store there."""
    return RepoConfig(
        project=project,
        provider="local",
        registry=registry,
        online_store={"type": kind, "connection_string": address} | options,
        offline_store="duckdb",
        entity_key_serialization_version=3,
    )


def small_view(name: str = "small", key: ValueType = ValueType.INT64) -> FeatureView:
    features = {"embedding": Array(Float32), "score": Float32, "visits": Int64, "segment": String}
    return declare({"user_id": key}, features, name=name)


def batch_of(users: Sequence[Any], number: int, *, day: float = 0, key: pa.DataType | None = None) -> pa.RecordBatch:
    """Rows of users as of `day` after START; the created_timestamp is the event_timestamp."""
    count = len(users)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(np.full(count * DIMENSION, number, np.float32)), DIMENSION)
    times = pa.array(np.full(count, START + int(day * DAY), np.int64)).cast(TIME)
    return pa.record_batch(
        {
            "user_id": pa.array(users, key or pa.int64()),
            "embedding": embedding.cast(pa.list_(pa.float32())),
            "score": pa.array(np.full(count, number, np.float32)),
            "visits": pa.array(np.full(count, number, np.int64)),
            "segment": pa.array([str(number)] * count),
            "event_timestamp": times,
            "created_timestamp": times,
        }
    )


def rows_of(users: Sequence[Any], number: int, *, day: float = 0) -> EncodedRows:
    return encode_rows(batch_of(users, number, day=day), small_view())


def write(
    config: RepoConfig,
    *batches: EncodedRows,
    view: FeatureView | None = None,
    store: ArrowRedisOnlineStore | None = None,
    **options: Any,
) -> int:
    """Write rows, with a store of their own unless one is given; how many went online."""
    with (store or ArrowRedisOnlineStore()).writer(config, view or small_view(), **options) as writer:
        count = sum(writer.write(rows) for rows in batches)
        writer.finish()
    return count


def lookup_of(rows: EncodedRows, features: Sequence[str] = FEATURES, name: str = "small") -> ViewLookup:
    return ViewLookup(small_view(name), name, rows.keys.to_pylist(), tuple(features))


def numbers_in(cells: Sequence[bytes | None]) -> set[float]:
    """The different numbers that the cells of one row say, in the order of FEATURES."""
    embedding, score, visits, segment = (Value.FromString(cell or b"") for cell in cells)
    return {*embedding.float_list_val.val, score.float_val, float(visits.int64_val), float(segment.string_val)}


def on_the_loop(store: ArrowRedisOnlineStore, *calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Answers of calls of the store that are asynchronous."""

    async def answer() -> list[Any]:
        answers = [await call() for call in calls]
        await store.close()
        return answers

    return asyncio.run(answer())


def read(
    config: RepoConfig,
    rows: EncodedRows,
    features: Sequence[str] = FEATURES,
    store: ArrowRedisOnlineStore | None = None,
    name: str = "small",
) -> FetchedView:
    """What is online of the users of these rows."""
    (found,) = (store or ArrowRedisOnlineStore()).fetch(config, [lookup_of(rows, features, name)])
    return found


def said(
    config: RepoConfig, rows: EncodedRows, store: ArrowRedisOnlineStore | None = None, name: str = "small"
) -> list[float | None]:
    """The number that each row says in all its cells; None where there is no row."""
    found = read(config, rows, store=store, name=name)
    answers = []
    for time, *cells in zip(found.event_times, *found.cells, strict=True):
        (number,) = {None} if time is None else numbers_in(cells)
        answers.append(number)
    return answers
