from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from segmenter_plugin.model.checkpoints import newest_checkpoint, seal

FILES = ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json")


def write(folder: Path, step: int, best: Path | None = None) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir()
    for name in FILES[:-1]:
        (checkpoint / name).write_bytes(bytes(100))
    state = {"global_step": step, "best_model_checkpoint": None if best is None else str(best)}
    (checkpoint / FILES[-1]).write_text(json.dumps(state))
    return checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 10):
        seal(write(tmp_path, step))
    return tmp_path


def test_the_newest_is_taken(folder: Path) -> None:
    assert newest_checkpoint(folder) == folder / "checkpoint-10"


@pytest.mark.parametrize("name", [*FILES, "seal.json"])
@pytest.mark.parametrize("damage", ["cut", "absent", "changed"])
def test_one_that_is_not_whole_is_passed_over(
    folder: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "checkpoint-10" / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "absent":
        path.unlink()
    else:
        path.write_bytes(b"1" + path.read_bytes()[1:])
    with caplog.at_level(logging.WARNING, logger="segmenter_plugin"):
        assert newest_checkpoint(folder) == folder / "checkpoint-2"
    assert "checkpoint-10" in caplog.text
    assert (name in caplog.text) != (name == "seal.json")


def test_one_without_a_seal_was_not_written_to_its_end(folder: Path) -> None:
    write(folder, 20)
    assert newest_checkpoint(folder) == folder / "checkpoint-10"


def test_if_none_is_whole_training_starts_anew_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for checkpoint in folder.iterdir():
        (checkpoint / "optimizer.pt").write_bytes(b"")
    assert newest_checkpoint(folder) is None
    assert "starts from its beginning" in caplog.text


def test_the_best_one_so_far_must_be_whole_too(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    seal(write(folder, 20, best=folder / "checkpoint-2"))
    assert newest_checkpoint(folder) == folder / "checkpoint-20"
    (folder / "checkpoint-2" / "model.safetensors").write_bytes(b"")
    assert newest_checkpoint(folder) == folder / "checkpoint-10"
    assert "its best weights so far are in checkpoint-2" in caplog.text


def test_a_best_one_elsewhere_is_not_trusted(folder: Path) -> None:
    seal(write(folder, 20, best=folder.parent / "elsewhere" / "checkpoint-2"))
    assert newest_checkpoint(folder) == folder / "checkpoint-10"


def test_nothing_to_resume_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None
    assert not caplog.messages
