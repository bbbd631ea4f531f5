"""Published features in a Spark job, beside what Feast's own offline store answers from the same files."""

from __future__ import annotations

import math
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shop_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.data.published_views import published_views
from segmenter_plugin.errors import CutoffError, SchemaError, StoreError, UserError
from segmenter_plugin.schemas import TIMESTAMP, segment_fields
from segmenter_plugin.spark import read_features

FIRST = shop_tables.day(10, 1)
DOCUMENT = Path(__file__).parents[2] / "docs" / "spark.md"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VIEWS = ("user_embedding_g1", "user_segment_g1")
FEATURES = ["embedding", "segment_id", "segment_name", "segment_stability"]
TTL_DAYS = 2
#: View, user, hour of the event, hour of publication.
ROWS = [
    ("user_segment_g1", "a", 0, 0),
    ("user_segment_g1", "b", 0, 0),
    ("user_embedding_g1", "a", 0, 0),
    ("user_segment_g1", "a", 24, 1),
    ("user_segment_g1", "a", 24, 2),
]
PROJECT = """
project: team
provider: local
registry: {path: data/registry.db}
offline_store: {type: duckdb}
online_store: {type: sqlite, path: data/online.db}
entity_key_serialization_version: 3
"""
SCHEMA = pa.schema([("user_id", pa.string()), ("event_timestamp", TIMESTAMP), ("created_timestamp", TIMESTAMP)])
COLUMNS = {
    "user_embedding_g1": [pa.field("embedding", pa.list_(pa.float32()))],
    "user_segment_g1": segment_fields(),
}


@pytest.fixture(scope="module", params=[0, TTL_DAYS], ids=["any_age", "ttl"])
def team(request, tmp_path_factory):
    """A Feast project over an empty root; rows come and go under it."""
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.sources import published_source
    from segmenter_plugin.store.views import views_from_config

    root = tmp_path_factory.mktemp("features")
    config = shop_tables.shop_config(root, ttl_days=request.param, name_prefix="value_")
    (root / "feature_repo").mkdir()
    (root / "feature_repo" / "feature_store.yaml").write_text(PROJECT)
    store = open_store(root / "feature_repo")
    declared = views_from_config(config, source=lambda view: published_source(config, view), user_type=pa.string())
    store.apply(declared.objects(), partial=True)
    return SimpleNamespace(config=config, store=store, root=root)


def write_rows(root: Path, rows: list[tuple[str, str, int, int]]) -> None:
    """Rows of (view, user, hour of the event, hour of publication), a folder a cutoff; every third one is pushed."""
    shutil.rmtree(root / "features", ignore_errors=True)
    folders: dict[Path, list[dict]] = {}
    for number, (view, user, hour, created) in enumerate(rows):
        time = FIRST + hour * HOUR
        row = {"user_id": user, "event_timestamp": time, "created_timestamp": FIRST + created * HOUR}
        row |= {"embedding": [float(number)], "segment_id": number, "segment_name": f"name {number}"}
        row |= {"segment_stability": float(number)}
        name = "cutoff=pushed-0123456789abcdef" if number % 3 == 2 else cutoff_key(time)
        folders.setdefault(root / "features" / view / name, []).append(row)
    for folder, held in folders.items():
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        pq.write_table(
            pa.Table.from_pylist(held, schema=pa.schema([*SCHEMA, *COLUMNS[folder.parent.name]])),
            folder / "part-00000.parquet",
        )


def history(team: SimpleNamespace, asked: list[tuple[str, datetime]]) -> list[dict]:
    """What Feast answers, in order of the rows asked."""
    users, times = zip(*asked, strict=True)
    stamps = pd.to_datetime(list(times), utc=True).as_unit("us")
    entity_df = pd.DataFrame({"user_id": users, "event_timestamp": stamps, "label": range(len(asked))})
    names = [f"value_{view}:{field.name}" for view, fields in COLUMNS.items() for field in fields]
    answer = team.store.get_historical_features(entity_df, names).to_arrow(validation_reference=None)
    return [plain(row) for row in answer.sort_by("label").select(FEATURES).to_pylist()]


def plain(row: dict) -> dict:
    segment = row["segment_id"]
    embedding = None if row["embedding"] is None else list(row["embedding"])
    return {name: row[name] for name in FEATURES} | {
        "segment_id": None if segment is None or math.isnan(segment) else int(segment),
        "embedding": embedding,
    }


def entities(spark, asked):
    rows = [{"user_id": user, "event_timestamp": time, "label": n} for n, (user, time) in enumerate(asked)]
    schema = pa.schema([("user_id", pa.string()), ("event_timestamp", TIMESTAMP), ("label", pa.int64())])
    return spark.createDataFrame(pa.Table.from_pylist(rows, schema=schema))


def answer(frame, by="label"):
    return [plain(row) for row in frame.toArrow().sort_by(by).to_pylist()]


days = st.integers(0, 4).map(lambda number: 24 * number)
rows_strategy = st.lists(
    st.tuples(st.sampled_from(VIEWS), st.sampled_from("ab"), days, st.integers(0, 3)),
    min_size=8,
    max_size=20,
    unique=True,
).map(lambda rows: [*((view, "z", 0, 0) for view in VIEWS), *rows])
# At a row's own time, just before and after it, and where it has just reached its greatest age.
moments_strategy = st.tuples(days, st.sampled_from([-1, 0, 0, 1, 48, 49])).map(sum)
asked_strategy = st.lists(st.tuples(st.sampled_from("abc"), moments_strategy), min_size=8, max_size=24)


@settings(max_examples=2)
@given(rows=rows_strategy, asked=asked_strategy)
def test_rows_of_the_callers_get_what_feast_joins(spark, team, rows, asked):
    write_rows(team.root, rows)
    moments = [(user, FIRST + hour * HOUR) for user, hour in asked]
    frame = read_features(spark, team.config, VIEWS, entity_df=entities(spark, moments))
    assert frame.columns == ["user_id", "event_timestamp", "label", *FEATURES]
    assert answer(frame) == history(team, moments)


@settings(max_examples=2)
@given(rows=rows_strategy, hour=moments_strategy)
def test_as_of_a_cutoff_each_user_has_what_feast_joins(spark, team, rows, hour):
    write_rows(team.root, rows)
    cutoff = FIRST + hour * HOUR
    frame = read_features(spark, team.config, [f"value_{view}" for view in VIEWS], cutoff=cutoff)
    got = {row["user_id"]: plain(row) for row in frame.toArrow().to_pylist()}
    users = sorted({user for _, user, _, _ in rows})
    expected = dict(zip(users, history(team, [(user, cutoff) for user in users]), strict=True))
    nothing = dict.fromkeys(FEATURES)
    assert got == {user: row for user, row in expected.items() if row != nothing}


def test_later_rows_change_nothing(shop):
    cutoff = FIRST + DAY
    asked = entities(shop.spark, [(user, cutoff - hours * HOUR) for user in "ab" for hours in (0, 1, 30)])
    before = answer(read_features(shop.spark, shop.config, VIEWS, entity_df=asked))
    as_of = answer(read_features(shop.spark, shop.config, VIEWS, cutoff=cutoff), by="user_id")
    late = [
        (view, user, 24 + hours, created) for view in VIEWS for user in "abz" for hours, created in ((1, 0), (24, 9))
    ]
    write_rows(shop.root, [*ROWS, *late])
    assert answer(read_features(shop.spark, shop.config, VIEWS, entity_df=asked)) == before
    assert answer(read_features(shop.spark, shop.config, VIEWS, cutoff=cutoff), by="user_id") == as_of


@pytest.fixture
def shop(tmp_path, spark):
    """Two cutoffs; the second holds the users that changed only."""
    config = shop_tables.shop_config(tmp_path)
    write_rows(tmp_path, ROWS)
    return SimpleNamespace(config=config, root=tmp_path, spark=spark)


def test_without_times_every_row_is_there_as_published_last(shop):
    rows = read_features(shop.spark, shop.config, VIEWS).toArrow().to_pylist()
    keyed = {
        (row["user_id"], (row["event_timestamp"] - FIRST) // HOUR): (row["segment_id"], row["embedding"])
        for row in rows
    }
    assert keyed == {("a", 0): (0, [2.0]), ("b", 0): (1, None), ("a", 24): (4, None)}


def test_as_of_a_cutoff_those_who_did_not_change_keep_their_older_row(shop):
    frame = read_features(shop.spark, shop.config, ["user_segment_g1"], cutoff="2017-10-02")
    assert frame.columns == ["user_id", "event_timestamp", "segment_id", "segment_name", "segment_stability"]
    assert sorted((row["user_id"], row["segment_id"]) for row in frame.collect()) == [("a", 4), ("b", 1)]
    assert {row["event_timestamp"] for row in frame.toArrow().to_pylist()} == {FIRST + DAY}


def test_partitions_outside_the_times_are_not_opened(shop):
    for path in shop.root.glob("features/*/cutoff=20171002T000000Z/*.parquet"):
        path.write_bytes(b"not a Parquet file")
    frame = read_features(shop.spark, shop.config, VIEWS, cutoff=FIRST)
    assert sorted((row["user_id"], row["segment_id"]) for row in frame.collect()) == [("a", 0), ("b", 1)]
    asked = entities(shop.spark, [("b", FIRST + HOUR)])
    assert answer(read_features(shop.spark, shop.config, VIEWS, entity_df=asked))[0]["segment_id"] == 1


def test_a_table_is_read_like_the_folder(shop, spark):
    by_folder = sorted(read_features(spark, shop.config, ["user_segment_g1"], cutoff="2017-10-02").collect())
    spark.sql("CREATE DATABASE consumers")
    try:
        path = f"file://{shop.root}/features/user_segment_g1/*/*.parquet"
        spark.read.parquet(path).write.saveAsTable("consumers.user_segment_g1", path=f"file://{shop.root}/table")
        store = shop.config.store.model_copy(update={"offline": "spark", "table": "consumers.{view}"})
        config = shop.config.model_copy(update={"store": store})
        assert sorted(read_features(spark, config, ["user_segment_g1"], cutoff="2017-10-02").collect()) == by_folder
        with pytest.raises(StoreError, match=r"'user_embedding_g1' cannot be read from 'consumers.user_embedding_g1'"):
            read_features(spark, config, ["user_embedding_g1"])
    finally:
        spark.sql("DROP DATABASE consumers CASCADE")


def test_a_delta_table_needs_deltas_jars(shop):
    store = shop.config.store.model_copy(update={"table_format": "delta"})
    with pytest.raises(StoreError, match=r"cannot be read from '.*features_delta/user_segment_g1'") as caught:
        read_features(shop.spark, shop.config.model_copy(update={"store": store}), ["user_segment_g1"])
    assert "Delta's jars" in caught.value.hint


def test_the_users_may_be_called_as_we_call_them_and_be_narrower_numbers(spark, tmp_path):
    config = shop_tables.shop_config(tmp_path, join_key="customer")
    folder = tmp_path / "features" / "user_segment_g1" / cutoff_key(FIRST)
    folder.mkdir(parents=True)
    row = {
        "customer": [7],
        "event_timestamp": [FIRST],
        "created_timestamp": [FIRST],
        "segment_id": [3],
        "segment_name": ["x"],
        "segment_stability": [0.5],
    }
    schema = pa.schema([("customer", pa.int64()), *list(SCHEMA)[1:], *COLUMNS["user_segment_g1"]])
    pq.write_table(pa.table(row, schema=schema), folder / "part-00000.parquet")
    asked = spark.sql("SELECT CAST(7 AS INT) AS user_id, TIMESTAMP'2017-10-01T05:00:00Z' AS event_timestamp")
    got = read_features(spark, config, ["user_segment_g1"], entity_df=asked)
    assert [row.asDict()["segment_id"] for row in got.collect()] == [3]
    assert read_features(spark, config, ["user_segment_g1"]).columns[0] == "customer"
    with pytest.raises(SchemaError, match=r"users of type string in 'user_id'; the published ones are bigint"):
        read_features(spark, config, ["user_segment_g1"], entity_df=asked.selectExpr("'7' user_id", "event_timestamp"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("'a' user_id, TIMESTAMP_NTZ'2017-10-01 00:00:00' event_timestamp", "as timestamp_ntz, which names no zone"),
        ("'a' user_id, '2017-10-01' event_timestamp", "as string, which names no zone"),
        ("'a' who, current_timestamp() event_timestamp", r"lacks the columns \['user_id'\]; it has"),
        ("'a' user_id", r"lacks the columns \['event_timestamp'\]"),
        ("'a' user_id, current_timestamp() event_timestamp, 1 segment_id", r"called like features: \['segment_id'\]"),
    ],
)
def test_rows_that_cannot_be_joined_to_are_refused(shop, columns, message):
    with pytest.raises(SchemaError, match=message):
        read_features(shop.spark, shop.config, VIEWS, entity_df=shop.spark.sql(f"SELECT {columns}"))


def test_what_is_asked_wrongly_is_told(shop):
    with pytest.raises(StoreError, match=r"\['user_segment_g2'\] are not published") as caught:
        read_features(shop.spark, shop.config, ["user_segment_g2"])
    assert caught.value.hint == "did you mean 'user_segment_g1'?"
    with pytest.raises(StoreError, match="'user_activity' cannot be read") as caught:
        read_features(shop.spark, shop.config, ["user_activity"], cutoff=FIRST)
    assert "segmenter publish" in caught.value.hint
    with pytest.raises(StoreError, match="no view is named"):
        read_features(shop.spark, shop.config, [])
    with pytest.raises(UserError, match="both entity_df and cutoff"):
        read_features(shop.spark, shop.config, VIEWS, entity_df=shop.spark.range(1), cutoff=FIRST)
    naive = shop.config.model_copy(update={"events": shop.config.events.model_copy(update={"timezone": None})})
    with pytest.raises(CutoffError, match="names no zone"):
        read_features(shop.spark, naive, VIEWS, cutoff="2017-10-01")
    for path in shop.root.glob("features/user_segment_g1/*/*.parquet"):
        pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["segment_name"]), path)
    with pytest.raises(StoreError, match=r"lack the columns \['segment_name'\]"):
        read_features(shop.spark, shop.config, VIEWS)


def test_rows_beside_many_of_the_same_user_are_not_paired_up(shop):
    """As-of joins by condition alone cost rows x rows of one user; Spark shows such a join in its plan."""
    asked = entities(shop.spark, [("a", FIRST + n * HOUR) for n in range(50)])
    frame = read_features(shop.spark, shop.config, VIEWS, entity_df=asked)
    plan = frame._jdf.queryExecution().optimizedPlan().toString()
    assert "Join LeftSemi" in plan
    assert not re.search(r"Join (Inner|LeftOuter|Cross)", plan)
    assert len(frame.collect()) == 50


def test_names_and_features_are_those_that_are_declared_to_feast(team):
    from segmenter_plugin.data.feature_names import FeatureNames

    ours = published_views(team.config)
    assert tuple(ours) == FeatureNames.of(team.config).folders
    for folder, fields in ours.items():
        declared = team.store.get_feature_view(f"value_{folder}").features
        assert [field.name for field in fields] == [feature.name for feature in declared]


def test_a_row_without_a_time_of_publication_is_the_oldest(shop):
    (path,) = shop.root.glob("features/user_segment_g1/cutoff=20171002T000000Z/*.parquet")
    rows = pq.read_table(path, partitioning=None)
    row = rows.slice(0, 1)
    unstamped = row.set_column(2, row.schema.field(2), pa.nulls(1, TIMESTAMP))
    pq.write_table(unstamped.set_column(3, row.schema.field(3), pa.array([99])), path.with_name("part-00001.parquet"))
    frame = read_features(shop.spark, shop.config, ["user_segment_g1"], cutoff=FIRST + DAY)
    assert sorted((row["user_id"], row["segment_id"]) for row in frame.collect()) == [("a", 4), ("b", 1)]


def test_the_documented_example_runs(spark, tmp_path, monkeypatch):
    from segmenter_plugin.stages.publish import publish

    config = shop_tables.shop_config(tmp_path)
    users, first, second = shop_tables.users_of(4, pa.string()), shop_tables.day(10, 1), shop_tables.day(11, 1)
    for cutoff, seed in ((first, 1), (second, 2)):
        shop_tables.write_shop(config, cutoff, users=users, user_type=pa.string(), seed=seed)
    publish(config, [first, second])
    (tmp_path / "impressions").mkdir()
    asked = pa.table(
        {"user_id": [users[0]] * 3, "event_timestamp": pa.array([first - HOUR, second - HOUR, second], TIMESTAMP)}
    )
    pq.write_table(asked, tmp_path / "impressions" / "part-0.parquet")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict = {}
    exec(example.replace('"impressions"', f'"file://{tmp_path}/impressions"'), names)  # noqa: S102 - of our own page
    rows = sorted(names["training"].collect(), key=lambda row: row["event_timestamp"])
    assert [row["model_version"] for row in rows] == [None, "version-1", "version-2"]
    assert names["users"].count() == len(users)
    assert names["history"].count() == 2 * len(users)
