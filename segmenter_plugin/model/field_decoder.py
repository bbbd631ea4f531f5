"""Which value a field has: a softmax over the encoder's own embeddings of the values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from segmenter_plugin.data.vocabulary import SPECIAL_COUNT
from segmenter_plugin.model.encoder import SequenceEncoder

#: Up to this many values a softmax is taken over all of them; beyond, over a random draw.
_FULL_SOFTMAX = 2048
_NEGATIVES = 512


class FieldDecoder(nn.Module):
    """Predicts one categorical field; the output layer is the embedding table, so that both are trained.

    Beyond a few thousand values the softmax's normaliser is estimated from a draw of negatives, each weighted by one
    over how often it was to be expected (the logQ correction: Bengio and Senecal 2008, "Adaptive Importance Sampling
    to Accelerate Training of a Neural Probabilistic Language Model"; Yi et al. 2019, "Sampling-Bias-Corrected Neural
    Modeling"). Half the draws are log-uniform in the value's number, since vocabularies are sorted by frequency and a
    frequent value is the better negative, and half uniform, which hashed columns need.

    Args:
        size: Vocabulary size, specials included.
        hidden_size: H.
    """

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, states: Tensor, rows: Tensor, target: Tensor, table: Tensor) -> Tensor:
        """Cross entropy over the log of the number of values, which makes fields of all sizes comparable.

        Args:
            states: What predicts, (R, H).
            rows: Which row of `states` predicts each value, (M,).
            target: The values, (M,), none of them special.
            table: Embeddings of all values, (vocabulary size, H).

        Returns:
            (M,).
        """
        queries = self.query(states)
        known = len(table) - SPECIAL_COUNT
        if known <= _FULL_SOFTMAX:
            logits = functional.log_softmax(queries @ table[SPECIAL_COUNT:].T + self.bias[SPECIAL_COUNT:], dim=-1)
            losses = -logits[rows, target - SPECIAL_COUNT]
        else:
            losses = self._sampled(queries, rows, target, table)
        return losses / math.log(max(known, 2))

    def _sampled(self, queries: Tensor, rows: Tensor, target: Tensor, table: Tensor) -> Tensor:
        drawn, expected = _negatives(len(table) - SPECIAL_COUNT, target.device)
        drawn = drawn + SPECIAL_COUNT
        negative = (queries @ table[drawn].T + self.bias[drawn] - expected.log())[rows]
        # The target itself stands in the sum once, exactly; drawn again it would count double.
        negative = negative.masked_fill(target[:, None] == drawn, -torch.inf)
        positive = (queries[rows] * table[target]).sum(dim=1) + self.bias[target]
        everything = torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1)
        return everything - positive


def field_decoders(encoder: SequenceEncoder) -> nn.ModuleDict:
    """A decoder for each column of which there is something to predict: one known value is none."""
    sizes = {name: size for name, size in encoder.settings.sizes.items() if size > SPECIAL_COUNT + 1}
    return nn.ModuleDict({name: FieldDecoder(size, encoder.width) for name, size in sizes.items()})


def _negatives(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Places below `count`, (N,), and how often each was to be expected in the draw, (N,)."""
    half = _NEGATIVES // 2
    frequent = (torch.rand(half, device=device) * math.log(count + 1)).exp().long().sub(1).clamp(0, count - 1)
    drawn = torch.cat([frequent, torch.randint(count, (half,), device=device)])
    place = drawn.to(torch.float32)
    log_uniform = torch.log((place + 2) / (place + 1)) / math.log(count + 1)
    return drawn, half * (log_uniform + 1.0 / count)
