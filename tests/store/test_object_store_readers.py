"""Rows in a bucket as everybody reads them who reads them on a file system: Feast, our engine, Spark, the stages."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import bucket_world
import pandas as pd
import pyarrow as pa
import pytest
import redis_world

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.data.object_rows import ObjectFolder, committed
from segmenter_plugin.errors import ConfigError, MissingStageError, StoreError
from segmenter_plugin.stages.materialize import materialize
from segmenter_plugin.stages.publish import publish
from segmenter_plugin.stages.tables import tables
from segmenter_plugin.storage import StoreConfig, published_uri
from segmenter_plugin.store import online_table, training_frame
from segmenter_plugin.store.delta import delta_files
from segmenter_plugin.store.publications import publications_of, published_key_type
from segmenter_plugin.store.repository import open_store
from segmenter_plugin.store.sources import published_source, rows_location
from segmenter_plugin.store.views import views_from_config

VIEW = "user_segment_g1"
VIEWS = ("user_activity", "user_embedding_g1", "user_scores_g1", VIEW)
SQLITE = "{type: segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore, path: data/online.db}"
PROJECT = f"""
project: team
provider: local
registry: {{path: data/registry.db, serve_features_while_materializing: true}}
offline_store: {{type: segmenter_plugin.store.offline.PublishedDuckDBOfflineStore}}
online_store: {SQLITE}
batch_engine: {{type: segmenter_plugin.store.engine.ArrowComputeEngine}}
entity_key_serialization_version: 3
"""


def _declared(config, folder, project=PROJECT):
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(project)
    store = open_store(folder)
    views = views_from_config(
        config, source=lambda view: published_source(config, view), user_type=published_key_type(config)
    )
    store.apply(views.objects(), partial=True)
    return store


@pytest.fixture(scope="module")
def endpoint():
    with bucket_world.s3_endpoint() as (address, _):
        bucket_world.client(address).create_bucket(Bucket="shop")
        yield address


@pytest.fixture(scope="module", params=["parquet", "delta"])
def world(request, endpoint, shop, tmp_path_factory):
    """Two cutoffs of ten users published to a bucket and, the same rows, to a folder; the first one corrected once."""
    kind, root = request.param, tmp_path_factory.mktemp("world")
    published = f"s3://shop/{kind}"
    config = shop.shop_config(root, table_format=kind, published=published, published_endpoint=endpoint)
    users, cutoffs = shop.users_of(10, pa.string()), [shop.day(10, 1), shop.day(11, 1)]
    for seed, cutoff in enumerate(cutoffs):
        shop.write_shop(config, cutoff, users=users, user_type=pa.string(), seed=seed)
    publish(config, cutoffs, created_at="2017-11-02T00:00:00Z")
    shop.write_shop(config, cutoffs[0], users=users, user_type=pa.string(), seed=7)
    corrected = publish(config, cutoffs, created_at="2017-11-03T00:00:00Z")
    plain = tmp_path_factory.mktemp("plain")
    local = shop.shop_config(plain)
    for name in ("behaviour", "scores", "segments"):
        shutil.copytree(root / name, plain / name)
    publish(local, cutoffs[:1], created_at="2017-11-03T00:00:00Z")
    publish(local, cutoffs[1:], created_at="2017-11-02T00:00:00Z")
    stores = _declared(config, root / "feature_repo"), _declared(local, plain / "feature_repo")
    return SimpleNamespace(
        kind=kind, config=config, users=users, cutoffs=cutoffs, store=stores[0], local=stores[1], corrected=corrected
    )


def test_only_what_differs_is_published_again(world):
    assert [name.rpartition("/")[0] for name in world.corrected["published"]] == list(VIEWS)
    assert publish(world.config, world.cutoffs)["published"] == []
    place = publications_of(world.config, VIEW)
    assert place.cutoffs() == world.cutoffs
    assert place.manifest(world.cutoffs[0])["created_timestamp"].startswith("2017-11-03")
    assert published_key_type(world.config) == pa.string()


def test_nothing_but_manifests_lies_under_the_root(world):
    assert not list(world.config.root_path.glob("features*/**/*.parquet"))


def test_history_is_as_from_a_folder(world, shop):
    times = [shop.day(9, 1), shop.day(10, 15), shop.day(11, 15)]
    moments = pd.DataFrame(
        {
            "user_id": [user for user in world.users for _ in times],
            "event_timestamp": pd.to_datetime(times * len(world.users), utc=True),
        }
    )
    keys = ["user_id", "event_timestamp"]
    frames = [training_frame(store, "ranking_g1", moments) for store in (world.store, world.local)]
    frames = [frame.sort_values(keys).reset_index(drop=True)[sorted(frame.columns)] for frame in frames]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    assert frames[0]["segment_name"].isna().sum() == len(world.users)


def test_rows_go_online_through_our_engine(world, caplog):
    for store in (world.store, world.local):
        store.materialize(*world.cutoffs)
    assert not [record for record in caplog.records if "left to Feast's" in record.getMessage()]
    online, expected = (online_table(store, "ranking_g1", world.users) for store in (world.store, world.local))
    assert (
        online.to_pandas()
        .drop(columns="created_timestamp", errors="ignore")
        .equals(expected.to_pandas().drop(columns="created_timestamp", errors="ignore"))
    )


def test_columns_are_those_of_the_files(world):
    source = world.store.get_feature_view(VIEW).batch_source
    offline = world.store._get_provider().offline_store
    found = dict(offline.get_table_column_names_and_types_from_data_source(world.store.config, source))
    assert found["event_timestamp"] == "timestamp[us, tz=UTC]"


def test_the_tables_list_what_is_there(world):
    (rows,) = tables(world.config)["tables"].values()
    found = [row for row in rows if VIEW in row["table"]]
    assert [row["rows"] for row in found] == [10, 10]
    assert all(row["bytes"] > 1000 for row in found)
    assert all(row["made_from"] for row in found)


def test_spark_is_given_the_files_that_count(world):
    from segmenter_plugin.spark.published import Bounds, _paths

    if world.kind == "delta":
        pytest.skip("Spark reads a table, not files")
    view = committed(ObjectFolder.of(published_uri(world.config.store, VIEW), world.config.store.published_endpoint))
    named = [f"s3a://{info.path}" for one in view.values() for info in one.files]
    source = world.store.get_feature_view(VIEW).batch_source
    assert rows_location(source, None) == {"path": sorted(named), "file_format": "parquet"}
    later = Bounds(first=world.cutoffs[1])
    assert _paths(world.config, VIEW, later) == [name for name in named if cutoff_key(world.cutoffs[1]) in name]


def test_a_file_that_no_manifest_names_is_read_by_nobody(world, shop, endpoint):
    if world.kind == "delta":
        pytest.skip("a Delta table names its files itself")
    client = bucket_world.client(endpoint)
    name = cutoff_key(world.cutoffs[1])
    key = f"parquet/features/{VIEW}/{name}/part-00000-orphan.parquet"
    client.put_object(Bucket="shop", Key=key, Body=b"not even a Parquet file")
    moments = pd.DataFrame(
        {"user_id": world.users, "event_timestamp": pd.to_datetime([shop.day(11, 15)] * 10, utc=True)}
    )
    assert training_frame(world.store, "ranking_g1", moments)["segment_name"].notna().all()
    world.store.materialize(*world.cutoffs)
    assert f"s3://shop/{key}" in tables(world.config)["leftovers"]
    client.delete_object(Bucket="shop", Key=key)


@pytest.mark.slow
def test_rows_go_online_to_redis(world, tmp_path):
    with redis_world.redis_server() as server:
        kind, where = "segmenter_plugin.store.redis.ArrowRedisOnlineStore", f"localhost:{server.port}"
        project = PROJECT.replace(SQLITE, f"{{type: {kind}, connection_string: '{where}'}}")
        store = _declared(world.config, tmp_path / "redis_repo", project)
        store.materialize(*world.cutoffs)
        world.local.materialize(*world.cutoffs)
        online, expected = (online_table(each, "ranking_g1", world.users) for each in (store, world.local))
        assert online.to_pandas().equals(expected.to_pandas())


@pytest.mark.slow
def test_materialize_runs_feasts_command_line(world):
    result = materialize(world.config, world.cutoffs)
    assert result["views"] == list(VIEWS)


def test_a_cutoff_that_is_not_there_is_named_with_its_command(world, shop):
    with pytest.raises(MissingStageError, match="has not been built") as caught:
        materialize(world.config, [shop.day(12, 1)])
    assert "segmenter publish --cutoff 2017-12-01" in caught.value.hint


def test_what_is_no_table_is_named(world):
    with pytest.raises(StoreError, match="is not a Delta table"):
        delta_files("s3://shop/nothing", world.config.store.published_endpoint)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"published": "/mnt/lake"}, "published"),
        ({"published": "s3://shop/*"}, "published"),
        ({"published": "s3://shop/lake/"}, "published"),
        ({"published_endpoint": "http://127.0.0.1:9000"}, 'needs published = "s3://'),
        ({"published": "s3://shop", "offline": "spark", "table": "lake.{view}"}, "the rows lie in one of them"),
    ],
)
def test_a_place_that_cannot_be_is_told_with_its_key(shop, tmp_path, keys, told):
    with pytest.raises(ConfigError, match=told):
        shop.shop_config(tmp_path, **keys)


def test_a_root_in_a_bucket_is_refused():
    with pytest.raises(ValueError, match="needs a file system that renames"):
        StoreConfig(root="s3://shop/lake")
