"""What tells whether events that lie elsewhere have changed, and the rows of some of their files."""

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.config import parse_config
from segmenter_plugin.spark.listing import remote_files, rows_of_files, size_of


def config_of(table):
    columns = {"user_id": "u", "item_id": "i", "event_timestamp": "at"}
    return parse_config({"events": {"table": table, "constant_event_type": "purchase", "columns": columns}}).events


def test_files_of_a_table(spark, tmp_path):
    pq.write_table(pa.table({"u": [1]}), tmp_path / "a.parquet")
    spark.sql(f"create table listed_events using parquet location '{tmp_path}'")
    config = config_of("listed_events")
    try:
        before = remote_files(spark, config)
        assert [path.rpartition("/")[2] for path in before] == ["a.parquet"]
        assert before == remote_files(spark, config)
        assert size_of(before) == (tmp_path / "a.parquet").stat().st_size
        pq.write_table(pa.table({"u": [2, 3]}), tmp_path / "b.parquet")
        spark.catalog.refreshTable("listed_events")
        after = remote_files(spark, config)
        new = after.keys() - before.keys()
        assert len(new) == 1
        assert {path: after[path] for path in before} == before
        assert sorted(row["u"] for row in rows_of_files(spark, config, new).collect()) == [2, 3]
    finally:
        spark.sql("drop table listed_events")


def test_a_source_without_files_does_not_tell(spark):
    spark.range(3).createOrReplaceTempView("numbers_listed")
    assert remote_files(spark, config_of("numbers_listed")) is None
