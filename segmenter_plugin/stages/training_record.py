"""What an artifact tells of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.dataset import Examples, Source
from segmenter_plugin.data.partition import read_batches


def training_record(
    config: Config, sources: Sequence[Source], training: Examples, validation: Examples
) -> dict[str, Any]:
    """Cutoffs, windows and sizes, JSON-able.

    Returns:
        ``cutoffs``, ``observation_days``, ``users``, ``examples`` and ``validation_examples`` (pairs of user and
        cutoff), ``events`` (as read: one that several cutoffs see counts for each), ``validation_share`` and ``seed``.
    """
    ids = [
        pc.unique(batch.column(Columns.user_id))
        for source in sources
        for batch in read_batches(source.behaviour, [Columns.user_id])
    ]
    return {
        "cutoffs": [source.cutoff.isoformat() for source in sources],
        "observation_days": config.windows.observation_days,
        "users": len(pc.unique(pa.chunked_array(ids))),
        "examples": len(training),
        "validation_examples": len(validation),
        "events": int(training.sequences.lengths.sum() + validation.sequences.lengths.sum()),
        "validation_share": config.training.validation_share,
        "seed": config.training.seed,
    }
