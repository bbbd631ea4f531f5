"""What each published view is called, and which features it holds: for readers that know nothing of Feast."""

from __future__ import annotations

import pyarrow as pa

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.feature_names import FeatureNames
from segmenter_plugin.schemas import activity_fields, provenance_fields, score_fields, segment_fields


def published_views(config: Config) -> dict[str, list[pa.Field]]:
    """Folder of each view -> its features, in the order in which views are published."""
    names = FeatureNames.of(config)
    return {
        names.activity: activity_fields(config),
        names.embedding: [pa.field(Columns.embedding, pa.list_(pa.float32()))],
        names.scores: [*score_fields(config), *provenance_fields()],
        names.segment: segment_fields(),
    }
