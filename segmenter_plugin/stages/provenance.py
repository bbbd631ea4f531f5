"""Which weights made a partition of scores."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow.compute as pc

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.partition import read_batches
from segmenter_plugin.errors import ArtifactError, CutoffError

_READ_ROWS = 65_536


@dataclass(frozen=True)
class Provenance:
    """The one model that made all rows, and the latest event time that it has seen."""

    model_version: str
    trained_through: datetime

    def as_dict(self) -> dict[str, str]:
        """JSON-able."""
        return {"model_version": self.model_version, "trained_through": self.trained_through.isoformat()}


def read_provenance(folder: Path) -> Provenance:
    """The provenance of a partition, read from its rows: what a manifest says could be out of step with them.

    Raises:
        CutoffError: There are no rows.
        ArtifactError: They come from several models.
    """
    found: set[tuple[str, datetime]] = set()
    for batch in read_batches(folder, [Columns.model_version, Columns.trained_through], _READ_ROWS):
        columns = [pc.unique(batch.column(name)).to_pylist() for name in batch.schema.names]
        found |= {(version, time) for version in columns[0] for time in columns[1]}
    if not found:
        raise CutoffError(f"{str(folder)!r} holds no rows.", hint="choose a cutoff that the events cover.")
    if len(found) != 1:
        versions = sorted(str(version) for version, _ in found)
        raise ArtifactError(
            f"the scores in {str(folder)!r} come from {len(found)} models {versions}; one is expected.",
            hint="run `segmenter score` for this cutoff again.",
        )
    return Provenance(*found.pop())
