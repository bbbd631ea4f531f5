"""A source's files are found wherever they lie, in one order."""

import os
from pathlib import Path

import fsspec
import pytest
from engine_world import NOON, rows_of, source_of, write
from feast import FileSource

from segmenter_plugin.store.files import source_files

TABLE = rows_of(["a"], [NOON])


def names(source, repo, root):
    return [os.path.relpath(info.path, root) for info in source_files(source, repo).infos]


@pytest.fixture
def tree(tmp_path):
    for name in ("b/2.parquet", "a/1.parquet", "a/deep/0.parquet", "a/_SUCCESS", "a/.hidden/9.parquet", "top.parquet"):
        write(tmp_path / "rows" / name, TABLE)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("rows/top.parquet", ["top.parquet"]),
        ("rows/*/*.parquet", ["a/1.parquet", "b/2.parquet"]),
        ("rows/**/*.parquet", ["a/1.parquet", "a/deep/0.parquet", "b/2.parquet", "top.parquet"]),
        ("rows/[ab]/?.parquet", ["a/1.parquet", "b/2.parquet"]),
        ("rows", ["a/1.parquet", "a/deep/0.parquet", "b/2.parquet", "top.parquet"]),
        ("rows/none.parquet", []),
        ("rows/none/*.parquet", []),
    ],
)
def test_paths_start_at_the_repository(tree, path, found):
    assert names(source_of(path), tree, tree / "rows") == found
    assert names(source_of(tree / path), None, tree / "rows") == found


@pytest.fixture
def bucket(tree):
    memory = fsspec.filesystem("memory")
    memory.put(str(tree / "rows"), "/shop/rows", recursive=True)
    yield memory
    memory.rm("/shop", recursive=True)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("memory://shop/rows/top.parquet", ["top.parquet"]),
        ("memory://shop/rows/*/*.parquet", ["a/1.parquet", "b/2.parquet"]),
        ("memory://shop/rows/**/*.parquet", ["a/1.parquet", "a/deep/0.parquet", "b/2.parquet", "top.parquet"]),
        ("memory://shop/rows/none/*.parquet", []),
    ],
)
def test_files_of_other_file_systems_are_found_by_the_same_paths(bucket, path, found):
    stored = source_files(source_of(path), None)
    assert [os.path.relpath(info.path, "/shop/rows") for info in stored.infos] == found
    assert not stored.is_local


def test_s3_takes_the_source_s_endpoint(monkeypatch):
    asked = {}

    def filesystem(path, endpoint, credentials):
        asked.update(path=path, endpoint=endpoint)
        return fsspec_memory(), "shop/none.parquet"

    def fsspec_memory():
        from pyarrow import fs

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem("memory")))

    monkeypatch.setattr(FileSource, "create_filesystem_and_path", staticmethod(filesystem))
    source = source_of("s3://shop/none.parquet", s3_endpoint_override="http://localhost:9000")
    assert source_files(source, None).infos == ()
    assert asked == {"path": "s3://shop/none.parquet", "endpoint": "http://localhost:9000"}


def test_rewritten_and_removed_files_have_changed(tree):
    stored = source_files(source_of("rows/*/*.parquet"), tree)
    assert stored.changed() == []
    write(tree / "rows/b/2.parquet", rows_of(["a", "b"], [NOON, NOON]))
    (tree / "rows/a/1.parquet").unlink()
    assert [Path(path).name for path in stored.changed()] == ["1.parquet", "2.parquet"]
