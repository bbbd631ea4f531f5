"""What rows must be to be pushed into the history."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from feast import FileSource

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store import user_value_views
from segmenter_plugin.store.publish import feature_schema
from segmenter_plugin.store.pushed import conformed_rows

TIME = pa.timestamp("us", "UTC")
MOMENT = datetime(2017, 10, 5, 12, 30, 15, 250_000, tzinfo=UTC)


def _file(view):
    return FileSource(
        name=f"{view}_files",
        path=f"{view}/*/*.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )


VIEW = user_value_views(source=_file, activity_columns=["order_count_28d"]).user_scores
EMBEDDING = user_value_views(source=_file, activity_columns=["order_count_28d"]).user_embedding
SCHEMA = feature_schema(
    [
        pa.field("purchase_14d_probability", pa.float32()),
        pa.field("model_version", pa.string()),
        pa.field("trained_through", TIME),
    ],
    "user_id",
    pa.string(),
)
EMBEDDING_SCHEMA = feature_schema([pa.field("embedding", pa.list_(pa.float32()))], "user_id", pa.string())


def _rows(**columns):
    given = {
        "user_id": pa.array(["a", "b"]),
        "event_timestamp": pa.array([MOMENT] * 2, TIME),
        "created_timestamp": pa.array([None, MOMENT], TIME),
        "purchase_14d_probability": pa.array([0.25, None], pa.float64()),
        "model_version": pa.array(["m"] * 2),
        "trained_through": pa.array([MOMENT] * 2, pa.timestamp("ns", "UTC")),
    }
    return pa.table({name: column for name, column in (given | columns).items() if column is not None})


def _vectors(vectors):
    return _rows(purchase_14d_probability=None, model_version=None, trained_through=None, embedding=pa.array(vectors))


def test_columns_are_ordered_and_typed_as_the_files_have_them():
    table = _rows().select(sorted(_rows().column_names)).append_column("__index_level_0__", pa.array([4, 2]))
    rows = conformed_rows(VIEW, table, SCHEMA)
    assert rows.schema.names == SCHEMA.names
    assert rows.schema.types == SCHEMA.types
    assert rows["created_timestamp"].to_pylist() == [None, MOMENT]
    assert rows["purchase_14d_probability"].to_pylist() == [0.25, None]


def test_trained_through_is_rounded_up_as_when_publishing():
    rows = conformed_rows(VIEW, _rows(), SCHEMA)
    assert set(rows["trained_through"].to_pylist()) == {MOMENT.replace(second=16, microsecond=0)}


def test_times_may_be_text_as_http_sends_them():
    text = pa.array(["2017-10-05T14:30:15.25+02:00"] * 2)
    times = {"event_timestamp": text, "created_timestamp": pa.nulls(2), "trained_through": text}
    rows = conformed_rows(VIEW, _rows(**times), SCHEMA)
    assert rows["event_timestamp"].to_pylist() == [MOMENT] * 2
    assert rows["created_timestamp"].null_count == 2


def test_a_created_timestamp_may_be_absent():
    assert conformed_rows(VIEW, _rows(created_timestamp=None), SCHEMA)["created_timestamp"].null_count == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": pa.array(["a", None])}, "1 rows .* have no user_id"),
        ({"user_id": None}, "lack the columns \\['user_id'\\]"),
        ({"user_id": pa.array(["a", "a"])}, "1 rows .* repeat \\['user_id', 'event_timestamp'\\]"),
        ({"event_timestamp": pa.array([MOMENT, None], TIME)}, "1 rows .* have no event_timestamp"),
        (
            {"event_timestamp": pa.array([MOMENT.replace(tzinfo=None)] * 2)},
            "'event_timestamp' as timestamp.*names no zone",
        ),
        (
            {"created_timestamp": pa.array([MOMENT.replace(tzinfo=None)] * 2)},
            "'created_timestamp' as timestamp.*names no zone",
        ),
        ({"event_timestamp": pa.array([1, 2])}, "'event_timestamp' as int64, which names no zone"),
        ({"event_timestamp": pa.array(["2017-10-05 12:30:00"] * 2)}, "expected a zone offset"),
        ({"event_timestamp": pa.array([1, 2], pa.timestamp("ns", "UTC"))}, "would lose data"),
        ({"purchase_14d_probability": pa.array(["much", "little"])}, "do not have the types"),
        ({"purchase_14d_probability": pa.array([0.5, float("nan")])}, "'purchase_14d_probability' holds 1 values"),
        ({"model_version": pa.array(["m", None])}, "have no model_version"),
        ({"trained_through": pa.array([None, MOMENT], TIME)}, "have no trained_through"),
    ],
)
def test_rows_that_do_not_fit_are_refused(columns, message):
    with pytest.raises(StoreError, match=message) as caught:
        conformed_rows(VIEW, _rows(**columns), SCHEMA)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("vectors", "message"),
    [([[1.0], None], "1 rows .* have no embedding"), ([[1.0], [None]], "null within a list"), ([1, 2], "the types")],
)
def test_embeddings_that_do_not_fit_are_refused(vectors, message):
    with pytest.raises(StoreError, match=message):
        conformed_rows(EMBEDDING, _vectors(vectors), EMBEDDING_SCHEMA)


def test_a_view_that_is_not_ours_may_hold_what_it_likes():
    theirs = user_value_views(source=_file, activity_columns=["order_count_28d"]).user_scores
    theirs.tags = {}
    rows = conformed_rows(theirs, _rows(purchase_14d_probability=pa.array([0.5, float("nan")])), SCHEMA)
    assert rows.num_rows == 2


def test_what_the_files_never_leave_empty_may_not_be_empty():
    schema = pa.schema([field.with_nullable(field.name != "model_version") for field in SCHEMA])
    theirs = user_value_views(source=_file, activity_columns=["order_count_28d"]).user_scores
    theirs.tags = {}
    with pytest.raises(StoreError, match="have no model_version"):
        conformed_rows(theirs, _rows(model_version=pa.array(["m", None])), schema)
