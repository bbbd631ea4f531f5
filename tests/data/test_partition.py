import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.partition import (
    MANIFEST,
    data_files,
    file_fingerprints,
    fingerprint,
    is_current,
    new_partition,
    read_batches,
    read_manifest,
    require_manifest,
)
from segmenter_plugin.errors import FormatVersionError, MissingStageError, SchemaError


def _write(root, folder, made_from, value=1):
    with new_partition(folder, root, {"stage": "test", "fingerprint": made_from}) as staging:
        pq.write_table(pa.table({"a": [value]}), staging / "part-0.parquet")


def test_a_partition_appears_whole(tmp_path):
    folder = tmp_path / "scores" / "cutoff=1"
    with new_partition(folder, tmp_path, {"stage": "test", "fingerprint": "f"}) as staging:
        pq.write_table(pa.table({"a": [1]}), staging / "part-0.parquet")
        assert not folder.exists()
    assert is_current(folder, "f")
    assert not is_current(folder, "g")
    assert [path.name for path in data_files(folder)] == ["part-0.parquet"]


def test_an_error_leaves_what_was_there(tmp_path):
    folder = tmp_path / "scores" / "cutoff=1"
    _write(tmp_path, folder, "old", value=1)

    def break_off():
        with new_partition(folder, tmp_path, {"stage": "t", "fingerprint": "new"}) as staging:
            pq.write_table(pa.table({"a": [2]}), staging / "part-0.parquet")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert is_current(folder, "old")
    assert pq.read_table(data_files(folder)[0])["a"].to_pylist() == [1]
    assert not any((tmp_path / ".staging").iterdir())


def test_a_new_version_replaces_all_files_of_the_old(tmp_path):
    folder = tmp_path / "scores" / "cutoff=1"
    with new_partition(folder, tmp_path, {"stage": "t", "fingerprint": "old"}) as staging:
        (staging / "part-7.parquet").write_bytes(b"")
    _write(tmp_path, folder, "new")
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "part-0.parquet"]


def test_the_block_may_add_counts_to_the_manifest(tmp_path):
    manifest = {"stage": "t", "fingerprint": "f"}
    with new_partition(tmp_path / "p", tmp_path, manifest):
        manifest["rows"] = 3
    assert read_manifest(tmp_path / "p")["rows"] == 3


def test_a_newer_format_is_refused_with_a_hint(tmp_path):
    _write(tmp_path, tmp_path / "p", "f")
    manifest = json.loads((tmp_path / "p" / MANIFEST).read_text())
    (tmp_path / "p" / MANIFEST).write_text(json.dumps(manifest | {"format_version": 99}))
    with pytest.raises(FormatVersionError, match="99") as caught:
        is_current(tmp_path / "p", "f")
    assert "upgrade" in caught.value.hint


def test_a_missing_stage_is_named_with_its_command(tmp_path):
    with pytest.raises(MissingStageError, match="has not been built") as caught:
        require_manifest(tmp_path / "p", "segmenter build --cutoff 2017-01-01")
    assert "segmenter build --cutoff 2017-01-01" in caught.value.hint


def test_a_fingerprint_follows_inputs_and_configuration_only():
    first = fingerprint("build", {"events": "a"}, {"length": 3})
    assert first == fingerprint("build", {"events": "a"}, {"length": 3})
    assert first != fingerprint("build", {"events": "b"}, {"length": 3})
    assert first != fingerprint("build", {"events": "a"}, {"length": 4})
    assert first != fingerprint("score", {"events": "a"}, {"length": 3})
    assert fingerprint("build", {"at": datetime(2017, 1, 1, tzinfo=UTC)}, {})


def test_a_touched_file_has_another_fingerprint(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("a\n1\n")
    before = file_fingerprints([path])
    path.write_text("a\n1\n2\n")
    assert file_fingerprints([path]) != before


def test_batches_stream_all_files_in_order(tmp_path):
    with new_partition(tmp_path / "p", tmp_path, {"stage": "t", "fingerprint": "f"}) as staging:
        for number in range(2):
            rows = pa.table({"a": range(10 * number, 10 * number + 10), "b": ["x"] * 10})
            pq.write_table(rows, staging / f"part-{number}.parquet")
    batches = list(read_batches(tmp_path / "p", ["a"], rows=7))
    assert [batch.num_rows for batch in batches] == [7, 3, 7, 3]
    assert pa.Table.from_batches(batches).to_pydict() == {"a": list(range(20))}
    assert next(read_batches(tmp_path / "p")).schema.names == ["a", "b"]


def test_a_missing_column_is_named(tmp_path):
    _write(tmp_path, tmp_path / "p", "f")
    with pytest.raises(SchemaError, match=r"lacks the columns \['colour'\]; it has \['a'\]"):
        next(read_batches(tmp_path / "p", ["a", "colour"]))
