"""From published rows to a real Redis, through a real Spark's tasks, and what the registry learns of it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import yaml
from redis_world import redis_server

from segmenter_plugin.errors import StoreError, UserError
from segmenter_plugin.stages.materialize_online import materialize_online
from segmenter_plugin.stages.publish import publish

VIEWS = ["user_activity", "user_embedding_g1", "user_scores_g1", "user_segment_g1"]
#: State and intervals of a view that has never been materialised.
NOT_YET = ("STATE_UNSPECIFIED", [])
OURS = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"


def open_repo(config, online, offline="duckdb", name="feature_repo"):
    """A repository beside the configuration, with our views declared."""
    from segmenter_plugin.store.repository import open_store
    from segmenter_plugin.store.sources import published_source
    from segmenter_plugin.store.views import views_from_config

    repo = config.root_path / name
    repo.mkdir(exist_ok=True)
    settings = {
        "project": "shop",
        "provider": "local",
        "registry": {"path": "registry.db", "serve_features_while_materializing": True},
        "offline_store": {"type": offline},
        "online_store": online,
        "entity_key_serialization_version": 3,
    }
    (repo / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    store = open_store(repo)
    source = lambda view: published_source(config, view)  # noqa: E731
    store.apply(views_from_config(config, source=source, user_type=pa.int64()).objects(), partial=True)
    return store


@pytest.fixture(scope="module")
def server():
    with redis_server() as running:
        yield running


@pytest.fixture
def world(shop, server, tmp_path):
    """Two published cutoffs; the second lacks the first user and has a new one. Redis is empty."""
    with server.client() as client:
        client.flushall()
    config = shop.shop_config(tmp_path)
    first, second = shop.day(10, 1), shop.day(11, 1)
    users = shop.users_of(61, pa.int64())
    shop.write_shop(config, first, users=users[:-1], user_type=pa.int64(), seed=1)
    shop.write_shop(config, second, users=users[1:], user_type=pa.int64(), seed=2)
    publish(config, [first, second], created_at="2017-11-02T10:00:00Z")
    store = open_repo(config, {"type": OURS, "connection_string": server.address})
    return SimpleNamespace(config=config, first=first, second=second, users=users, store=store)


def registered(world, view="user_scores_g1"):
    from segmenter_plugin.store.repository import open_store

    found = open_store(Path(world.config.store.feature_repo)).get_feature_view(view)
    return found.state.name, found.materialization_intervals


def models(world, users):
    asked = [{"user_id": user} for user in users]
    return world.store.get_online_features(["user_scores_g1:model_version"], asked).to_dict()["model_version"]


def test_redis_holds_what_stock_feast_would_have_written(world, server, spark):
    result = materialize_online(world.config, (world.first, world.second), spark=spark)
    assert list(result["views"]) == VIEWS
    assert all(counts == {"rows": 61, "written": 61} for counts in result["views"].values())
    assert models(world, [*world.users[:2], world.users[-1], 7]) == ["version-1", "version-2", "version-2", None]
    assert registered(world) == ("AVAILABLE_ONLINE", [(world.first, world.second)])

    stock = open_repo(world.config, {"type": "redis", "connection_string": f"{server.address},db=1"}, name="stock")
    stock.materialize(world.first, world.second)
    assert server.dump() == server.dump(db=1)


def test_materialize_incremental_goes_on_from_there(world, spark):
    materialize_online(world.config, (world.first, world.first), views=["user_scores_g1"], spark=spark)
    assert models(world, world.users[:2]) == ["version-1", "version-1"]
    world.store.refresh_registry()
    world.store.materialize_incremental(world.second, feature_views=["user_scores_g1"])
    assert registered(world)[1] == [(world.first, world.first), (world.first, world.second)]
    assert models(world, world.users[:2]) == ["version-1", "version-2"]


def test_again_and_an_older_window_change_nothing(world, server, spark):
    view = ["user_embedding_g1"]
    materialize_online(world.config, (world.first, world.second), views=view, spark=spark)
    before = server.dump()
    materialize_online(world.config, (world.first, world.second), views=view, spark=spark)
    assert server.dump() == before
    older = materialize_online(world.config, (world.first, world.first), views=view, spark=spark)
    # Only the user who has no later row.
    assert older["views"]["user_embedding_g1"] == {"rows": 60, "written": 1}
    assert server.dump() == before


def test_rows_come_from_a_table_too(world, shop, spark):
    from segmenter_plugin.stages.layout import Layout

    files = f"file://{Layout.of(world.config).features('user_scores_g1')}/*/*.parquet"
    spark.read.parquet(files).createOrReplaceTempView("shop_user_scores_g1")
    config = shop.shop_config(world.config.root_path, offline="spark", table="shop_{view}")
    open_repo(config, world.store.config.online_config, offline="spark")
    result = materialize_online(config, (world.first, world.second), views=["user_scores_g1"], spark=spark)
    assert result["views"] == {"user_scores_g1": {"rows": 61, "written": 61}}
    assert models(world, world.users[:2]) == ["version-1", "version-2"]


@contextmanager
def during(monkeypatch, action):
    """Do something after the tasks have written, before the stage looks whether all is there."""
    from segmenter_plugin.spark import online

    write = online.write_partitions

    def write_and_act(*arguments):
        counts = write(*arguments)
        action()
        return counts

    with monkeypatch.context() as patch:
        patch.setattr(online, "write_partitions", write_and_act)
        yield


def test_a_server_that_was_restarted_meanwhile_is_noticed(world, server, spark, monkeypatch):
    window, view = (world.first, world.second), ["user_scores_g1"]
    with (
        during(monkeypatch, server.restart),
        pytest.raises(StoreError, match="restarted while 'user_scores_g1'") as caught,
    ):
        materialize_online(world.config, window, views=view, spark=spark)
    assert "run the same command again" in caught.value.hint
    assert registered(world) == NOT_YET
    materialize_online(world.config, window, views=view, spark=spark)
    assert registered(world) == ("AVAILABLE_ONLINE", [window])
    assert models(world, world.users[:2]) == ["version-1", "version-2"]


def test_a_server_that_is_not_there_is_told_before_any_task_runs(world, spark, monkeypatch):
    from segmenter_plugin.spark import online

    open_repo(world.config, {"type": OURS, "connection_string": "127.0.0.1:1", "retry_seconds": 0.5})
    monkeypatch.setattr(online, "write_partitions", lambda *_: pytest.fail("tasks were started"))
    with pytest.raises(StoreError, match=r"Redis at 127\.0\.0\.1:1 does not answer"):
        materialize_online(world.config, (world.first, world.second), views=["user_scores_g1"], spark=spark)
    assert registered(world) == NOT_YET


def test_a_window_without_rows_is_told(world, shop, spark):
    with pytest.raises(StoreError, match=r"'user_scores_g1' has no rows from 2017-12-01") as caught:
        materialize_online(world.config, (shop.day(12, 1), shop.day(12, 1)), views=["user_scores_g1"], spark=spark)
    assert "segmenter publish" in caught.value.hint
    assert registered(world) == NOT_YET


def test_mistakes_are_told_before_spark_starts(world):
    with pytest.raises(UserError, match="ends before it starts"):
        materialize_online(world.config, (world.second, world.first))
    with pytest.raises(StoreError, match=r"\['user_taste'\] are not in the registry"):
        materialize_online(world.config, (world.first, world.second), views=["user_taste"])
    open_repo(world.config, {"type": "sqlite", "path": "online.db"})
    with pytest.raises(StoreError, match="'sqlite' is a file of this machine"):
        materialize_online(world.config, (world.first, world.second))


def test_the_command_takes_a_cutoff_or_a_window(world, monkeypatch, capsys):
    from segmenter_plugin import cli
    from segmenter_plugin.stages import materialize_online as stage

    asked = []
    monkeypatch.setattr(stage, "materialize_online", lambda _, window, *, views: asked.append((window, views)) or {})
    command = ["materialize-online", "--config", str(world.config.root_path / "segmenter.toml")]
    cli.main([*command, "--cutoff", "2017-11-01", "--cutoff", "2017-10-01", "--view", "a"])
    cli.main([*command, "--start", "2017-10-01", "--end", "2017-11-01"])
    window = (world.first, world.second)
    assert asked == [(window, ("a",)), (window, ())]
    for wrong in ([], ["--start", "2017-10-01"], ["--cutoff", "2017-10-01", "--end", "2017-11-01"]):
        with pytest.raises(SystemExit):
            cli.main([*command, *wrong])
        assert "Give --cutoff, or both --start and --end" in capsys.readouterr().err
