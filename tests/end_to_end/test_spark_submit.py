"""The Spark job through the real spark-submit, the package shipped with --py-files."""

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

from segmenter_plugin.spark.java import find_java

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
    with zipfile.ZipFile(tmp_path / "segmenter_plugin.zip", "w") as archive:
        for path in (PROJECT / "segmenter_plugin").rglob("*.py"):
            archive.write(path, path.relative_to(PROJECT))
    shutil.copy(PROJECT / "spark_jobs" / "build.py", tmp_path)
    spark_submit = Path(sys.executable).with_name("spark-submit")
    # spark-submit is a shell script that looks for Java itself: on a bare machine it must be told of ours.
    environment = os.environ | {
        "JAVA_HOME": str(find_java()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    done = subprocess.run(
        [spark_submit, "--master", "local[2]", "--py-files", "segmenter_plugin.zip", "build.py",
         "--config", "segmenter.toml", "--cutoff", "2024-01-20"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    json.loads(done.stdout.splitlines()[-1])
    folder = tmp_path / "run" / "behaviour" / "cutoff=20240120T000000Z"
    table = pa.concat_tables(pq.ParquetFile(path).read() for path in sorted(folder.glob("*.parquet")))
    assert sorted(table["user_id"].to_pylist()) == [0, 1, 2, 3, 4]
    assert sum(table["sequence_length"].to_pylist()) == 19
