"""A fitted segmentation: plain arrays and names, on disk as npz without pickles and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import current
from segmenter_plugin.errors import ArtifactError
from segmenter_plugin.schemas import segments_schema
from segmenter_plugin.segments.clusters import Clusters
from segmenter_plugin.segments.identity import NONE
from segmenter_plugin.segments.projection import Projection
from segmenter_plugin.segments.space import FloatArray, UserRows, user_rows
from segmenter_plugin.segments.value_tiers import Tiers

ARRAYS_FILE, NAMES_FILE = "segments.npz", "segments.json"
_PARTS = {"projection": Projection, "tiers": Tiers, "clusters": Clusters}

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Assignment:
    """Where N users belong.

    Attributes:
        places: (N,), in [0, S): the segment's row in the model.
        ids: (N,) segment ids.
        stability: (N,), in [0, 1]: 0 on the segment's border, or past it and held by the margin; 1 at its middle.
    """

    places: Places
    ids: Places
    stability: FloatArray


@dataclass(frozen=True)
class SegmentModel:
    """S segments, each a value tier crossed with a behaviour cluster.

    Attributes:
        projection: The space of the clusters.
        tiers: Of value.
        clusters: Of behaviour.
        tier_of: (S,), the tier of each segment; each tier has one segment at least.
        cluster_of: (S,), its cluster.
        ids: S segment ids, ordered by falling worth at the fit.
        names: S names, unique.
    """

    projection: Projection
    tiers: Tiers
    clusters: Clusters
    tier_of: Places
    cluster_of: Places
    ids: tuple[int, ...]
    names: tuple[str, ...]

    def assign(self, batch: pa.RecordBatch, config: Config, before: Places | None = None) -> Assignment:
        """The segment of each user; the same whatever the batch, and whatever becomes of the others.

        A user whose earlier segment is still there stays in its tier until its value is `[segments] tier_margin` past
        the edge, and in its cluster until it is `margin` past the border.

        Args:
            batch: Rows of `schemas.scores_schema`.
            config: The configuration that they were scored with.
            before: (N,) earlier segment ids, `identity.NONE` where there is none; None: nobody has one.

        Raises:
            ArtifactError: Scores are unusable, or of another width than those that were fitted.
        """
        if not batch.num_rows:
            return Assignment(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        rows = user_rows(batch, config)
        before = np.full(batch.num_rows, NONE, dtype=np.int64) if before is None else before
        margins = (config.segments.tier_margin, config.segments.margin)
        places, stability = self.place(rows, self._places_of(before), margins)
        return Assignment(places, np.array(self.ids, dtype=np.int64)[places], stability)

    def place(self, rows: UserRows, before: Places, margins: tuple[float, float]) -> tuple[Places, FloatArray]:
        """Rows of the model (N,), and stability (N,).

        Args:
            rows: N users.
            before: (N,) rows of the model where they were, or `NONE`.
            margins: Of tiers and of clusters.
        """
        known = np.maximum(before, 0)
        tiers = self.tiers.held(rows.tier_value, np.where(before == NONE, NONE, self.tier_of[known]), margins[0])
        clusters_before = np.where(before == NONE, NONE, self.cluster_of[known])
        costs, apart = self.clusters.costs(self.projection.place(rows)), self.clusters.separations
        places, clarity = np.empty(len(tiers), dtype=np.int64), np.empty(len(tiers))
        for tier in range(self.tiers.count):
            users, segments = np.flatnonzero(tiers == tier), np.flatnonzero(self.tier_of == tier)
            # Segments of one tier differ in cluster alone, so from here on these are clusters.
            chosen, clear = _choose(costs[users], apart, self.cluster_of[segments], clusters_before[users], margins[1])
            places[users], clarity[users] = segments[chosen], clear
        return places, np.minimum(clarity, self.tiers.clarity(rows.tier_value, tiers))

    def _places_of(self, ids: Places) -> Places:
        order = np.argsort(self.ids)
        sorted_ids = np.array(self.ids, dtype=np.int64)[order]
        at = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
        return np.where(sorted_ids[at] == ids, order[at], NONE)

    def label(self, batch: pa.RecordBatch, found: Assignment, names: tuple[str, ...] | None = None) -> pa.RecordBatch:
        """Rows of `schemas.segments_schema` for rows of scores, in their order.

        Args:
            batch: Rows of `schemas.scores_schema`.
            found: What `assign` said of them.
            names: S names instead of the model's own.
        """
        schema = segments_schema(batch.schema.field(Columns.user_id).type)
        made = {
            Columns.segment_id: pa.array(found.ids),
            Columns.segment_name: pa.array(names or self.names, pa.string()).take(pa.array(found.places)),
            Columns.segment_stability: pa.array(found.stability.astype(np.float32)),
        }
        return pa.RecordBatch.from_arrays(
            [made[name] if name in made else batch.column(name) for name in schema.names], schema=schema
        )

    def named(self, names: tuple[str, ...]) -> SegmentModel:
        """The same with names."""
        return replace(self, names=names)

    @property
    def cells(self) -> dict[int, tuple[int, int]]:
        """Tier and cluster of each segment id."""
        return {
            segment: (int(tier), int(cluster))
            for segment, tier, cluster in zip(self.ids, self.tier_of, self.cluster_of, strict=True)
        }

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        arrays = {f"{part}.{name}": value for part in _PARTS for name, value in vars(getattr(self, part)).items()}
        np.savez(folder / ARRAYS_FILE, tier_of=self.tier_of, cluster_of=self.cluster_of, **arrays)
        text = json.dumps({"ids": self.ids, "names": self.names}, indent=1, ensure_ascii=False)
        (folder / NAMES_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SegmentModel:
        """What `save` wrote.

        Raises:
            ArtifactError: A file is absent or damaged.
        """
        folder = current(folder)
        hint = "remove that folder and run `segmenter segment` again."
        try:
            texts = json.loads((folder / NAMES_FILE).read_text(encoding="utf-8"))
            with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
                parts = {
                    part: kind(**{name: arrays[f"{part}.{name}"] for name in kind.__annotations__})
                    for part, kind in _PARTS.items()
                }
                tier_of, cluster_of = arrays["tier_of"], arrays["cluster_of"]
            ids, names = tuple(int(number) for number in texts["ids"]), tuple(str(name) for name in texts["names"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the segment model in {str(folder)!r} cannot be read: {error}.", hint=hint) from error
        if not len(ids) == len(names) == len(tier_of) == len(cluster_of):
            raise ArtifactError(
                f"the segment model in {str(folder)!r} has {len(names)} names and {len(ids)} ids for "
                f"{len(tier_of)} segments.",
                hint=hint,
            )
        return cls(tier_of=tier_of, cluster_of=cluster_of, ids=ids, names=names, **parts)


def _choose(
    costs: FloatArray, apart: FloatArray, clusters: Places, before: Places, margin: float
) -> tuple[Places, FloatArray]:
    """The cluster of each user among those that its tier has.

    Args:
        costs: (N, K).
        apart: (K, K).
        clusters: (M,), those that there are.
        before: (N,) clusters, or `NONE`.
        margin: How far past the border a user is still held.

    Returns:
        (N,) places in `clusters`, and how clearly each user is on its side of the nearest border, in [0, 1].
    """
    there = np.full(costs.shape[1], NONE)
    there[clusters] = np.arange(len(clusters))
    costs, apart = costs[:, clusters], apart[np.ix_(clusters, clusters)]
    rows = np.arange(len(costs))
    best = costs.argmin(axis=1)
    earlier = np.where(before == NONE, NONE, there[np.maximum(before, 0)])
    known = np.maximum(earlier, 0)
    past = (costs[rows, known] - costs[rows, best]) / apart[known, best]
    chosen = np.where((earlier != NONE) & (past <= margin), known, best)
    margins = (costs - costs[rows, chosen][:, None]) / apart[chosen]
    margins[rows, chosen] = np.inf
    return chosen, np.clip(margins.min(axis=1, initial=np.inf), 0.0, 1.0)
