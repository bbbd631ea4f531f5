"""The audit of the clocks on real Spark: of what `build` itself made, by its workers, and of rows in Spark's tables."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from functools import partial

import audit_world as world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.clock_checks import published_checks
from segmenter_plugin.data.clock_findings import Place
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.schemas import TIMESTAMP
from segmenter_plugin.spark.audit import check_spark_table
from segmenter_plugin.stages.audit import audit
from segmenter_plugin.stages.build import build
from segmenter_plugin.stages.layout import Layout

CUTOFF, DAY = datetime(2024, 3, 1, tzinfo=UTC), timedelta(days=1)
USERS, DAYS = 20, 100


def write_lot(folder, name, first, last):
    """User n is seen every n + 1 days of a range, and buys each second time."""
    rows = [
        {
            "customer": user,
            "at": datetime(2024, 1, 1, 9, tzinfo=UTC) + timedelta(days=day),
            "kind": "bought" if day // (user + 1) % 2 else "seen",
            "sku": f"s{day % 7}",
            "paid": 0.1 * (user + 1),
        }
        for user in range(USERS)
        for day in range(first, last, user + 1)
    ]
    types = {"customer": pa.int64(), "at": TIMESTAMP, "kind": pa.string(), "sku": pa.string(), "paid": pa.float64()}
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types.items())), folder / name)


def config_of(folder):
    columns = {"user_id": "customer", "item_id": "sku", "event_type": "kind", "event_timestamp": "at", "price": "paid"}
    tree = {
        "events": {
            "path": str(folder / "events"),
            "columns": columns,
            "types": {"view": ["seen"], "purchase": ["bought"]},
        },
        "windows": {"observation_days": 40, "activity_days": [7], "trend_columns": ["item_id"]},
        "sequences": {"length": 8},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 7},
            {"name": "spend", "kind": "value", "prediction_days": 60},
            {"name": "items", "kind": "multilabel", "prediction_days": 7, "gap_days": 2, "target": "item_id"},
        ],
        "store": {"root": str(folder / "run")},
    }
    return parse_config(tree)


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    """Two builds, the second from a lot that came later."""
    folder = tmp_path_factory.mktemp("built")
    write_lot(folder / "events", "a.parquet", 0, 80)
    config = config_of(folder)
    build(config, [CUTOFF - 20 * DAY, CUTOFF], spark=spark)
    write_lot(folder / "events", "b.parquet", 80, 85)
    build(config, [CUTOFF + 20 * DAY], previous=CUTOFF, spark=spark)
    return config


def test_what_build_makes_is_silent_on_either_engine_and_the_same(spark, built):
    here, there = audit(built), audit(built, engine="spark", spark=spark)
    assert (here["leaks"], here["not_compared"]) == ([], [])
    checks = {line["check"]: line for line in here["checks"]}
    assert checks["behaviour_from_log"]["tables"] == checks["labels_from_log"]["tables"] == 3
    assert checks["behaviour_from_log"]["rows"] == checks["row_time"]["rows"] / 2 > 2 * USERS
    without_engine = [{name: value for name, value in one.items() if name != "engine"} for one in (here, there)]
    assert without_engine[0] == without_engine[1]


def test_planted_leaks_are_found_on_workers(spark, built, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(built.root_path, root)
    config = built.model_copy(update={"store": built.store.model_copy(update={"root": str(root)})})
    layout = Layout.of(config)
    behaviour, labels = data_files(layout.behaviour(CUTOFF))[0], data_files(layout.labels(CUTOFF))[0]
    world.rewrite(behaviour, lambda rows: world.set_value(rows, "purchase_count_40d", 0, lambda count: count + 1))
    world.rewrite(labels, lambda rows: world.set_value(rows, "purchase_7d_label", 0, lambda label: not label))
    found = audit(config, engine="spark", spark=spark)["leaks"]
    assert {(one["check"], one["table"].split("/")[0], one["rows"]) for one in found} == {
        ("behaviour_from_log", "behaviour", 1),
        ("labels_from_log", "labels", 1),
    }
    assert all(one["user"] in range(USERS) for one in found)


def test_rows_in_a_table_of_spark_are_checked_where_they_lie(spark):
    rows = [(number, CUTOFF, CUTOFF + DAY, 1.0) for number in range(30)]
    rows += [(30, CUTOFF, CUTOFF - DAY, 1.0), (31, CUTOFF, None, 1.0), (0, *rows[0][1:])]
    schema = "client long, event_timestamp timestamp, created_timestamp timestamp, score double"
    spark.createDataFrame(rows, schema).createOrReplaceTempView("features_of_clients")
    key, place = ["client", "event_timestamp", "created_timestamp"], Place("features_of_clients", None, "client")
    checks = partial(published_checks, known={}, pushed=False)
    found = {one.check: one for one in check_spark_table(spark, "features_of_clients", key, place, checks)}
    assert {name: one.rows for name, one in found.items()} == dict.fromkeys(
        ["row_time", "created_after_event", "one_row_a_user"], len(rows)
    )
    assert [sum(finding.rows for finding in one.findings) for one in found.values()] == [0, 2, 2]
    assert found["one_row_a_user"].findings[0].user == 0
