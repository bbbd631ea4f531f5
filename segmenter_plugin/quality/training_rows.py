"""What a baseline is fitted on, and the interface that all baselines share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.errors import TrainingError
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.tasks import TaskConfig

#: Aggregates (N, C) to predictions in the shape that `quality.truth` lists.
Predictor = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class TrainingRows:
    """The (user, cutoff) rows that the encoder is fine-tuned on.

    Attributes:
        activity: (N, C) aggregates, NaN for null.
        names: Their C names.
        labels: In the shape that `quality.truth` lists.
        validation: (N,) bool: rows of the users kept out for early stopping.
        class_count: K or L of multiclass and multilabel tasks, with a target of one of its values; else 1.
    """

    activity: FloatArray
    names: tuple[str, ...]
    labels: NDArray[Any]
    validation: NDArray[np.bool_]
    class_count: int = 1

    def check(self, task: TaskConfig) -> None:
        """Refuse rows that nothing can be learnt from.

        Raises:
            TrainingError: There are no training rows, or they are all of one class.
        """
        labels = self.labels[~self.validation]
        if not len(labels):
            raise TrainingError(
                f"{task.label_column}: no training rows are left.",
                hint="give [training] cutoffs whose label windows are over, or lower training.validation_share.",
            )
        outcome = labels > 0 if task.kind in ("binary", "value") else labels
        if task.kind != "multilabel" and len(np.unique(outcome)) < 2:
            raise TrainingError(
                f"{task.label_column}: all {len(labels)} training rows have the same outcome, {outcome[0]!s}.",
                hint="add training cutoffs, or change the task's prediction_days or event_type.",
            )


#: How a baseline is fitted; all random choices come from the seed.
Fit = Callable[[TrainingRows, TaskConfig, int], Predictor]
_Options = ParamSpec("_Options")
_FitWith = Callable[Concatenate[TrainingRows, TaskConfig, int, _Options], Predictor]


def fits_each_value(fit: _FitWith[_Options]) -> _FitWith[_Options]:
    """Make a fit of one ladder one of a ladder of each category too: once a category, (N, C) labels to (N, C, K).

    Args:
        fit: Fits a multiclass task; it need not know one with a target, or labels of a single class.
    """

    @wraps(fit)
    def fitted(
        rows: TrainingRows, task: TaskConfig, seed: int, /, *args: _Options.args, **kwargs: _Options.kwargs
    ) -> Predictor:
        if task.form != "category":
            return fit(rows, task, seed, *args, **kwargs)
        ladder = task.model_copy(update={"target": None})
        models = [
            _always(seen[0], rows.class_count)
            if len(seen := np.unique(labels[~rows.validation])) == 1
            else fit(replace(rows, labels=labels), ladder, seed, *args, **kwargs)
            for labels in rows.labels.T
        ]
        return lambda activity: np.stack([model(activity) for model in models], axis=1)

    return fitted


def _always(number: int, class_count: int) -> Predictor:
    """The certainty of one class, (N, K)."""
    return lambda activity: np.tile(np.eye(class_count)[number], (len(activity), 1))
