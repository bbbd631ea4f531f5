"""Clusters of users by behaviour: k-means, or a Gaussian mixture that starts from it.

Both are K functions of cost, of which a user's cluster has the least. How far past a border a user is, is told as a
share of the way to the middle of the other cluster, so that it means the same in any space (for k-means: 0 on the
border between two centroids, 1 at either).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segmenter_plugin.segments.space import FloatArray

Method = Literal["kmeans", "gaussian_mixture"]
Groups = NDArray[np.intp] | NDArray[np.int64]

#: k-means starts; the best by inertia is taken.
STARTS = 10
#: Rounds of EM at most.
ROUNDS = 200
#: Rounds of either algorithm from clusters that are known: enough to settle, too few to wander off.
CONTINUED_ROUNDS = 3
#: Added to a mixture's covariances, as a share of the mean variance: a component of few users stays invertible.
RIDGE = 0.01


@dataclass(frozen=True)
class Clusters:
    """K clusters in a space of Q coordinates.

    Attributes:
        centroids: (K, Q).
        factors: Of a mixture (K, Q, Q), roots of the precisions; of k-means (0, Q, Q).
        offsets: (K,), added to the squared distance: of a mixture what weight and volume cost, of k-means 0.
    """

    centroids: FloatArray
    factors: FloatArray
    offsets: FloatArray

    @property
    def count(self) -> int:
        """K."""
        return len(self.centroids)

    def costs(self, points: FloatArray) -> FloatArray:
        """(N, K): the squared distance to each centroid, or twice the negative log density, up to a constant.

        Args:
            points: (N, Q).
        """
        costs = np.empty((len(points), self.count))
        for place, centroid in enumerate(self.centroids):
            apart = points - centroid
            if len(self.factors):
                apart = np.einsum("nq,qp->np", apart, self.factors[place])
            costs[:, place] = np.einsum("nq,nq->n", apart, apart) + self.offsets[place]
        return costs

    @property
    def separations(self) -> FloatArray:
        """(K, K): by how much the costs of two clusters differ at their centroids, the mean of both; at least > 0."""
        at = self.costs(self.centroids)
        own = np.diagonal(at)
        found = (at + at.T - own[:, None] - own[None, :]) / 2
        return np.maximum(found, np.finfo(float).tiny)


def fit_clusters(points: FloatArray, count: int, method: Method, seed: int) -> Clusters:
    """Cluster users; the same points, in the same order, give the same bits.

    k-means is Lloyd's (1982) with k-means++ starts (Arthur and Vassilvitskii 2007); the mixture starts from it and is
    fitted by EM (Dempster, Laird and Rubin 1977), with full covariances.

    Args:
        points: (N, Q), at least `count` different ones.
        count: K.
        method: What to fit.
        seed: Of the starts.
    """
    # One thread: with more, scikit-learn sums in the order in which threads end, and the last digits differ by run.
    with threadpool_limits(limits=1):
        centroids = fit_kmeans(points, count, seed)
        if method == "kmeans":
            return _of_centroids(centroids)
        return _mixture(points, nearest(points, centroids), count, ROUNDS, seed)


def continue_clusters(points: FloatArray, start: FloatArray, groups: Groups, method: Method, seed: int) -> Clusters:
    """Clusters near where those before are now.

    Args:
        points: (N, Q).
        start: (K, Q) centroids to go on from.
        groups: (N,) the cluster of each user by those, for the covariances that a mixture starts with.
        method: What to fit.
        seed: Not used by k-means from given centroids.
    """
    with threadpool_limits(limits=1):
        if method == "gaussian_mixture":
            return _mixture(points, groups, len(start), CONTINUED_ROUNDS, seed)
        model = KMeans(len(start), init=start, n_init=1, max_iter=CONTINUED_ROUNDS, random_state=seed)
        return _of_centroids(model.fit(points).cluster_centers_)


def fit_kmeans(points: FloatArray, count: int, seed: int, starts: int = STARTS) -> FloatArray:
    """Centroids (K, Q) of the best of several starts."""
    centroids: FloatArray = KMeans(count, n_init=starts, random_state=seed).fit(points).cluster_centers_
    return centroids


def _of_centroids(centroids: FloatArray) -> Clusters:
    count, size = centroids.shape
    return Clusters(centroids, np.empty((0, size, size)), np.zeros(count))


def _mixture(points: FloatArray, groups: Groups, count: int, rounds: int, seed: int) -> Clusters:
    ridge = RIDGE * float(points.var(axis=0).mean()) + np.finfo(float).tiny
    inside = [points[groups == group] for group in range(count)]
    eye = np.eye(points.shape[1])
    # A group of few users says little about its shape; it begins with that of everyone.
    spread = np.atleast_2d(np.cov(points.T, bias=True))
    shapes = [np.atleast_2d(np.cov(own.T, bias=True)) if len(own) > len(eye) else spread for own in inside]
    model = GaussianMixture(
        count,
        weights_init=np.array([max(len(own), 1) for own in inside]) / sum(max(len(own), 1) for own in inside),
        means_init=np.stack([own.mean(axis=0) if len(own) else points.mean(axis=0) for own in inside]),
        precisions_init=np.stack([np.linalg.inv(shape + ridge * eye) for shape in shapes]),
        reg_covar=ridge,
        max_iter=rounds,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # That EM has not settled after so many rounds is meant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    log_volume = np.log(np.diagonal(model.precisions_cholesky_, axis1=1, axis2=2)).sum(axis=1)
    offsets = -2.0 * (np.log(np.maximum(model.weights_, np.finfo(float).tiny)) + log_volume)
    return Clusters(model.means_, model.precisions_cholesky_, offsets)


def with_more(points: FloatArray, known: FloatArray, count: int) -> FloatArray:
    """Known centroids and, up to K of them, the points that are farthest from all before.

    Args:
        points: (N, Q).
        known: (M, Q), M <= K.
        count: K.
    """
    centroids = known
    while len(centroids) < count:
        apart = ((points[:, None, :] - centroids[None, :, :]) ** 2).sum(axis=2).min(axis=1)
        centroids = np.vstack([centroids, points[apart.argmax()]])
    return centroids


def nearest(points: FloatArray, centroids: FloatArray) -> NDArray[np.intp]:
    """The place of the nearest centroid of each point, (N,)."""
    costs = np.einsum("kq,kq->k", centroids, centroids) - 2.0 * points @ centroids.T
    return costs.argmin(axis=1)
