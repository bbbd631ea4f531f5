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
from segmenter_plugin.data.partition import MANIFEST, data_files
from segmenter_plugin.data.staging import STAGING

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

ROUNDS = 5
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
        # A version's folder has a manifest of its own, and a name that no other run repeats.
        for manifest in sorted(path for path in (root / name).rglob(MANIFEST) if path.parent.name[:2] != "v-"):
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


def _kill_until_it_ends(folder: Path, root: Path, longest: float, generator: random.Random) -> list[float]:
    """Moments, in seconds after the start, at which training was killed before it came to its end."""
    moments = []
    while _train_until_killed(folder, moment := generator.uniform(1.0, longest)):
        moments.append(round(moment, 1))
        for visible in _visible(root):
            assert (visible / MANIFEST).is_file(), f"{visible} is visible and not whole"
            for path in data_files(visible):
                pq.read_metadata(path)
    return moments


def test_training_that_is_killed_again_and_again_ends_as_an_undisturbed_one(undisturbed, tmp_path):
    whole, seconds = undisturbed
    expected = _tables(load_config(whole / "segmenter.toml").root_path)
    version, rounds = _version(load_config(whole / "segmenter.toml").root_path), []
    for seed in range(ROUNDS):
        folder = tmp_path / str(seed)
        _run(tmp_path, "simulate", "--users", "200", "--days", "200", "--out", str(seed))
        root = load_config(folder / "segmenter.toml").root_path
        rounds.append(_kill_until_it_ends(folder, root, seconds, random.Random(seed)))
        got = _tables(root)
        assert got.keys() == expected.keys()
        for name, table in expected.items():
            assert got[name].equals(table), name
        assert _version(root) == version
    kills = sum(map(len, rounds))
    when = "; ".join(", ".join(f"{moment} s" for moment in moments) or "never" for moments in rounds)
    assert kills >= ROUNDS
    lines = [
        "# Killed and started again",
        "",
        "`make faults`",
        "",
        f"`segmenter train` on a simulated shop of 200 users takes {seconds:.0f} s undisturbed. In {ROUNDS} rounds it",
        f"was killed with SIGKILL, Spark and all, {kills} times, after {when}.",
        "After each kill every visible folder was whole, and it was started again; at the end of each round",
        f"all {len(expected)} tables and the weights (`model_version` {version}) equalled the undisturbed run's.",
    ]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _version(root: Path) -> str:
    return json.loads((root / "artifacts" / "encoder" / MANIFEST).read_text())["model_version"]
