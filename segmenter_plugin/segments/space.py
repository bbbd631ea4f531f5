"""The space in which users are grouped: how they behave, and what they are worth.

A user is the embedding (D,) beside the value scores (V,): log(1 + expected money) of each value task, log-odds of each
binary one. Every coordinate is standardised; then each of the two blocks is divided by the square root of its
width, so that a distance is half behaviour and half value, whatever D is. Without this, 64 coordinates of taste would
drown the one of money, and segments would not be value segments.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.errors import ArtifactError

FloatArray = NDArray[np.float64]

#: Probabilities are kept this far from 0 and 1, so that a sure prediction does not become a coordinate of its own.
EPSILON = 1e-4


def value_columns(config: Config) -> tuple[str, ...]:
    """Score columns that say what a user is worth: expected money first, then probabilities."""
    by_kind = {kind: [task for task in config.tasks if task.kind == kind] for kind in ("value", "binary")}
    return tuple(task.score_columns[0] for tasks in by_kind.values() for task in tasks)


def space_columns(config: Config) -> tuple[str, ...]:
    """Columns of the scores table that segmenting reads."""
    worth = worth_column(config)
    return tuple(
        dict.fromkeys((Columns.user_id, Columns.embedding, *value_columns(config), *([worth] if worth else [])))
    )


def worth_column(config: Config) -> str | None:
    """The column that orders segments: a value task's money, else a probability, else the first task's scores."""
    candidates = (*value_columns(config), *(task.score_columns[0] for task in config.tasks))
    return candidates[0] if candidates else None


def worth(batch: pa.RecordBatch, config: Config) -> FloatArray:
    """What each user is expected to be worth, (N,): in the unit of `worth_column`; 0 without tasks.

    Of several class probabilities, the expected class number (a ladder) or the expected number of labels counts.
    """
    name = worth_column(config)
    if name is None:
        return np.zeros(batch.num_rows)
    column = batch.column(name)
    if not pa.types.is_list(column.type):
        return _finite(column, name)
    matrix = _matrix(column, name)
    ladder = next(task.kind == "multiclass" for task in config.tasks if name in task.score_columns)
    return matrix @ np.arange(matrix.shape[1]) if ladder else matrix.sum(axis=1)


def coordinates(batch: pa.RecordBatch, config: Config) -> tuple[FloatArray, int]:
    """Users before standardising.

    Args:
        batch: Rows of `schemas.scores_schema`.
        config: The configuration that they were scored with.

    Returns:
        (N, D + V), and D.

    Raises:
        ArtifactError: An embedding or a score is null or not finite, or embeddings differ in width.
    """
    embedding = _matrix(batch.column(Columns.embedding), Columns.embedding)
    values = []
    for name in value_columns(config):
        scores = _finite(batch.column(name), name)
        if name.endswith("_expected"):
            values.append(np.log1p(np.maximum(scores, 0.0)))
        else:
            kept = np.clip(scores, EPSILON, 1 - EPSILON)
            values.append(np.log(kept) - np.log1p(-kept))
    return np.column_stack([embedding, *values]), embedding.shape[1]


def block_scale(embedding_size: int, width: int) -> FloatArray:
    """What each standardised coordinate is divided by, (D + V,): the square root of its block's width."""
    return np.sqrt(
        np.r_[np.full(embedding_size, embedding_size), np.full(width - embedding_size, width - embedding_size)]
    )


def _finite(column: pa.Array, name: str) -> FloatArray:
    values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ArtifactError(
            f"{name} holds nulls or values that are not finite.",
            hint="the encoder diverged or is damaged; run `segmenter finetune` and `segmenter score` again.",
        )
    return values


def _matrix(column: pa.Array, name: str) -> FloatArray:
    widths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if len(set(widths.tolist())) > 1:
        raise ArtifactError(
            f"{name} has rows of {sorted(set(widths.tolist()))} values; all must be of one width.",
            hint="run `segmenter score` for this cutoff again.",
        )
    return _finite(column.flatten(), name).reshape(len(column), -1) if len(column) else np.empty((0, 0))
