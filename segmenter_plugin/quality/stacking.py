"""What we serve: the encoder's scores and embedding beside the aggregates, joined so that nothing is lost by joining.

The encoder's output is one more source of features, and a team that has aggregates and LightGBM should not have to
choose. Three members are joined by weights that out-of-fold rows decide (`quality.blend`):

1. LightGBM on the aggregates alone: the baseline itself, so the whole can fall back to it;
2. the encoder's own prediction, which no further fitting on few rows can spoil;
3. LightGBM on the aggregates, the scores of all tasks and the embedding.

The encoder has seen the labels of the rows it was trained on, so what it says of them is too good. The rows here must
hold what it says of users it has *not* seen: train it once for each fold without the fold's users (`cross-fitting`,
Chernozhukov et al. 2018, definition 3.1), or take rows of cutoffs at or after the artifact's ``trained_through`` and
put each user into one fold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.errors import TrainingError
from segmenter_plugin.quality.blend import Blend, fit_blend
from segmenter_plugin.quality.boosted import fit_activity_lightgbm
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.training_rows import Fit, Predictor, TrainingRows
from segmenter_plugin.tasks import TaskConfig

MEMBERS = ("activity", "encoder", "probe")


@dataclass(frozen=True)
class EncoderOutput:
    """What the encoder says of N users.

    Attributes:
        predicted: Its prediction of the task at hand, in the shape that `quality.truth` lists.
        signals: (N, S) all else that may help: the scores of every task, the embedding.
    """

    predicted: FloatArray
    signals: FloatArray

    def take(self, rows: NDArray[Any]) -> EncoderOutput:
        """Some of the users."""
        return EncoderOutput(self.predicted[rows], self.signals[rows])


@dataclass(frozen=True)
class Stack:
    """A fitted stack.

    Attributes:
        activity: LightGBM on aggregates (N, C).
        probe: LightGBM on aggregates beside signals (N, C + S).
        blend: Weights of `MEMBERS`.
    """

    activity: Predictor
    probe: Predictor
    blend: Blend

    def __call__(self, activity: FloatArray, encoder: EncoderOutput) -> FloatArray:
        """Predictions in the shape that `quality.truth` lists.

        Args:
            activity: (N, C) aggregates.
            encoder: What the artifact says of the same users.
        """
        return self.blend(_members(self.activity, self.probe, activity, encoder))


def fit_stack(
    rows: TrainingRows,
    encoder: EncoderOutput,
    folds: NDArray[np.intp],
    task: TaskConfig,
    seed: int,
    *,
    fit: Fit = fit_activity_lightgbm,
) -> Stack:
    """Fit the two boosters, and the weights on what each fold's users look like to members that have not seen them.

    Args:
        rows: Training rows.
        encoder: Of the same rows, each by weights that have not seen its user's labels.
        folds: (N,) fold of each row; all rows of a user in one, those of the encoder where it was cross-fitted.
        task: What to predict.
        seed: Fixes the bagging.
        fit: How a booster is fitted, for example with tuned settings.

    Raises:
        TrainingError: There are fewer than two folds, or rows that teach nothing.
    """
    rows.check(task)
    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise TrainingError(
            f"{task.label_column}: all {len(folds)} rows are in one fold; two or more are needed.",
            hint="split the users, for example by data.split.validation_users.",
        )
    beside = replace(rows, activity=np.concatenate([rows.activity, encoder.signals], axis=1))
    members = [np.empty(encoder.predicted.shape) for _ in MEMBERS]
    for number in numbers:
        out = folds == number
        activity, probe = (fit(_subset(part, ~out), task, seed) for part in (rows, beside))
        predictions = _members(activity, probe, rows.activity[out], encoder.take(out))
        for member, predicted in zip(members, predictions, strict=True):
            member[out] = predicted
    blend = fit_blend(members, rows.labels, task.form)
    return Stack(fit(rows, task, seed), fit(beside, task, seed), blend)


def _members(
    activity_model: Predictor, probe: Predictor, activity: FloatArray, encoder: EncoderOutput
) -> list[FloatArray]:
    """In the order of `MEMBERS`."""
    beside = np.concatenate([activity, encoder.signals], axis=1)
    return [activity_model(activity), encoder.predicted, probe(beside)]


def _subset(rows: TrainingRows, kept: NDArray[np.bool_]) -> TrainingRows:
    return replace(rows, activity=rows.activity[kept], labels=rows.labels[kept], validation=rows.validation[kept])
