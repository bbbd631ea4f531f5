"""Tiers of value: edges as numbers, and where among all users a value lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.segments.space import FloatArray

Places = NDArray[np.int64]

#: Points of the stored distribution; a rank is exact to half a thousandth.
GRID = 1001


@dataclass(frozen=True)
class Tiers:
    """T tiers, the lowest value first.

    Attributes:
        edges: (T - 1,), ascending: the lowest value of each tier but the first.
        grid: (G,), quantiles of the fitted users' values, from the least to the largest.
    """

    edges: FloatArray
    grid: FloatArray

    @property
    def count(self) -> int:
        """T."""
        return len(self.edges) + 1

    def of(self, values: FloatArray) -> Places:
        """The tier of each value, (N,)."""
        return np.searchsorted(self.edges, values, side="right").astype(np.int64)

    def held(self, values: FloatArray, before: Places, margin: float) -> Places:
        """The tier of each value, but the one before until the value has passed its edge by more than a margin.

        Args:
            values: (N,).
            before: (N,) tiers; -1: none.
            margin: Share of all users.
        """
        lowest, highest = self._ends(np.maximum(before, 0))
        ranks = self.ranks(values)
        inside = (ranks >= lowest - margin) & (ranks <= highest + margin)
        return np.where((before >= 0) & inside, before, self.of(values))

    def clarity(self, values: FloatArray, tiers: Places) -> FloatArray:
        """How far each value is inside its tier, in [0, 1], (N,).

        The way to the nearer edge, over the longest way that there is in the tier; 0 on an edge or beyond it.
        """
        if self.count == 1:
            return np.ones(len(values))
        lowest, highest = self._ends(tiers)
        ranks = self.ranks(values)
        down = np.where(tiers == 0, np.inf, ranks - lowest)
        up = np.where(tiers == self.count - 1, np.inf, highest - ranks)
        outermost = (tiers == 0) | (tiers == self.count - 1)
        reach = (highest - lowest) * np.where(outermost, 1.0, 0.5)
        return np.clip(np.minimum(down, up) / np.maximum(reach, 1.0 / GRID), 0.0, 1.0)

    def ranks(self, values: FloatArray) -> FloatArray:
        """Share of the fitted users of less value, in [0, 1]; half of those of the same."""
        below, upto = (np.searchsorted(self.grid, values, side=side) for side in ("left", "right"))
        return (below + upto) / (2.0 * len(self.grid))

    def _ends(self, tiers: Places) -> tuple[FloatArray, FloatArray]:
        edges = np.r_[0.0, np.searchsorted(self.grid, self.edges, side="left") / len(self.grid), 1.0]
        return edges[tiers], edges[tiers + 1]


def fit_tiers(values: FloatArray, count: int) -> Tiers:
    """Tiers of equally many users, as far as ties allow: users of the same value are of the same tier.

    Args:
        values: (N,).
        count: Tiers asked for; with many ties there are fewer.
    """
    # "higher" gives values that somebody has, so that no tier is empty.
    edges = np.unique(np.quantile(values, np.arange(1, count) / count, method="higher"))
    return Tiers(edges[edges > values.min()], np.quantile(values, np.linspace(0.0, 1.0, GRID), method="nearest"))
