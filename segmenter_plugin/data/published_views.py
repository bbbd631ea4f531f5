"""What each published view is called, and which features it holds: for readers that know nothing of Feast."""

from __future__ import annotations

import pyarrow as pa

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.schemas import activity_fields, provenance_fields, score_fields, segment_fields


def published_views(config: Config) -> dict[str, list[pa.Field]]:
    """Folder of each view -> its features, in the order in which views are published."""
    generation = config.store.generation
    return {
        "user_activity": activity_fields(config),
        f"user_embedding_{generation}": [pa.field(Columns.embedding, pa.list_(pa.float32()))],
        f"user_scores_{generation}": [*score_fields(config), *provenance_fields()],
        f"user_segment_{generation}": segment_fields(),
    }
