"""Which source a configuration gives, and where Spark finds its rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from feast import Field, FileSource, RequestSource
from feast.data_format import DeltaFormat
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Int64

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.store.sources import published_source, rows_location

VIEW = "user_scores_g1"


def test_duckdb_reads_the_published_files(shop, tmp_path):
    config = shop.shop_config(tmp_path, name_prefix="value_")
    source = published_source(config, VIEW)
    assert isinstance(source, FileSource)
    assert source.name == "value_user_scores_g1_source"
    assert source.path == str(Layout.of(config).features(VIEW) / "*" / "*.parquet")
    assert (source.timestamp_field, source.created_timestamp_column) == ("event_timestamp", "created_timestamp")


def test_duckdb_reads_delta_tables_beside_them(shop, tmp_path):
    config = shop.shop_config(tmp_path, table_format="delta")
    source = published_source(config, VIEW)
    assert isinstance(source.file_format, DeltaFormat)
    assert source.path == str(tmp_path / "features_delta" / VIEW)
    assert not Path(source.path).is_relative_to(tmp_path / "features")


def test_spark_reads_the_same_files(shop, tmp_path, recwarn):
    config = shop.shop_config(tmp_path, offline="spark")
    source = published_source(config, VIEW)
    assert isinstance(source, SparkSource)
    assert source.path == f"file://{Layout.of(config).features(VIEW)}/*/*.parquet"
    assert (source.timestamp_field, source.created_timestamp_column) == ("event_timestamp", "created_timestamp")
    assert not recwarn.list


def test_spark_reads_a_table_of_each_view(shop, tmp_path):
    config = shop.shop_config(tmp_path, offline="spark", table="lake.shop_{view}")
    source = published_source(config, VIEW)
    assert source.table == "lake.shop_user_scores_g1"
    assert not source.path
    assert source.name == "user_scores_g1_source"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ({"table": "lake.{view}"}, 'needs offline = "spark"'),
        ({"offline": "spark", "table": "lake.scores"}, r"must hold \{view\} once"),
        ({"offline": "spark", "table": "{view}.{view}"}, r"must hold \{view\} once"),
        ({"offline": "dask"}, "duckdb"),
        ({"offline": "spark", "table_format": "delta"}, 'table_format = "delta" needs offline = "duckdb"'),
        ({"table_format": "iceberg"}, "delta"),
    ],
)
def test_a_section_that_contradicts_itself_is_told(shop, tmp_path, store, message):
    with pytest.raises(ConfigError, match=message):
        shop.shop_config(tmp_path, **store)


def test_the_same_rows_are_found_through_either_source(shop, tmp_path):
    locations = [
        rows_location(published_source(shop.shop_config(tmp_path, offline=offline), VIEW), None)
        for offline in ("duckdb", "spark")
    ]
    assert (
        locations[0]
        == locations[1]
        == {"path": f"file://{tmp_path}/features/{VIEW}/*/*.parquet", "file_format": "parquet"}
    )


def test_sources_of_somebody_else_are_found():
    repo = Path("/repo")
    named = {"name": "s", "timestamp_field": "at"}
    assert rows_location(FileSource(path="data/a.parquet", **named), repo)["path"] == "file:///repo/data/a.parquet"
    assert rows_location(FileSource(path="s3://lake/a.parquet", **named), repo)["path"] == "s3://lake/a.parquet"
    assert rows_location(SparkSource(table="lake.a", **named), repo) == {"table": "lake.a"}
    by_query = SparkSource(query="SELECT 1", path="hdfs://a", file_format="parquet", **named)
    assert rows_location(by_query, repo) == {"query": "SELECT 1"}
    orc = SparkSource(path="hdfs://a", file_format="avro", **named)
    assert rows_location(orc, repo) == {"path": "hdfs://a", "file_format": "avro"}


@pytest.mark.parametrize(
    "source",
    [
        FileSource(name="odd", path="data/a", file_format=DeltaFormat(), timestamp_field="at"),
        RequestSource(name="odd", schema=[Field(name="at", dtype=Int64)]),
    ],
    ids=["delta", "request"],
)
def test_a_source_that_spark_does_not_read_is_told(source):
    with pytest.raises(ConfigError, match=f"'odd' is a {type(source).__name__}"):
        rows_location(source, None)
