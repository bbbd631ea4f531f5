"""One training run through Hugging Face's `Trainer`: bucketed batches, early stopping, resume, plain log lines."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.utils.data import Dataset, Sampler
from torch.utils.tensorboard import SummaryWriter
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback

from segmenter_plugin.data.batch import length_bucketed
from segmenter_plugin.errors import TrainingError
from segmenter_plugin.model.examples import TrainingRows

logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"
_BEST, _OUTCOME = "best.safetensors", "outcome.json"


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        epochs: Most passes over the training examples.
        batch_size: Users a step.
        learning_rate: Of AdamW (Loshchilov and Hutter 2019), at the end of the warm-up.
        weight_decay: Of AdamW.
        warmup_share: Share of the steps over which the rate rises; then it falls linearly to 0.
        buckets: Batches a window that is sorted by length; 1 mixes lengths, which trains heads better and pads more.
        patience: Epochs without a better validation loss before training stops with the best epoch's weights; None goes
            to the end of the schedule and keeps the last weights.
        seed: Of weights, order, dropout and masks.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int | None
    seed: int
    warmup_share: float = 0.1
    buckets: int = 50


@dataclass(frozen=True)
class Outcome:
    """What a run gave; the model holds the weights that were kept.

    Attributes:
        validation_loss: Of the weights that were kept; infinite where nothing was trained.
        epochs: Epochs that ran.
        steps: Optimiser steps that ran.
    """

    validation_loss: float
    epochs: float
    steps: int


def train(
    model: nn.Module, training: TrainingRows, validation: TrainingRows, plan: Plan, *, folder: Path, name: str
) -> Outcome:
    """Train a model in place and leave it with its best (or last: see `Plan.patience`) weights.

    A run that was killed goes on from its newest whole checkpoint in `folder`, to the same weights.

    Args:
        model: Its ``forward(batch, labels)`` gives a dictionary with a scalar ``loss``.
        training: What to learn from.
        validation: Examples of other users, for early stopping.
        plan: How to train.
        folder: Checkpoints and TensorBoard logs of this run alone.
        name: Of the run, in log lines.

    Raises:
        TrainingError: The loss is not a number.
    """
    finished = _finished(model, folder)
    if finished is not None:
        logger.info("%s: finished before, validation loss %.4f", name, finished.validation_loss)
        return finished
    steps = math.ceil(len(training.lengths) / plan.batch_size)
    trainer = _BucketedTrainer(
        model=model,
        args=_arguments(plan, folder, steps),
        train_dataset=_Rows(len(training.lengths)),
        eval_dataset=_Rows(len(validation.lengths)),
        callbacks=[
            _LogLines(name),
            TensorBoardCallback(tb_writer=SummaryWriter(log_dir=str(folder / "tensorboard"))),
            *([] if plan.patience is None else [EarlyStoppingCallback(early_stopping_patience=plan.patience)]),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.use_examples(training, validation, plan.buckets)
    trainer.optimizer = _optimizer(model.to(trainer.args.device), plan)
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None:
        logger.info("%s: resuming from %s", name, checkpoint.name)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    model.to("cpu")
    kept = trainer.state.best_metric if plan.patience is not None else _last_validation_loss(trainer.state)
    if kept is None or not math.isfinite(kept):
        raise _not_a_number(name, kept)
    logger.info("%s: kept weights of validation loss %.4f after %.3g epochs", name, kept, trainer.state.epoch or 0.0)
    outcome = Outcome(float(kept), float(trainer.state.epoch or 0.0), trainer.state.global_step)
    return _finish(model, folder, outcome)


def _optimizer(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW; vectors (biases, norms) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)


def _last_validation_loss(state: TrainerState) -> float | None:
    losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    return losses[-1] if losses else None


def _finished(model: nn.Module, folder: Path) -> Outcome | None:
    """What a run in this folder gave, if it came to its end; the model then holds its weights."""
    try:
        outcome = Outcome(**json.loads((folder / _OUTCOME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    load_model(model, folder / _BEST)
    return outcome


def _finish(model: nn.Module, folder: Path, outcome: Outcome) -> Outcome:
    """Keep the result: a later part that is killed shall not train this one again."""
    save_model(model, str(folder / _BEST))
    aside = folder / f"{_OUTCOME}.new"
    aside.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    aside.replace(folder / _OUTCOME)
    return outcome


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: `Trainer` writes its state last, and in place."""
    steps = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*") if path.is_dir()}
    for step in sorted(steps, reverse=True):
        try:
            state = json.loads((steps[step] / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if state.get("global_step") == step:
            return steps[step]
    return None


def _arguments(plan: Plan, folder: Path, steps_per_epoch: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=2 * plan.batch_size,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(plan.warmup_share * plan.epochs * steps_per_epoch),
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=plan.patience is not None,
        metric_for_best_model="loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_steps=max(1, steps_per_epoch // 4),
        logging_nan_inf_filter=False,
        prediction_loss_only=True,
        label_names=["labels"],
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=plan.seed,
        data_seed=plan.seed,
    )


class _Rows(Dataset[int]):
    """Row numbers: a batch is gathered whole by the collator, which is far cheaper than row by row."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> int:
        return row


class _BucketSampler(Sampler[int]):
    """Rows in an order whose runs of a batch have like lengths; each epoch draws another, the same after a resume."""

    def __init__(self, examples: TrainingRows, batch_size: int, buckets: int, seed: int) -> None:
        self._lengths = examples.lengths
        self._batch_size = batch_size
        self._buckets = buckets
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self._seed, self._epoch])
        shuffled = generator.permutation(len(self._lengths))
        batches = length_bucketed(self._lengths, self._batch_size, shuffled, self._buckets)
        whole = [batch for batch in batches if len(batch) == self._batch_size]
        # A short batch in the middle would shift the ones after it across bucket borders.
        rest = [batch for batch in batches if len(batch) < self._batch_size]
        order = [whole[at] for at in generator.permutation(len(whole))]
        for batch in [*order, *rest]:
            yield from batch.tolist()


class _BucketedTrainer(Trainer):  # type: ignore[misc]
    """`Trainer` over examples in memory."""

    def use_examples(self, training: TrainingRows, validation: TrainingRows, buckets: int) -> None:
        """The examples that the row numbers of the two data sets mean, and how widely they are sorted by length."""
        self._training, self._validation, self._buckets = training, validation, buckets

    def get_train_dataloader(self) -> Any:
        """Training batches."""
        self.data_collator = self._training.collate
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Validation batches."""
        self.data_collator = self._validation.collate
        return super().get_eval_dataloader(eval_dataset)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ARG002 - Trainer's signature
        return _BucketSampler(self._training, self._train_batch_size, self._buckets, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:  # noqa: ARG002 - Trainer's signature
        return _LengthOrder(self._validation)


class _LengthOrder(Sampler[int]):
    """Rows by length, longest first."""

    def __init__(self, examples: TrainingRows) -> None:
        self._order = np.argsort(-examples.lengths, kind="stable")

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[int]:
        return iter(self._order.tolist())


class _LogLines(TrainerCallback):  # type: ignore[misc]
    """One plain line a log event, and an end to training that gives no numbers."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - Trainer's signature
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - Trainer's signature
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Check and tell the losses."""
        losses = {key: logs[key] for key in ("loss", "eval_loss") if key in logs}
        for key, value in losses.items():
            if not math.isfinite(value):
                raise _not_a_number(self._name, value)
            told = {"loss": "training loss", "eval_loss": "validation loss"}[key]
            logger.info("%s: epoch %.2f of %.3g, %s %.4f", self._name, state.epoch, state.num_train_epochs, told, value)


def _not_a_number(name: str, value: float | None) -> TrainingError:
    return TrainingError(
        f"{name}: the loss is {value}, so the weights are unusable.",
        hint=f"lower the learning rate of [{name.split(maxsplit=1)[0]}], and look for extreme amounts in the events.",
    )
