"""Published rows read through Feast's Spark offline store, by path and by table, beside duckdb's answer."""

from __future__ import annotations

import math
import shutil
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import LeakageError, StoreError

FEATURE_REPO = Path(__file__).parents[2] / "feature_repo"
SERVICE = "ranking_g1"
STOCK, OURS = "spark", "segmenter_plugin.store.spark_offline.PublishedSparkOfflineStore"
#: Each repository's offline store, and its keys of [store].
REPOSITORIES = {
    "duckdb": ("duckdb", {}),
    "path": (STOCK, {"offline": "spark"}),
    "table": (OURS, {"offline": "spark", "table": "lake.{view}"}),
}
DAY = timedelta(days=1)

PROJECT = """
project: team
provider: local
registry: {{path: data/registry.db, serve_features_while_materializing: true}}
offline_store: {{type: {offline}}}
online_store: {{type: sqlite, path: data/online.db}}
entity_key_serialization_version: 3
"""


@pytest.fixture(scope="module")
def shops(shop, spark, tmp_path_factory):
    """One root with two published cutoffs, and three Feast repositories that read it: by duckdb, path and table."""
    from segmenter_plugin.data.feature_names import FeatureNames
    from segmenter_plugin.stages.layout import Layout
    from segmenter_plugin.stages.publish import publish
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.sources import published_source
    from segmenter_plugin.store.views import views_from_config

    root = tmp_path_factory.mktemp("spark_offline")
    config = shop.shop_config(root)
    first, second = shop.day(10, 1), shop.day(11, 1)
    users = shop.users_of(30, pa.string())
    for cutoff, of, seed in ((first, users, 1), (second, users[:-1], 2)):
        seen = cutoff + 9 * DAY if cutoff == second else cutoff - 10 * DAY
        shop.write_shop(config, cutoff, users=of, user_type=pa.string(), trained_through=seen, seed=seed)
    publish(config, [first, second], created_at="2017-11-02T10:00:00Z")
    # Of the first cutoff two of the users are published again, later and with other values.
    correction = Layout.of(config).feature(FeatureNames().segment, first)
    _correct(correction, users[:2])
    spark.sql("CREATE DATABASE lake")
    for view in FeatureNames().folders:
        files = f"file://{Layout.of(config).features(view)}/*/*.parquet"
        spark.read.parquet(files).write.option("path", f"file://{root}/lake/{view}").saveAsTable(f"lake.{view}")
    stores = {}
    for name, (offline, section) in REPOSITORIES.items():
        repo = root / name
        repo.mkdir()
        (repo / "feature_store.yaml").write_text(PROJECT.format(offline=offline))
        own = shop.shop_config(root, **section)
        stores[name] = open_store(repo)
        source = lambda view, own=own: published_source(own, view)  # noqa: E731
        stores[name].apply(views_from_config(own, source=source, user_type=pa.string()).objects(), partial=True)
    yield SimpleNamespace(stores=stores, users=users, first=first, second=second, segments=correction)
    spark.sql("DROP DATABASE lake CASCADE")


def _correct(folder, users):
    rows = pq.read_table(data_files(folder)[0], partitioning=None)
    rows = rows.filter(pc.is_in(rows["user_id"], pa.array(users)))
    later = pc.add(rows["created_timestamp"], pa.scalar(timedelta(days=1), pa.duration("us")))
    rows = rows.set_column(
        rows.schema.get_field_index("created_timestamp"), rows.schema.field("created_timestamp"), later
    )
    named = pa.array(["corrected"] * len(users))
    rows = rows.set_column(rows.schema.get_field_index("segment_name"), rows.schema.field("segment_name"), named)
    pq.write_table(rows, folder / "part-00001.parquet")


@pytest.fixture
def moments(shops):
    """Before, at, between and after the cutoffs; the last user has left."""
    times = [shops.first - DAY, shops.first, shops.second - DAY, shops.second, shops.second + 10 * DAY]
    rows = [(user, time) for user in [*shops.users[:3], shops.users[-1], "nobody"] for time in times]
    users, stamps = zip(*rows, strict=True)
    stamped = pd.to_datetime(list(stamps), utc=True).as_unit("us")
    return pd.DataFrame({"user_id": users, "event_timestamp": stamped, "label": range(len(rows))})


def plain(frame: pd.DataFrame) -> list[dict]:
    """Rows by label, as Python values in which nothing known is None."""
    rows = pa.Table.from_pandas(frame.sort_values("label"), preserve_index=False).to_pylist()
    return [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in rows
    ]


@pytest.mark.parametrize("by", ["path", "table"])
def test_a_spark_batch_job_gets_what_duckdb_answers(shops, moments, by):
    def history(name):
        store = shops.stores[name]
        job = store.get_historical_features(moments.copy(), store.get_feature_service(SERVICE))
        frame = job.to_df()
        for column in ("event_timestamp", "trained_through"):
            frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
        return frame

    ours, theirs = history(by), history("duckdb")
    assert sorted(ours.columns) == sorted(theirs.columns)
    assert plain(ours[theirs.columns]) == plain(theirs)
    rows = plain(ours)
    assert [row["model_version"] for row in rows[:5]] == [None, "version-1", "version-1", "version-2", "version-2"]
    assert [row["model_version"] for row in rows[15:20]] == [None] + ["version-1"] * 4
    assert rows[1]["segment_name"] == "corrected" != rows[3]["segment_name"]


@pytest.mark.parametrize("by", ["path", "table"])
def test_a_training_frame_is_the_same_too(shops, moments, by):
    from segmenter_plugin.store import training_frame

    with pytest.raises(LeakageError, match="3 of 25 rows"):
        training_frame(shops.stores[by], SERVICE, moments)
    frames = [training_frame(shops.stores[name], SERVICE, moments, on_leak="null") for name in (by, "duckdb")]
    ours, theirs = frames
    assert ours["label"].tolist() == moments["label"].tolist()
    assert ours.attrs["leaking_rows"] == theirs.attrs["leaking_rows"] == 3
    assert plain(ours[theirs.columns]) == plain(theirs)
    assert ours.dtypes.astype(str).to_dict() == theirs.dtypes.astype(str).to_dict()


def test_in_another_zone_stock_is_refused_and_ours_is_right(shops, moments, spark):
    from segmenter_plugin.store import training_frame

    asked = moments[moments["event_timestamp"] < pd.Timestamp(shops.second)]
    expected = training_frame(shops.stores["duckdb"], SERVICE, asked)
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        with pytest.raises(StoreError, match="other times than were asked") as caught:
            training_frame(shops.stores["path"], SERVICE, asked)
        assert "spark.sql.session.timeZone" in caught.value.hint
        assert plain(training_frame(shops.stores["table"], SERVICE, asked)[expected.columns]) == plain(expected)
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_the_newest_rows_of_a_window_are_pulled_as_duckdb_pulls_them(shops):
    def pulled(name):
        store = shops.stores[name]
        view = store.get_feature_view("user_segment_g1")
        job = store._get_provider().offline_store.pull_latest_from_table_or_query(
            config=store.config,
            data_source=view.batch_source,
            join_key_columns=["user_id"],
            feature_name_columns=["segment_id", "segment_name"],
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
            start_date=shops.first,
            end_date=shops.first,
        )
        columns = ["user_id", "segment_id", "segment_name"]
        return job.to_arrow().select(columns).sort_by("user_id").to_pylist()

    assert pulled("table") == pulled("duckdb")
    assert [row["segment_name"] for row in pulled("table")][:2] == ["corrected"] * 2


def test_a_push_to_the_offline_store_is_refused(shops):
    from feast.data_source import PushMode

    rows = pq.read_table(data_files(shops.segments)[0], partitioning=None).to_pandas()
    with pytest.raises(StoreError, match="'user_segment_g1' cannot be written offline"):
        shops.stores["table"].push("user_segment_g1_push", rows, to=PushMode.OFFLINE)


@pytest.mark.slow
def test_the_feast_command_line_materialises_through_it(shop, tmp_path):
    from segmenter_plugin.stages.gate import gate
    from segmenter_plugin.stages.lookup import lookup
    from segmenter_plugin.stages.materialize import materialize
    from segmenter_plugin.stages.publish import publish
    from segmenter_plugin.store.repository import run_feast

    config = shop.shop_config(tmp_path, offline="spark")
    cutoff, users = shop.day(10, 1), shop.users_of(20, pa.int64())
    written = shop.write_shop(config, cutoff, users=users, user_type=pa.int64())
    publish(config, [cutoff])
    gate(config, [cutoff])
    repo = tmp_path / "feature_repo"
    shutil.copytree(FEATURE_REPO, repo, ignore=shutil.ignore_patterns("data", "__pycache__"))
    settings = yaml.safe_load((repo / "feature_store.yaml").read_text())
    settings["offline_store"] = {"type": OURS, "spark_conf": {"spark.sql.shuffle.partitions": "2"}}
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    run_feast(repo, ["apply", "--skip-source-validation"])
    materialize(config, [cutoff])
    answer = lookup(config, [*users, 1])
    assert answer["missing_users"] == [1]
    assert [row["embedding"] for row in answer["rows"][:-1]] == written["scores"]["embedding"].to_pylist()
