"""What the encoder learns from sequences alone; objectives are registered by name in `OBJECTIVES`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.learning import PretrainConfig
from segmenter_plugin.model.contrastive import Contrastive
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.masked_event import MaskedEvent
from segmenter_plugin.model.next_days import NextDays
from segmenter_plugin.model.tensors import TensorBatch

#: A module made from the encoder and `[pretrain]`; its ``forward(encoder, batch)`` gives a scalar loss.
OBJECTIVES: dict[str, Callable[[SequenceEncoder, PretrainConfig], nn.Module]] = {
    "masked_event": MaskedEvent,
    "next_days": NextDays,
    "contrastive": Contrastive,
}


class WeightedObjectives(nn.Module):
    """An encoder and the weighted sum of the objectives that train it.

    Args:
        encoder: What is trained.
        pretrain: Names the objectives and their weights, and is handed on to each.

    Raises:
        ConfigError: There is no objective of a name.
    """

    def __init__(self, encoder: SequenceEncoder, pretrain: PretrainConfig) -> None:
        super().__init__()
        unknown = sorted(set(pretrain.objectives) - set(OBJECTIVES))
        if unknown:
            raise ConfigError(f"pretrain.objectives names {unknown}; it may name {sorted(OBJECTIVES)}.")
        self.encoder = encoder
        self.objectives = nn.ModuleDict({name: OBJECTIVES[name](encoder, pretrain) for name in pretrain.objectives})
        self._weights = dict(pretrain.objectives)

    def forward(self, batch: TensorBatch) -> dict[str, Tensor]:
        """The sum under ``loss``, and each objective's own loss under its name; scalars."""
        losses = {name: objective(self.encoder, batch) for name, objective in self.objectives.items()}
        return {"loss": torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()} | losses
