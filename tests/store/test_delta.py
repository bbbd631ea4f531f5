"""Published rows as Delta tables: one commit a publish, one snapshot a reader, and Feast reads them."""

from __future__ import annotations

import shutil
import sys
import threading
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.data_source import PushMode

from segmenter_plugin.data.partition import is_current, read_manifest
from segmenter_plugin.errors import ConcurrentRunError, StoreError
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.publish import publish
from segmenter_plugin.stages.tables import tables
from segmenter_plugin.storage import published_table
from segmenter_plugin.store import files, online_table, training_frame
from segmenter_plugin.store.delta import delta_files, new_delta_partition
from segmenter_plugin.store.publish import published_cutoffs, published_user_type
from segmenter_plugin.store.repository import open_store
from segmenter_plugin.store.sources import published_source
from segmenter_plugin.store.views import views_from_config

deltalake = pytest.importorskip("deltalake")

PROJECT = """
project: team
provider: local
registry: {path: data/registry.db, serve_features_while_materializing: true}
offline_store: {type: segmenter_plugin.store.offline.PublishedDuckDBOfflineStore}
online_store: {type: segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore, path: data/online.db}
batch_engine: {type: segmenter_plugin.store.engine.ArrowComputeEngine}
entity_key_serialization_version: 3
"""
VIEW = "user_segment_g1"


@pytest.fixture
def repo(tmp_path, shop):
    """Two cutoffs of ten users published as Delta tables, declared in a project with our stores."""
    config = shop.shop_config(tmp_path, table_format="delta")
    folder = tmp_path / "feature_repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(PROJECT)
    users, cutoffs = shop.users_of(10, pa.string()), [shop.day(10, 1), shop.day(11, 1)]
    for seed, cutoff in enumerate(cutoffs):
        shop.write_shop(config, cutoff, users=users, user_type=pa.string(), seed=seed)
    publish(config, cutoffs, created_at="2017-11-02T00:00:00Z")
    store = open_store(folder)
    declared = views_from_config(config, source=lambda view: published_source(config, view), user_type=pa.string())
    store.apply(declared.objects(), partial=True)
    return SimpleNamespace(store=store, config=config, users=users, cutoffs=cutoffs, layout=Layout.of(config))


def _table(config, view=VIEW):
    return deltalake.DeltaTable(str(published_table(config.root_path, view)))


def _rows(paths):
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths]).to_pandas()


def _moments(repo, shop):
    times = [shop.day(9, 1), shop.day(10, 15), shop.day(11, 15)]
    return pd.DataFrame(
        {
            "user_id": [user for user in repo.users for _ in times],
            "event_timestamp": pd.to_datetime(times * len(repo.users), utc=True),
        }
    )


def _correct(repo, shop, seed=7):
    shop.write_shop(repo.config, repo.cutoffs[0], users=repo.users, user_type=pa.string(), seed=seed)
    return publish(repo.config, repo.cutoffs, created_at="2017-11-03T00:00:00Z")


def test_history_is_as_from_plain_files(repo, shop, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    config = shop.shop_config(plain)
    for name in ("behaviour", "scores", "segments"):
        shutil.copytree(tmp_path / name, plain / name)
    publish(config, repo.cutoffs, created_at="2017-11-02T00:00:00Z")
    (plain / "feature_repo").mkdir()
    (plain / "feature_repo" / "feature_store.yaml").write_text(PROJECT)
    store = open_store(plain / "feature_repo")
    declared = views_from_config(config, source=lambda view: published_source(config, view), user_type=pa.string())
    store.apply(declared.objects(), partial=True)
    frames = [training_frame(each, "ranking_g1", _moments(repo, shop)) for each in (repo.store, store)]
    keys = ["user_id", "event_timestamp"]
    frames = [frame.sort_values(keys).reset_index(drop=True)[sorted(frame.columns)] for frame in frames]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert frames[0]["segment_name"].isna().sum() == len(repo.users)


def test_rows_go_online_from_one_snapshot(repo, monkeypatch):
    taken = []
    monkeypatch.setattr(files, "delta_files", lambda table: taken.append(table) or delta_files(table))
    repo.store.materialize(*repo.cutoffs)
    # Our engine reads each table once; Feast's own would have gone through the offline store.
    assert len(taken) == len(set(taken)) == 4
    online = online_table(repo.store, "ranking_g1", repo.users).to_pandas()
    published = _rows(delta_files(published_table(repo.config.root_path, VIEW)))
    published = published[published["event_timestamp"] == repo.cutoffs[1]].set_index("user_id")
    assert online["segment_name"].tolist() == published.loc[repo.users, "segment_name"].tolist()


def test_publishing_again_commits_nothing_and_a_correction_replaces_its_cutoff(repo, shop):
    before = _table(repo.config)
    assert len(publish(repo.config, repo.cutoffs)["skipped"]) == 8
    assert _table(repo.config).version() == before.version() == 1
    old = before.file_uris()
    assert len(_correct(repo, shop)["published"]) == 4
    after = _table(repo.config)
    assert after.version() == 2
    assert len(set(after.file_uris()) - set(old)) == 1
    created = _rows(delta_files(published_table(repo.config.root_path, VIEW))).groupby("event_timestamp")
    assert created["created_timestamp"].nunique().tolist() == [1, 1]
    assert [str(time)[:10] for time in created["created_timestamp"].max()] == ["2017-11-03", "2017-11-02"]
    assert len(_rows(old)) == 20  # who has the old snapshot reads it to the end


def test_a_manifest_tells_the_cutoffs_the_files_and_the_commit_what_it_was_made_from(repo):
    folder = repo.layout.features(VIEW)
    assert published_cutoffs(folder) == repo.cutoffs
    assert published_user_type([folder], "user_id") == pa.string()
    manifest = read_manifest(repo.layout.feature(VIEW, repo.cutoffs[1]))
    assert _table(repo.config).history(1)[0]["segmenter.fingerprint"] == manifest["fingerprint"]
    (rows,) = tables(repo.config)["tables"].values()
    found = [row for row in rows if VIEW in row["table"]]
    assert [row["rows"] for row in found] == [10, 10]


def test_vacuum_leaves_the_manifests(repo, shop):
    _correct(repo, shop)
    removed = _table(repo.config).vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert len(removed) == 1
    assert published_cutoffs(repo.layout.features(VIEW)) == repo.cutoffs
    assert len(_rows(delta_files(published_table(repo.config.root_path, VIEW)))) == 20


def test_a_reader_has_one_version_while_it_is_replaced_again_and_again(tmp_path):
    table, folder = tmp_path / "features_delta" / "v", tmp_path / "features_delta" / "v" / "_manifests" / "cutoff=1"

    def put(value):
        manifest = {"stage": "publish", "fingerprint": str(value)}
        with new_delta_partition(folder, tmp_path, manifest, table) as staging:
            pq.write_table(pa.table({"a": [value] * 1000}), staging / "part-00000.parquet")

    put(0)
    is_done, seen = threading.Event(), set()

    def replace():
        for value in range(1, 15):
            put(value)
        is_done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not is_done.is_set():
        values = _rows(delta_files(table))["a"]
        assert len(values) == 1000
        assert values.nunique() == 1
        seen.add(int(values[0]))
    writer.join()
    assert len(seen) > 1


def test_killed_between_the_commit_and_its_manifest_the_same_is_committed_again(repo, shop):
    folder = repo.layout.feature(VIEW, repo.cutoffs[0])
    before = (folder / "manifest.json").read_bytes()
    _correct(repo, shop)
    (folder / "manifest.json").write_bytes(before)
    again = publish(repo.config, repo.cutoffs)
    assert again["published"] == [f"{VIEW}/cutoff=20171001T000000Z"]
    assert len(_rows(delta_files(published_table(repo.config.root_path, VIEW)))) == 20


def test_a_commit_that_another_one_overtook_is_told_and_changes_nothing(repo, shop, monkeypatch):
    def overtaken(*_, **__):
        raise deltalake.exceptions.CommitFailedError("a concurrent transaction added new data")

    monkeypatch.setattr(deltalake, "write_deltalake", overtaken)
    with pytest.raises(ConcurrentRunError, match=r"were not committed to .*: a concurrent transaction"):
        _correct(repo, shop)
    monkeypatch.undo()
    assert _table(repo.config).version() == 1
    assert len(publish(repo.config, repo.cutoffs)["published"]) == 4


def test_a_column_that_came_later_is_null_before(repo, shop, tmp_path):
    table = tmp_path / "features_delta" / VIEW
    folder = table / "_manifests" / "cutoff=later"
    rows = pq.read_table(delta_files(table)[0], partitioning=None).append_column("new", pa.array([1.0] * 10))
    with new_delta_partition(folder, tmp_path, {"stage": "publish", "fingerprint": "f"}, table) as staging:
        pq.write_table(rows, staging / "part-00000.parquet")
    assert is_current(folder, "f")
    assert _table(repo.config).to_pyarrow_table(columns=["new"])["new"].null_count == 20
    assert len(training_frame(repo.store, "ranking_g1", _moments(repo, shop))) == 30


def test_columns_are_those_of_a_file(repo):
    store = repo.store.get_feature_view(VIEW).batch_source
    offline = repo.store._get_provider().offline_store
    found = dict(offline.get_table_column_names_and_types_from_data_source(repo.store.config, store))
    assert found["event_timestamp"] == "timestamp[us, tz=UTC]"


def test_a_push_is_refused(repo):
    rows = _rows(delta_files(published_table(repo.config.root_path, VIEW)))
    with pytest.raises(StoreError, match="cannot be written to its Delta table"):
        repo.store.push(f"{VIEW}_push", rows, to=PushMode.OFFLINE)


def test_what_is_no_table_is_named_with_its_command(tmp_path):
    with pytest.raises(StoreError, match="is not a Delta table") as caught:
        delta_files(tmp_path)
    assert "segmenter publish" in caught.value.hint


def test_a_table_with_deletion_vectors_is_refused(tmp_path):
    deltalake.write_deltalake(
        str(tmp_path / "t"), pa.table({"a": [1, 2]}), configuration={"delta.enableDeletionVectors": "true"}
    )
    with pytest.raises(StoreError, match=r"uses \['deletionVectors'\]"):
        delta_files(tmp_path / "t")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(StoreError, match="needs the package 'deltalake'") as caught:
        delta_files(tmp_path)
    assert "segmenter-plugin[delta]" in caught.value.hint
