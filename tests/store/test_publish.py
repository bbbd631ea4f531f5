"""What may be published and what may not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.data.partition import new_partition
from segmenter_plugin.errors import ConfigError, MissingStageError, SchemaError, StoreError
from segmenter_plugin.schemas import TIMESTAMP, provenance_fields
from segmenter_plugin.store.publish import (
    Tally,
    feature_rows,
    feature_schema,
    published_cutoffs,
    published_user_type,
)

CUTOFF = datetime(2017, 10, 1, tzinfo=UTC)
CREATED = datetime(2017, 10, 2, 8, tzinfo=UTC)
COLUMNS = [
    pa.field("embedding", pa.list_(pa.float32())),
    pa.field("spend_14d_expected", pa.float32()),
    *provenance_fields(),
]


def _rows(users=("a", "b", "c"), **columns):
    count = len(users)
    given_columns = {
        "user_id": pa.array(users, pa.string()),
        "event_timestamp": pa.array([CUTOFF] * count, TIMESTAMP),
        "embedding": pa.array([[0.5, -1.0]] * count, pa.list_(pa.float32())),
        "spend_14d_expected": pa.array([2.5] * count, pa.float32()),
        "model_version": pa.array(["v1"] * count),
        "trained_through": pa.array([CUTOFF - timedelta(days=1)] * count, TIMESTAMP),
        "not_asked_for": pa.array([0] * count),
    } | columns
    return pa.record_batch(given_columns)


def _published(*batches, cutoff=CUTOFF, tally=None):
    schema = feature_schema(COLUMNS, "customer_id", pa.string())
    rows = feature_rows(batches, schema=schema, cutoff=cutoff, created=CREATED, tally=tally or Tally())
    return pa.Table.from_batches(rows, schema)


def test_rows_come_out_renamed_stamped_and_in_order():
    tally = Tally()
    table = _published(_rows(("b", "a")), _rows(()), _rows(("c",)), tally=tally)
    names = ["customer_id", "event_timestamp", "created_timestamp", *(column.name for column in COLUMNS)]
    assert table.column_names == names
    assert table["customer_id"].to_pylist() == ["b", "a", "c"]
    assert set(table["created_timestamp"].to_pylist()) == {CREATED}
    assert tally == Tally(rows=3, seen_after_cutoff=0)


def test_trained_through_is_rounded_up_to_what_feast_can_keep():
    times = [CUTOFF - timedelta(microseconds=1), CUTOFF - timedelta(seconds=5), CUTOFF - timedelta(seconds=2.5)]
    table = _published(_rows(trained_through=pa.array(times, TIMESTAMP)))
    expected = [CUTOFF, CUTOFF - timedelta(seconds=5), CUTOFF - timedelta(seconds=2)]
    assert table["trained_through"].to_pylist() == expected


@given(st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)))  # noqa: DTZ001
def test_rounding_never_makes_weights_look_younger_nor_pass_a_cutoff(time):
    seen = time.replace(tzinfo=UTC)
    cutoff = (seen + timedelta(seconds=1)).replace(microsecond=0)
    rows = _rows(trained_through=pa.array([seen] * 3, TIMESTAMP), event_timestamp=pa.array([cutoff] * 3, TIMESTAMP))
    rounded = _published(rows, cutoff=cutoff)["trained_through"][0].as_py()
    assert seen <= rounded <= cutoff


def test_rows_from_the_future_are_counted():
    tally = Tally()
    times = [CUTOFF, CUTOFF + timedelta(seconds=1), CUTOFF - timedelta(days=9)]
    _published(_rows(trained_through=pa.array(times, TIMESTAMP)), tally=tally)
    assert tally.seen_after_cutoff == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": pa.array(["a", None, "c"])}, "1 rows have no user_id"),
        ({"user_id": pa.array(["a", "b", "a"])}, "1 users have more than one row .* 'a'"),
        (
            {"event_timestamp": pa.array([CUTOFF, CUTOFF, CUTOFF - timedelta(days=1)], TIMESTAMP)},
            "1 rows have another event_timestamp .* 2017-09-30",
        ),
        ({"event_timestamp": pa.array([CUTOFF, None, CUTOFF], TIMESTAMP)}, "1 rows have no event_timestamp"),
        ({"embedding": pa.array([[1.0], None, [1.0]], pa.list_(pa.float32()))}, "1 rows have no embedding"),
        ({"embedding": pa.array([[1.0], [float("nan")], [1.0]], pa.list_(pa.float32()))}, "'embedding' holds 1 values"),
        ({"embedding": pa.array([[1.0], [None], [1.0]], pa.list_(pa.float32()))}, "'embedding' holds 1 values"),
        ({"spend_14d_expected": pa.array([1.0, 2.0, float("inf")], pa.float32())}, "'spend_14d_expected' holds 1"),
        ({"trained_through": pa.array([CUTOFF, None, None], TIMESTAMP)}, "2 rows have no trained_through"),
        ({"model_version": pa.array(["v", "v", None])}, "1 rows have no model_version"),
    ],
)
def test_what_must_not_be_served_is_refused(columns, message):
    with pytest.raises(StoreError, match=message):
        _published(_rows(**columns))


def test_a_user_in_two_batches_is_refused():
    with pytest.raises(StoreError, match="more than one row"):
        _published(_rows(("a",)), _rows(("b", "a")))


def test_nothing_to_publish_is_told():
    with pytest.raises(StoreError, match="no rows to publish"):
        _published(_rows(()))


def test_a_missing_or_mistyped_column_is_told():
    with pytest.raises(SchemaError, match=r"lacks the columns \['spend_14d_expected'\]"):
        _published(_rows().drop_columns(["spend_14d_expected"]))
    with pytest.raises(SchemaError, match="expected types"):
        _published(_rows(spend_14d_expected=pa.array(["much"] * 3)))


def test_null_scores_of_ours_stay_null():
    table = _published(_rows(spend_14d_expected=pa.array([1.0, None, 2.0], pa.float32())))
    assert table["spend_14d_expected"].to_pylist() == [1.0, None, 2.0]


def test_a_join_key_that_is_a_column_is_refused():
    with pytest.raises(ConfigError, match="'embedding' is also the name"):
        feature_schema(COLUMNS, "embedding", pa.string())


def test_batches_are_not_gathered():
    """The second batch is read only after the first has been handed on."""
    read = []

    def batches():
        for user in ("a", "b"):
            read.append(user)
            yield _rows((user,))

    schema = feature_schema(COLUMNS, "customer_id", pa.string())
    rows = feature_rows(batches(), schema=schema, cutoff=CUTOFF, created=CREATED, tally=Tally())
    next(rows)
    assert read == ["a"]


def _partition(root, view, cutoff, key):
    folder = root / "features" / view / cutoff_key(cutoff)
    with new_partition(folder, root, {"stage": "test", "fingerprint": "x"}) as staging:
        pq.write_table(pa.table({"customer_id": key}), staging / "part-00000.parquet")
    return folder.parent


def test_the_newest_published_rows_tell_the_type_of_ids(tmp_path):
    view = _partition(tmp_path, "user_activity", CUTOFF, pa.array(["1"]))
    assert published_user_type([tmp_path / "none", view], "customer_id") == pa.string()
    later = CUTOFF + timedelta(days=1)
    _partition(tmp_path, "user_activity", later, pa.array([1]))
    assert published_user_type([view], "customer_id") == pa.int64()
    assert published_cutoffs(view) == [CUTOFF, later]
    with pytest.raises(MissingStageError, match="'user_id'"):
        published_user_type([view], "user_id")


def test_a_partition_without_manifest_is_not_published(tmp_path):
    view = _partition(tmp_path, "user_activity", CUTOFF, pa.array(["1"]))
    (view / cutoff_key(CUTOFF) / "manifest.json").unlink()
    assert published_cutoffs(view) == []


def test_all_rows_have_the_published_types():
    table = _published(_rows())
    assert table.schema.field("created_timestamp").type == TIMESTAMP
    assert not pc.any(pc.is_null(table["created_timestamp"])).as_py()
