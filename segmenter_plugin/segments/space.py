"""What segmenting reads of a user: how it behaves, and what it is worth.

Behaviour is the embedding (D,) beside the log-odds of the class probabilities, where there are such tasks. Worth is
log(1 + expected money) of each value task and the log-odds of each binary one; one of them, or `value_score`, orders
users into tiers.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class UserRows:
    """N users as numbers.

    Attributes:
        behaviour: (N, W): the embedding, class scores, and without tiers the values again.
        blocks: Widths of the embedding and of all class scores together.
        values: (N, V), what the tasks that rate a user say.
        tier_value: (N,), what orders users into tiers: `value_score` in [0, 1], else the same as `worth`.
        worth: (N,), in the unit of `worth_column`.
    """

    behaviour: FloatArray
    blocks: tuple[int, int]
    values: FloatArray
    tier_value: FloatArray
    worth: FloatArray

    def take(self, places: NDArray[np.intp]) -> UserRows:
        """Some of the users, in that order."""
        arrays = (self.values, self.tier_value, self.worth)
        return UserRows(self.behaviour[places], self.blocks, *(array[places] for array in arrays))

    @staticmethod
    def joined(parts: list[UserRows]) -> UserRows:
        """Users of several batches.

        Raises:
            ArtifactError: Batches differ in width.
        """
        widths = sorted({part.behaviour.shape[1] for part in parts})
        if len(widths) > 1:
            raise ArtifactError(
                f"the scores have rows of {widths} coordinates; all must be of one width.",
                hint="run `segmenter score` for this cutoff again.",
            )
        behaviour, values, tier_value, worths = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("behaviour", "values", "tier_value", "worth")
        )
        return UserRows(behaviour, parts[0].blocks, values, tier_value, worths)


def user_rows(batch: pa.RecordBatch, config: Config) -> UserRows:
    """A batch of scores as numbers.

    Args:
        batch: Rows of `schemas.scores_schema`; at least one.
        config: The configuration that they were scored with.

    Raises:
        ArtifactError: An embedding or a score is null or not finite, or rows differ in width.
    """
    embedding = _matrix(batch.column(Columns.embedding), Columns.embedding)
    classes = [_log_odds(_matrix(batch.column(name), name)) for name in class_columns(config)]
    values = [_value(batch.column(name), name) for name in value_columns(config)]
    width = sum(scores.shape[1] for scores in classes)
    worths = worth(batch, config)
    rated = Columns.value_score in space_columns(config)
    return UserRows(
        behaviour=np.column_stack([embedding, *classes, *(values if config.segments.tiers == 1 else [])]),
        blocks=(embedding.shape[1], width),
        values=np.column_stack(values) if values else np.empty((batch.num_rows, 0)),
        tier_value=_finite(batch.column(Columns.value_score), Columns.value_score) if rated else worths,
        worth=worths,
    )


def value_columns(config: Config) -> tuple[str, ...]:
    """Score columns that say what a user is worth: expected money first, then probabilities."""
    by_kind = {kind: [task for task in config.tasks if task.kind == kind] for kind in ("value", "binary")}
    return tuple(task.score_columns[0] for tasks in by_kind.values() for task in tasks)


def class_columns(config: Config) -> tuple[str, ...]:
    """Score columns that say what a user does: class probabilities, in the order of the tasks."""
    return tuple(task.score_columns[0] for task in config.tasks if task.kind in ("multiclass", "multilabel"))


def space_columns(config: Config) -> tuple[str, ...]:
    """Columns of the scores table that segmenting reads."""
    rated = [Columns.value_score] if value_columns(config) else []
    return (Columns.user_id, Columns.embedding, *value_columns(config), *class_columns(config), *rated)


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
    task = next(task for task in config.tasks if name in task.score_columns)
    if task.kind == "multilabel":
        return matrix.sum(axis=1)
    # With a target, the rungs of the first value come first, then those of the next.
    return matrix @ (np.arange(matrix.shape[1]) % len(task.classes)).astype(np.float64)


def _value(column: pa.Array, name: str) -> FloatArray:
    scores = _finite(column, name)
    return np.log1p(np.maximum(scores, 0.0)) if name.endswith("_expected") else _log_odds(scores)


def _log_odds(probabilities: FloatArray) -> FloatArray:
    kept = np.clip(probabilities, EPSILON, 1 - EPSILON)
    return np.log(kept) - np.log1p(-kept)


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
