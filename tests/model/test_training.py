from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from segmenter_plugin.errors import TrainingError
from segmenter_plugin.model import training as training_module
from segmenter_plugin.model.batches import EpochSampler, alike
from segmenter_plugin.model.checkpoints import newest_checkpoint, seal
from segmenter_plugin.model.examples import SequenceRows
from segmenter_plugin.model.training import Outcome, Plan, optimizer_of, train

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


class Mean(nn.Module):
    """Learns one number by a squared error: its gradient is the mean of what the rows miss it by."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(1, 1))

    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.value - rows) ** 2).mean()}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Rows that are their own number, of very different lengths."""

    count: int
    #: Gradients are cut at a norm of 1.
    unit: ClassVar[float] = 1e-3

    @property
    def lengths(self) -> np.ndarray:
        return np.arange(self.count) ** 2

    def collate(self, rows: Any) -> dict[str, torch.Tensor]:
        return {"rows": torch.as_tensor(rows) * self.unit}


def test_each_example_weighs_the_same_in_batches_of_any_size(tmp_path: Path) -> None:
    # So small a rate that every gradient is taken at the same place.
    rate, epochs = 1e-7, 1
    plan = Plan(
        epochs=epochs, batch_size=8, learning_rate=rate, weight_decay=0.0, patience=None, seed=1, warmup_share=0.0,
        buckets=4, optimizer="sgd", schedule="constant",
    )  # fmt: skip
    rows, model = Numbers(64), Mean()
    sampler = EpochSampler(rows.lengths, 8, 4, seed=1)
    assert len({len(batch) for batch in sampler}) > 3
    train(model, rows, Numbers(10), plan, folder=tmp_path, name="finetune")
    value = momentum = 0.0
    for batch in sampler:
        momentum = 0.9 * momentum + 2 * sum(row * Numbers.unit for row in batch) / (64 / len(sampler))
        value += rate * momentum
    assert model.value.item() == pytest.approx(value, rel=1e-3)


def test_a_step_in_parts_learns_what_it_learns_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(epochs=2, batch_size=8, learning_rate=0.1, weight_decay=0.0, patience=None, seed=1, buckets=1)
    rows = Numbers(64)
    assert max(len(alike(np.array(batch), rows.lengths)) for batch in EpochSampler(rows.lengths, 8, 1, seed=1)) > 2
    models = Mean(), Mean()
    train(models[0], rows, Numbers(10), plan, folder=tmp_path / "parts", name="finetune")
    monkeypatch.setattr(training_module, "alike", lambda chosen, _: [chosen])
    train(models[1], rows, Numbers(10), plan, folder=tmp_path / "whole", name="finetune")
    assert models[0].value.item() == pytest.approx(models[1].value.item(), rel=1e-5) != 0.0


def test_the_validation_loss_is_the_mean_over_users(tmp_path: Path) -> None:
    plan = Plan(epochs=1, batch_size=8, learning_rate=1e-9, weight_decay=0.0, patience=None, seed=1)
    outcome = train(Mean(), Numbers(64), Numbers(37), plan, folder=tmp_path, name="finetune")
    assert outcome.validation_loss == pytest.approx(np.mean((np.arange(37.0) * Numbers.unit) ** 2), rel=1e-6)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.layer = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.held = nn.Linear(3, 3).requires_grad_(False)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_only_matrices_are_decayed_and_what_is_frozen_is_left_out(name: Any, kind: type) -> None:
    model = Parts()
    optimizer = optimizer_of(model, dataclasses.replace(PLAN, optimizer=name, weight_decay=0.5))
    assert isinstance(optimizer, kind)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {
        names[id(parameter)]: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decay == {
        "layer.weight": 0.5,
        "layer.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "table.weight": 0.0,
    }


def rates(folder: Path) -> list[float]:
    states = [json.loads(path.read_text()) for path in folder.glob("checkpoint-*/trainer_state.json")]
    newest = max(states, key=lambda state: state["global_step"])
    return [entry["learning_rate"] for entry in newest["log_history"] if "learning_rate" in entry]


def test_the_rate_follows_its_schedule(shop: Any, tmp_path: Path) -> None:
    found = {}
    for schedule in ("linear", "cosine", "constant"):
        plan = dataclasses.replace(PLAN, schedule=schedule, warmup_share=0.5)
        run(linear(shop), shop, tmp_path / schedule, plan)
        found[schedule] = rates(tmp_path / schedule)
    for seen in found.values():
        assert seen[0] < seen[len(seen) // 2 - 1] <= max(seen)
    assert found["constant"][-1] == PLAN.learning_rate
    assert found["linear"][-1] < 0.1 * PLAN.learning_rate
    late = 3 * len(found["linear"]) // 4
    assert found["cosine"][late] == pytest.approx(found["linear"][late], rel=0.5)
    assert found["cosine"][-1] < found["linear"][-1]


def test_a_checkpoint_of_another_model_is_refused(shop: Any, tmp_path: Path) -> None:
    run(linear(shop), shop, tmp_path)
    for path in ("outcome.json", "best.safetensors"):
        (tmp_path / path).unlink()
    with pytest.raises(TrainingError, match="cannot go on from the checkpoint") as caught:
        run(Linear(shop.features.context.width + 1), shop, tmp_path)
    assert "remove the folder" in str(caught.value.hint)


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_a_checkpoint_that_holds_code_is_not_run(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(linear(shop), shop, tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in ("outcome.json", "best.safetensors"):
        (tmp_path / path).unlink()
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    torch.save(Harmful(), checkpoint / "optimizer.pt")
    seal(checkpoint)
    with pytest.raises(TrainingError, match="cannot go on from the checkpoint"):
        run(linear(shop), shop, tmp_path)
    assert not (tmp_path / "harmed").exists()
