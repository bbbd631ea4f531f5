"""Bootstrap intervals, resampled by user.

The rows of one user (several cutoffs) move together: they are not independent, and resampling rows would make the
intervals too narrow. Two methods are compared on the same resamples, so that what makes both better or worse cancels.
Efron and Tibshirani 1993, chapters 13 (percentile interval) and 8 (units of resampling).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

RESAMPLES = 1000
#: Beyond this many users x resamples the number of resamples falls, to no less than `FEWEST_RESAMPLES`.
MOST_CELLS = 50_000_000
FEWEST_RESAMPLES = 200
#: Weights held at once; a few arrays of 8 bytes a cell are live while a metric runs.
CHUNK_CELLS = 2_000_000


def resample_count(rows: int) -> int:
    """How many resamples so many rows get: 1000, fewer (to 200) where intervals are narrow anyway."""
    return int(np.clip(MOST_CELLS // max(rows, 1), FEWEST_RESAMPLES, RESAMPLES))


def user_codes(user_ids: pa.Array | pa.ChunkedArray) -> NDArray[np.intp]:
    """A number for each user, the same for all rows of one; (N,)."""
    column = user_ids.combine_chunks() if isinstance(user_ids, pa.ChunkedArray) else user_ids
    return np.asarray(column.dictionary_encode().indices, dtype=np.intp)


def resample_weights(users: NDArray[np.intp], resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each row counts in each resample.

    Args:
        users: (N,) user numbers from `user_codes`.
        resamples: How many resamples in all.
        seed: Fixes them.

    Yields:
        Weights (r, N); the r sum to `resamples`. A resample draws as many users as there are, with replacement.
    """
    count = int(users.max()) + 1
    random = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // len(users))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = np.stack([np.bincount(random.integers(0, count, count), minlength=count) for _ in range(size)])
        yield drawn[:, users].astype(np.float64)


def bootstrap(
    statistics: Mapping[Key, Callable[[FloatArray], FloatArray]],
    users: NDArray[np.intp],
    resamples: int,
    seed: int,
) -> dict[Key, FloatArray]:
    """Each statistic on the same resamples.

    Args:
        statistics: By key, a function of weights (r, N) to values (r,).
        users: (N,) user numbers.
        resamples: R.
        seed: Fixes the resamples.

    Returns:
        By key, values (R,); row i of any two belongs to the same resample, so their difference is paired.
    """
    parts: dict[Key, list[FloatArray]] = {key: [] for key in statistics}
    for weights in resample_weights(users, resamples, seed):
        for key, statistic in statistics.items():
            parts[key].append(statistic(weights))
    return {key: np.concatenate(values) for key, values in parts.items()}


def interval(samples: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled values; resamples in which the statistic does not exist are left out.

    Args:
        samples: (R,).
        level: Share of resamples inside.

    Returns:
        Lower and upper end; NaN where nothing is left.
    """
    valid = samples[np.isfinite(samples)]
    if not len(valid):
        return float("nan"), float("nan")
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
