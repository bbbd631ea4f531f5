"""The aggregates of one user as a vector."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn

from segmenter_plugin.model.pieces import PiecewiseLinear

#: Edges of the pieces, in standard deviations: sixteen of equal mass under a normal distribution, and two tails.
_EDGES = [NormalDist().inv_cdf(0.02 + 0.96 * place / 16) for place in range(17)]


class ContextEmbedding(nn.Module):
    """A small network over standardised aggregates, each also in a piecewise linear encoding.

    The pieces' edges are a normal distribution's quantiles rather than the data's: the inputs are log-scaled and
    standardised already.

    Args:
        context_width: Numbers a user, C: the values, then as many indicators.
        hidden_size: Of the layer between.
        size: Of the vector.
        dropout: After the hidden layer.
    """

    def __init__(self, context_width: int, hidden_size: int, size: int, dropout: float) -> None:
        super().__init__()
        self._values = context_width // 2
        self.pieces = PiecewiseLinear([_EDGES] * self._values)
        width = context_width + self.pieces.pieces
        self.hidden = nn.Sequential(nn.Linear(width, hidden_size), nn.GELU(), nn.Dropout(dropout))
        self.output = nn.Linear(hidden_size, size)

    def forward(self, context: Tensor) -> Tensor:
        """(B, C) -> (B, size)."""
        pieces = self.pieces(context[:, : self._values])
        embedded: Tensor = self.output(self.hidden(torch.cat([context, pieces], dim=1)))
        return embedded
