"""Reading the owner's files and tables as they are."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.files import local_files
from segmenter_plugin.spark.listing import remote_files
from segmenter_plugin.spark.source import read_events


def config_of(**events):
    columns = {"user_id": "u", "item_id": "i", "event_type": "t", "event_timestamp": "at"}
    return EventsConfig.model_validate({"columns": columns} | events)


def rows(frame):
    return sorted(frame.toArrow().to_pylist(), key=str)


def test_parquet_folder_with_partitions(spark, tmp_path):
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        pq.write_table(pa.table({"u": [day * 10]}), tmp_path / f"day={day}" / "x.parquet")
    assert rows(read_events(spark, config_of(path=str(tmp_path)))) == [{"u": 10, "day": 1}, {"u": 20, "day": 2}]


def test_parquet_glob(spark, tmp_path):
    for name in ("a", "b", "c"):
        pq.write_table(pa.table({"u": [name]}), tmp_path / f"{name}.parquet")
    assert rows(read_events(spark, config_of(path=str(tmp_path / "[ab].parquet")))) == [{"u": "a"}, {"u": "b"}]


def test_csv_stays_text(spark, tmp_path):
    (tmp_path / "a.csv").write_text('u,at\n007,"2024-05-01 ""noon"", UTC"\n,x\n', encoding="utf-8")
    found = rows(read_events(spark, config_of(path=str(tmp_path / "a.csv"), format="csv")))
    assert found == [{"u": "007", "at": '2024-05-01 "noon", UTC'}, {"u": None, "at": "x"}]


def test_nanoseconds_as_pandas_writes_them(spark, tmp_path):
    """Also before 1970, where dividing rounds the wrong way."""
    nanos = [1_714_564_800_123_456_789, -1]
    columns = {"at": pa.array(nanos, pa.timestamp("ns")), "in": pa.array(nanos, pa.timestamp("ns", tz="UTC"))}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    frame = read_events(spark, config_of(path=str(tmp_path / "a.parquet")))
    assert dict(frame.dtypes) == {"at": "timestamp_ntz", "in": "timestamp"}
    moments = [
        datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ]
    table = frame.toArrow()
    assert table["in"].to_pylist() == moments
    assert table["at"].to_pylist() == [moment.replace(tzinfo=None) for moment in moments]


def test_a_table(spark, tmp_path):
    pq.write_table(pa.table({"u": [1]}), tmp_path / "a.parquet")
    spark.sql(f"create table events_of_test using parquet location '{tmp_path}'")
    config = config_of(table="events_of_test")
    try:
        assert rows(read_events(spark, config)) == [{"u": 1}]
    finally:
        spark.sql("drop table events_of_test")


@pytest.mark.parametrize("kind", ["orc", "json", "xml"])
def test_any_format_of_sparks_reader(spark, tmp_path, kind):
    options = {"rowTag": "click"} if kind == "xml" else {}
    for user in ("a", "b"):
        frame = spark.createDataFrame(pa.table({"u": [user], "i": [f"x{user}"]})).coalesce(1)
        frame.write.format(kind).options(**options).mode("append").save(str(tmp_path / "lake"))
    config = config_of(path=str(tmp_path / "lake"), format=kind, options=options)
    assert local_files(config) is None
    assert [row["u"] for row in rows(read_events(spark, config).select("u"))] == ["a", "b"]
    some = config_of(path=str(tmp_path / "lake" / "part-*"), format=kind, options=options)
    assert len(remote_files(spark, some)) == 2


def test_options_reach_the_reader(spark, tmp_path):
    (tmp_path / "a.json").write_text('[\n{"u": "a"},\n{"u": "b"}\n]\n', encoding="utf-8")
    config = config_of(path=str(tmp_path / "a.json"), format="json", options={"multiLine": "true"})
    assert rows(read_events(spark, config)) == [{"u": "a"}, {"u": "b"}]


def test_a_format_that_is_not_there(spark, tmp_path):
    with pytest.raises(EventsError, match=r"as nosuch files: \[DATA_SOURCE_NOT_FOUND\] .* nosuch") as caught:
        read_events(spark, config_of(path=str(tmp_path), format="nosuch"))
    assert "spark.jars.packages" in caught.value.hint
    with pytest.raises(EventsError, match=r"as orc files: \[PATH_NOT_FOUND\] .*nowhere"):
        read_events(spark, config_of(path=str(tmp_path / "nowhere"), format="orc"))


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_file_of_another_format_is_named(spark, tmp_path, kept):
    spark.range(3000).selectExpr("uuid() u").repartition(1).write.orc(str(tmp_path / "lake"))
    spark.range(3000).selectExpr("uuid() u").repartition(1).write.mode("append").orc(str(tmp_path / "lake"))
    file = max((tmp_path / "lake").glob("*.orc"))
    config = config_of(path=str(tmp_path / "lake"), format="orc")
    assert len(remote_files(spark, config)) == 2
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    (tmp_path / "lake" / f".{file.name}.crc").unlink()
    with pytest.raises(EventsError, match=f"{file.name}"):
        remote_files(spark, config)


def test_what_cannot_be_read(spark, tmp_path):
    (tmp_path / "a.parquet").write_text("u,at\n1,2\n", encoding="utf-8")
    with pytest.raises(EventsError, match="is not a Parquet file") as caught:
        read_events(spark, config_of(path=str(tmp_path)))
    assert 'format = "csv"' in caught.value.hint
    with pytest.raises(EventsError, match="'nowhere' cannot be read as table"):
        read_events(spark, config_of(table="nowhere"))
