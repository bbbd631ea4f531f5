"""How many clusters: those that two halves of the users agree on, and of these the best separated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segmenter_plugin.segments.clusters import fit_kmeans, nearest
from segmenter_plugin.segments.space import FloatArray

#: Numbers that are tried.
CANDIDATES = range(2, 11)
#: Users that the choice is made on: a silhouette compares all pairs.
MOST_USERS = 2_000
#: k-means starts of each trial.
STARTS = 3
#: Pairs of halves.
SPLITS = 3
#: A number is stable when its agreement comes so near the best one's.
WITHIN = 0.1
#: On a retrain the number stays, unless another's silhouette is better by this.
BETTER = 0.02


def choose_count(points: FloatArray, seed: int, before: int | None = None) -> int:
    """Number of clusters.

    Stability is the adjusted Rand index between what two disjoint halves of the users, clustered apart, say about all
    (Lange et al. 2004); among the stable numbers the largest silhouette (Rousseeuw 1987) wins.

    Args:
        points: (N, Q), in an order that does not depend on how users arrived.
        seed: Of the halves and the starts.
        before: The number of the segments that are continued.
    """
    random = np.random.default_rng(seed)
    chosen = points[random.permutation(len(points))[:MOST_USERS]]
    possible = [count for count in CANDIDATES if count < len(np.unique(chosen, axis=0)) // 2]
    if not possible:
        return 1
    halves = [random.permutation(len(chosen)) for _ in range(SPLITS)]
    with threadpool_limits(limits=1):
        agreement = {count: _agreement(chosen, count, halves, seed) for count in possible}
        separation = {count: _silhouette(chosen, count, seed) for count in possible}
    stable = [count for count in possible if agreement[count] >= max(agreement.values()) - WITHIN]
    best = max(stable, key=lambda count: separation[count])
    if before in stable and separation[best] < separation[before] + BETTER:
        return before
    return best


def _agreement(points: FloatArray, count: int, halves: Sequence[np.ndarray], seed: int) -> float:
    found = []
    for order in halves:
        middle = len(points) // 2
        sides = (points[order[:middle]], points[order[middle:]])
        first, second = (nearest(points, fit_kmeans(side, count, seed, STARTS)) for side in sides)
        found.append(adjusted_rand_score(first, second))
    return float(np.mean(found))


def _silhouette(points: FloatArray, count: int, seed: int) -> float:
    labels = nearest(points, fit_kmeans(points, count, seed, STARTS))
    return float(silhouette_score(points, labels)) if len(np.unique(labels)) > 1 else -1.0
