"""The settings that results depend on."""

import pyarrow as pa
import pyarrow.parquet as pq

from segmenter_plugin.spark.session import REQUIRED_SETTINGS, open_session


def test_an_active_session_is_used_and_set_right(spark):
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    assert open_session("another name", master="local[1]") is spark
    assert {key: spark.conf.get(key) for key in REQUIRED_SETTINGS} == REQUIRED_SETTINGS
    assert spark.sparkContext.master == "local[2]"


def test_written_times_are_microseconds_in_utc(spark, tmp_path):
    spark.sql("select timestamp '2024-05-01 12:00:00' as at").write.parquet(str(tmp_path / "out"))
    file = next((tmp_path / "out").glob("*.parquet"))
    assert pq.read_schema(file).field("at").type == pa.timestamp("us", tz="UTC")
    assert pq.read_metadata(file).row_group(0).column(0).compression == "ZSTD"


def test_nothing_is_served_on_a_port(spark):
    assert spark.sparkContext.uiWebUrl is None
