from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import signal as signals
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from segmenter_plugin.errors import TrainingError
from segmenter_plugin.model.examples import SequenceRows
from segmenter_plugin.model.training import Outcome, Plan, _BucketSampler, newest_checkpoint, train

PLAN = Plan(epochs=4, batch_size=32, learning_rate=1e-2, weight_decay=0.01, patience=4, seed=3)
LABEL = "purchase_14d_label"


class Linear(nn.Module):
    """The smallest thing that `train` takes: a logistic regression on the context."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(width, 1)
        self.dropout = nn.Dropout(0.2)

    def forward(self, batch: Any, labels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = self.layer(self.dropout(batch["context"]))[:, 0]
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels[LABEL])}


def linear(shop: Any) -> Linear:
    return Linear(shop.features.context.width)


def run(model: nn.Module, shop: Any, folder: Path, plan: Plan = PLAN) -> Outcome:
    return train(
        model, SequenceRows(shop.training), SequenceRows(shop.validation), plan, folder=folder, name="finetune"
    )


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_learns_and_keeps_the_best_epoch(shop: Any, tmp_path: Path) -> None:
    model = linear(shop)
    outcome = run(model, shop, tmp_path)
    assert outcome.epochs == 4
    assert outcome.validation_loss < math.log(2)
    batch = {"context": torch.from_numpy(shop.validation.sequences.context)}
    labels = {LABEL: torch.from_numpy(shop.validation.labels[LABEL])}
    with torch.no_grad():
        assert model.eval()(batch, labels)["loss"].item() == pytest.approx(outcome.validation_loss, rel=1e-4)


def test_one_seed_gives_one_set_of_weights(shop: Any, tmp_path: Path) -> None:
    models = [linear(shop) for _ in range(3)]
    for place, (model, seed) in enumerate(zip(models, (3, 3, 4), strict=True)):
        plan = dataclasses.replace(PLAN, seed=seed)
        run(model, shop, tmp_path / str(place), plan)
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


def test_training_stops_when_validation_gets_no_better(shop: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random(len(shop.training)) < 0.5
    random_labels = dataclasses.replace(shop.training, labels={LABEL: noise.astype(np.float32)})
    plan = dataclasses.replace(PLAN, epochs=60, patience=2, learning_rate=0.1)
    assert run(linear(shop), dataclasses.replace(shop, training=random_labels), tmp_path, plan).epochs < 60


def test_without_patience_the_last_weights_stay(shop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = np.random.default_rng(0).random(len(shop.training)) < 0.5
    random_labels = dataclasses.replace(shop.training, labels={LABEL: noise.astype(np.float32)})
    plan = dataclasses.replace(PLAN, epochs=8, patience=None, learning_rate=0.1)
    with caplog.at_level(logging.INFO, logger="segmenter_plugin"):
        outcome = run(linear(shop), dataclasses.replace(shop, training=random_labels), tmp_path, plan)
    losses = [float(line.rpartition(" ")[2]) for line in caplog.messages if ", validation loss" in line]
    assert outcome.epochs == 8
    assert outcome.validation_loss == pytest.approx(losses[7], abs=1e-4) != pytest.approx(min(losses), abs=1e-4)


def test_a_loss_that_is_no_number_stops_training(shop: Any, tmp_path: Path) -> None:
    labels = np.full(len(shop.training), np.nan, dtype=np.float32)
    broken = dataclasses.replace(shop.training, labels={LABEL: labels})
    with pytest.raises(TrainingError, match="finetune: the loss is nan"):
        run(linear(shop), dataclasses.replace(shop, training=broken), tmp_path)


def test_progress_is_logged_and_lands_in_tensorboard(
    shop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="segmenter_plugin"):
        run(linear(shop), shop, tmp_path)
    assert sum("validation loss" in line for line in caplog.messages) == 5
    assert capsys.readouterr().out == ""
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("damage", ["absent", "cut", "of another step"])
def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path, damage: str) -> None:
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    newest = tmp_path / "checkpoint-10" / "trainer_state.json"
    assert newest_checkpoint(tmp_path) == newest.parent
    if damage == "absent":
        newest.unlink()
    else:
        newest.write_text('{"global_step": 1' if damage == "cut" else '{"global_step": 2}')
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "absent") is None


class Killed(Exception):  # noqa: N818 - a stand-in for a signal
    """What ends a run in the test of resuming."""


def test_a_run_that_was_cut_short_resumes_to_the_same_weights(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = linear(shop)
    run(whole, shop, tmp_path / "whole")

    calls = 0
    forward = Linear.forward

    def dies(self: Linear, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += self.training
        if calls > 25:
            raise Killed
        return forward(self, *args, **kwargs)

    cut = linear(shop)
    with monkeypatch.context() as patch:
        patch.setattr(Linear, "forward", dies)
        with pytest.raises(Killed):
            run(cut, shop, tmp_path / "cut")
    assert newest_checkpoint(tmp_path / "cut") is not None
    resumed = linear(shop)
    outcome = run(resumed, shop, tmp_path / "cut")
    assert outcome.epochs == 4
    assert torch.equal(weights(whole), weights(resumed))


def test_a_finished_run_is_not_run_again(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = linear(shop)
    outcome = run(first, shop, tmp_path)
    monkeypatch.setattr(Linear, "forward", None)
    again = linear(shop)
    assert run(again, shop, tmp_path) == outcome
    assert torch.equal(weights(first), weights(again))


@pytest.mark.parametrize("buckets", [1, 3])
def test_each_epoch_has_an_order_of_its_own_that_a_resume_draws_again(shop: Any, buckets: int) -> None:
    sampler = _BucketSampler(SequenceRows(shop.training), batch_size=8, buckets=buckets, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(len(sampler)))


PROGRAM = """
import sys
from pathlib import Path
import importlib.util, torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("signal_tables", sys.argv[1])
signal = importlib.util.module_from_spec(spec); spec.loader.exec_module(signal)
from segmenter_plugin.stages.train import finetune, pretrain
root = Path(sys.argv[2])
config = signal.signal_config(root, pretrain={"epochs": 4}, finetune={"epochs": 6})
pretrain(config)
print(finetune(config)["model_version"])
"""


@pytest.mark.slow
def test_training_that_was_killed_gives_the_same_model_when_run_again(signal: Any, tmp_path: Path) -> None:
    tables = str(Path(__file__).parents[1] / "signal_tables.py")
    roots = [tmp_path / "whole", tmp_path / "killed"]
    for root in roots:
        config = signal.signal_config(root, pretrain={"epochs": 4}, finetune={"epochs": 6})
        for cutoff in config.training_cutoffs:
            signal.write_cutoff(config, cutoff, signal.users_of(200))
    command = [sys.executable, "-c", PROGRAM, tables]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = subprocess.run([*command, str(roots[0])], check=True, capture_output=True, text=True, env=environment)
    kills = 0
    for stage in ("pretrain-*", "finetune-*"):
        process = subprocess.Popen([*command, str(roots[1])], env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(roots[1].glob(f"training/**/{stage}/**/checkpoint-*")):
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signals.SIGKILL)
            kills += 1
        process.wait()
    assert kills == 2
    again = subprocess.run([*command, str(roots[1])], check=True, capture_output=True, text=True, env=environment)
    assert again.stdout == whole.stdout
    assert len(whole.stdout.strip()) == 16
