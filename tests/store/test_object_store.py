"""Rows published to a bucket: one publisher of several, nothing of a dead one, and everybody who reads them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import bucket_world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.object_rows import MARKER, ObjectFolder, committed
from segmenter_plugin.errors import ConcurrentRunError, OutputError, StoreError
from segmenter_plugin.store import object_store
from segmenter_plugin.store.object_store import new_object_partition

VIEW = "user_segment_g1"
NAME = "cutoff=20171001T000000Z"


@pytest.fixture(scope="module")
def endpoint():
    with bucket_world.s3_endpoint() as (address, _):
        yield address


@pytest.fixture
def bucket(endpoint, request):
    name = f"shop-{abs(hash(request.node.name))}"
    bucket_world.client(endpoint).create_bucket(Bucket=name)
    return SimpleNamespace(
        name=name,
        endpoint=endpoint,
        client=bucket_world.client(endpoint),
        uri=f"s3://{name}/lake",
        listed=lambda prefix="": bucket_world.keys(endpoint, name, prefix),
    )


@pytest.fixture
def view(bucket):
    return ObjectFolder.of(f"{bucket.uri}/features/v", bucket.endpoint)


def _put(view, root, value, bucket, files=1):
    manifest = {"stage": "publish", "fingerprint": str(value)}
    with new_object_partition(view, root / "features" / "v" / NAME, root, manifest, bucket.endpoint) as staging:
        for number in range(files):
            pq.write_table(pa.table({"a": [value] * 10}), staging / f"part-{number:05d}.parquet")


def _values(view):
    files = [info.path for one in committed(view).values() for info in one.files]
    tables = [pq.read_table(path, filesystem=view.filesystem, partitioning=None) for path in files]
    return pa.concat_tables(tables)["a"].to_pylist()


def _parquet(bucket):
    return [key for key in bucket.listed() if key.endswith(".parquet")]


def test_a_new_version_takes_the_place_of_the_one_before(bucket, view, tmp_path):
    _put(view, tmp_path, 1, bucket, files=3)
    assert _values(view) == [1] * 30
    old = _parquet(bucket)
    _put(view, tmp_path, 2, bucket)
    assert _values(view) == [2] * 10
    assert len(_parquet(bucket)) == 1
    assert not set(old) & set(_parquet(bucket))
    found = committed(view)[NAME]
    assert (found.number, found.manifest["fingerprint"], found.others) == (2, "2", ())


@pytest.mark.parametrize("publishers", [2, 6])
def test_of_publishers_at_once_one_wins_and_the_others_leave_nothing(bucket, view, tmp_path, publishers):
    # Each on a machine of its own: no lock of this file system stands between them.
    _put(view, tmp_path, 0, bucket)
    start, won, lost = threading.Barrier(publishers), [], []

    def run(value):
        root = tmp_path / str(value)
        root.mkdir()
        try:
            manifest = {"stage": "publish", "fingerprint": str(value)}
            with new_object_partition(view, root / "f" / NAME, root, manifest, bucket.endpoint) as staging:
                pq.write_table(pa.table({"a": [value] * 10}), staging / "part-00000.parquet")
                start.wait(30)
            won.append(value)
        except ConcurrentRunError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=run, args=(value,)) for value in range(1, publishers + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == publishers - 1
    assert all("was put by another run" in message for message in lost)
    assert _values(view) == won * 10
    assert len(_parquet(bucket)) == 1


def test_who_began_before_another_committed_loses_however_late_it_ends(bucket, view, tmp_path):
    (tmp_path / "other").mkdir()
    manifest = {"stage": "publish", "fingerprint": "late"}
    late = new_object_partition(view, tmp_path / "f" / NAME, tmp_path, manifest, bucket.endpoint)
    pq.write_table(pa.table({"a": [9]}), late.__enter__() / "part-00000.parquet")
    for value in (1, 2, 3):
        _put(view, tmp_path / "other", value, bucket)
    with pytest.raises(ConcurrentRunError, match="was put by another run"):
        late.__exit__(None, None, None)
    assert _values(view) == [3] * 10
    assert len(_parquet(bucket)) == 1


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from segmenter_plugin.data.object_rows import ObjectFolder
from segmenter_plugin.store import object_store
uri, endpoint, root, step = sys.argv[1:]
calls = []
def killing(method):
    def call(*arguments):
        calls.append(method.__name__)
        if len(calls) == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments)
    return call
for name in ("upload", "put_if_absent", "remove"):
    setattr(object_store._Bucket, name, killing(getattr(object_store._Bucket, name)))
view, root = ObjectFolder.of(uri + "/features/v", endpoint), Path(root)
folder = root / "f" / "cutoff=20171001T000000Z"
manifest = {"stage": "publish", "fingerprint": "new"}
with object_store.new_object_partition(view, folder, root, manifest, endpoint) as staging:
    for number in range(2):
        pq.write_table(pa.table({"a": [2] * 10}), staging / f"part-{number:05d}.parquet")
print(len(calls))
"""


def _run_and_kill(bucket, root, step):
    command = [sys.executable, "-c", KILLED, bucket.uri, bucket.endpoint, str(root), str(step)]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("steps", [(4,), pytest.param((1, 2, 3, 4, 5), marks=pytest.mark.faults)])
def test_a_killed_publisher_leaves_nothing_that_counts_and_the_next_one_removes_it(bucket, view, tmp_path, steps):
    _put(view, tmp_path, 1, bucket)
    for step in steps:
        run = _run_and_kill(bucket, tmp_path, step)
        assert run.returncode == -signal.SIGKILL, run.stderr
        # Steps: the marker, two files, the manifest, the removal of what was before.
        assert _values(view) == ([1] * 10 if step < 5 else [2] * 20)
    assert len(_parquet(bucket)) > 2
    _put(view, tmp_path, 3, bucket)
    assert _values(view) == [3] * 10
    assert len(_parquet(bucket)) == 1


@pytest.mark.faults
def test_a_killed_first_publication_does_not_count_either(bucket, view, tmp_path):
    # The marker is put twice: a store that puts it again is told from one that does not.
    assert _run_and_kill(bucket, tmp_path, 5).returncode == -signal.SIGKILL
    assert len(_parquet(bucket)) == 2
    assert committed(view) == {}
    assert view.counts_by_manifest()


def test_a_failed_upload_leaves_no_file(bucket, view, tmp_path, monkeypatch):
    upload = object_store._Bucket.upload

    def failing(self, file, path):
        if "part-00001" in path:
            raise KeyboardInterrupt
        upload(self, file, path)

    monkeypatch.setattr(object_store._Bucket, "upload", failing)
    with pytest.raises(KeyboardInterrupt):
        _put(view, tmp_path, 1, bucket, files=2)
    assert _parquet(bucket) == []


def test_a_lost_answer_to_the_commit_is_not_taken_for_another_publisher(bucket, view, tmp_path, monkeypatch):
    put = object_store._Bucket.put_if_absent

    def answered_by_a_second_try(self, path, text):
        first = put(self, path, text)
        return first if path.endswith(MARKER) else put(self, path, text)

    monkeypatch.setattr(object_store._Bucket, "put_if_absent", answered_by_a_second_try)
    _put(view, tmp_path, 1, bucket)
    assert _values(view) == [1] * 10


def test_files_stay_where_nobody_knows_whether_they_count(bucket, view, tmp_path, monkeypatch):
    from botocore.exceptions import EndpointConnectionError

    put = object_store._Bucket.put_if_absent

    def unreachable_afterwards(self, path, text):
        done = put(self, path, text)
        if path.endswith(MARKER):
            return done
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(object_store._Bucket, "put_if_absent", unreachable_afterwards)
    with pytest.raises(OutputError, match="cannot be written"):
        _put(view, tmp_path, 1, bucket)
    assert _values(view) == [1] * 10


def test_a_store_that_heeds_no_condition_is_refused_before_a_file_is_put(bucket, view, tmp_path, monkeypatch):
    def heedless(self, path, text):
        name, key = path.split("/", 1)
        self.client.put_object(Bucket=name, Key=key, Body=text.encode())
        return True

    monkeypatch.setattr(object_store._Bucket, "put_if_absent", heedless)
    with pytest.raises(StoreError, match="would not see each other"):
        _put(view, tmp_path, 1, bucket)
    assert _parquet(bucket) == []


def test_a_reader_sees_one_version_while_it_is_replaced(bucket, view, tmp_path):
    _put(view, tmp_path, 0, bucket, files=3)
    is_done, seen = threading.Event(), set()

    def replace():
        for value in range(1, 5):
            _put(view, tmp_path, value, bucket, files=3)
        is_done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not is_done.is_set():
        (found,) = committed(view).values()
        assert len(found.files) == 3
        seen.add(found.number)
    writer.join()
    assert len(seen) > 1


def test_a_bucket_that_is_not_there_is_named(bucket, tmp_path):
    view = ObjectFolder.of("s3://nowhere-at-all/features/v", bucket.endpoint)
    with pytest.raises(
        OutputError, match=r"'s3://nowhere-at-all/features/v/cutoff.* cannot be written: .*NoSuchBucket"
    ):
        _put(view, tmp_path, 1, bucket)
    assert not any(path.is_dir() for path in (tmp_path / ".staging").iterdir())


def test_without_the_package_the_extra_is_named(bucket, view, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreError, match="needs the package 'boto3'") as caught:
        _put(view, tmp_path, 1, bucket)
    assert "segmenter-plugin[s3]" in caught.value.hint
