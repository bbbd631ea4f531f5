"""Segmentations that need no encoder, for the same users: RFM tiers, and k-means on RFM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segmenter_plugin.quality.rfm import rfm_columns
from segmenter_plugin.segments.clusters import fit_clusters
from segmenter_plugin.segments.space import FloatArray
from segmenter_plugin.tasks import TaskConfig

Labels = NDArray[np.int64]


def rfm_matrix(activity: FloatArray, names: tuple[str, ...], task: TaskConfig) -> FloatArray:
    """Log-scaled recency, frequency and money, (N, 3); "never" is the longest known ago.

    Args:
        activity: (N, C) aggregates, NaN for null.
        names: Their C names, see `quality.features.activity_matrix`.
        task: Whose event counts.
    """
    chosen = activity[:, [names.index(name) for name in rfm_columns(names, task)]]
    never = np.nan_to_num(np.nanmax(chosen, axis=0, initial=0.0))
    return np.log1p(np.maximum(np.where(np.isnan(chosen), never, chosen), 0.0))


def rfm_tiers(rfm: FloatArray, steps: int = 3) -> Labels:
    """Cells of quantile scores of recency, frequency and money, as marketing teams make them (Hughes 1994), (N,).

    Args:
        rfm: (N, 3), from `rfm_matrix`.
        steps: Quantiles of each of the three; 3 give up to 27 cells.
    """
    label = np.zeros(len(rfm), dtype=np.int64)
    for column in rfm.T:
        edges = np.quantile(column, np.arange(1, steps) / steps)
        label = label * steps + np.searchsorted(edges, column, side="right")
    return label


def rfm_kmeans(rfm: FloatArray, count: int, seed: int) -> Labels:
    """k-means on standardised RFM, (N,).

    Args:
        rfm: (N, 3), from `rfm_matrix`.
        count: Clusters.
        seed: Of the starts.
    """
    spread = rfm.std(axis=0)
    standard = (rfm - rfm.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
    with threadpool_limits(limits=1):
        return KMeans(count, n_init=10, random_state=seed).fit(standard).labels_.astype(np.int64)


def kmeans_alone(points: FloatArray, count: int, seed: int) -> Labels:
    """Plain k-means, which knows of no earlier fit, (N,): what ids would be without `segments.identity`.

    Args:
        points: (N, Q).
        count: Clusters.
        seed: Of the starts.
    """
    return fit_clusters(points, count, "kmeans", seed).costs(points).argmin(axis=1).astype(np.int64)


def agreement_interval(
    truth: Labels, first: Labels, second: Labels, *, samples: int, seed: int
) -> tuple[float, float, float]:
    """How much better the first segmentation agrees with the truth than the second.

    Args:
        truth: (N,) true groups.
        first: (N,) labels.
        second: (N,) labels of the same users.
        samples: Bootstrap samples of users.
        seed: Of the samples.

    Returns:
        Difference of the adjusted Rand indices (Hubert and Arabie 1985), and its 95 % percentile interval.
    """
    random = np.random.default_rng(seed)
    differences = []
    for _ in range(samples):
        rows = random.integers(0, len(truth), len(truth))
        scores = [adjusted_rand_score(truth[rows], labels[rows]) for labels in (first, second)]
        differences.append(scores[0] - scores[1])
    whole = adjusted_rand_score(truth, first) - adjusted_rand_score(truth, second)
    lowest, highest = np.quantile(differences, [0.025, 0.975])
    return float(whole), float(lowest), float(highest)
