"""Pushes into the published folders: what is written, who reads it, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.types import Float32, Int64, String

from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import StoreError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish
from segmenter_plugin.store import training_frame
from segmenter_plugin.store.publish import published_cutoffs
from segmenter_plugin.store.repository import open_store
from segmenter_plugin.store.views import views_from_config

OFFLINE = "segmenter_plugin.store.offline.PublishedDuckDBOfflineStore"
PROJECT = """
project: team
provider: local
registry: {{path: data/registry.db, serve_features_while_materializing: true}}
offline_store: {{type: {offline}}}
online_store: {{type: sqlite, path: data/online.db}}
entity_key_serialization_version: 3
"""


@pytest.fixture
def repo(tmp_path, shop):
    """Ten users published as of 1 October, declared in a project whose offline store is ours."""
    config = shop.shop_config(tmp_path)
    folder = tmp_path / "feature_repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(PROJECT.format(offline=OFFLINE))
    cutoff, users = shop.day(10, 1), shop.users_of(10, pa.string())
    shop.write_shop(config, cutoff, users=users, user_type=pa.string())
    publish(config, [cutoff])

    def source(view):
        return FileSource(
            name=f"{view}_files",
            path=f"../features/{view}/*/*.parquet",
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )

    store = open_store(folder)
    store.apply(views_from_config(config, source=source, user_type=pa.string()).objects(), partial=True)
    return SimpleNamespace(store=store, config=config, users=users, cutoff=cutoff, folder=folder)


def _segments(shop, users, time, created=None, **columns):
    count = len(users)
    frame = {
        "user_id": users,
        "event_timestamp": pd.to_datetime([time] * count, utc=True),
        "created_timestamp": pd.to_datetime([created] * count, utc=True),
        "segment_id": [7] * count,
        "segment_name": ["pushed"] * count,
        "segment_stability": [0.5] * count,
        "model_version": ["by hand"] * count,
        "trained_through": pd.to_datetime([shop.day(9, 1)] * count, utc=True),
    }
    return pd.DataFrame(frame | columns)


def _push(repo, rows, to=PushMode.OFFLINE, view="user_segment_g1"):
    repo.store.push(f"{view}_push", rows, to=to)


def _partitions(repo, view="user_segment_g1"):
    return sorted(path.name for path in Layout.of(repo.config).features(view).glob("cutoff=*"))


def _stored(repo, name, view="user_segment_g1"):
    (path,) = data_files(Layout.of(repo.config).features(view) / name)
    return pq.read_table(path)


@pytest.fixture
def in_repo(repo, monkeypatch):
    """Feast's DuckDB store reads a relative path from the working directory."""
    monkeypatch.chdir(repo.folder)
    return repo


def test_a_push_is_a_partition_beside_the_published_ones_and_history_reads_it(in_repo, shop):
    before = {path: path.stat().st_mtime_ns for path in in_repo.config.root_path.glob("features/*/*/*.parquet")}
    _push(in_repo, _segments(shop, in_repo.users[:3], shop.day(10, 5), created=shop.day(10, 6)))
    published, pushed = _partitions(in_repo)
    assert pushed.startswith("cutoff=pushed-")
    rows, theirs = _stored(in_repo, pushed), _stored(in_repo, published)
    assert rows.schema.equals(theirs.schema)
    assert rows.num_rows == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    moments = pd.DataFrame(
        {"user_id": in_repo.users[:4], "event_timestamp": pd.to_datetime([shop.day(10, 7)] * 4, utc=True)}
    )
    frame = training_frame(in_repo.store, "ranking_g1", moments)
    assert frame["segment_name"].tolist()[:3] == ["pushed"] * 3
    assert frame["segment_name"][3] != "pushed"
    earlier = training_frame(in_repo.store, "ranking_g1", moments.assign(event_timestamp=pd.Timestamp(shop.day(10, 4))))
    assert "pushed" not in set(earlier["segment_name"])


def test_nobody_takes_it_for_a_published_cutoff(in_repo, shop):
    _push(in_repo, _segments(shop, in_repo.users, shop.day(10, 5)))
    assert published_cutoffs(Layout.of(in_repo.config).features("user_segment_g1")) == [in_repo.cutoff]


def test_the_same_rows_again_write_nothing_and_other_rows_do(in_repo, shop):
    rows = _segments(shop, in_repo.users, shop.day(10, 5))
    _push(in_repo, rows)
    first = _stored(in_repo, _partitions(in_repo)[1])
    _push(in_repo, rows)
    assert len(_partitions(in_repo)) == 2
    # Not written again: a later stamp would say that they were corrected.
    assert _stored(in_repo, _partitions(in_repo)[1]).equals(first)
    _push(in_repo, rows.assign(segment_id=8))
    _push(in_repo, rows.assign(created_timestamp=pd.Timestamp(shop.day(12, 1))))
    assert len(_partitions(in_repo)) == 4
    assert not list(Layout.of(in_repo.config).features("user_segment_g1").glob(".staging/*"))
    assert first["created_timestamp"].null_count == 0
    assert len(first["created_timestamp"].unique()) == 1


def test_a_correction_counts_from_its_created_timestamp_on(in_repo, shop):
    time = shop.day(10, 5)
    _push(in_repo, _segments(shop, in_repo.users, time, created=shop.day(10, 6)))
    _push(in_repo, _segments(shop, in_repo.users, time, created=shop.day(10, 7), segment_id=[8] * 10))
    moments = pd.DataFrame({"user_id": in_repo.users, "event_timestamp": pd.to_datetime([time] * 10, utc=True)})
    assert set(training_frame(in_repo.store, "ranking_g1", moments)["segment_id"]) == {8}


def test_online_and_offline_take_the_same_rows(in_repo, shop):
    rows = _segments(shop, ["newcomer"], shop.day(10, 5), created=shop.day(10, 6))
    _push(in_repo, rows, to=PushMode.ONLINE_AND_OFFLINE)
    answer = in_repo.store.get_online_features(
        features=["user_segment_g1:segment_id"], entity_rows=[{"user_id": "newcomer"}]
    ).to_dict()
    assert answer["segment_id"] == [7]
    assert len(_partitions(in_repo)) == 2


def test_embeddings_are_kept_to_the_last_bit(in_repo, shop):
    vectors = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    rows = _segments(shop, in_repo.users[:2], shop.day(10, 5)).drop(
        columns=["segment_id", "segment_name", "segment_stability"]
    )
    rows["embedding"] = list(vectors)
    rows.index = [5, 9]
    _push(in_repo, rows, view="user_embedding_g1")
    pushed = _stored(in_repo, _partitions(in_repo, "user_embedding_g1")[1], "user_embedding_g1")
    assert pushed["embedding"].type == pa.list_(pa.float32())
    np.testing.assert_array_equal(np.stack(pushed["embedding"].to_pylist()), vectors)


def test_a_column_too_few_is_told_by_feast(in_repo, shop):
    rows = _segments(shop, in_repo.users, shop.day(10, 5)).drop(columns=["segment_name"])
    with pytest.raises(ValueError, match="missing_expected_columns: \\['segment_name'\\]"):
        _push(in_repo, rows)


def test_before_anything_is_published_it_says_so(in_repo, shop):
    folder = Layout.of(in_repo.config).features("user_segment_g1")
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(StoreError, match="no file matches") as caught:
        _push(in_repo, _segments(shop, in_repo.users, shop.day(10, 5)))
    assert "segmenter publish" in caught.value.hint


def _other_source(path):
    return FileSource(name="other_files", path=str(path), timestamp_field="at", field_mapping={"colour_code": "colour"})


def _declare_other(store, path):
    shopper = Entity(name="shopper", join_keys=["shopper_id"], value_type=ValueType.INT64)
    push = PushSource(name="other_push", batch_source=_other_source(path))
    schema = [Field(name="shopper_id", dtype=Int64), Field(name="colour", dtype=String), Field(name="x", dtype=Float32)]
    store.apply(
        [shopper, push, FeatureView(name="other", entities=[shopper], schema=schema, source=push)], partial=True
    )


def _other_table(repo, path):
    time = pa.array([repo.cutoff], pa.timestamp("us", "UTC"))
    table = pa.table({"shopper_id": [1], "at": time, "colour_code": ["red"], "x": pa.array([1.0], pa.float32())})
    path.parent.mkdir(parents=True)
    pq.write_table(table, path)
    return table


def test_a_teams_own_source_with_renamed_columns_is_pushed_into_too(repo, tmp_path):
    table = _other_table(repo, tmp_path / "other" / "day=1" / "a.parquet")
    _declare_other(repo.store, tmp_path / "other" / "*" / "*.parquet")
    repo.store.push("other_push", table.to_pandas().assign(shopper_id=2, x=np.nan), to=PushMode.OFFLINE)
    (written,) = (tmp_path / "other").glob("cutoff=pushed-*/*.parquet")
    assert pq.read_table(written).select(["shopper_id", "colour_code"]).to_pylist() == [
        {"shopper_id": 2, "colour_code": "red"}
    ]


def test_a_single_file_is_written_as_stock_does(repo, tmp_path):
    path = tmp_path / "other" / "all.parquet"
    table = _other_table(repo, path).rename_columns({"colour_code": "colour"})
    pq.write_table(table, path)
    shopper = Entity(name="shopper", join_keys=["shopper_id"], value_type=ValueType.INT64)
    push = PushSource(name="single_push", batch_source=FileSource(name="single", path=str(path), timestamp_field="at"))
    schema = [Field(name="shopper_id", dtype=Int64), Field(name="colour", dtype=String)]
    view = FeatureView(name="single", entities=[shopper], schema=schema, source=push)
    repo.store.apply([shopper, push, view], partial=True)
    repo.store.push("single_push", table.to_pandas().assign(shopper_id=2), to=PushMode.OFFLINE)
    assert sorted(pq.read_table(path)["shopper_id"].to_pylist()) == [1, 2]


@pytest.mark.parametrize("pattern", ["other/*.parquet", "*/day=1/*.parquet"])
def test_a_glob_of_another_shape_is_refused(repo, tmp_path, pattern):
    table = _other_table(repo, tmp_path / "other" / "day=1" / "a.parquet")
    _declare_other(repo.store, tmp_path / pattern)
    with pytest.raises(StoreError, match="can be pushed into") as caught:
        repo.store.push("other_push", table.to_pandas(), to=PushMode.OFFLINE)
    assert "online" in caught.value.hint


def test_stock_duckdb_cannot_push_into_a_glob(repo, shop):
    yaml = repo.folder / "feature_store.yaml"
    yaml.write_text(PROJECT.format(offline="duckdb"))
    with pytest.raises(FileNotFoundError):
        open_store(repo.folder).push(
            "user_segment_g1_push", _segments(shop, repo.users, shop.day(10, 5)), to=PushMode.OFFLINE
        )
