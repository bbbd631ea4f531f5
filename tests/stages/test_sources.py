"""The same events as Parquet, in other formats of Spark's reader and as a saved table make the same tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import EventsError
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout

START, DAY = datetime(2024, 3, 1, tzinfo=UTC), timedelta(days=1)
FIRST, SECOND = START + 10 * DAY, START + 12 * DAY
COLUMNS = {"user_id": "who", "item_id": "sku", "event_type": "kind", "event_timestamp": "at", "price": "paid"}


def days(first, last):
    """Rows of some days; one of the users looks like a number."""
    rows = [
        {
            "who": f"00{user}",
            "sku": f"s{(user + day) % 4}",
            "kind": "bought" if (user + day) % 3 else "seen",
            "at": START + timedelta(days=day, hours=user),
            "paid": user + day / 4,
        }
        for user in range(8)
        for day in range(first, last, 1 + user % 3)
    ]
    return pa.Table.from_pylist(rows).cast(
        pa.schema([("who", pa.string()), ("sku", pa.string()), ("kind", pa.string()),
                   ("at", pa.timestamp("us", "UTC")), ("paid", pa.float64())])
    )  # fmt: skip


def config_of(folder, root, **events):
    tree = {
        "events": {"columns": COLUMNS, "types": {"view": ["seen"], "purchase": ["bought"]}} | events,
        "windows": {"observation_days": 20, "activity_days": [1, 7], "trend_columns": ["item_id"]},
        "sequences": {"length": 8},
        "tasks": [{"name": "spend", "kind": "value", "prediction_days": 1}],
        "store": {"root": str(folder / root)},
    }
    return parse_config(tree)


def read(config, cutoff, name):
    files = data_files(getattr(Layout.of(config), name)(cutoff))
    return pa.concat_tables(pq.read_table(path) for path in files).sort_by("user_id").combine_chunks()


def check_same(config, expected, cutoff):
    for name in ("behaviour", "labels"):
        found = read(config, cutoff, name)
        assert found.num_rows == 8
        assert found.equals(read(expected, cutoff, name)), name


@pytest.fixture(scope="module")
def parquet(spark, tmp_path_factory):
    """Configuration of a finished build of plain Parquet files."""
    folder = tmp_path_factory.mktemp("parquet")
    (folder / "events").mkdir()
    for name, table in {"a": days(0, 11), "b": days(11, 13)}.items():
        pq.write_table(table, folder / "events" / f"{name}.parquet")
    config = config_of(folder, "run", path=str(folder / "events"))
    build(config, [FIRST, SECOND], spark=spark)
    return config


@pytest.mark.parametrize("kind", ["orc", pytest.param("json", marks=pytest.mark.slow)])
def test_a_format_of_sparks_reader_whole_and_by_increments(spark, parquet, tmp_path, kind):
    lake = str(tmp_path / "lake")
    config = config_of(tmp_path, "run", path=lake, format=kind)
    spark.createDataFrame(days(0, 11)).write.format(kind).save(lake)
    assert build(config, [FIRST], spark=spark)["events"]["rows"] == len(days(0, 11))
    spark.createDataFrame(days(11, 13)).write.format(kind).mode("append").save(lake)
    result = build(config, [SECOND], previous=FIRST, spark=spark)
    assert (result["events"]["status"], result["lot"]["rows"]) == ("extended", len(days(11, 13)))
    check_same(config, parquet, SECOND)
    assert build(config, [SECOND], spark=spark)["events"]["status"] == "skipped"


def test_a_saved_table(spark, parquet, tmp_path):
    spark.createDataFrame(pa.concat_tables([days(0, 11), days(11, 13)])).write.option(
        "path", str(tmp_path / "lake")
    ).format("orc").saveAsTable("clicks")
    try:
        config = config_of(tmp_path, "run", table="clicks")
        build(config, [SECOND], spark=spark)
        check_same(config, parquet, SECOND)
    finally:
        spark.sql("DROP TABLE clicks")


HIVE = """
    import json, sys
    import pyarrow.parquet as pq
    from segmenter_plugin.config import parse_config
    from segmenter_plugin.spark.session import open_session
    from segmenter_plugin.stages.build import build

    folder, files, tree = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    spark = open_session("hive", master="local[2]", settings={
        "spark.driver.memory": "1g",
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder}/metastore;create=true",
    })
    spark.sql("CREATE DATABASE shop")
    columns = "who string, sku string, at timestamp, paid double"
    spark.sql(f"CREATE TABLE shop.clicks ({columns}) PARTITIONED BY (kind string) STORED AS ORC")
    spark.conf.set("hive.exec.dynamic.partition.mode", "nonstrict")
    spark.read.parquet(files).select("who", "sku", "at", "paid", "kind").write.insertInto("shop.clicks")
    print(json.dumps(build(parse_config(tree), [sys.argv[4]])["events"]))
"""


@pytest.mark.slow
def test_a_hive_table(parquet, tmp_path):
    """Of a metastore, partitioned, in Hive's own format; the session is the one that the job has opened."""
    config = config_of(tmp_path, "run", table="shop.clicks")
    arguments = [str(tmp_path), parquet.events.path, config.model_dump_json(), SECOND.isoformat()]
    command = [sys.executable, "-c", textwrap.dedent(HIVE), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == len(days(0, 11)) + len(days(11, 13))
    check_same(config, parquet, SECOND)


def csv_lines(table):
    for row in table.to_pylist():
        yield f'{row["who"]},"{row["sku"]}",{row["kind"]},{row["at"].isoformat()},{row["paid"]}'


def csv_shop(folder, broken):
    """Two CSV files; in the second these lines lack the quote that ends a value."""
    (folder / "events").mkdir()
    lines = list(csv_lines(days(0, 13)))
    for place in broken:
        lines[40 + place] = lines[40 + place].replace('",', ",", 1)
    for name, part in {"a": lines[:40], "b": lines[40:]}.items():
        (folder / "events" / f"{name}.csv").write_text("\n".join(["who,sku,kind,at,paid", *part]) + "\n")
    return config_of(folder, "run", path=str(folder / "events"), format="csv")


def test_a_broken_quote_in_csv_refuses_its_line_alone(spark, tmp_path, caplog):
    config = csv_shop(tmp_path, broken=[1])
    with caplog.at_level("WARNING"):
        result = build(config, [SECOND], spark=spark)
    assert (sum(result["events"]["quarantined"].values()), result["events"]["kept"]) == (1, len(days(0, 13)) - 1)
    (refused,) = [
        row for path in Layout.of(config).quarantine.rglob("*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    assert days(0, 13)["who"][41].as_py() in refused["raw_row"]
    assert f"line 3 of '{tmp_path / 'events' / 'b.csv'}' has an odd number of quotes" in caplog.text


def test_many_broken_quotes_stop_the_build_and_name_the_file(spark, tmp_path):
    config = csv_shop(tmp_path, broken=range(20))
    strict = config.model_copy(update={"contract": config.contract.model_copy(update={"stop_quarantined_share": 0.05})})
    with pytest.raises(EventsError, match=r"are refused, above .*line 2 of '.*b\.csv' has an odd number of quotes"):
        build(strict, [SECOND], spark=spark)
    assert not Layout.of(config).clean_events.exists()
