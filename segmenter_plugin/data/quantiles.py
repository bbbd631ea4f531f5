"""Quantiles of columns that are seen batch by batch, and the edges of pieces that they give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max) / 2
_LOW_BITS = np.int32(0xFFFF)
_HALF = np.int32(0x8000)


def to_eight_bits(values: Floats) -> Floats:
    """Values rounded to eight significant bits: whole numbers up to 256 stay, others move by less than 0.4 %."""
    bits = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32).view(np.int32)
    return ((bits + _HALF) & ~_LOW_BITS).view(np.float32).astype(np.float64)


class QuantileSketch:
    """How often each value of a column was seen, values rounded to eight significant bits.

    The counts add up, so neither the order of batches nor where they are cut changes anything; a factor of two holds
    128 values at most, so memory grows with the column's range and not with its rows. The relative error is the bins'
    as in Masson, Rim and Lee 2019 ("DDSketch", arXiv 1908.10693), whose logarithm would round differently by machine.
    """

    def __init__(self) -> None:
        self._values = np.empty(0)
        self._counts = np.empty(0, dtype=np.int64)

    def add(self, values: Floats) -> None:
        """Take in values, (N,); what is not finite counts for nothing."""
        # Adding 0 makes -0 equal 0 in its bits too.
        rounded = to_eight_bits(values[np.isfinite(values)] + 0.0)
        seen, counts = np.unique(rounded, return_counts=True)
        self._values, places = np.unique(np.concatenate([self._values, seen]), return_inverse=True)
        joined = np.concatenate([self._counts, counts])
        self._counts = np.zeros(len(self._values), dtype=np.int64)
        np.add.at(self._counts, places, joined)

    def edges(self, pieces: int) -> Floats:
        """Distinct edges, ascending, of at most `pieces` pieces that hold about as many values each.

        A value that fills more than a piece by itself (a zero, a quantity of 1) counts as one piece, and the others
        share what is left: plain quantiles would spend most edges on it.

        Returns:
            (E,) from the least value to the greatest, E up to ``pieces + 1``; fewer than two where there is no spread.
        """
        weights = _capped(self._counts.astype(np.float64), pieces)
        cumulated = np.cumsum(weights)
        if not len(cumulated):
            return np.empty(0)
        wanted = np.linspace(0, cumulated[-1], pieces + 1)
        # A sum's last digits must not carry the greatest edge past the end.
        places = np.searchsorted(cumulated, wanted * (1 - 1e-9)).clip(max=len(cumulated) - 1)
        return np.unique(self._values[places])


def _capped(weights: Floats, pieces: int) -> Floats:
    """Weights of which none is more than the `pieces`-th part of all."""
    for _ in range(pieces):
        capped = np.minimum(weights, weights.sum() / pieces)
        if np.array_equal(capped, weights):
            break
        weights = capped
    return weights
