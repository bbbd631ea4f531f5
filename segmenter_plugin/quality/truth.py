"""Labels and scores as arrays, in the shape that metrics and baselines take.

| kind | labels | predictions |
|---|---|---|
| binary | (N,) bool | (N,) probability |
| value | (N,) money | (N,) expected money |
| multiclass | (N,) class number | (N, K) probabilities |
| multilabel | (N, K) bool | (N, K) probabilities |
| multiclass with a target of C values | (N, C) class numbers | (N, C, K) probabilities |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from segmenter_plugin.data.targets import Target
from segmenter_plugin.errors import ArtifactError
from segmenter_plugin.quality.features import FloatArray, numbers

Array = NDArray[Any]

DTYPES = {
    "binary": np.bool_,
    "value": np.float64,
    "multiclass": np.intp,
    "multilabel": np.bool_,
    "category": np.intp,
}


def label_array(labels: pa.ChunkedArray, target: Target) -> Array:
    """Labels of one task.

    Args:
        labels: The task's label column, without nulls.
        target: The task, with its classes in the encoder's order.

    Raises:
        TrainingError: A class is not on the task's ladder.
    """
    if target.task.kind == "value":
        return numbers(labels)
    return target.encode(labels.combine_chunks()).astype(DTYPES[target.task.form])


def encoder_predictions(scores: pa.Table, target: Target) -> FloatArray:
    """The encoder's predictions for one task.

    Args:
        scores: Rows of `schemas.scores_schema`.
        target: What they predict.

    Raises:
        ArtifactError: A score is absent or not a finite number, or there is not one for each class.
    """
    name = target.task.score_columns[0]
    column = scores.column(name)
    if target.classes:
        lists = column.combine_chunks()
        widths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        width = len(target.classes) * max(1, len(target.values))
        if (widths != width).any():
            of_each = f" for each of {len(target.values)} values" if target.values else ""
            raise ArtifactError(
                f"{name} holds {sorted(set(widths.tolist()))} values a row; there are {len(target.classes)} classes"
                f"{of_each}.",
                hint="the encoder was trained on other labels; run `segmenter finetune` and `segmenter score` again.",
            )
        shape = (len(target.values), len(target.classes)) if target.values else (len(target.classes),)
        values = numbers(lists.flatten()).reshape(len(lists), *shape)
    else:
        values = numbers(column)
    if not np.isfinite(values).all():
        raise ArtifactError(
            f"{name} holds nulls or values that are not finite.",
            hint="the encoder diverged or is damaged; run `segmenter finetune` and `segmenter score` again.",
        )
    return values
