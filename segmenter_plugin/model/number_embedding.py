"""The numbers of an event as one vector; the ways are registered by name in `NUMBER_EMBEDDINGS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from segmenter_plugin.model.pieces import PiecewiseLinear

Edges = Sequence[Sequence[float]]

_FREQUENCIES = 16
#: Of the first frequencies, in periods a standard deviation: most numbers are then within one period.
_FREQUENCY_STD = 0.3
_PERIODIC_SIZE = 16


class LinearNumbers(nn.Linear):
    """Values and indicators through one linear layer.

    Args:
        edges: Of each value's pieces; how many values there are follows from it, and here nothing else.
        hidden_size: H.
    """

    def __init__(self, edges: Edges, hidden_size: int) -> None:
        super().__init__(2 * len(edges), hidden_size)


class PiecewiseNumbers(nn.Module):
    """Values, indicators and the values' pieces through one linear layer.

    The pieces' edges are quantiles of the training data (Gorishniy et al. 2022, arXiv 2203.05556, section 3.2.1).

    Args:
        edges: Of each value's pieces.
        hidden_size: H.
    """

    def __init__(self, edges: Edges, hidden_size: int) -> None:
        super().__init__()
        self._values = len(edges)
        self.pieces = PiecewiseLinear(edges)
        self.layer = nn.Linear(2 * self._values + self.pieces.pieces, hidden_size)

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, H)."""
        # A value that is absent stands at 0, somewhere amid the pieces: its indicator empties them.
        pieces = self.pieces(numbers[..., : self._values])
        present = 1.0 - numbers[..., self._values :][..., self.pieces.columns]
        embedded: Tensor = self.layer(torch.cat([numbers, pieces * present], dim=-1))
        return embedded


class PeriodicNumbers(nn.Module):
    """Sines and cosines of each value at learnt frequencies, then a linear layer and a ReLU a value.

    "PLR" of Gorishniy et al. 2022 (arXiv 2203.05556, section 3.3); a last linear layer joins the values.

    Args:
        edges: Of each value's pieces; how many values there are follows from it, and here nothing else.
        hidden_size: H.
    """

    def __init__(self, edges: Edges, hidden_size: int) -> None:
        super().__init__()
        self._values = len(edges)
        self.frequencies = nn.Parameter(torch.randn(self._values, _FREQUENCIES) * _FREQUENCY_STD)
        bound = 1.0 / math.sqrt(2 * _FREQUENCIES)
        self.weights = nn.Parameter(torch.empty(self._values, 2 * _FREQUENCIES, _PERIODIC_SIZE).uniform_(-bound, bound))
        self.biases = nn.Parameter(torch.zeros(self._values, _PERIODIC_SIZE))
        self.layer = nn.Linear(2 * self._values + self._values * _PERIODIC_SIZE, hidden_size)

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, H)."""
        angles = 2 * math.pi * numbers[..., : self._values, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        each = torch.relu(torch.einsum("...vf,vfs->...vs", waves, self.weights) + self.biases)
        present = 1.0 - numbers[..., self._values :, None]
        embedded: Tensor = self.layer(torch.cat([numbers, (each * present).flatten(-2)], dim=-1))
        return embedded


NUMBER_EMBEDDINGS: dict[str, Callable[[Edges, int], nn.Module]] = {
    "linear": LinearNumbers,
    "piecewise": PiecewiseNumbers,
    "periodic": PeriodicNumbers,
}
