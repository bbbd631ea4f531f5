"""SIGKILL in the midst of training: started again, it ends with the weights of an uninterrupted run."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from training_world import ONE_THREAD, SEGMENTER, layout_of, weights_of, write_world

from segmenter_plugin.data.partition import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

EPOCHS = {"pretrain": {"epochs": 4}, "finetune": {"probe_epochs": 4, "epochs": 4}}
#: Checkpoints of the three parts of training.
PARTS = {"pretrain": "pretrain-*", "heads": "finetune-*/heads", "whole": "finetune-*/whole"}


def _start(folder: Path, stage: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*SEGMENTER, "-q", stage],
        cwd=folder,
        env=ONE_THREAD,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.txt").open("a"),
    )


def _end(folder: Path, stage: str) -> None:
    assert _start(folder, stage).wait() == 0, (folder / "stderr.txt").read_text()[-4000:]


def _kill_when(folder: Path, stage: str, seen: Callable[[], bool]) -> bool:
    """Whether it was killed before it ended."""
    process = _start(folder, stage)
    while process.poll() is None:
        if seen():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.002)
    assert process.returncode == 0, (folder / "stderr.txt").read_text()[-4000:]
    return False


def _checkpoints(folder: Path, part: str) -> set[str]:
    return {path.name for path in layout_of(folder).training.glob(f"{PARTS[part]}/checkpoint-*")}


def _sealed(folder: Path, part: str) -> set[str]:
    return {path.parent.name for path in layout_of(folder).training.glob(f"{PARTS[part]}/checkpoint-*/seal.json")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_world(folder, **EPOCHS)
    for stage in ("pretrain", "finetune"):
        _end(folder, stage)
    return folder


def test_training_killed_at_many_points_ends_with_the_same_weights(undisturbed: Path, tmp_path: Path) -> None:
    write_world(tmp_path, **EPOCHS)
    kills = 0
    for stage, parts in (("pretrain", ("pretrain",)), ("finetune", ("heads", "whole"))):
        for part in parts:
            for kept in (_checkpoints, _sealed):
                # The moment a checkpoint's folder appears it is half written; when its seal does, it is whole.
                before = kept(tmp_path, part)
                kills += _kill_when(tmp_path, stage, lambda: bool(kept(tmp_path, part) - before))  # noqa: B023
        _end(tmp_path, stage)
    assert kills >= 5
    expected, got = weights_of(undisturbed), weights_of(tmp_path)
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    for place in ("pretrained", "encoder"):
        manifests = [read_manifest(getattr(layout_of(folder), place)) for folder in (undisturbed, tmp_path)]
        assert manifests[0]["model_version"] == manifests[1]["model_version"]


def test_a_run_whose_newest_checkpoint_is_spoiled_ends_with_the_same_weights(undisturbed: Path, tmp_path: Path) -> None:
    write_world(tmp_path, **EPOCHS)
    assert _kill_when(tmp_path, "pretrain", lambda: len(_sealed(tmp_path, "pretrain")) == 2)
    seals = layout_of(tmp_path).training.glob("pretrain-*/checkpoint-*/seal.json")
    newest = max(seals, key=lambda path: path.stat().st_mtime)
    weights = newest.with_name("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    for stage in ("pretrain", "finetune"):
        _end(tmp_path, stage)
    assert "model.safetensors changed after it was written" in (tmp_path / "stderr.txt").read_text()
    expected, got = weights_of(undisturbed), weights_of(tmp_path)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
