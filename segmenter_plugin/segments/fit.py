"""Fit segments on one cutoff's users: value tiers crossed with behaviour clusters, continuing those before.

A cell of too few users is dropped and its users go to the nearest cluster of their tier. Ids of a first fit are
ordered by what a user is expected to be worth: the lowest is the highest. A later fit starts its clusters where the
users of the old ones are now, so they move as little as the users do, and takes over the ids (`segments.identity`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.user_buckets import hashes_of
from segmenter_plugin.errors import ConfigError, CutoffError
from segmenter_plugin.segments.choice import choose_count
from segmenter_plugin.segments.clusters import Clusters, continue_clusters, fit_clusters, nearest, with_more
from segmenter_plugin.segments.identity import NONE, NOTHING, Change, Past, continued_ids, mean_of_groups
from segmenter_plugin.segments.model import Places, SegmentModel
from segmenter_plugin.segments.projection import fit_projection
from segmenter_plugin.segments.space import FloatArray, UserRows, user_rows
from segmenter_plugin.segments.value_tiers import fit_tiers

logger = logging.getLogger(__name__)

#: Centroids of so many users do not move any more in the digits that matter; beyond it, users are sampled.
MOST_USERS = 200_000
#: A segment that was there before stays while it has this share of the smallest size.
STANDING = 0.5
_GOLDEN = 0x9E3779B97F4A7C15


def fit_segments(
    batches: Iterable[pa.RecordBatch], config: Config, past: Past = NOTHING
) -> tuple[SegmentModel, Change]:
    """Fit segments, still without names.

    The outcome depends on the users, not on their order or how they are cut into batches.

    Args:
        batches: Rows of `schemas.scores_schema`; at most `MOST_USERS` of them are held, drawn by a hash of the user
            with `[segments] seed`.
        config: The configuration that they were scored with.
        past: The segments to continue, in whatever space they were.

    Returns:
        The model, and what became of the segments before.

    Raises:
        ConfigError: There are fewer different users than clusters.
        CutoffError: There are no users.
        ArtifactError: An embedding or a score is unusable.
    """
    users, rows = _sample(batches, config)
    section = config.segments
    tiers = fit_tiers(rows.tier_value, section.tiers)
    projection = fit_projection(rows, section.tiers)
    points = projection.place(rows)
    before = past.of(users) if section.keep_ids else np.full(len(users), NONE, dtype=np.int64)
    clusters, successor = _fit_clusters(points, config, past, past.clusters_of(before))
    needed = _smallest_sizes(tiers.count, clusters.count, past, successor, section.minimum_share * len(points))
    cells = _large_cells(tiers.of(rows.tier_value), clusters.costs(points), needed)
    model = SegmentModel(projection, tiers, clusters, *_columns(cells), ids=tuple(range(len(cells))), names=())
    now, _ = model.place(rows, _heirs(model, past, successor).take(before), (section.tier_margin, section.margin))
    rank = _order_by_worth(now, rows.worth, len(cells))
    now = np.argsort(rank)[now]
    ids, change = continued_ids(before, now, points, len(cells), past.next_id)
    names = ("",) * len(ids)
    fitted = SegmentModel(projection, tiers, clusters, *_columns([cells[place] for place in rank]), ids, names)
    logger.info(
        "%d segments fitted on %d users: %d kept, %d born", len(ids), len(users), len(change.kept), len(change.births)
    )
    return fitted, change


def _fit_clusters(points: FloatArray, config: Config, past: Past, before: Places) -> tuple[Clusters, dict[int, int]]:
    """The clusters, and which of them each cluster before goes on as."""
    section = config.segments
    count = section.count
    if count == "auto":
        count = choose_count(points, section.seed, past.clusters or None)
    distinct = len(np.unique(points, axis=0))
    if distinct < count:
        raise ConfigError(
            f"segments.count = {count}, but there are only {distinct} users with different scores.",
            hint=f"set [segments] count to at most {distinct}, or segment a cutoff with more users.",
        )
    if not (before != NONE).any():
        return fit_clusters(points, count, section.method, section.seed), {}
    means, present = mean_of_groups(points, before, past.clusters)
    sizes = np.bincount(before[before != NONE], minlength=past.clusters)[present]
    # Fewer are wanted than there were: the largest go on.
    largest = np.sort(np.argsort(-sizes, kind="stable")[:count])
    start = with_more(points, means[largest], count)
    successor = {int(old): new for new, old in enumerate(present[largest])}
    groups = np.array([successor.get(int(old), NONE) for old in range(past.clusters)] + [NONE])[before]
    groups = np.where(groups == NONE, nearest(points, start), groups)
    return continue_clusters(points, start, groups, section.method, section.seed), successor


def _smallest_sizes(tiers: int, clusters: int, old: Past, successor: dict[int, int], smallest: float) -> FloatArray:
    """How many users each cell needs, (T, K): half as many where there was a segment, or it would come and go."""
    needed = np.full((tiers, clusters), smallest)
    for tier, cluster in old.cells.values():
        if cluster in successor and tier < tiers:
            needed[tier, successor[cluster]] = smallest * STANDING
    return np.maximum(needed, 1.0)


@dataclass(frozen=True)
class _Heirs:
    """The cell that stands where each segment before stood, if there is one."""

    ids: Places
    cells: Places

    def take(self, before: Places) -> Places:
        """The cell of each earlier segment id, (N,); `NONE` where there is none."""
        at = np.searchsorted(self.ids, before)
        found = np.append(self.ids, NONE - 1)[at] == before
        return np.where(found, np.append(self.cells, NONE)[at], NONE)


def _heirs(model: SegmentModel, past: Past, successor: dict[int, int]) -> _Heirs:
    """Users are counted where the margins leave them: plain assignments of two models differ at every border."""
    places = {cell: place for place, cell in model.cells.items()}
    heirs = {}
    if past.cells and max(tier for tier, _ in past.cells.values()) + 1 == model.tiers.count:
        heirs = {
            segment: places.get((tier, successor.get(cluster, NONE)), NONE)
            for segment, (tier, cluster) in past.cells.items()
        }
    ids = np.array(sorted(heirs), dtype=np.int64)
    return _Heirs(ids, np.array([heirs[segment] for segment in sorted(heirs)], dtype=np.int64))


def _large_cells(tier: Places, costs: FloatArray, needed: FloatArray) -> list[tuple[int, int]]:
    """(tier, cluster) of the cells that are kept: that which lacks most is dropped until all have enough users."""
    cells = []
    for number in range(len(needed)):
        inside = costs[tier == number]
        clusters = np.arange(costs.shape[1])
        while len(clusters) > 1:
            sizes = np.bincount(inside[:, clusters].argmin(axis=1), minlength=len(clusters))
            filled = sizes / needed[number, clusters]
            if filled.min() >= 1.0:
                break
            clusters = np.delete(clusters, filled.argmin())
        cells += [(number, int(cluster)) for cluster in clusters]
    return cells


def _columns(cells: list[tuple[int, int]]) -> tuple[Places, Places]:
    table = np.array(cells, dtype=np.int64)
    return table[:, 0].copy(), table[:, 1].copy()


def _order_by_worth(labels: Places, worths: FloatArray, count: int) -> NDArray[np.intp]:
    """Segments by falling mean worth."""
    size = np.bincount(labels, minlength=count)
    mean_worth = np.bincount(labels, weights=worths, minlength=count) / np.maximum(size, 1)
    return np.argsort(-mean_worth, kind="stable")


def _sample(batches: Iterable[pa.RecordBatch], config: Config) -> tuple[pa.Array, UserRows]:
    """At most `MOST_USERS` users, those of the smallest hashes, in the order of these; memory stays bounded."""
    salt = np.uint64((config.segments.seed * _GOLDEN) % 2**64)
    users: list[pa.Array] = []
    parts: list[UserRows] = []
    keys = np.empty(0, dtype=np.uint64)
    for batch in batches:
        if not batch.num_rows:
            continue
        users.append(batch.column(Columns.user_id))
        parts.append(user_rows(batch, config))
        keys = np.r_[keys, hashes_of(users[-1]) ^ salt]
        if len(keys) > 2 * MOST_USERS:
            users, parts, keys = _smallest(users, parts, keys)
    if not parts:
        raise CutoffError("there are no scored users to segment.", hint="choose a cutoff that the events cover.")
    users, parts, _ = _smallest(users, parts, keys)
    return users[0], parts[0]


def _smallest(
    users: list[pa.Array], parts: list[UserRows], keys: NDArray[np.uint64]
) -> tuple[list[pa.Array], list[UserRows], NDArray[np.uint64]]:
    order = np.argsort(keys, kind="stable")[:MOST_USERS]
    return [pa.concat_arrays(users).take(pa.array(order))], [UserRows.joined(parts).take(order)], keys[order]
