from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers.integrations import TensorBoardCallback

from segmenter_plugin.model.tracking import trackers


def test_tensorboard_is_always_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (told,) = trackers(tmp_path, "finetune", None)
    assert isinstance(told, TensorBoardCallback)
    assert not caplog.messages


def test_without_its_package_weights_and_biases_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with caplog.at_level(logging.WARNING, logger="segmenter_plugin"):
        assert len(trackers(tmp_path, "finetune", "shop")) == 1
    assert "pip install wandb" in caplog.text


def test_weights_and_biases_gets_the_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    run = SimpleNamespace(log=lambda values, step: sent.append((step, values)), finish=lambda: sent.append("end"))
    opened: dict[str, Any] = {}

    def init(**options: Any) -> Any:
        opened.update(options)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    _, told = trackers(tmp_path, "finetune", "shop")
    state: Any = SimpleNamespace(global_step=3, epoch=0.5)
    told.on_log(None, state, None, logs={"loss": 1.0})
    told.on_train_end(None, state, None)
    assert opened["project"] == "shop"
    assert sent == [(3, {"loss": 1.0, "epoch": 0.5}), "end"]
