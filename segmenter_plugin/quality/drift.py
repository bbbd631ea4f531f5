"""How far one day's embeddings, scores and segments lie from those of the day before.

N, M: users of the two sides (P: of both); D: size of the embedding; S: scores. Rows of "paired" arguments are the same
users in the same order. Every function is deterministic for its seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.quality.weighted import FloatArray

#: Bins of a population stability index.
BINS = 10
#: Share that an empty bin counts as: one user in ten thousand, so that no logarithm is infinite.
_EMPTY = 1e-4
#: Unexplained variance that costs nothing: with less, chance would decide the ratio of two such numbers.
_FREE = 0.02


@dataclass(frozen=True)
class Mmd:
    """A squared maximum mean discrepancy, and how often chance gives as large a one."""

    value: float
    p_value: float


def mmd(before: FloatArray, now: FloatArray, permutations: int, seed: int) -> Mmd:
    """Whether two samples come from one distribution, and how far apart these are.

    The unbiased estimate with an RBF kernel, its width the median distance, and a permutation test: Gretton et al.
    2012, "A Kernel Two-Sample Test", JMLR 13, equation 3 and section 5. The samples must hold different users: those
    of one user on two days are too alike for the test, which then never finds anything.

    Args:
        before: (N, D), N >= 2.
        now: (M, D), M >= 2.
        permutations: How many.
        seed: Of the permutations.

    Returns:
        The value, between about 0 (equal) and 2, and p in [1 / (permutations + 1), 1].
    """
    rows = np.concatenate([before, now]).astype(np.float64)
    kernel = _kernel(rows)
    np.fill_diagonal(kernel, 0.0)
    n, m = len(before), len(now)
    random = np.random.default_rng(seed)
    first = np.zeros((n + m, permutations + 1))
    first[:n, 0] = 1.0
    for place in range(1, permutations + 1):
        first[random.permutation(n + m)[:n], place] = 1.0
    second = 1.0 - first
    onto_first = kernel @ first
    onto_second = kernel.sum(axis=1, keepdims=True) - onto_first
    values = (first * onto_first).sum(0) / (n * (n - 1)) + (second * onto_second).sum(0) / (m * (m - 1))
    values -= 2 * (first * onto_second).sum(0) / (n * m)
    as_large = int((values[1:] >= values[0] - 1e-12).sum())
    return Mmd(float(values[0]), (1 + as_large) / (permutations + 1))


def _kernel(rows: FloatArray) -> FloatArray:
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    others = distances[np.triu_indices(len(rows), 1)]
    width = float(np.median(others))
    return np.asarray(np.exp(-distances / (width if width > 0 else 1.0)))


def centroid_shift(before: FloatArray, now: FloatArray) -> float:
    """Distance of the means, in root mean squared distances of a user from the mean before.

    Args:
        before: (N, D).
        now: (M, D).
    """
    spread = float(np.sqrt(before.var(axis=0, dtype=np.float64).sum()))
    moved = float(np.linalg.norm(now.mean(axis=0, dtype=np.float64) - before.mean(axis=0, dtype=np.float64)))
    return _ratio(moved, spread)


def norm_change(before: FloatArray, now: FloatArray) -> float:
    """|log| of the ratio of the mean norms: 0.1 where they are 10 % longer or shorter.

    Args:
        before: (N, D).
        now: (M, D).
    """
    lengths = [float(np.linalg.norm(side, axis=1).mean()) for side in (before, now)]
    if min(lengths) <= 0:
        return 0.0 if max(lengths) <= 0 else float("inf")
    return abs(float(np.log(lengths[1] / lengths[0])))


def dimension_spread(before: FloatArray, now: FloatArray) -> FloatArray:
    """Standard deviation of each dimension beside the one before, the smaller over the larger: 0 where it collapsed.

    Args:
        before: (N, D).
        now: (M, D).

    Returns:
        (D,) in [0, 1]; 1 for a dimension that says nothing on both sides.
    """
    sides = np.stack([side.std(axis=0, dtype=np.float64) for side in (before, now)])
    flat = sides <= 1e-6 * max(float(sides[0].max()), 1e-12)
    smaller, larger = sides.min(axis=0), sides.max(axis=0)
    return np.where(flat.all(axis=0), 1.0, smaller / np.where(larger > 0, larger, 1.0))


def cosines(before: FloatArray, now: FloatArray) -> FloatArray:
    """Cosine of each user's embedding to the one before, both taken from the centroid before.

    From the centroid, because embeddings share a large common part, so that even strangers' cosines are near 1.

    Args:
        before: (P, D) paired.
        now: (P, D) paired.

    Returns:
        (P,) in [-1, 1]; 1 where both lie in the centroid.
    """
    centre = before.mean(axis=0, dtype=np.float64)
    left, right = before - centre, now - centre
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    still = lengths <= 1e-24
    inner = (left * right).sum(axis=1) / np.where(still, 1.0, lengths)
    return np.where(still, 1.0, np.clip(inner, -1.0, 1.0))


def psi(before: FloatArray, now: FloatArray, bins: int = BINS) -> float:
    """Population stability index over quantile bins of the side before: sum of (q - p) log(q / p).

    Siddiqi 2006, "Credit Risk Scorecards": below 0.1 no shift, above 0.25 a large one. Equal values share a bin.

    Args:
        before: (N,) without NaN.
        now: (M,) without NaN.
        bins: At most so many.
    """
    edges = np.unique(np.quantile(before, np.arange(1, bins) / bins))
    shares = []
    for side in (before, now):
        counts = np.bincount(np.searchsorted(edges, side, side="left"), minlength=len(edges) + 1)
        shares.append(np.maximum(counts / max(len(side), 1), _EMPTY))
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def share_change(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Total variation between the shares of the segments: the share of users that would have to be in another one.

    Args:
        before: (N,) segment ids.
        now: (M,) segment ids.
    """
    ids = np.union1d(before, now)
    counts = [np.bincount(np.searchsorted(ids, side), minlength=len(ids)) / max(len(side), 1) for side in (before, now)]
    return float(np.abs(counts[0] - counts[1]).sum() / 2)


@dataclass(frozen=True)
class ScoreMap:
    """A ridge regression from embedding to scores, as it was on the day before."""

    centre: FloatArray
    weights: FloatArray
    offsets: FloatArray
    scales: FloatArray

    @classmethod
    def fit(cls, embedding: FloatArray, scores: FloatArray, penalty: float = 1e-3) -> ScoreMap:
        """Fit it; dimensions are standardised, so that the penalty means the same in each.

        Args:
            embedding: (N, D).
            scores: (N, S) finite, on a scale on which a linear map is apt (logits, logarithms of money).
            penalty: Of the squared weights, as a share of N.
        """
        centre, scales = embedding.mean(axis=0, dtype=np.float64), embedding.std(axis=0, dtype=np.float64)
        scales = np.where(scales > 0, scales, 1.0)
        rows, offsets = (embedding - centre) / scales, scores.mean(axis=0)
        gram = rows.T @ rows + penalty * len(rows) * np.eye(rows.shape[1])
        return cls(centre, np.linalg.solve(gram, rows.T @ (scores - offsets)), offsets, scales)

    def unexplained(self, embedding: FloatArray, scores: FloatArray) -> FloatArray:
        """Share of each score's variance that the map leaves, 1 - R².

        Args:
            embedding: (N, D).
            scores: (N, S).

        Returns:
            (S,), 0 and above; 0 for a constant score that is met.
        """
        said = (embedding - self.centre) / self.scales @ self.weights + self.offsets
        left = ((scores - said) ** 2).mean(axis=0)
        spread = scores.var(axis=0)
        return np.where(spread > 0, left / np.where(spread > 0, spread, 1.0), (left > 1e-9).astype(np.float64))


def unexplained_growth(
    before: tuple[FloatArray, FloatArray], now: tuple[FloatArray, FloatArray], folds: NDArray[np.bool_]
) -> FloatArray:
    """How much worse the map of the day before tells today's scores from today's embeddings.

    A score is a function of its user's embedding, so the map holds while both come from the same weights and belong to
    the same user. Judged on users that it was not fitted on; 2 % unexplained are free.

    Args:
        before: Embedding (P, D) and scores (P, S), paired with `now`.
        now: The same of today.
        folds: (P,) which users it is fitted on; the others judge.

    Returns:
        (S,) ratio of unexplained shares; 1 where nothing changed.
    """
    fitted = ScoreMap.fit(before[0][folds], before[1][folds])
    sides = [fitted.unexplained(embedding[~folds], scores[~folds]) for embedding, scores in (before, now)]
    return np.asarray((sides[1] + _FREE) / (sides[0] + _FREE))


def _ratio(value: float, unit: float) -> float:
    if unit > 0:
        return value / unit
    return 0.0 if value <= 0 else float("inf")
