"""The aggregates of one user as a vector."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn

#: Edges of the pieces, in standard deviations: sixteen of equal mass under a normal distribution, and two tails.
_EDGES = [NormalDist().inv_cdf(0.02 + 0.96 * place / 16) for place in range(17)]


class ContextEmbedding(nn.Module):
    """A small network over standardised aggregates, each also in a piecewise linear encoding.

    The encoding lets one layer bend where a tree would split (Gorishniy, Rubachev and Babenko 2022, "On Embeddings for
    Numerical Features in Tabular Deep Learning", arXiv 2203.05556, section 3.2). Its edges are a normal distribution's
    quantiles rather than the data's: the inputs are log-scaled and standardised already.

    Args:
        context_width: Numbers a user, C: the values, then as many indicators.
        hidden_size: Of the layer between.
        size: Of the vector.
        dropout: After the hidden layer.
    """

    edges: Tensor

    def __init__(self, context_width: int, hidden_size: int, size: int, dropout: float) -> None:
        super().__init__()
        self._values = context_width // 2
        self.register_buffer("edges", torch.tensor(_EDGES), persistent=False)
        pieces = self._values * (len(_EDGES) - 1)
        self.layers = nn.Sequential(
            nn.Linear(context_width + pieces, hidden_size), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_size, size)
        )

    def forward(self, context: Tensor) -> Tensor:
        """(B, C) -> (B, size)."""
        values = context[:, : self._values, None]
        low, high = self.edges[:-1], self.edges[1:]
        pieces = ((values - low) / (high - low)).clamp(0.0, 1.0)
        embedded: Tensor = self.layers(torch.cat([context, pieces.flatten(1)], dim=1))
        return embedded
