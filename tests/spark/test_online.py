"""What the executors' writers get: each user's newest row of the window, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.errors import StoreError
from segmenter_plugin.spark.online import arrow_schema, newest_rows, read_rows, write_partitions

DAY = datetime(2024, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [("who", pa.string()), ("event_timestamp", TIME), ("created", TIME), ("vector", pa.list_(pa.float32()))]
)
COLUMNS = {"user": "who", "embedding": "vector", "event_timestamp": "event_timestamp", "created_timestamp": "created"}
TIMES = ["event_timestamp", "created_timestamp"]


def newest(frame, first=0, last=9):
    window = (DAY + timedelta(hours=first), DAY + timedelta(hours=last))
    return newest_rows(frame, COLUMNS, keys=["user"], times=TIMES, window=window)


def rows_of(entries):
    """A table from (user, hour of the event, hour of creation or None); the vector tells rows apart."""
    hour = lambda number: None if number is None else DAY + timedelta(hours=number)  # noqa: E731
    rows = [
        {"who": who, "event_timestamp": hour(event), "created": hour(created), "vector": [float(number)]}
        for number, (who, event, created) in enumerate(entries)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


entries = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.none() | st.integers(0, 3)), min_size=1, max_size=12
)


@settings(max_examples=8)
@given(entries, st.integers(0, 4))
def test_each_user_has_the_newest_row_of_the_window(spark, entries, first):
    answer = newest(spark.createDataFrame(rows_of(entries)).repartition(3), first, 3).toArrow().to_pylist()
    best = {}
    for who, event, created in entries:
        if first <= event <= 3:
            best[who] = max(best.get(who, (0, -1)), (event, -1 if created is None else created))
    assert {row["user"]: age(row) for row in answer} == best
    assert len(answer) == len(best)
    for row in answer:
        who, event, created = entries[int(row["embedding"][0])]
        assert (who, event, created) == (row["user"], age(row)[0], None if age(row)[1] == -1 else age(row)[1])


def age(row):
    hours = [None if row[name] is None else (row[name] - DAY) // timedelta(hours=1) for name in TIMES]
    return hours[0], -1 if hours[1] is None else hours[1]


def test_the_schema_told_is_the_one_that_tasks_get(spark):
    frame = newest(spark.createDataFrame(rows_of([("a", 1, 1)])))

    def seen(batches):
        for batch in batches:
            yield pa.record_batch([pa.array([str(field.type)]) for field in batch.schema], names=batch.schema.names)

    got = frame.mapInArrow(seen, ", ".join(f"{name} string" for name in COLUMNS)).collect()[0].asDict()
    assert got == {field.name: str(field.type) for field in arrow_schema(frame)}
    assert got["event_timestamp"] == "timestamp[us, tz=UTC]"


def test_times_without_a_zone_are_meant_in_utc(spark, tmp_path):
    rows = rows_of([("a", 1, 1), ("b", 7, 7)])
    naive = pa.schema([field.with_type(pa.timestamp("us")) if field.type == TIME else field for field in SCHEMA])
    pq.write_table(rows.cast(naive), tmp_path / "rows.parquet")
    answer = newest(read_rows(spark, path=f"file://{tmp_path}/*.parquet"), last=5)
    assert arrow_schema(answer).field("event_timestamp").type == TIME
    assert [row["event_timestamp"] for row in answer.toArrow().to_pylist()] == [DAY + timedelta(hours=1)]


def test_files_a_table_and_a_query_hold_the_same_rows(spark, tmp_path):
    rows = rows_of([("a", 1, 1), ("b", 2, 2)])
    for cutoff, part in (("cutoff=1", rows.slice(0, 1).drop_columns(["vector"])), ("cutoff=2", rows.slice(1))):
        (tmp_path / cutoff).mkdir()
        (tmp_path / cutoff / "manifest.json").write_text("{}")
        pq.write_table(part, tmp_path / cutoff / "part-00000.parquet")
    files = read_rows(spark, path=f"file://{tmp_path}/*/*.parquet")
    assert [row["embedding"] for row in newest(files).sort("user").toArrow().to_pylist()] == [None, [1.0]]
    files.createOrReplaceTempView("read_rows_view")
    by_table = read_rows(spark, table="read_rows_view")
    by_query = read_rows(spark, query="SELECT * FROM read_rows_view")
    assert sorted(by_table.collect()) == sorted(by_query.collect()) == sorted(files.collect())


def test_what_is_not_there_is_told(spark, tmp_path):
    with pytest.raises(StoreError, match=r"cannot be read from 'lake.nothing'"):
        read_rows(spark, table="lake.nothing")
    with pytest.raises(StoreError, match="cannot be read from 'file:") as caught:
        read_rows(spark, path=f"file://{tmp_path}/*/*.parquet")
    assert "segmenter publish" in caught.value.hint
    frame = spark.createDataFrame(rows_of([("a", 1, 1)])).drop("vector")
    with pytest.raises(StoreError, match=r"lack the columns \['vector'\]"):
        newest(frame)


def test_counts_of_all_tasks_are_summed(spark):
    def count(batches):
        rows = sum(batch.num_rows for batch in batches)
        yield pa.record_batch([pa.array([rows]), pa.array([1])], names=["rows", "tasks"])

    frame = spark.range(100).repartition(5)
    assert write_partitions(frame, count, ["rows", "tasks"]) == {"rows": 100, "tasks": 5}


def test_the_reason_of_a_failed_task_is_told(spark):
    def fail(batches):
        from segmenter_plugin.errors import StoreError

        yield from ()
        raise StoreError("the store is full: maxmemory 1mb", hint="give it more.")

    with pytest.raises(StoreError, match=r"could not write its rows online: the store is full: max"):
        write_partitions(spark.range(3), fail, ["rows"])
