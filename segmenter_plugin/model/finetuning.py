"""Supervised training of an encoder and its heads on value labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn
from transformers import set_seed

from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import Examples
from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.augmentation import Augmentation
from segmenter_plugin.model.encoder import SequenceEncoder, Summary
from segmenter_plugin.model.examples import PooledRows, SequenceRows
from segmenter_plugin.model.freezing import frozen_below
from segmenter_plugin.model.heads import TaskHeads
from segmenter_plugin.model.tensors import TensorBatch
from segmenter_plugin.model.training import Outcome, Plan, train

logger = logging.getLogger(__name__)

#: Batches of the whole that make one batch of the heads.
_PROBE_BATCHES = 4


class _Probing(nn.Module):
    """Summary and heads on pooled sequences, in the shape that `train` takes."""

    def __init__(self, summary: Summary, heads: TaskHeads) -> None:
        super().__init__()
        self.summary = summary
        self.heads = heads

    def forward(self, pooled: Tensor, context: Tensor, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.heads.loss(self.summary(pooled, context), labels)}


class _Finetuning(nn.Module):
    """Encoder and heads in the shape that `train` takes."""

    def __init__(self, encoder: SequenceEncoder, heads: TaskHeads, augmentation: Augmentation) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads
        self._augmentation = augmentation

    def forward(self, batch: TensorBatch, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden: Tensor | None = None
        if self.training:
            batch, hidden = self._augmentation(batch)
        return {"loss": self.heads.loss(self.encoder(batch, hidden).embedding, labels)}


def finetune_encoder(
    encoder: SequenceEncoder,
    targets: Sequence[Target],
    training: Examples,
    validation: Examples,
    *,
    config: Config,
    folder: Path,
    seed: int,
) -> tuple[TaskHeads, Outcome]:
    """Train an encoder, in place, together with new heads: first summary and heads alone, then everything.

    Random heads would distort what pretraining taught, so they are trained first, on pooled sequences that are
    computed once (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", arXiv 2202.10054, section 3.4);
    many epochs of that cost less than one of the whole. If no epoch of the whole does better on the validation users,
    the first part's weights stay.

    Args:
        encoder: Pretrained, or as drawn.
        targets: What the heads predict.
        training: Examples with labels; censored ones (NaN) count for nothing.
        validation: Examples of other users, for early stopping.
        config: Reads `[encoder] dropout`, `[finetune]` and `[training] wandb_project`.
        folder: Of this run's checkpoints and logs.
        seed: Of the heads' first weights, the order and dropout.

    Returns:
        The heads on the CPU, and what the better part gave.

    Raises:
        ConfigError: `frozen_layers` is more than the backbone has.
        TrainingError: The loss is not a number.
    """
    set_seed(seed)
    settings = config.finetune
    heads = TaskHeads(
        targets,
        encoder.settings.embedding_size,
        config.encoder.dropout,
        settings.task_weights,
        weighting=settings.task_weighting,
    )
    plan = _probe_plan(config, seed)
    probed = Outcome(validation_loss=float("inf"), epochs=0.0, steps=0)
    if settings.probe_epochs:
        pooled = PooledRows.of(encoder, training), PooledRows.of(encoder, validation)
        probed = train(_Probing(encoder.summary, heads), *pooled, plan, folder=folder / "heads", name="finetune heads")
    if not settings.epochs:
        return heads, probed
    augmentation = Augmentation(settings.event_dropout, settings.crop_probability, settings.time_jitter_days)
    whole = _Finetuning(encoder, heads, augmentation)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    plan = replace(
        plan,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        patience=settings.patience,
    )
    rows = SequenceRows(training), SequenceRows(validation)
    with frozen_below(encoder, settings.frozen_layers):
        outcome = train(whole, *rows, plan, folder=folder / "whole", name="finetune")
    if outcome.validation_loss < probed.validation_loss:
        return heads, outcome
    logger.info("finetune: the heads alone did better (%.4f), so their weights stay", probed.validation_loss)
    whole.load_state_dict(before)
    return heads, probed


def _probe_plan(config: Config, seed: int) -> Plan:
    settings = config.finetune
    return Plan(
        epochs=settings.probe_epochs,
        # Heads cost little, so they can afford batches that make the value loss steady, and an end without luck:
        # its best epoch on few validation users is often a chance one, and ranks worse than the last.
        batch_size=_PROBE_BATCHES * settings.batch_size,
        learning_rate=settings.probe_learning_rate,
        weight_decay=settings.weight_decay,
        patience=None,
        seed=seed,
        warmup_share=settings.warmup_share,
        # Batches of one length are batches of one kind of user: they train heads badly, and most users are long.
        buckets=1,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        wandb_project=config.training.wandb_project,
    )
