"""What the Arrow engine takes on, and why it leaves the rest."""

from datetime import timedelta

import pyarrow as pa
import pytest
from engine_world import DAY, NOON, USER, MemoryOnlineStore, config_of, rows_of, source_of, task_of, view_of, write
from feast import BatchFeatureView, Entity, FeatureView, Field, PushSource, ValueType
from feast.data_format import DeltaFormat, ParquetFormat
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.infra.offline_stores.dask import DaskOfflineStore
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.types import Float32, Int64, Json, String

from segmenter_plugin.store import coverage
from segmenter_plugin.store.coverage import NotCovered, latest_rows
from segmenter_plugin.store.latest import LatestOfFiles

TIMES = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}


@pytest.fixture
def source(tmp_path):
    write(tmp_path / "rows.parquet", rows_of(["a", "b"], [NOON, NOON]))
    return source_of("rows.parquet")


def opened(folder, view, *, offline=None, online=None, task=None, **config):
    task = task_of(view) if task is None else task
    online = MemoryOnlineStore() if online is None else online
    return latest_rows(task, config_of(folder, **config), offline or DuckDBOfflineStore(), online)


def refusal(*args, **options):
    with pytest.raises(NotCovered) as caught:
        opened(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("offline", [DuckDBOfflineStore, DaskOfflineStore])
@pytest.mark.parametrize("file_format", [None, ParquetFormat()])
def test_parquet_files_are_taken_on(tmp_path, source, offline, file_format):
    view = view_of(source_of("rows.parquet", file_format=file_format))
    assert isinstance(opened(tmp_path, view, offline=offline()), LatestOfFiles)


def test_a_view_that_is_pushed_to_is_read_from_its_batch_source(tmp_path, source):
    rows = opened(tmp_path, view_of(PushSource(name="push", batch_source=source)))
    assert rows.choose(lambda _: None) == 2


def test_other_stores_are_left(tmp_path, source):
    view = view_of(source)
    assert "SqliteOnlineStore takes no Arrow rows" in refusal(tmp_path, view, online=SqliteOnlineStore())
    assert "neither DuckDB nor Dask" in refusal(tmp_path, view, offline=object())
    vectors = {"type": "sqlite", "path": "online.db", "vector_enabled": True}
    assert "vector_enabled" in refusal(tmp_path, view, online_store=vectors)


@pytest.mark.parametrize(("version", "taken"), [("0.67.0", True), ("0.67.3", True), ("0.68.0", False), ("1.0", False)])
def test_other_versions_of_feast_are_left(tmp_path, source, monkeypatch, version, taken):
    monkeypatch.setattr(coverage, "get_version", lambda: version)
    if taken:
        opened(tmp_path, view_of(source))
    else:
        assert f"Feast {version}" in refusal(tmp_path, view_of(source))


def test_other_views_are_left(tmp_path, source):
    schema = [Field(name="user_id", dtype=String), Field(name="name", dtype=String)]
    batch = BatchFeatureView(name="taste", entities=[USER], schema=schema, source=source, udf=lambda df: df)
    assert "BatchFeatureView" in refusal(tmp_path, batch)
    assert "no entity" in refusal(tmp_path, FeatureView(name="all", schema=schema[1:], source=source))
    assert "enable_validation" in refusal(tmp_path, view_of(source, enable_validation=True))
    assert "online=False" in refusal(tmp_path, view_of(source, online=False))
    assert "offline=True" in refusal(tmp_path, view_of(source, offline=True))
    derived = FeatureView(name="derived", entities=[USER], schema=schema, source=view_of(source), sink_source=source)
    assert "source_views" in refusal(tmp_path, derived)


@pytest.mark.parametrize("option", [{"only_latest": False}, {"disable_event_timestamp": True}])
def test_other_tasks_are_left(tmp_path, source, option):
    view = view_of(source)
    assert "more than the newest rows" in refusal(tmp_path, view, task=task_of(view, **option))


def test_other_sources_are_left(tmp_path, source):
    spark = view_of(SparkSource(name="rows", path="rows.parquet", file_format="parquet", **TIMES))
    assert "cannot stream a SparkSource" in refusal(tmp_path, spark, offline=DaskOfflineStore())
    delta = view_of(source_of("rows", file_format=DeltaFormat()))
    assert "cannot stream a FileSource" in refusal(tmp_path, delta, offline=DaskOfflineStore())
    assert "no file matches 'none/*.parquet'" in refusal(tmp_path, view_of(source_of("none/*.parquet")))


def test_columns_that_are_lacking_or_of_other_types_are_left(tmp_path):
    table = rows_of(["a"], [NOON], visits=pa.array(["three"]), day=pa.array([NOON.date()]))
    write(tmp_path / "rows.parquet", table)
    source, key = source_of("rows.parquet"), Field(name="user_id", dtype=String)

    def view(*fields, **options):
        return view_of(source_of("rows.parquet", **options), schema=[key, *fields])

    assert "no column gone" in refusal(tmp_path, view(Field(name="gone", dtype=Int64)))
    text = view(Field(name="visits", dtype=Int64))
    assert "visits is string in the source and INT64 in the view" in refusal(tmp_path, text)
    assert "JSON" in refusal(tmp_path, view(Field(name="visits", dtype=Json)))
    date = view(Field(name="name", dtype=String), timestamp_field="day")
    assert "day is date32[day], not a timestamp" in refusal(tmp_path, date)
    whole = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    assert "user_id is string" in refusal(tmp_path, view_of(source, entity=whole))


def test_a_source_by_query_is_streamed_from_duckdb(tmp_path, source):
    class Queried(DuckDBOfflineStore):
        """Reads what a source of another class points to."""

        @staticmethod
        def pull_latest_from_table_or_query(config, data_source, **columns):  # noqa: ARG004
            return DuckDBOfflineStore.pull_latest_from_table_or_query(
                config=config, data_source=source_of(tmp_path / "rows.parquet"), **columns
            )

    view = view_of(source_of("rows", file_format=DeltaFormat()))
    rows = opened(tmp_path, view, offline=Queried(), task=task_of(view, NOON - DAY, NOON))
    assert sum(batch.num_rows for batch in rows.batches(10)) == 2  # in as many batches as DuckDB has threads
    later = task_of(view, NOON + timedelta(microseconds=1), NOON + DAY)
    assert list(opened(tmp_path, view, offline=Queried(), task=later).batches(10)) == []


def test_a_numeric_feature_is_taken_in_any_width_that_fits(tmp_path):
    write(tmp_path / "rows.parquet", rows_of(["a"], [NOON], score=pa.array([0.5], pa.float64())))
    fields = [Field(name="user_id", dtype=String), Field(name="score", dtype=Float32)]
    assert opened(tmp_path, view_of(source_of("rows.parquet"), schema=fields)).choose(lambda _: None) == 1
