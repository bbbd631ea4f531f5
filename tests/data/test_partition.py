import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.partition import (
    MANIFEST,
    current,
    data_files,
    file_fingerprints,
    fingerprint,
    is_current,
    new_partition,
    new_plain_folder,
    new_published,
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


def test_a_new_version_has_its_own_files_and_the_old_ones_stay_for_their_readers(tmp_path):
    folder = tmp_path / "scores" / "cutoff=1"
    with new_partition(folder, tmp_path, {"stage": "t", "fingerprint": "old"}) as staging:
        pq.write_table(pa.table({"a": [7]}), staging / "part-7.parquet")
    taken, place = data_files(folder), current(folder)
    _write(tmp_path, folder, "new")
    assert [path.name for path in data_files(folder)] == ["part-0.parquet"]
    assert [pq.read_table(path)["a"].to_pylist() for path in taken] == [[7]]
    assert is_current(place, "old")
    assert data_files(place) == taken
    _write(tmp_path, folder, "newest")
    assert not place.exists()
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, *_versions(folder)]
    assert len(_versions(folder)) == 2


def test_a_partition_of_the_first_format_is_read_and_stays_for_its_readers_too(tmp_path):
    folder = tmp_path / "scores" / "cutoff=1"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"a": [7]}), folder / "part-7.parquet")
    (folder / MANIFEST).write_text(json.dumps({"format_version": 1, "fingerprint": "f"}))
    assert is_current(folder, "f")
    assert current(folder) == folder
    taken = data_files(folder)
    _write(tmp_path, folder, "new")
    assert taken[0].exists()
    assert [path.name for path in data_files(folder)] == ["part-0.parquet"]
    _write(tmp_path, folder, "newest")
    assert not taken[0].exists()


def test_a_version_is_a_whole_partition_in_itself(tmp_path):
    folder = tmp_path / "p"
    _write(tmp_path, folder, "f")
    outer, inner = read_manifest(folder), read_manifest(current(folder))
    assert outer == inner | {"version": current(folder).name}
    assert list(read_batches(current(folder))) == list(read_batches(folder))


def test_a_manifest_tells_what_it_was_made_from_and_when(tmp_path):
    made_from = fingerprint("score", {"behaviour": "b", "model_version": "m"}, {})
    _write(tmp_path, tmp_path / "p", made_from)
    manifest = read_manifest(tmp_path / "p")
    assert manifest["fingerprint"] == made_from
    assert manifest["inputs"] == {"behaviour": "b", "model_version": "m"}
    age = datetime.now(UTC) - datetime.fromisoformat(manifest["written_at"])
    assert 0 <= age.total_seconds() < 60


def _versions(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _publish(root, folder, made_from, values, files=1):
    with new_published(folder, root, {"stage": "publish", "fingerprint": made_from}) as staging:
        for number in range(files):
            pq.write_table(pa.table({"a": values}), staging / f"part-{number:05d}.parquet")


def test_published_files_lie_in_the_folder_itself_under_names_never_used_before(tmp_path):
    folder = tmp_path / "features" / "view" / "cutoff=1"
    _publish(tmp_path, folder, "old", [1], files=3)
    first = data_files(folder)
    assert {path.parent for path in first} == {folder}
    assert [path.name[:10] for path in first] == [f"part-0000{number}" for number in range(3)]
    _publish(tmp_path, folder, "new", [2], files=1)
    (second,) = data_files(folder)
    assert second not in first
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, second.name]


def test_a_reader_of_the_glob_always_finds_a_whole_version(tmp_path):
    """What DuckDB finds while a cutoff is published 30 times: the old rows, the new rows, or both."""
    folder, glob = tmp_path / "features" / "view" / "cutoff=1", str(tmp_path / "features" / "view" / "*" / "*.parquet")
    _publish(tmp_path, folder, "0", [0] * 1000)
    is_done, seen, failed = threading.Event(), set(), []

    def replace():
        for number in range(1, 31):
            _publish(tmp_path, folder, str(number), [number] * 1000)
        is_done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    with duckdb.connect() as connection:
        while not is_done.is_set():
            try:
                rows = connection.read_parquet(glob).aggregate("a, count(*)").order("a").fetchall()
            except duckdb.IOException as error:
                failed.append(str(error))
                continue
            values = [value for value, _ in rows]
            assert {count for _, count in rows} == {1000}
            assert values == list(range(values[0], values[0] + len(values)))
            assert len(values) in {1, 2}
            seen |= set(values)
    writer.join()
    assert len(seen) > 1
    # A file that had been listed may be gone; but there always was one to list.
    assert not [message for message in failed if "No files found" in message]


def test_an_error_while_files_come_in_takes_back_those_that_have(tmp_path, monkeypatch):
    folder = tmp_path / "features" / "view" / "cutoff=1"
    _publish(tmp_path, folder, "old", [1])
    before = sorted(folder.iterdir())
    rename, moved = Path.rename, []

    def second_fails(path, target):
        if path.suffix == ".parquet":
            moved.append(target)
            if len(moved) == 2:
                raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        _publish(tmp_path, folder, "new", [2], files=3)
    assert sorted(folder.iterdir()) == before
    assert is_current(folder, "old")


def test_a_plain_folder_keeps_its_files_names(tmp_path):
    folder = tmp_path / "export"
    for number in range(2):
        with new_plain_folder(folder, tmp_path, {"stage": "export", "fingerprint": str(number)}) as staging:
            (staging / f"embeddings-{number}.npy").touch()
    assert sorted(path.name for path in folder.iterdir()) == ["embeddings-1.npy", MANIFEST]
    assert is_current(folder, "1")
    assert not any((tmp_path / ".staging").iterdir())


STEPS = """
import os, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from segmenter_plugin.data import partition
root, shape, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
steps = 0
def step(event, arguments):
    global steps
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree") or (
        event == "open" and str(root) in str(arguments[0])
    ):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), 9)
sys.addaudithook(step)
with getattr(partition, shape)(root / "t" / "p", root, {"stage": "t", "fingerprint": "new"}) as staging:
    for number in range(2):
        pq.write_table(pa.table({"a": [2]}), staging / f"part-{number}.parquet")
"""


@pytest.mark.faults
@pytest.mark.parametrize(("shape", "write"), [("new_partition", _write), ("new_published", _publish)])
def test_killed_before_any_step_leaves_the_old_or_the_new_and_the_next_run_cleans_up(tmp_path, shape, write):
    killed = 0
    for last in range(1, 200):
        root = tmp_path / str(last)
        folder = root / "t" / "p"
        write(root, folder, "old", **({} if write is _write else {"values": [1]}))
        ran = subprocess.run([sys.executable, "-c", STEPS, str(root), shape, str(last)], check=False)
        values = [value for path in data_files(folder) for value in pq.read_table(path)["a"].to_pylist()]
        assert values == ([2, 2] if is_current(folder, "new") else [1])
        for path in root.glob("t/p/*.parquet"):
            pq.read_table(path)
        write(root, folder, "third", **({} if write is _write else {"values": [3]}))
        assert is_current(folder, "third")
        assert list((root / ".staging").iterdir()) == []
        # The manifest, this version and the one before; of published rows this version alone.
        assert len(list(folder.iterdir())) == (3 if write is _write else 2)
        if ran.returncode == 0:
            break
        killed += 1
    assert ran.returncode == 0
    assert killed > 10


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
