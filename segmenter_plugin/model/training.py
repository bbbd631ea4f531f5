"""One training run through Hugging Face's `Trainer`: bucketed batches, early stopping, resume, plain log lines."""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from segmenter_plugin.data.durable import replace_text
from segmenter_plugin.errors import TrainingError
from segmenter_plugin.model.batches import EpochSampler, alike
from segmenter_plugin.model.checkpoints import newest_checkpoint, seal
from segmenter_plugin.model.examples import TrainingRows
from segmenter_plugin.model.processes import is_first, of_first, process_count, process_number, wait_for_all
from segmenter_plugin.model.tracking import LogLines, not_a_number, trackers

logger = logging.getLogger(__name__)

_BEST, _OUTCOME = "best.safetensors", "outcome.json"
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
#: Keys of what the collator gives: a step's parts, and the users of a part; no model sees them.
_PARTS, _USERS = "parts", "users"


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        epochs: Most passes over the training examples.
        batch_size: Mean users a step, of all processes together.
        learning_rate: Of the optimizer, at the end of the warm-up.
        weight_decay: Of matrices; biases, norms and embeddings are not decayed.
        patience: Epochs without a better validation loss before training stops with the best epoch's weights; None goes
            to the end of the schedule and keeps the last weights.
        seed: Of weights, order, dropout and masks.
        warmup_share: Share of the steps over which the rate rises; then it follows the schedule.
        buckets: Batches a window that is sorted by length; 1 mixes lengths, which trains better and pads more.
        optimizer: ``adamw`` (Loshchilov and Hutter 2019), or ``sgd`` with a momentum of 0.9.
        schedule: Of the rate: linearly or as a cosine down to 0, or constant.
        wandb_project: Of Weights & Biases, which is told of the losses too.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int | None
    seed: int
    warmup_share: float = 0.1
    buckets: int = 50
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    wandb_project: str | None = None


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

    A run that was killed goes on from its newest whole checkpoint in `folder`, to the same weights. Several processes
    (`model.processes`) may call this together, on the same examples: each learns from its share of every step, and all
    end with the same weights.

    Args:
        model: Its ``forward(batch, labels)`` gives a dictionary with a scalar ``loss``, a mean over users.
        training: What to learn from.
        validation: Examples of other users, for early stopping.
        plan: How to train.
        folder: Checkpoints and TensorBoard logs of this run alone.
        name: Of the run, in log lines.

    Raises:
        TrainingError: The loss is not a number, there are fewer examples than processes, or the newest checkpoint is of
            another model.
    """
    finished = _finished(model, folder)
    if finished is not None:
        logger.info("%s: finished before, validation loss %.4f", name, finished.validation_loss)
        return finished
    _require_enough(training, name)
    trainer = _trainer(model, training, validation, plan, folder=folder, name=name)
    checkpoint = of_first(newest_checkpoint(folder) if is_first() else None)
    if checkpoint is not None:
        logger.info("%s: resuming from %s", name, checkpoint.name)
    _run(trainer, model, checkpoint)
    model.to("cpu")
    kept = trainer.state.best_metric if plan.patience is not None else _last_validation_loss(trainer.state)
    if kept is None or not math.isfinite(kept):
        raise not_a_number(name, kept)
    logger.info("%s: kept weights of validation loss %.4f after %.3g epochs", name, kept, trainer.state.epoch or 0.0)
    outcome = Outcome(float(kept), float(trainer.state.epoch or 0.0), trainer.state.global_step)
    if is_first():
        _finish(model, folder, outcome)
    wait_for_all()
    return outcome


def _require_enough(training: TrainingRows, name: str) -> None:
    if len(training.lengths) < process_count():
        raise TrainingError(
            f"{name}: {len(training.lengths)} training examples cannot be shared by {process_count()} processes.",
            hint="start fewer processes, or give more users.",
        )


def _trainer(
    model: nn.Module, training: TrainingRows, validation: TrainingRows, plan: Plan, *, folder: Path, name: str
) -> _BucketedTrainer:
    # Joins the processes that torchrun started, so it comes before their number is asked for.
    arguments = _arguments(plan, folder)
    sampler = EpochSampler(
        training.lengths,
        plan.batch_size,
        plan.buckets,
        seed=plan.seed,
        process=process_number(),
        processes=process_count(),
    )
    arguments.warmup_steps = math.ceil(plan.warmup_share * plan.epochs * len(sampler))
    arguments.logging_steps = max(1, len(sampler) // 4)
    trainer = _BucketedTrainer(
        model=model,
        args=arguments,
        train_dataset=_Rows(len(training.lengths)),
        eval_dataset=_Rows(len(validation.lengths)),
        callbacks=[
            LogLines(name),
            *(trackers(folder, name, plan.wandb_project) if is_first() else []),
            *([] if plan.patience is None else [EarlyStoppingCallback(early_stopping_patience=plan.patience)]),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.use_examples(training, validation, sampler)
    trainer.optimizer = optimizer_of(model.to(arguments.device), plan)
    if process_count() > 1:
        # `Trainer` seeds all processes alike; each drops and hides at random on its own.
        torch.manual_seed(plan.seed + process_number())
    return trainer


def _run(trainer: Trainer, model: nn.Module, checkpoint: Path | None) -> None:
    if checkpoint is None:
        trainer.train()
        return
    try:
        # `Trainer` would leave out what does not fit, in silence.
        load_model(model, checkpoint / "model.safetensors")
    except (RuntimeError, SafetensorError) as error:
        raise _unusable(checkpoint, error) from error
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint))
    except pickle.UnpicklingError as error:
        raise _unusable(checkpoint, error) from error


def _unusable(checkpoint: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"training cannot go on from the checkpoint {str(checkpoint)!r}: {error}",
        hint=f"remove the folder {str(checkpoint.parent)!r}; training then starts from its beginning.",
    )


def optimizer_of(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimizer over what is trained; biases, norms (both vectors) and embeddings are not decayed."""
    embeddings = {
        parameter for module in model.modules() if isinstance(module, nn.Embedding) for parameter in module.parameters()
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1 and parameter not in embeddings]
    kept = [parameter for parameter in trained if parameter.ndim <= 1 or parameter in embeddings]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=0.9)
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


def _finish(model: nn.Module, folder: Path, outcome: Outcome) -> None:
    """Keep the result: a later part that is killed shall not train this one again."""
    save_model(model, str(folder / _BEST))
    replace_text(folder / _OUTCOME, json.dumps(asdict(outcome)))


def _arguments(plan: Plan, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        lr_scheduler_type=_SCHEDULES[plan.schedule],
        # Without it, processes on a machine without a GPU would not find each other.
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=plan.patience is not None,
        metric_for_best_model="loss",
        greater_is_better=False,
        restore_callback_states_from_checkpoint=True,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        # The rotary frequencies are buffers, and the same everywhere.
        ddp_broadcast_buffers=False,
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

    def __getitems__(self, rows: list[int]) -> list[int]:
        return rows


class _EpochLoader(DataLoader[int]):
    """`Trainer` tells its loader of each epoch, and would not find a batch sampler that is not accelerate's."""

    def set_epoch(self, epoch: int) -> None:
        """Pass it on."""
        if isinstance(self.batch_sampler, EpochSampler):
            self.batch_sampler.set_epoch(epoch)


def _in_parts(examples: TrainingRows) -> Callable[[Sequence[int]], dict[str, Any]]:
    lengths = examples.lengths

    def collate(rows: Sequence[int]) -> dict[str, Any]:
        parts = alike(np.asarray(rows), lengths)
        return {_PARTS: [examples.collate(part.tolist()) | {_USERS: len(part)} for part in parts]}

    return collate


class _BucketedTrainer(Trainer):  # type: ignore[misc]
    """`Trainer` over examples in memory, in batches of unlike sizes, in which each example weighs the same.

    The loaders are not accelerate's: its sharding repeats rows to make batches even, while `EpochSampler` knows its
    process's share.
    """

    control: TrainerControl

    def use_examples(self, training: TrainingRows, validation: TrainingRows, sampler: EpochSampler) -> None:
        """The examples that the row numbers of the two data sets mean, and the order of the first."""
        self._training, self._validation, self._sampler = training, validation, sampler
        # Without gradients there is room for twice as many.
        self._users_to_judge = 2 * self.args.per_device_train_batch_size

    def get_train_dataloader(self) -> Any:
        """Training batches."""
        return _EpochLoader(
            self.train_dataset,
            batch_sampler=self._sampler,
            collate_fn=_in_parts(self._training),
            pin_memory=self.args.dataloader_pin_memory,
        )

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Add up the gradients of a step's parts; processes exchange theirs once."""
        *others, last = inputs[_PARTS]
        losses = []
        for part in others:
            with self.accelerator.no_sync(model):
                losses.append(super().training_step(model, part, num_items_in_batch))
        losses.append(super().training_step(model, last, num_items_in_batch))
        return torch.stack(losses).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,  # noqa: ARG002 - Trainer's signature
    ) -> Any:
        """A part's mean loss, scaled to its users' share of a step's mean number of users.

        Gradients of several processes are averaged, so each counts for as many as there are.
        """
        users = inputs.pop(_USERS)
        outputs = model(**inputs)
        loss = outputs["loss"] * (users * process_count() / self._sampler.mean_users)
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,  # noqa: ARG002 - Trainer's signature
        ignore_keys: Any = None,  # noqa: ARG002 - Trainer's signature
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Mean loss over the validation users; each process takes its share of the batches."""
        # Not the wrapped model: its processes wait for each other at every batch, and have unlike numbers of them.
        model = self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        by_length = np.argsort(-self._validation.lengths, kind="stable")
        batches = np.array_split(by_length, math.ceil(len(by_length) / self._users_to_judge))
        with torch.no_grad(), self.compute_loss_context_manager():
            for rows in batches[process_number() :: process_count()]:
                inputs = self._prepare_inputs(self._validation.collate(rows.tolist()))
                total += model(**inputs)["loss"].mean().double() * len(rows)
        mean = self.accelerator.reduce(total).item() / len(self._validation.lengths)
        metrics = {f"{metric_key_prefix}_loss": mean}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        # Each process writes the state of its own random numbers.
        wait_for_all()
        if is_first():
            seal(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}")
        wait_for_all()
