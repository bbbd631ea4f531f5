"""Batches and messages become the same encoded rows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float32, Int64, String
from feast.utils import _convert_arrow_to_proto

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.rows import EncodedRows, encode_rows, join_keys_of, rows_from_protos, time_columns

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def view() -> FeatureView:
    source = FileSource(path="rows.parquet", timestamp_field="event_timestamp", created_timestamp_column="created")
    schema = [
        Field(name="user_id", dtype=String),
        Field(name="embedding", dtype=Array(Float32)),
        Field(name="visits", dtype=Int64),
    ]
    return FeatureView(name="taste", entities=[USER], schema=schema, source=source)


def batch(users=("a", "b"), times=(NOON, NOON)) -> pa.RecordBatch:
    count = len(users)
    return pa.record_batch(
        {
            "user_id": pa.array(users),
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "created": pa.array([NOON + timedelta(microseconds=i) for i in range(count)], pa.timestamp("us", "UTC")),
            "embedding": pa.array([[float(i), 0.5] for i in range(count)], pa.list_(pa.float32())),
            "visits": pa.array([i or None for i in range(count)], pa.int64()),
        }
    )


def same(left: EncodedRows, right: EncodedRows) -> bool:
    return (
        left.keys.equals(right.keys)
        and left.values == right.values
        and left.event_times.tolist() == right.event_times.tolist()
        and left.created_times.tolist() == right.created_times.tolist()
    )


def test_a_batch_and_feast_s_messages_of_it_are_the_same_rows(view):
    rows = batch()
    (by_message,) = rows_from_protos(_convert_arrow_to_proto(rows, view, join_keys_of(view)))
    ours = encode_rows(rows, view)
    assert same(ours, by_message)
    assert len(ours) == 2
    assert list(ours.values) == [feature.name for feature in view.features]


def test_of_messages_that_share_a_key_the_newest_stays(view):
    rows = batch(users=("a", "b", "a", "a"), times=(NOON, NOON, NOON + timedelta(days=1), NOON - timedelta(days=1)))
    (kept,) = rows_from_protos(_convert_arrow_to_proto(rows, view, join_keys_of(view)))
    assert same(kept, encode_rows(rows, view).take(np.array([2, 1])))


def test_of_equally_old_messages_the_last_stays(view):
    rows = _convert_arrow_to_proto(batch(users=("a", "a")), view, join_keys_of(view))
    rows = [(*row[:3], None) for row in rows]
    (kept,) = rows_from_protos(rows)
    assert kept.values["embedding"].to_pylist() == [rows[1][1]["embedding"].SerializeToString()]
    assert kept.created_times is None


def test_rows_that_bring_other_features_are_kept_apart(view):
    first, second = _convert_arrow_to_proto(batch(), view, join_keys_of(view))
    second[1].pop("visits")
    whole, partial = rows_from_protos([first, second])
    assert list(whole.values) == ["embedding", "visits"]
    assert list(partial.values) == ["embedding"]


def test_rows_are_taken_by_position_and_by_mask(view):
    rows = encode_rows(batch(users=("a", "b", "c"), times=(NOON,) * 3), view)
    assert same(rows.take(np.array([False, True, True])), rows.take(np.array([1, 2])))


def test_a_row_without_a_time_is_refused(view):
    with pytest.raises(StoreError, match="1 of 2 rows have no event_timestamp"):
        encode_rows(batch(times=(NOON, None)), view)


def test_times_are_found_under_the_names_that_the_source_maps_them_to():
    source = FileSource(
        path="rows.parquet", timestamp_field="ts", created_timestamp_column="made", field_mapping={"ts": "event_time"}
    )
    view = FeatureView(
        name="taste",
        entities=[USER],
        schema=[Field(name="user_id", dtype=String), Field(name="visits", dtype=Int64)],
        source=source,
    )
    assert time_columns(view) == ("event_time", "made")
