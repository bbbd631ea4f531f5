import os

import pytest

from segmenter_plugin.data import durable
from segmenter_plugin.data.durable import replace_text, sync_tree


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path):
    place = tmp_path / "manifest.json"
    replace_text(place, "old\n")
    replace_text(place, "new ü\n")
    assert place.read_text(encoding="utf-8") == "new ü\n"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_an_error_on_the_way_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    place = tmp_path / "manifest.json"
    replace_text(place, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        replace_text(place, "new")
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_all_files_and_folders_of_a_tree_are_synced(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x", "a/y", "a/b/z"):
        (tmp_path / name).touch()
    synced = []
    monkeypatch.setattr(durable, "sync", synced.append)
    sync_tree(tmp_path)
    assert set(synced) == {tmp_path, *tmp_path.rglob("*")}
