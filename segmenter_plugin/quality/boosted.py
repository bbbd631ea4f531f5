"""All aggregates and LightGBM: the baseline that is hard to beat."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.quality.deviance import TWEEDIE_POWER
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.metrics import normalised_gini, spearman
from segmenter_plugin.quality.training_rows import Predictor, TrainingRows, fits_each_value
from segmenter_plugin.tasks import TaskConfig

logger = logging.getLogger(__name__)

MOST_ROUNDS = 1500
#: Rounds when no user is kept out, so nothing can stop early.
ROUNDS_WITHOUT_VALIDATION = 200
PATIENCE = 60
#: Up to here one thread is as fast as several, and far faster where cores are shared: threads wait for the slowest.
ROWS_FOR_ONE_THREAD = 100_000


@dataclass(frozen=True)
class Boosting:
    """What is tuned of LightGBM; the names are its own. `min_data_in_leaf` falls where rows are few."""

    num_leaves: int = 15
    min_data_in_leaf: int = 40
    feature_fraction: float = 0.6
    lambda_l2: float = 1.0


@fits_each_value
def fit_activity_lightgbm(
    rows: TrainingRows, task: TaskConfig, seed: int, boosting: Boosting = Boosting()
) -> Predictor:
    """Gradient-boosted trees on every aggregate, stopped early on the validation users.

    A value task is fitted as Tweedie regression and as two parts (probability of spending x gamma regression of
    spenders); the one that ranks the validation users' money better, by Spearman plus normalised Gini, is taken.

    Args:
        rows: Training rows.
        task: What to predict.
        seed: Fixes the bagging.
        boosting: How large and how wild the trees are.
    """
    if task.kind == "value":
        return _fit_value(rows, task, seed, boosting)
    if task.kind == "multilabel":
        models = [_fit_label(rows, rows.labels[:, label], seed, boosting) for label in range(rows.class_count)]
        return lambda activity: np.stack([model(activity) for model in models], axis=1)
    if task.kind == "multiclass":
        objective = {"objective": "multiclass", "num_class": rows.class_count}
        return _train(rows, rows.labels, objective, seed, boosting)
    return _train(rows, rows.labels, {"objective": "binary"}, seed, boosting)


def _fit_label(rows: TrainingRows, labels: NDArray[Any], seed: int, boosting: Boosting) -> Predictor:
    rate = float(labels[~rows.validation].mean())
    if rate in (0.0, 1.0):
        return lambda activity: np.full(len(activity), rate)
    return _train(rows, labels, {"objective": "binary"}, seed, boosting)


def _fit_value(rows: TrainingRows, task: TaskConfig, seed: int, boosting: Boosting) -> Predictor:
    spends = rows.labels > 0
    probability = _train(rows, spends, {"objective": "binary"}, seed, boosting)
    amount = _train(rows, rows.labels, {"objective": "gamma"}, seed, boosting, keep=spends)
    tweedie = {"objective": "tweedie", "tweedie_variance_power": TWEEDIE_POWER}
    candidates: dict[str, Predictor] = {
        "two parts": lambda activity: probability(activity) * amount(activity),
        "Tweedie": _train(rows, rows.labels, tweedie, seed, boosting),
    }
    held_out = rows.activity[rows.validation]
    truth = rows.labels[rows.validation]
    if len(np.unique(truth)) < 2:
        return candidates["two parts"]
    quality = {name: _ranking_quality(truth, predict(held_out)) for name, predict in candidates.items()}
    best = max(quality, key=lambda name: quality[name])
    logger.info("%s: LightGBM in the form %s (validation: %s)", task.window_name, best, quality)
    return candidates[best]


def _ranking_quality(truth: FloatArray, predicted: FloatArray) -> float:
    # A constant prediction has no Spearman; it ranks nothing.
    return round(float(np.nan_to_num(spearman(truth, predicted))) + float(normalised_gini(truth, predicted)), 6)


def _train(
    rows: TrainingRows,
    labels: NDArray[Any],
    objective: dict[str, Any],
    seed: int,
    boosting: Boosting,
    *,
    keep: NDArray[np.bool_] | None = None,
) -> Predictor:
    """One booster; `keep` narrows both training and validation rows."""
    keep = np.ones(len(labels), dtype=bool) if keep is None else keep
    learn, check = keep & ~rows.validation, keep & rows.validation
    parameters = objective | {
        "learning_rate": 0.03,
        "num_leaves": boosting.num_leaves,
        "min_data_in_leaf": max(1, min(boosting.min_data_in_leaf, int(learn.sum()) // 20)),
        "feature_fraction": boosting.feature_fraction,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": boosting.lambda_l2,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1 if learn.sum() <= ROWS_FOR_ONE_THREAD else 0,
        "verbosity": -1,
    }
    train = lightgbm.Dataset(rows.activity[learn], labels[learn].astype(np.float64), free_raw_data=True)
    callbacks: list[Callable[..., Any]] = []
    held_out = []
    if check.any():
        held_out = [lightgbm.Dataset(rows.activity[check], labels[check].astype(np.float64), reference=train)]
        callbacks = [lightgbm.early_stopping(PATIENCE, verbose=False)]
    rounds = MOST_ROUNDS if held_out else ROUNDS_WITHOUT_VALIDATION
    booster = lightgbm.train(parameters, train, num_boost_round=rounds, valid_sets=held_out, callbacks=callbacks)
    return lambda activity: np.asarray(booster.predict(activity), dtype=np.float64)
