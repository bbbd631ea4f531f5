"""Staging: nothing visible before it is whole, nothing left of the dead, nothing taken from the living."""

import errno
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.data.partition import new_partition, read_manifest
from segmenter_plugin.data.staging import STAGING, being_written, leftovers, staged, sweep
from segmenter_plugin.errors import ConcurrentRunError, OutputError

HOLD = """
import sys, time
from pathlib import Path
from segmenter_plugin.data.staging import staged
root = Path(sys.argv[1])
with staged(root / "scores" / "cutoff=1", root) as staging:
    (staging.folder / "half.parquet").touch()
    print("held", flush=True)
    time.sleep(60)
"""
FILL = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from segmenter_plugin.data.partition import new_partition
root = Path(sys.argv[1])
with new_partition(root / "scores" / "cutoff=1", root, {"stage": "t", "fingerprint": "new"}) as staging:
    for number in range(40):
        rows = pa.table({"a": np.random.default_rng(number).random(100_000)})
        pq.write_table(rows, staging / f"part-{number}.parquet")
"""


@pytest.fixture
def other(tmp_path):
    """Another process that is writing an output."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def _staging(root):
    return sorted(path.name.partition(".")[0] for path in (root / STAGING).iterdir())


def test_the_folder_is_gone_afterwards_whatever_happened(tmp_path):
    with staged(tmp_path / "a", tmp_path) as staging:
        (staging.folder / "file").touch()
        assert staging.folder.parent == tmp_path / STAGING
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "a", tmp_path):
        _ = 1 / 0
    assert _staging(tmp_path) == []


def test_two_runs_for_one_output_are_refused_and_for_two_are_not(tmp_path):
    with staged(tmp_path / "scores" / "x", tmp_path):
        assert being_written(tmp_path) == ["scores/x"]
        with staged(tmp_path / "labels" / "x", tmp_path):
            assert being_written(tmp_path) == ["labels/x", "scores/x"]
        with pytest.raises(ConcurrentRunError, match="'scores/x' is being written"):
            staged(tmp_path / "scores" / "x", tmp_path).__enter__()
        assert being_written(tmp_path) == ["scores/x"]


def test_what_another_process_writes_is_left_alone_while_it_lives(tmp_path, other):
    with staged(tmp_path / "labels", tmp_path):
        assert _staging(tmp_path) == ["labels", "labels", "scores~cutoff=1", "scores~cutoff=1"]
    assert leftovers(tmp_path) == []
    with pytest.raises(ConcurrentRunError, match=f"process {other.pid}"):
        staged(tmp_path / "scores" / "cutoff=1", tmp_path).__enter__()


@pytest.mark.parametrize("output", ["labels", "scores/cutoff=1"])
def test_what_a_killed_process_left_goes_with_the_next_run(tmp_path, other, output):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert [path.name.partition(".")[0] for path in leftovers(tmp_path)] == ["scores~cutoff=1"]
    with staged(tmp_path / output, tmp_path) as staging:
        assert list(staging.folder.iterdir()) == []
        assert _staging(tmp_path) == [output.replace("/", "~")] * 2
    assert _staging(tmp_path) == []


def test_a_folder_whose_lock_is_gone_is_a_leftover_and_foreign_names_are_not_touched(tmp_path):
    orphan, foreign = (tmp_path / STAGING / name for name in (f"labels.{'0' * 32}", "of-the-owner"))
    for folder in (orphan, foreign):
        folder.mkdir(parents=True)
    sweep(tmp_path)
    assert not orphan.exists()
    assert foreign.exists()


def test_an_output_outside_the_root_is_named_by_its_last_part(tmp_path):
    with staged(tmp_path / "elsewhere" / "arrays", tmp_path / "root"):
        assert being_written(tmp_path / "root") == ["arrays"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), RuntimeError("a task failed: No space left on device")],
    ids=str,
)
def test_a_full_disk_is_named_with_the_output(tmp_path, error):
    with (
        pytest.raises(OutputError, match=r"scores' cannot be written, as there is no room left") as caught,
        staged(tmp_path / "scores", tmp_path),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert _staging(tmp_path) == []


def test_other_errors_stay_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), staged(tmp_path / "scores", tmp_path) as staging:
        (staging.folder / "none").read_bytes()


def _small_disk(tmp_path: Path) -> list[str]:
    """A command that runs what follows where `tmp_path` is a disk of 2 MB."""
    mounted = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"'
    probe = ["unshare", "--mount", "sh", "-c", mounted, str(tmp_path), "true"]
    try:
        is_able = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        is_able = False
    if not is_able:
        pytest.skip("a small disk needs the right to mount one")
    return ["unshare", "--mount", "sh", "-c", mounted, str(tmp_path)]


def test_a_disk_that_fills_up_leaves_nothing_and_is_named(tmp_path):
    listing = f'"{sys.executable}" -c \'{FILL}\' "{tmp_path}"; find "{tmp_path}" -type f'
    ran = subprocess.run([*_small_disk(tmp_path), "sh", "-c", listing], capture_output=True, text=True, check=False)
    assert "OutputError" in ran.stderr
    assert f"{str(tmp_path / 'scores' / 'cutoff=1')!r} cannot be written" in ran.stderr
    assert ran.stdout == ""


def test_a_file_that_grows_too_large_leaves_what_was_there(tmp_path):
    folder = tmp_path / "scores" / "cutoff=1"
    with new_partition(folder, tmp_path, {"stage": "t", "fingerprint": "old"}) as staging:
        pq.write_table(pa.table({"a": [1]}), staging / "part-0.parquet")

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ran = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert ran.returncode == 1
    assert "OutputError" in ran.stderr
    assert read_manifest(folder)["fingerprint"] == "old"
    assert _staging(tmp_path) == []
    assert len(list(folder.iterdir())) == 2
