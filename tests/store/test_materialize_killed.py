"""A materialisation that is killed with SIGKILL: rows stay whole, the old ones are served, and the next run ends it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from feast import Entity, FeatureService, FeatureStore, ValueType
from feast.types import Array, Float32, String
from redis_world import RedisServer, redis_server
from view_tables import TIME, declare

USERS = 20_000
OLD, NEW = datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)

MATERIALIZE = """
import sys
from datetime import datetime
from feast import FeatureStore

FeatureStore(".").materialize(*map(datetime.fromisoformat, sys.argv[1:]))
"""

VIEW = declare({"user_id": ValueType.INT64}, {"embedding": Array(Float32), "number": Float32, "name": String}, "taste")
SERVICE = FeatureService(name="taste", features=[VIEW])


@pytest.fixture(params=["sqlite", "stock", "packed"])
def online(request):
    """The server, if there is one, and the settings of the store."""
    if request.param == "sqlite":
        store = "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"
        yield None, {"type": store, "path": "online.db"}
        return
    with redis_server() as server:
        store = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
        yield server, {"type": store, "connection_string": server.address, "layout": request.param}


def repository(folder, online_store) -> FeatureStore:
    """Two cutoffs of all users; each row holds one number everywhere."""
    (folder / "rows").mkdir(parents=True)
    for number, time in enumerate((OLD, NEW), start=1):
        table = pa.table(
            {
                "user_id": pa.array(range(USERS), pa.int64()),
                "embedding": pa.array([[float(number)] * 8] * USERS, pa.list_(pa.float32())),
                "number": pa.array([float(number)] * USERS, pa.float32()),
                "name": [str(number)] * USERS,
                "event_timestamp": pa.array([time] * USERS, TIME),
                "created_timestamp": pa.array([time] * USERS, TIME),
            }
        )
        pq.write_table(table, folder / f"rows/{number}.parquet")
    settings = {
        "project": "killed",
        "provider": "local",
        "registry": {"path": "registry.db", "serve_features_while_materializing": True},
        "online_store": online_store,
        "offline_store": {"type": "duckdb"},
        # Small batches, so that there is time to be killed in.
        "batch_engine": {"type": "segmenter_plugin.store.engine.ArrowComputeEngine", "batch_rows": 5},
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(settings))
    store = FeatureStore(str(folder))
    store.apply([Entity(name="of_user_id", join_keys=["user_id"], value_type=ValueType.INT64), VIEW, SERVICE])
    return store


def killed_amid(folder) -> None:
    """Start materialising the new cutoff, and kill that process once it is writing."""
    window = [(NEW - HOUR).isoformat(), (NEW + HOUR).isoformat()]
    command = [sys.executable, "-c", MATERIALIZE, *window]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, start_new_session=True) as process:
        shown = b""
        while not re.search(rb"write: +[1-9]", shown):  # the progress bar, beyond 0 %
            piece = os.read(process.stderr.fileno(), 65_536)
            assert piece, shown
            shown = (shown + piece)[-65_536:]
        os.killpg(process.pid, signal.SIGKILL)
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL


def numbers_online(store: FeatureStore) -> list[float]:
    """The number of each user, after a look whether all cells of the row hold the same one."""
    asked = [{"user_id": user} for user in range(USERS)]
    answer = store.get_online_features(store.get_feature_service("taste"), asked).to_dict()
    for embedding, number, name in zip(answer["embedding"], answer["number"], answer["name"], strict=True):
        assert embedding == [number] * 8
        assert name == str(int(number))
    return answer["number"]


def dump(server: RedisServer | None, folder):
    if server is not None:
        return server.dump()
    with closing(sqlite3.connect(folder / "online.db")) as connection:
        return connection.execute("SELECT * FROM killed_taste ORDER BY entity_key, feature_name").fetchall()


@pytest.mark.slow
def test_a_killed_materialisation_serves_whole_rows_and_the_next_run_ends_it(online, tmp_path):
    server, settings = online
    clean = repository(tmp_path / "clean", settings)
    clean.materialize(OLD - HOUR, NEW + HOUR)
    expected = dump(server, tmp_path / "clean")
    if server is not None:
        server.client().flushall()
    folder = tmp_path / "killed"
    store = repository(folder, settings)
    store.materialize(OLD - HOUR, OLD + HOUR)
    for _ in range(3):
        killed_amid(folder)
        served = numbers_online(store)
        assert set(served) <= {1.0, 2.0}
        assert 1.0 in served
    store.refresh_registry()
    store.materialize(NEW - HOUR, NEW + HOUR)
    assert set(numbers_online(store)) == {2.0}
    assert dump(server, folder) == expected
