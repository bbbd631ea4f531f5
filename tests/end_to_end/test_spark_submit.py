"""The Spark jobs through the real spark-submit, the package shipped with --py-files."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shop_tables
import signal_tables
import yaml
from redis_world import redis_server

from segmenter_plugin.data.partition import data_files
from segmenter_plugin.spark.java import find_java
from segmenter_plugin.stages.lookup import lookup

PROJECT = Path(__file__).parents[2]

CONFIG = """
[events]
path = "events.parquet"
timezone = "UTC"
complete_through = "2024-03-01"
[events.columns]
user_id = "u"
item_id = "i"
event_type = "t"
event_timestamp = "at"
price = "paid"
[[tasks]]
name = "purchase"
kind = "binary"
prediction_days = 14
[store]
root = "run"
"""


def submit(folder, job, *arguments):
    """Run a job of spark_jobs/ in `folder`, beside its segmenter.toml; returns the JSON of its last line."""
    with zipfile.ZipFile(folder / "segmenter_plugin.zip", "w") as archive:
        for path in (PROJECT / "segmenter_plugin").rglob("*.py"):
            archive.write(path, path.relative_to(PROJECT))
    shutil.copy(PROJECT / "spark_jobs" / job, folder)
    spark_submit = Path(sys.executable).with_name("spark-submit")
    # spark-submit is a shell script that looks for Java itself: on a bare machine it must be told of ours.
    environment = os.environ | {
        "JAVA_HOME": str(find_java()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    done = subprocess.run(
        [spark_submit, "--master", "local[2]", "--py-files", "segmenter_plugin.zip", job,
         "--config", "segmenter.toml", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_build_under_spark_submit(tmp_path):
    times = [datetime(2024, 1, day) for day in range(1, 31)]  # noqa: DTZ001 - naive on purpose
    events = {
        "u": [day % 5 for day in range(30)],
        "i": ["a"] * 30,
        "t": ["purchase"] * 30,
        "at": times,
        "paid": [1.5] * 30,
    }
    pq.write_table(pa.table(events), tmp_path / "events.parquet")
    (tmp_path / "segmenter.toml").write_text(CONFIG)
    submit(tmp_path, "build.py", "--cutoff", "2024-01-20")
    folder = tmp_path / "run" / "behaviour" / "cutoff=20240120T000000Z"
    table = pa.concat_tables(pq.ParquetFile(path).read() for path in data_files(folder))
    assert sorted(table["user_id"].to_pylist()) == [0, 1, 2, 3, 4]
    assert sum(table["sequence_length"].to_pylist()) == 19


@pytest.mark.slow
def test_materialize_online_under_spark_submit(tmp_path):
    from segmenter_plugin.stages.gate import gate
    from segmenter_plugin.stages.publish import publish
    from segmenter_plugin.store.repository import run_feast

    config = shop_tables.shop_config(tmp_path)
    cutoff, users = shop_tables.day(10, 1), shop_tables.users_of(50, pa.int64())
    written = shop_tables.write_shop(config, cutoff, users=users, user_type=pa.int64())
    publish(config, [cutoff])
    gate(config, [cutoff])
    repo = tmp_path / "feature_repo"
    shutil.copytree(PROJECT / "feature_repo", repo, ignore=shutil.ignore_patterns("data", "__pycache__"))
    with redis_server() as server:
        settings = yaml.safe_load((repo / "feature_store.yaml").read_text())
        kind = "segmenter_plugin.store.redis.ArrowRedisOnlineStore"
        settings["online_store"] = {"type": kind, "connection_string": server.address}
        (repo / "feature_store.yaml").write_text(yaml.safe_dump(settings))
        run_feast(repo, ["apply", "--skip-source-validation"])
        result = submit(tmp_path, "materialize_online.py", "--cutoff", "2017-10-01")
        assert [counts["written"] for counts in result["views"].values()] == [50] * 4
        rows = lookup(config, [*users, 1])
    assert rows["missing_users"] == [1]
    assert [row["embedding"] for row in rows["rows"][:-1]] == written["scores"]["embedding"].to_pylist()


def toml_lines(tree, place=""):
    """A configuration as TOML: values as JSON writes them, then the tables."""
    for name, value in tree.items():
        if not isinstance(value, dict) and name != "tasks":
            yield f"{name} = {json.dumps(value)}"
    for name, value in tree.items():
        if isinstance(value, dict):
            yield f"[{place}{name}]"
            yield from toml_lines(value, f"{place}{name}.")
    for task in tree.get("tasks", []):
        yield "[[tasks]]"
        yield from toml_lines(task)


@pytest.mark.slow
def test_score_users_under_spark_submit(tmp_path):
    from segmenter_plugin.stages.layout import Layout
    from segmenter_plugin.stages.train import finetune, pretrain

    quick = {"pretrain": {"epochs": 0}, "finetune": {"probe_epochs": 1, "epochs": 0}}
    config = signal_tables.signal_config(tmp_path / "run", **quick)
    for cutoff in (*config.training_cutoffs, signal_tables.LATER):
        signal_tables.write_cutoff(config, cutoff, signal_tables.users_of(60))
    pretrain(config)
    finetune(config)
    tree = signal_tables.signal_tree(Path("run"), **quick)
    (tmp_path / "segmenter.toml").write_text("\n".join(toml_lines(tree)))
    result = submit(tmp_path, "score_users.py", "--cutoff", "2024-06-01")
    assert result["cutoffs"]["cutoff=20240601T000000Z"]["rows"] == 60
    table = pa.concat_tables(pq.read_table(path) for path in data_files(Layout.of(config).scores(signal_tables.LATER)))
    assert table.column("user_id").to_pylist() == signal_tables.users_of(60)
    assert submit(tmp_path, "score_users.py", "--cutoff", "2024-06-01")["cutoffs"]["cutoff=20240601T000000Z"]["skipped"]
