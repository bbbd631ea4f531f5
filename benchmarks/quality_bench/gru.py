"""A GRU in plain torch: the sequence model a team writes first, as wide as the encoder, with its inputs and heads."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quality_bench.cells import Found
from quality_bench.world import World
from segmenter_plugin.columns import Columns
from segmenter_plugin.data.batch import RaggedSequences
from segmenter_plugin.data.dataset import Examples, Source, Split, load_examples
from segmenter_plugin.data.features import Features
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.data.targets import Target
from segmenter_plugin.model.artifact import UserEncoder
from segmenter_plugin.model.heads import TaskHeads
from segmenter_plugin.model.tensors import TensorBatch, to_tensors
from segmenter_plugin.stages.layout import Layout
from segmenter_plugin.stages.train import pretrain

logger = logging.getLogger("segmenter_plugin.benchmarks")

_BATCH = 64
_MOST_EPOCHS = 8


@dataclass(frozen=True)
class Setting:
    """What is tuned."""

    learning_rate: float
    dropout: float


#: As many trials as every baseline gets, one epoch each; the best one is then trained until it stops getting better.
SETTINGS = tuple(Setting(rate, dropout) for rate in (5e-4, 1e-3, 3e-3) for dropout in (0.1, 0.3))


class Gru(nn.Module):
    """Embeddings of an event's values beside its numbers and times, a GRU, its last state, the heads.

    Args:
        features: Give the vocabulary's sizes.
        numeric_width: Numbers of an event.
        targets: The tasks.
        width: Of the state.
        dropout: Before the heads and in them.
    """

    def __init__(
        self, features: Features, numeric_width: int, targets: Sequence[Target], width: int, dropout: float
    ) -> None:
        super().__init__()
        columns = features.vocabulary.columns
        self.tables = nn.ModuleDict(
            {name: nn.Embedding(features.vocabulary.size(name), 16, padding_idx=0) for name in columns}
        )
        self.gru = nn.GRU(16 * len(columns) + numeric_width + 2, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.heads = TaskHeads(targets, width, dropout)

    def state(self, batch: TensorBatch) -> Tensor:
        """State after a user's last event, (B, H)."""
        tables = [table(batch["categorical"][name]) for name, table in self.tables.items()]
        times = torch.log1p(torch.stack([batch["gaps"], batch["ages"]], dim=-1).clamp_min(0)) / 3
        states, _ = self.gru(torch.cat([*tables, batch["numeric"], times], dim=-1))
        last = batch["mask"].sum(dim=1).clamp_min(1) - 1
        state: Tensor = self.dropout(states[torch.arange(len(states)), last])
        return state


def predict_task(world: World, target: Target) -> Found:
    """Predictions of one task; one network learns all tasks, so the first asked for trains it."""
    outputs = _outputs(world)
    return Found(outputs[target.task.score_columns[0]].astype(np.float64), {"setting": str(outputs["setting"])})


_KEPT: dict[tuple[str, int], dict[str, NDArray[np.float64]]] = {}


def _outputs(world: World) -> Mapping[str, NDArray[np.float64]]:
    key = (world.made_from, world.seed)
    if key not in _KEPT:
        _KEPT[key] = _train_and_score(world)
    return _KEPT[key]


def _train_and_score(world: World) -> dict[str, NDArray[np.float64]]:
    config, layout = world.config, Layout.of(world.config)
    pretrain(config)  # for its vocabulary and scalers alone
    features = UserEncoder.from_pretrained(layout.pretrained).features
    sources = [Source(cutoff, layout.behaviour(cutoff), layout.labels(cutoff)) for cutoff in config.training_cutoffs]
    split = Split(config.training.validation_share, config.training.seed)
    sides = load_examples(sources, features, world.targets, split)
    trials = {setting: _fit(world, features, sides, setting, epochs=1)[1] for setting in SETTINGS}
    best = min(trials, key=lambda setting: trials[setting])
    model, loss = _fit(world, features, sides, best, epochs=_MOST_EPOCHS)
    logger.info("gru: %s, validation loss %.4f", best, loss)
    judged = RaggedSequences.concatenate(
        [
            features.encode(batch)
            for cutoff in world.bench.scoring
            for batch in read_batches(layout.behaviour(cutoff), features.columns)
        ]
    )
    parts: list[dict[str, Tensor]] = []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(judged), 256):
            rows = np.arange(start, min(start + 256, len(judged)))
            parts.append(model.heads.scores(model.state(to_tensors(judged.pad(rows)))))
    names = [name for name in parts[0] if name != Columns.value_score]
    scores = {name: torch.cat([part[name] for part in parts]).numpy() for name in names}
    return scores | {"setting": np.array(str(best))}


def _fit(
    world: World, features: Features, sides: tuple[Examples, Examples], setting: Setting, *, epochs: int
) -> tuple[Gru, float]:
    """The network with the weights of its best epoch, and their validation loss."""
    training, validation = sides
    torch.manual_seed(world.seed)
    width = world.config.encoder.embedding_size
    model = Gru(features, training.sequences.numeric.shape[1], world.targets, width, setting.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=setting.learning_rate, weight_decay=0.01)
    random = np.random.default_rng(world.seed)
    best, weights = float("inf"), model.state_dict()
    for _ in range(epochs):
        model.train()
        order = random.permutation(len(training))
        for start in range(0, len(order), _BATCH):
            optimizer.zero_grad()
            _loss(model, training, order[start : start + _BATCH]).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        loss = _validation_loss(model, validation)
        if loss >= best:
            break
        best, weights = loss, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    return model, best


def _validation_loss(model: Gru, validation: Examples) -> float:
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(validation), 256):
            rows = np.arange(start, min(start + 256, len(validation)))
            total += float(_loss(model, validation, rows)) * len(rows)
    return total / len(validation)


def _loss(model: Gru, examples: Examples, rows: NDArray[np.int64]) -> Tensor:
    labels = {name: torch.from_numpy(values[rows]) for name, values in examples.labels.items()}
    return model.heads.loss(model.state(to_tensors(examples.sequences.pad(rows))), labels)
