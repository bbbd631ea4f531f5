"""Self-supervised training of an encoder on sequences alone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from transformers import set_seed

from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import Examples
from segmenter_plugin.data.features import Features
from segmenter_plugin.model.backbone import read_weights
from segmenter_plugin.model.encoder import EncoderSettings, SequenceEncoder
from segmenter_plugin.model.examples import SequenceRows
from segmenter_plugin.model.objectives import WeightedObjectives
from segmenter_plugin.model.tensors import TensorBatch
from segmenter_plugin.model.training import Outcome, Plan, train


class _Pretraining(nn.Module):
    """Objectives in the shape that `train` takes."""

    def __init__(self, objectives: WeightedObjectives) -> None:
        super().__init__()
        self.objectives = objectives

    def forward(self, batch: TensorBatch, labels: dict[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002 - train's call
        return {"loss": self.objectives(batch)["loss"]}


def pretrain_encoder(
    features: Features, training: Examples, validation: Examples, config: Config, folder: Path
) -> tuple[SequenceEncoder, Outcome]:
    """Make an encoder and train it by the configured objectives.

    Args:
        features: How behaviour becomes numbers.
        training: Examples without labels.
        validation: Examples of other users.
        config: Reads `[encoder]`, `[pretrain]` and `[training] seed` and `wandb_project`.
        folder: Of this run's checkpoints and logs.

    Returns:
        The encoder on the CPU, and what the run gave. With ``epochs = 0`` the weights are as drawn
        (or read, see `hf_checkpoint`).

    Raises:
        ConfigError: An unknown objective, or a backbone that cannot be built.
        TrainingError: The loss is not a number.
    """
    set_seed(config.training.seed)
    encoder = SequenceEncoder(EncoderSettings.of(config.encoder, features))
    if config.encoder.hf_checkpoint is not None:
        read_weights(encoder.backbone, config.encoder.hf_checkpoint)
    objectives = WeightedObjectives(encoder, config.pretrain)
    if not config.pretrain.epochs:
        return encoder, Outcome(validation_loss=float("inf"), epochs=0.0, steps=0)
    plan = Plan(
        epochs=config.pretrain.epochs,
        batch_size=config.pretrain.batch_size,
        learning_rate=config.pretrain.learning_rate,
        weight_decay=0.01,
        patience=2,
        seed=config.training.seed,
        wandb_project=config.training.wandb_project,
    )
    outcome = train(
        _Pretraining(objectives), SequenceRows(training), SequenceRows(validation), plan, folder=folder, name="pretrain"
    )
    return encoder, outcome
