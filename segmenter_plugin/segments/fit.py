"""Fit segments on one cutoff's users, and assign any user to one.

k-means (Lloyd 1982, k-means++ starts) in the space of `segments.space`. Ids are ordered by what a user of the segment
is expected to be worth: 0 is the highest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from segmenter_plugin.config import Config
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.segments.model import SegmentModel
from segmenter_plugin.segments.space import FloatArray, block_scale, coordinates, worth

logger = logging.getLogger(__name__)

#: Centroids of so many users do not move any more in the digits that matter; beyond it, users are sampled.
MOST_USERS = 200_000
#: k-means starts; the best by inertia is taken.
STARTS = 10


def fit_segments(batches: Iterable[pa.RecordBatch], config: Config) -> SegmentModel:
    """Fit `[segments] count` segments, still without names.

    Args:
        batches: Rows of `schemas.scores_schema`; at most `MOST_USERS` of them are held, drawn with `[segments] seed`.
        config: The configuration that they were scored with.

    Raises:
        ConfigError: There are fewer different users than segments.
        ArtifactError: An embedding or a score is unusable.
    """
    users, worths, embedding_size = _sample(batches, config)
    count = config.segments.count
    distinct = len(np.unique(users, axis=0))
    if distinct < count:
        raise ConfigError(
            f"segments.count = {count}, but there are only {distinct} users with different scores.",
            hint=f"set [segments] count to at most {distinct}, or segment a cutoff with more users.",
        )
    mean = users.mean(axis=0)
    spread = users.std(axis=0)
    # A coordinate that does not vary carries nothing; dividing by its rounding noise would invent something.
    varies = spread > 1e-9 * np.maximum(1.0, np.abs(mean))
    scale = np.where(varies, spread, np.inf) * block_scale(embedding_size, users.shape[1])
    inputs = (users - mean) / scale
    # One thread: with more, scikit-learn sums in the order in which threads end, and the last digits differ by run.
    with threadpool_limits(limits=1):
        means = KMeans(count, n_init=STARTS, random_state=config.segments.seed).fit(inputs)
    rank = _order_by_worth(means.labels_, worths, count)
    logger.info("%d segments fitted on %d users, inertia %.4g", count, len(users), means.inertia_)
    return SegmentModel(mean=mean, scale=scale, centroids=means.cluster_centers_[rank], names=("",) * count)


def _order_by_worth(labels: NDArray[np.intp], worths: FloatArray, count: int) -> NDArray[np.intp]:
    """Clusters by falling mean worth."""
    size = np.bincount(labels, minlength=count)
    mean_worth = np.bincount(labels, weights=worths, minlength=count) / np.maximum(size, 1)
    return np.argsort(-mean_worth, kind="stable")


def _sample(batches: Iterable[pa.RecordBatch], config: Config) -> tuple[FloatArray, FloatArray, int]:
    """At most `MOST_USERS` users: those with the smallest of as many random numbers, so memory stays bounded."""
    random = np.random.default_rng(config.segments.seed)
    users, worths, keys, embedding_size = np.empty((0, 0)), np.empty(0), np.empty(0), 0
    for batch in batches:
        if not batch.num_rows:
            continue
        rows, embedding_size = coordinates(batch, config)
        users = np.concatenate([users, rows]) if len(users) else rows
        worths = np.r_[worths, worth(batch, config)]
        keys = np.r_[keys, random.random(batch.num_rows)]
        if len(users) > MOST_USERS:
            kept = np.sort(np.argpartition(keys, MOST_USERS)[:MOST_USERS])
            users, worths, keys = users[kept], worths[kept], keys[kept]
    return users, worths, embedding_size
