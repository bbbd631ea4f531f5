"""What a team would do without the encoder: the registry, and how two rankings are joined.

A baseline is a function ``fit(rows, task, seed)`` that gives a function from aggregates (N, C) to predictions in the
shape that `quality.truth` lists. It gets exactly the (user, cutoff) rows that the encoder is fine-tuned on, and the
same users are kept out for early stopping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from segmenter_plugin.errors import ConfigError
from segmenter_plugin.quality.boosted import fit_activity_lightgbm
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.rfm import fit_rfm_logistic
from segmenter_plugin.quality.tiers import fit_rfm_tiers
from segmenter_plugin.quality.training_rows import Fit, Predictor, TrainingRows
from segmenter_plugin.tasks import TaskConfig

BASELINES: dict[str, Fit] = {
    "rfm_logistic": fit_rfm_logistic,
    "rfm_tiers": fit_rfm_tiers,
    "activity_lightgbm": fit_activity_lightgbm,
}


@dataclass(frozen=True)
class Prediction:
    """What one method says.

    Attributes:
        values: In the shape that `quality.truth` lists.
        has_scale: False for a bare ranking, whose values are neither probabilities nor money.
    """

    values: FloatArray
    has_scale: bool = True


def fit_baseline(name: str, rows: TrainingRows, task: TaskConfig, seed: int) -> Predictor:
    """Fit a registered baseline.

    Args:
        name: A key of `BASELINES`.
        rows: Training rows.
        task: What to predict.
        seed: Fixes all random choices.

    Raises:
        ConfigError: There is no such baseline.
        TrainingError: Nothing can be learnt from the rows.
    """
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline {name!r}.", hint=f"choose among {sorted(BASELINES)}.")
    rows.check(task)
    return BASELINES[name](rows, task, seed)


def rank_mean(predictions: Sequence[FloatArray]) -> Prediction:
    """The mean of rankings, each scaled to (0, 1]: a ranking without a scale.

    Args:
        predictions: (N,) each; equal values share their mean rank.
    """
    ranks = [rankdata(values) / len(values) for values in predictions]
    return Prediction(np.mean(ranks, axis=0), has_scale=False)
