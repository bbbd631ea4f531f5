"""What the encoder learns from sequences alone; objectives are registered by name in `OBJECTIVES`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.data.vocabulary import SPECIAL_COUNT, UNKNOWN
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.model.encoder import SequenceEncoder
from segmenter_plugin.model.tensors import TensorBatch, hide_events

#: Up to this many values a softmax is taken over all of them; beyond, over the batch's own and a random draw.
_FULL_SOFTMAX = 2048
_RANDOM_NEGATIVES = 512


class MaskedEvent(nn.Module):
    """Hide whole events and predict every field of them from the others.

    An event's item is hidden together with its category and all its other fields, since one field gives away the next;
    its time stays. Targets are dense: all categorical fields (cross entropy, each over log of its vocabulary, so that
    no field drowns the others) and all numbers (Huber). As masked language models (Devlin et al. 2019), over events of
    several fields as in UserBERT (Wu et al. 2021).

    Relatives: `BERT4Rec` hides the item alone.

    Args:
        encoder: What is trained.
        mask_probability: Share of events that are hidden, in (0, 1).
    """

    def __init__(self, encoder: SequenceEncoder, mask_probability: float) -> None:
        super().__init__()
        self.encoder = encoder
        self._mask_probability = mask_probability
        # A column with one known value has nothing to predict.
        self._fields = [name for name, size in encoder.settings.sizes.items() if size > SPECIAL_COUNT + 1]
        self.decoders = nn.ModuleDict({name: nn.Linear(encoder.width, encoder.width) for name in self._fields})
        self.biases = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(encoder.settings.sizes[name])) for name in self._fields}
        )
        self._numbers = encoder.settings.numeric_width // 2
        self.numbers = nn.Linear(encoder.width, self._numbers) if self._numbers else None

    def forward(self, batch: TensorBatch) -> dict[str, Tensor]:
        """The loss on a fresh draw of hidden events, a scalar under ``loss``."""
        corrupted, hidden = hide_events(batch, self._mask_probability)
        states = self.encoder(corrupted, hidden).hidden[hidden]
        losses = [self._field_loss(name, states, batch["categorical"][name][hidden]) for name in self._fields]
        if self.numbers is not None:
            losses.append(self._number_loss(states, batch["numeric"][hidden]))
        return {"loss": torch.stack(losses).mean()} if losses else {"loss": states.sum() * 0.0}

    def _field_loss(self, name: str, states: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of one field over the masked events, (M, H) and (M,)."""
        known = target > UNKNOWN
        states, target = self.decoders[name](states[known]), target[known]
        table, bias = self.encoder.events.table(name), self.biases[name]
        if len(table) > _FULL_SOFTMAX:
            drawn = torch.randint(SPECIAL_COUNT, len(table), (_RANDOM_NEGATIVES,), device=target.device)
            candidates, target = torch.unique(torch.cat([target, drawn]), return_inverse=True)
            target = target[: len(states)]
            table, bias = table[candidates], bias[candidates]
        losses = functional.cross_entropy(states @ table.T + bias, target, reduction="sum")
        return losses / (max(len(states), 1) * math.log(len(table)))

    def _number_loss(self, states: Tensor, target: Tensor) -> Tensor:
        """Huber loss of the numbers that are there, (M, H) and (M, F)."""
        if self.numbers is None:
            return states.sum() * 0.0
        values, present = target[:, : self._numbers], 1.0 - target[:, self._numbers :]
        losses = functional.huber_loss(self.numbers(states), values, reduction="none") * present
        return losses.sum() / present.sum().clamp_min(1)


OBJECTIVES: dict[str, type[MaskedEvent]] = {"masked_event": MaskedEvent}


def objective(name: str, encoder: SequenceEncoder, mask_probability: float) -> MaskedEvent:
    """The registered objective around an encoder.

    Raises:
        ConfigError: There is no objective of that name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"pretrain.objective = {name!r} is not known; it may be one of {sorted(OBJECTIVES)}.")
    return OBJECTIVES[name](encoder, mask_probability)
