"""Pretraining objective: hide whole events, and predict them from the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.data.vocabulary import UNKNOWN
from segmenter_plugin.learning import PretrainConfig
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.field_decoder import field_decoders
from segmenter_plugin.model.tensors import TensorBatch, hide_events


class MaskedEvent(nn.Module):
    """Hide whole events and predict every field of them from the others.

    An event's item is hidden together with its category and all its other fields, since one field gives away the next;
    its time stays. Targets are dense: all categorical fields (cross entropy, each over log of its vocabulary, so that
    no field drowns the others) and all numbers (Huber). As masked language models (Devlin et al. 2019), over events of
    several fields as in UserBERT (Wu et al. 2021).

    It trains the events' states and through them the whole backbone, with the aggregates in view; the summary is left
    to the heads.

    Relatives: `BERT4Rec` hides the item alone; `NextDays` predicts what comes after all that is seen.

    Args:
        encoder: Whose fields are predicted; it is given again at each call, and is no part of the objective.
        pretrain: Reads `mask_probability`.
    """

    def __init__(self, encoder: SequenceEncoder, pretrain: PretrainConfig) -> None:
        super().__init__()
        self._mask_probability = pretrain.mask_probability
        self.decoders = field_decoders(encoder)
        numbers = encoder.settings.numeric_width // 2
        self.numbers = nn.Linear(encoder.width, numbers) if numbers else None

    def forward(self, encoder: SequenceEncoder, batch: TensorBatch) -> Tensor:
        """The loss on a fresh draw of hidden events, a scalar."""
        corrupted, hidden = hide_events(batch, self._mask_probability)
        states = encoder(corrupted, hidden).hidden[hidden]
        losses = []
        for name, decoder in self.decoders.items():
            target = batch["categorical"][name][hidden]
            rows = (target > UNKNOWN).nonzero()[:, 0]
            each = decoder(states, rows, target[rows], encoder.events.table(name))
            losses.append(each.sum() / max(len(rows), 1))
        if self.numbers is not None:
            losses.append(number_loss(self.numbers(states), batch["numeric"][hidden]))
        return torch.stack(losses).mean() if losses else states.sum() * 0.0


def number_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean Huber loss of the numbers that are there, a scalar.

    Args:
        predicted: (M, F / 2).
        target: Values and indicators, (M, F).
    """
    values, absent = target.chunk(2, dim=1)
    losses = functional.huber_loss(predicted, values, reduction="none") * (1.0 - absent)
    return losses.sum() / (1.0 - absent).sum().clamp_min(1)
