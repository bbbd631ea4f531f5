"""Piecewise linear encoding: a number as how far it fills each of several pieces of its range."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class PiecewiseLinear(nn.Module):
    """Columns in piecewise linear encoding, each over edges of its own; there is nothing to train.

    It lets one linear layer bend where a tree would split (Gorishniy, Rubachev and Babenko 2022, "On Embeddings for
    Numerical Features in Tabular Deep Learning", arXiv 2203.05556, section 3.2). What lies outside a column's edges is
    told by the number itself, which should stand beside the encoding.

    Args:
        edges: Of each column, ascending; fewer than two give the column no pieces.
    """

    columns: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        super().__init__()
        pieces = [(column, low, high) for column, ends in enumerate(edges) for low, high in pairwise(ends)]
        self.register_buffer("columns", torch.tensor([column for column, _, _ in pieces]).long(), persistent=False)
        self.register_buffer("low", torch.tensor([low for _, low, _ in pieces]).float(), persistent=False)
        width = torch.tensor([high - low for _, low, high in pieces]).float()
        self.register_buffer("width", width, persistent=False)

    @property
    def pieces(self) -> int:
        """Numbers that an encoding has, P."""
        return len(self.low)

    def forward(self, values: Tensor) -> Tensor:
        """(..., columns) -> (..., P), each in [0, 1]."""
        filled: Tensor = ((values[..., self.columns] - self.low) / self.width).clamp(0.0, 1.0)
        return filled
