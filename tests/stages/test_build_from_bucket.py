"""Raw events in a bucket, read by Arrow: a build and an increment are those of the same files in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import bucket_world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import parse_config
from segmenter_plugin.data.partition import data_files
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.bucket_files import bucket_files
from segmenter_plugin.stages.layout import Layout

BUCKET = "raw"


@pytest.fixture(scope="module")
def endpoint():
    with bucket_world.s3_endpoint() as (address, patch):
        # As an owner sets it: Spark's tasks find it in their own environment.
        patch.setenv("AWS_ENDPOINT_URL", address)
        bucket_world.client(address).create_bucket(Bucket=BUCKET)
        yield address


def _tree(path, root="run", kind="parquet"):
    columns = {"user_id": "user", "item_id": "sku", "event_type": "kind", "event_timestamp": "at", "price": "paid"}
    types = {"view": ["seen"], "purchase": ["bought"]}
    return {
        "events": {"path": path, "format": kind, "columns": columns, "types": types},
        "windows": {"observation_days": 60, "activity_days": [7]},
        "sequences": {"length": 8},
        "tasks": [{"name": "purchase", "kind": "binary", "prediction_days": 7}],
        "store": {"root": root},
    }


def _events(path, kind="parquet"):
    return parse_config(_tree(path, kind=kind)).events


@pytest.fixture(scope="module")
def listed(endpoint):
    client = bucket_world.client(endpoint)
    for key in ("e/day=1/a.parquet", "e/day=2/b.parquet", "e/day=2/_tmp/c.parquet", "e/.d.parquet", "e/notes.txt"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"12345")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("s3://raw/e", ["e/day=1/a.parquet", "e/day=2/b.parquet"]),
        ("s3://raw/e/*/*.parquet", ["e/day=1/a.parquet", "e/day=2/b.parquet"]),
        ("s3://raw/e/day=?/a.parquet", ["e/day=1/a.parquet"]),
        ("s3://raw/e/**/b.parquet", ["e/day=2/b.parquet"]),
        ("s3://raw/e/day=2", ["e/day=2/b.parquet"]),
        ("s3://raw/e/day=2/b.parquet", ["e/day=2/b.parquet"]),
    ],
)
def test_files_folders_and_globs_name_what_they_name_on_a_disk(listed, path, names):
    found = bucket_files(_events(path))
    assert list(found) == [f"s3://raw/{name}" for name in names]
    assert all(state.startswith("5-") for state in found.values())


def test_what_arrow_does_not_read_is_left_to_spark(listed):
    assert bucket_files(_events("s3://raw/e", kind="csv")) is None
    assert bucket_files(_events("events/*.parquet")) is None


@pytest.mark.parametrize(
    ("path", "told"), [("s3://raw/none/*.parquet", "names no parquet file"), ("s3://no-such-one/e", "s3://no-such-one")]
)
def test_what_is_not_there_is_named(listed, path, told):
    with pytest.raises(EventsError, match=told):
        bucket_files(_events(path))


BUILDS = """
import json, sys
from datetime import UTC, datetime
from segmenter_plugin.config import parse_config
from segmenter_plugin.spark.session import open_session
from segmenter_plugin.stages.build import build
spark = open_session("builds", master="local[2]", settings={"spark.sql.shuffle.partitions": "2"})
for tree, cutoff, previous in json.loads(sys.argv[1]):
    times = [None if text is None else datetime.fromisoformat(text) for text in (cutoff, previous)]
    build(parse_config(tree), [times[0]], spark=spark, previous=times[1])
spark.stop()
"""


def _day_file(path, first, days):
    start = datetime(2024, 1, 1, 9, tzinfo=UTC)
    rows = [
        {"user": user, "at": start + timedelta(days=day), "kind": ("seen", "bought")[day % 2], "sku": f"s{day % 7}"}
        for day in range(first, first + days)
        for user in range(20)
        if day % (user + 1) == 0
    ]
    schema = pa.schema(
        [("user", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("kind", pa.string()), ("sku", pa.string())]
    )
    rows = pa.Table.from_pylist(rows, schema=schema)
    paid = pa.array([1.25] * len(rows), pa.float64())
    pq.write_table(rows.append_column("paid", paid), path)


@pytest.mark.slow
def test_a_build_and_an_increment_are_those_of_a_folder(endpoint, tmp_path):
    client, folder = bucket_world.client(endpoint), tmp_path / "events"
    folder.mkdir()
    trees = {"bucket": "s3://raw/shop/*.parquet", "folder": f"{folder}/*.parquet"}
    trees = {name: _tree(path, str(tmp_path / name)) for name, path in trees.items()}

    def put(first, days):
        path = folder / f"from-{first:03d}.parquet"
        _day_file(path, first, days)
        client.upload_file(str(path), BUCKET, f"shop/{path.name}")

    def run(cutoff, previous):
        jobs = [(tree, cutoff, previous) for tree in trees.values()]
        command = [sys.executable, "-c", BUILDS, json.dumps(jobs)]
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

    def rows(name, cutoff):
        where = Layout.of(parse_config(trees[name])).behaviour(datetime.fromisoformat(cutoff))
        return pa.concat_tables(pq.read_table(path) for path in data_files(where)).sort_by("user_id")

    march, april = "2024-03-01T00:00:00+00:00", "2024-04-01T00:00:00+00:00"
    put(0, 30)
    put(30, 30)
    run(march, None)
    assert rows("bucket", march).equals(rows("folder", march))
    put(60, 31)
    run(april, march)
    assert rows("bucket", april).equals(rows("folder", april))
    assert rows("bucket", april).num_rows == 20
