"""What all metrics count with: row weights of shape (N,), or (R, N) for R resamples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Array = NDArray[Any]


def row_weights(weights: FloatArray | None, rows: int) -> FloatArray:
    """The weights; without any, each row counts once."""
    return np.ones(rows) if weights is None else weights


def weighted_mean(losses: Array, weights: FloatArray) -> FloatArray:
    """Mean of (N,) values under (N,) or (R, N) weights; NaN where nothing counts."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return weights @ np.asarray(losses, dtype=np.float64) / weights.sum(axis=-1)


def descending(score: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row order by falling score, and where each group of equal scores starts in it."""
    order = np.argsort(-np.asarray(score, dtype=np.float64), kind="stable")
    ranked = np.asarray(score)[order]
    return order, np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])


def grouped(values: FloatArray, starts: NDArray[np.intp]) -> FloatArray:
    """Sums of (..., N) over the groups that begin at `starts`."""
    return np.add.reduceat(values, starts, axis=-1)
