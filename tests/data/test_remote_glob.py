"""Globs over files that lie elsewhere mean what they mean on this machine."""

import pytest
from pyarrow import fs

from segmenter_plugin.data.remote_glob import _matches, remote_glob, split_glob


@pytest.mark.parametrize(
    ("path", "pattern", "matches"),
    [
        ("a/b.parquet", "*/*.parquet", True),
        ("a/c/b.parquet", "*/*.parquet", False),
        ("b.parquet", "**/*.parquet", True),
        ("a/.staging/b.parquet", "*/*/*.parquet", False),
        ("a", "a/b", False),
    ],
)
def test_a_star_stays_in_its_folder(path, pattern, matches):
    assert _matches(path.split("/"), pattern.split("/")) is matches


def test_a_pattern_is_split_before_its_first_star():
    assert split_glob("bucket/a/b*/c.parquet") == ("bucket/a", "b*/c.parquet")
    assert split_glob("bucket/a/c.parquet") == ("bucket/a/c.parquet", "")


def test_files_and_folders_that_match_are_found(tmp_path):
    for name in ("a/x.parquet", "a/y.csv", "b/deep/z.parquet", ".c/x.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(pattern):
        infos = remote_glob(fs.LocalFileSystem(), f"{tmp_path}/{pattern}")
        return sorted(info.path.removeprefix(f"{tmp_path}/") for info in infos)

    assert found("*/*.parquet") == ["a/x.parquet"]
    assert found("**/*.parquet") == ["a/x.parquet", "b/deep/z.parquet"]
    assert found("[ab]") == ["a", "b"]
    assert found("none/*.parquet") == []
