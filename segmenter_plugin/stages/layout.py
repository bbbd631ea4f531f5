"""Where each output lies under ``[store] root``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segmenter_plugin.clock import cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.storage import published_folder, published_manifests


@dataclass(frozen=True)
class Layout:
    """Folders of one root. All but ``training`` and ``reports`` are partitions (`data.partition`)."""

    root: Path
    #: Folder under the root that holds the weights; a backfill keeps each of its walk-forward models in one of its own.
    artifacts: str = "artifacts"
    #: How published rows lie, see ``[store] table_format``.
    table_format: str = "parquet"

    @classmethod
    def of(cls, config: Config) -> Layout:
        """The layout of a configuration's root."""
        return cls(config.root_path, config.store.artifacts, config.store.table_format)

    @property
    def clean_events(self) -> Path:
        """Typed, deduplicated events."""
        return self.root / "events"

    @property
    def quarantine(self) -> Path:
        """Refused rows, each with its reason."""
        return self.root / "quarantine"

    def behaviour(self, cutoff: datetime) -> Path:
        """Sequences and aggregates as of a cutoff."""
        return self.root / "behaviour" / cutoff_key(cutoff)

    def labels(self, cutoff: datetime) -> Path:
        """Labels of a cutoff's prediction windows."""
        return self.root / "labels" / cutoff_key(cutoff)

    @property
    def pretrained(self) -> Path:
        """Artifact after pretraining."""
        return self.root / self.artifacts / "pretrained"

    @property
    def encoder(self) -> Path:
        """Artifact that scores."""
        return self.root / self.artifacts / "encoder"

    @property
    def training(self) -> Path:
        """Trainer checkpoints and TensorBoard logs; not an output."""
        return self.root / "training" / self.artifacts

    def scores(self, cutoff: datetime) -> Path:
        """Embeddings and head outputs."""
        return self.root / "scores" / cutoff_key(cutoff)

    @property
    def segment_model(self) -> Path:
        """Centroids and names."""
        return self.root / self.artifacts / "segments"

    def segments(self, cutoff: datetime) -> Path:
        """Segment of each user."""
        return self.root / "segments" / cutoff_key(cutoff)

    @property
    def segment_history(self) -> Path:
        """What became of segment ids at each fit; no rows."""
        return self.root / "segments" / "history"

    def evaluation(self, cutoff: datetime) -> Path:
        """Metrics beside the baselines."""
        return self.root / "evaluation" / cutoff_key(cutoff)

    def features(self, view: str) -> Path:
        """All published partitions of one feature view that lie under the root; of a Delta table their manifests.

        Feast reads ``features/<view>/*/*.parquet``, or the table. `store.publications` knows those in a bucket too.
        """
        return (published_manifests if self.table_format == "delta" else published_folder)(self.root, view)

    def feature(self, view: str, cutoff: datetime) -> Path:
        """Published rows of one feature view as of a cutoff."""
        return self.features(view) / cutoff_key(cutoff)
