"""A fitted segmentation: plain arrays and names, on disk as npz without pickles and JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.partition import current
from segmenter_plugin.errors import ArtifactError
from segmenter_plugin.schemas import segments_schema
from segmenter_plugin.segments.space import FloatArray, coordinates

ARRAYS_FILE, NAMES_FILE = "segments.npz", "segments.json"


@dataclass(frozen=True)
class SegmentModel:
    """K segments in a space of W coordinates.

    Attributes:
        mean: (W,), subtracted from a user's coordinates.
        scale: (W,), what they are divided by; infinite for a coordinate that did not vary.
        centroids: (K, W), ordered by id.
        names: K names, unique.
    """

    mean: FloatArray
    scale: FloatArray
    centroids: FloatArray
    names: tuple[str, ...]

    def assign(self, batch: pa.RecordBatch, config: Config) -> NDArray[np.int64]:
        """The nearest segment of each user; the same whatever the batch.

        Args:
            batch: Rows of `schemas.scores_schema`.
            config: The configuration that they were scored with.

        Returns:
            (N,) segment ids.

        Raises:
            ArtifactError: Scores are unusable, or of another width than those that were fitted.
        """
        if not batch.num_rows:
            return np.empty(0, dtype=np.int64)
        users, _ = coordinates(batch, config)
        if users.shape[1] != len(self.mean):
            raise ArtifactError(
                f"the scores have {users.shape[1]} coordinates; the segments were fitted on {len(self.mean)}.",
                hint="they come from another encoder or other [[tasks]]; remove the segment model and segment again.",
            )
        users = (users - self.mean) / self.scale
        # ||u - c||^2 without the part that all segments share.
        distances = np.einsum("kw,kw->k", self.centroids, self.centroids) - 2 * users @ self.centroids.T
        return distances.argmin(axis=1).astype(np.int64)

    def label(self, batch: pa.RecordBatch, config: Config) -> pa.RecordBatch:
        """Rows of `schemas.segments_schema` for rows of scores, in their order."""
        ids = self.assign(batch, config)
        schema = segments_schema(batch.schema.field(Columns.user_id).type)
        made = {
            Columns.segment_id: pa.array(ids),
            Columns.segment_name: pa.array(self.names, pa.string()).take(pa.array(ids)),
        }
        return pa.RecordBatch.from_arrays(
            [made[name] if name in made else batch.column(name) for name in schema.names], schema=schema
        )

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        np.savez(folder / ARRAYS_FILE, mean=self.mean, scale=self.scale, centroids=self.centroids)
        text = json.dumps({"names": self.names}, indent=1, ensure_ascii=False)
        (folder / NAMES_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SegmentModel:
        """What `save` wrote.

        Raises:
            ArtifactError: A file is absent or damaged.
        """
        folder = current(folder)
        try:
            names = tuple(json.loads((folder / NAMES_FILE).read_text(encoding="utf-8"))["names"])
            with np.load(folder / ARRAYS_FILE, allow_pickle=False) as arrays:
                model = cls(arrays["mean"], arrays["scale"], arrays["centroids"], names)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"the segment model in {str(folder)!r} cannot be read: {error}.",
                hint="remove that folder and run `segmenter segment` again.",
            ) from error
        if model.centroids.shape != (len(names), len(model.mean)) or model.scale.shape != model.mean.shape:
            raise ArtifactError(
                f"the segment model in {str(folder)!r} has {len(names)} names for centroids {model.centroids.shape}.",
                hint="remove that folder and run `segmenter segment` again.",
            )
        return model
