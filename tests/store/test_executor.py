"""One Spark task's share, run here without Spark: pickled, written over one connection, safe to be run again."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest
from feast import BatchFeatureView, Entity, FeatureStore, RepoConfig, ValueType
from feast.types import Array, Float32, Float64, Int64, String
from redis_world import redis_server
from view_tables import declare

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.executor import COUNTS, OnlineTask, columns_of, is_strict, online_store, require_encodable

OURS = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
VIEW = declare({"key": ValueType.STRING}, {"vector": Array(Float32), "count": Int64})


class InterruptedTaskError(Exception):
    """What befalls a task from outside."""


def repo_config(address: str, kind: str = OURS, **engine) -> RepoConfig:
    return RepoConfig(
        project="shop",
        provider="local",
        registry="unused.db",
        online_store={"type": kind, "connection_string": address},
        batch_engine={"type": "local"} | engine,
        entity_key_serialization_version=3,
    )


@pytest.fixture(scope="module")
def server():
    with redis_server() as running:
        yield running


@pytest.fixture
def redis(server):
    with server.client() as client:
        client.flushall()
    return server


def batch(keys, count, event=NOON, created=NOON):
    columns = {
        "key": pa.array(keys),
        "vector": pa.array([[float(count)] * 3] * len(keys), pa.list_(pa.float32())),
        "count": pa.array([count] * len(keys), pa.int64()),
        "event_timestamp": pa.array([event] * len(keys), TIME),
        "created_timestamp": pa.array([created] * len(keys), TIME),
    }
    return pa.record_batch(columns)


def run(task, *batches):
    """As an executor does it: from the pickled task to the sums."""
    (counts,) = pickle.loads(pickle.dumps(task))(iter(batches))  # noqa: S301 - what Spark does
    return tuple(counts.to_pylist()[0].values())


def online(redis, keys, tmp_path):
    """What stock Feast reads."""
    store = FeatureStore(config=repo_config(redis.address, "redis").model_copy(update={"repo_path": tmp_path}))
    store.config.registry_config = str(tmp_path / "registry.db")
    store.apply([Entity(name="of_key", join_keys=["key"], value_type=ValueType.STRING), VIEW])
    asked = [{"key": key} for key in keys]
    return store.get_online_features([f"{VIEW.name}:vector", f"{VIEW.name}:count"], asked).to_dict()


def test_a_task_writes_what_stock_reads(redis, tmp_path):
    task = OnlineTask(repo_config(redis.address), VIEW)
    assert run(task, batch(["a", "b"], 1), batch([], 9), batch(["c"], 2)) == (3, 3)
    answer = online(redis, "abcd", tmp_path)
    assert answer["count"] == [1, 1, 2, None]
    assert answer["vector"] == [[1.0] * 3, [1.0] * 3, [2.0] * 3, None]


def test_an_empty_partition_counts_nothing(redis):
    assert run(OnlineTask(repo_config(redis.address), VIEW)) == (0, 0)
    assert not redis.dump()


def test_a_task_that_died_is_run_again(redis):
    task = OnlineTask(repo_config(redis.address), VIEW)
    batches = [batch(["a", "b"], 1), batch(["c"], 2)]
    assert run(task, *batches) == (3, 3)
    whole = redis.dump()
    with redis.client() as client:
        client.flushall()

    def dying():
        yield batches[0]
        raise InterruptedTaskError

    with pytest.raises(InterruptedTaskError):
        list(task(dying()))
    run(task, *batches)
    assert redis.dump() == whole
    run(task, *reversed(batches))
    assert redis.dump() == whole


def test_a_server_that_is_restarted_under_a_task_is_told():
    with redis_server() as own:

        def batches():
            yield batch(["a"], 1)
            own.restart()
            yield batch(["b"], 2)

        task = OnlineTask(repo_config(own.address), VIEW)
        with pytest.raises(StoreError, match="restarted while 'random_view' was written") as caught:
            list(task(batches()))
        assert "run the same command again" in caught.value.hint
        assert run(task, batch(["a"], 1), batch(["b"], 2)) == (2, 2)
        assert len(own.dump()) == 2


def test_a_restart_between_the_tasks_is_told():
    def job(meanwhile):
        with task.watched():
            run(task, batch(["a"], 1))
            meanwhile()
            run(task, batch(["b"], 1))

    with redis_server() as own:
        task = OnlineTask(repo_config(own.address), VIEW)
        job(lambda: None)
        with pytest.raises(StoreError, match="restarted"):
            job(own.restart)


def test_what_is_online_and_newer_stays(redis, tmp_path):
    task = OnlineTask(repo_config(redis.address), VIEW)
    assert run(task, batch(["a"], 1)) == (1, 1)
    assert run(task, batch(["a", "b"], 2, event=NOON - timedelta(days=1))) == (2, 1)
    assert online(redis, "ab", tmp_path)["count"] == [1, 2]


def test_a_corrected_row_goes_online_unless_feasts_own_rule_is_asked_for(redis, tmp_path):
    later = NOON + timedelta(hours=1)
    assert run(OnlineTask(repo_config(redis.address), VIEW), batch(["a"], 1)) == (1, 1)
    assert run(OnlineTask(repo_config(redis.address), VIEW, strict_stock=True), batch(["a"], 2, created=later)) == (
        1,
        0,
    )
    assert online(redis, "a", tmp_path)["count"] == [1]
    assert run(OnlineTask(repo_config(redis.address), VIEW), batch(["a"], 3, created=later)) == (1, 1)
    assert online(redis, "a", tmp_path)["count"] == [3]


def test_a_row_without_a_key_is_told(redis):
    with pytest.raises(StoreError, match="1 of 2 rows have no key"):
        run(OnlineTask(repo_config(redis.address), VIEW), batch(["a", None], 1))


def test_the_engines_setting_is_found():
    for config, strict in (
        (repo_config("x:1"), False),
        (repo_config("x:1", strict_stock=True), True),
        (RepoConfig(project="p", registry="r.db", provider="local"), False),
    ):
        assert is_strict(SimpleNamespace(config=config)) is strict


@pytest.mark.parametrize(
    ("online_config", "message"),
    [
        ({"type": "sqlite", "path": "o.db"}, "'sqlite' is a file of this machine"),
        ({"type": "redis", "connection_string": "x:1"}, "'redis' takes rows one message at a time"),
    ],
)
def test_a_store_that_executors_cannot_fill_is_told(online_config, message):
    config = RepoConfig(project="p", registry="r.db", provider="local", online_store=online_config)
    with pytest.raises(StoreError, match=message) as caught:
        online_store(config)
    assert OURS in caught.value.hint


def test_columns_are_found_behind_a_field_mapping():
    view = declare({"key": ValueType.STRING}, {"count": Int64})
    view.batch_source.field_mapping = {"n": "count", "at": "event_timestamp", "id": "key"}
    view.batch_source.timestamp_field = "at"
    columns = columns_of(view)
    assert columns == {"key": "id", "count": "n", "event_timestamp": "at", "created_timestamp": "created_timestamp"}


def test_a_view_that_is_not_encoded_here_is_told():
    require_encodable(VIEW, batch([], 1).schema)
    view = declare({"key": ValueType.STRING}, {"count": String, "vector": Array(Float64)})
    with pytest.raises(StoreError, match=r"not encoded here: \['count \(int64 as String\)'\]") as caught:
        require_encodable(view, batch([], 1).schema)
    assert "feast materialize" in caught.value.hint
    computed = BatchFeatureView(
        name="computed",
        mode="python",
        entities=[Entity(name="of_key", join_keys=["key"], value_type=ValueType.STRING)],
        schema=VIEW.schema,
        source=VIEW.batch_source,
        udf=lambda rows: rows,
    )
    with pytest.raises(StoreError, match="'computed' computes its features"):
        require_encodable(computed, batch([], 1).schema)


def test_the_counts_have_the_names_that_the_driver_sums(redis):
    (counts,) = OnlineTask(repo_config(redis.address), VIEW)(iter([]))
    assert tuple(counts.schema.names) == COUNTS
