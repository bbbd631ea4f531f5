"""SIGKILL at random moments: what becomes visible is whole, and what is started again ends as an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segmenter_plugin.config import load_config
from segmenter_plugin.data.partition import MANIFEST, STAGING, data_files

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

KILLS = 12
RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "faults.md"
TABLES = ("events", "behaviour", "labels", "scores", "segments")
SMALL = [
    "--set", "pretrain.epochs=1", "--set", "finetune.epochs=1", "--set", "finetune.probe_epochs=2",
    "--set", "sequences.length=32",
]  # fmt: skip


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from segmenter_plugin.cli import main; main()", "-q", *arguments]


def _run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(_command(*arguments), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _train_until_killed(folder: Path, seconds: float) -> bool:
    """Whether it was killed before it ended; its whole process group dies, Spark's JVM too."""
    process = subprocess.Popen(
        _command("train", *SMALL),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def _visible(root: Path) -> list[Path]:
    """Folders that hold files outside staging and the Trainer's own folder."""
    folders = {path.parent for path in root.rglob("*") if path.is_file()}
    hidden = {STAGING, "training"}
    return sorted(folder for folder in folders if not hidden & set(folder.relative_to(root).parts))


def _tables(root: Path) -> dict[str, pa.Table]:
    """Content of every partition, in order of users."""
    found = {}
    for name in TABLES:
        for manifest in sorted((root / name).rglob(MANIFEST)):
            table = pa.concat_tables([pq.ParquetFile(path).read() for path in data_files(manifest.parent)])
            keys = [
                (column, "ascending") for column in table.column_names if not pa.types.is_nested(table[column].type)
            ]
            found[str(manifest.parent.relative_to(root))] = table.sort_by(keys)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    _run(folder, "simulate", "--users", "200", "--days", "200", "--out", ".")
    started = time.monotonic()
    _run(folder, "train", *SMALL)
    return folder, time.monotonic() - started


def test_training_that_is_killed_again_and_again_ends_as_an_undisturbed_one(undisturbed, tmp_path):
    whole, seconds = undisturbed
    _run(tmp_path, "simulate", "--users", "200", "--days", "200", "--out", ".")
    root = load_config(tmp_path / "segmenter.toml").root_path
    generator, moments = random.Random(7), []
    for _ in range(KILLS):
        moment = generator.uniform(1.0, seconds)
        if not _train_until_killed(tmp_path, moment):
            break
        moments.append(round(moment, 1))
        for folder in _visible(root):
            assert (folder / MANIFEST).is_file(), f"{folder} is visible and not whole"
            for path in data_files(folder):
                pq.read_metadata(path)
    assert len(moments) >= 3
    _run(tmp_path, "train", *SMALL)

    expected, got = _tables(load_config(whole / "segmenter.toml").root_path), _tables(root)
    assert got.keys() == expected.keys()
    for name, table in expected.items():
        assert got[name].equals(table), name
    versions = [json.loads((base / "artifacts" / "encoder" / MANIFEST).read_text())["model_version"]
                for base in (load_config(whole / "segmenter.toml").root_path, root)]  # fmt: skip
    assert versions[0] == versions[1]
    when = ", ".join(f"{moment} s" for moment in moments)
    lines = [
        "# Killed and started again",
        "",
        "`make faults`",
        "",
        f"`segmenter train` on a simulated shop of 200 users takes {seconds:.0f} s undisturbed. Killed with SIGKILL,",
        f"Spark and all, {len(moments)} times, after {when}, then run to its end: after each kill every visible folder",
        f"was whole; in the end all {len(expected)} tables and the weights (`model_version` {versions[0]}) equal the",
        "undisturbed run's.",
    ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
