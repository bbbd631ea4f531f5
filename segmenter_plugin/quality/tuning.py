"""The same tuning for every baseline: a few settings, each tried once, the validation users decide."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import numpy as np

from segmenter_plugin.quality.boosted import Boosting, fit_activity_lightgbm
from segmenter_plugin.quality.deviance import deviance
from segmenter_plugin.quality.rfm import fit_rfm_logistic
from segmenter_plugin.quality.tiers import fit_rfm_tiers
from segmenter_plugin.quality.training_rows import Fit, TrainingRows
from segmenter_plugin.tasks import TaskConfig

logger = logging.getLogger(__name__)

#: Trials that each baseline gets.
TRIALS = 6

_BOOSTINGS = (
    Boosting(),
    Boosting(num_leaves=7),
    Boosting(num_leaves=31),
    Boosting(num_leaves=7, min_data_in_leaf=100, lambda_l2=10.0),
    Boosting(num_leaves=15, min_data_in_leaf=100, feature_fraction=0.3),
    Boosting(num_leaves=4, feature_fraction=0.3),
)

#: Baseline -> its settings by name, `TRIALS` each.
CANDIDATES: dict[str, dict[str, Fit]] = {
    "rfm_logistic": {
        f"C = {penalty:g}": partial(fit_rfm_logistic, inverse_penalty=penalty)
        for penalty in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    },
    "rfm_tiers": {f"{tiers} tiers": partial(fit_rfm_tiers, tiers=tiers) for tiers in (3, 5, 8, 12, 20, 40)},
    "activity_lightgbm": {str(boosting): partial(fit_activity_lightgbm, boosting=boosting) for boosting in _BOOSTINGS},
}


def choose(candidates: Mapping[str, Fit], rows: TrainingRows, task: TaskConfig, seed: int) -> tuple[str, Fit]:
    """The candidate of the lowest deviance on the validation users, fitted without them.

    Args:
        candidates: By a name for the log.
        rows: Training rows, some of them of validation users.
        task: What to predict.
        seed: Passed to each fit.
    """
    held_out = rows.validation
    none = np.zeros(int((~held_out).sum()), dtype=bool)
    learn = TrainingRows(rows.activity[~held_out], rows.names, rows.labels[~held_out], none, rows.class_count)
    losses = {}
    for name, fit in candidates.items():
        # Early stopping needs the validation users; what has none of it must not be fitted on them while it is tuned.
        stops_early = getattr(fit, "func", fit) is fit_activity_lightgbm
        predict = fit(rows if stops_early else learn, task, seed)
        losses[name] = deviance(rows.labels[held_out], predict(rows.activity[held_out]), task.form)
    best = min(losses, key=lambda name: losses[name])
    logger.info("%s: %s of %s", task.window_name, best, {name: round(loss, 5) for name, loss in losses.items()})
    return best, candidates[best]
