"""Recency, frequency, monetary: three numbers and a (generalised) linear model, which need no machine learning team."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import GammaRegressor, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from segmenter_plugin.columns import PURCHASE
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.training_rows import Predictor, TrainingRows, fits_each_value
from segmenter_plugin.tasks import TaskConfig


def rfm_columns(names: tuple[str, ...], task: TaskConfig) -> tuple[str, ...]:
    """The aggregates that are a task's recency, frequency and monetary value, over the longest window.

    Args:
        names: The aggregates that there are, windows ascending.
        task: Recency and frequency are those of its event type; money is that of purchases, where there are prices.
    """

    def longest(stem: str) -> list[str]:
        return [name for name in names if name.startswith(stem)][-1:]

    event = task.event_types[-1]
    recency = f"{event}_recency_days" if f"{event}_recency_days" in names else "recency_days"
    frequency = longest("order_count_" if event == PURCHASE else f"{event}_count_") or longest("event_count_")
    monetary = longest(f"{PURCHASE}_sum_") or longest(f"{PURCHASE}_count_") or longest("session_count_")
    return (recency, *frequency, *monetary)


def rfm_features(rows: TrainingRows, task: TaskConfig) -> Predictor:
    """From aggregates (N, C) to log-scaled recency, frequency and money, (N, 3); "never" is the longest known ago."""
    places = [rows.names.index(name) for name in rfm_columns(rows.names, task)]
    never = np.nan_to_num(np.nanmax(rows.activity[:, places], axis=0, initial=0.0))

    def features(activity: FloatArray) -> FloatArray:
        chosen = activity[:, places]
        return np.log1p(np.maximum(np.where(np.isnan(chosen), never, chosen), 0.0))

    return features


@fits_each_value
def fit_rfm_logistic(rows: TrainingRows, task: TaskConfig, seed: int, inverse_penalty: float = 1.0) -> Predictor:
    """Logistic regression on log-scaled recency, frequency and money.

    A value task multiplies the probability of spending with the mean spend of spenders, from a gamma regression with a
    log link on the same three numbers. Nothing stops early here, so the validation users are trained
    on as well: the baseline gets no less than it could use.

    Args:
        rows: Training rows.
        task: What to predict.
        seed: Passed to the solver.
        inverse_penalty: scikit-learn's C of the logistic regression.
    """
    features = rfm_features(rows, task)
    inputs = features(rows.activity)
    logistic = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=1000, random_state=seed))
    if task.kind == "value":
        spends = rows.labels > 0
        probability = _classifier(inputs, spends, 2, logistic)
        amount = make_pipeline(StandardScaler(), GammaRegressor(alpha=1e-3, max_iter=1000))
        amount.fit(inputs[spends], rows.labels[spends])
        return lambda activity: probability(features(activity))[:, 1] * amount.predict(features(activity))
    if task.kind == "multilabel":
        models = [_classifier(inputs, label, 2, logistic) for label in rows.labels.T]
        return lambda activity: np.stack([model(features(activity))[:, 1] for model in models], axis=1)
    count = 2 if task.kind == "binary" else rows.class_count
    classifier = _classifier(inputs, rows.labels, count, logistic)
    if task.kind == "binary":
        return lambda activity: classifier(features(activity))[:, 1]
    return lambda activity: classifier(features(activity))


def _classifier(inputs: FloatArray, labels: NDArray[Any], count: int, model: Pipeline) -> Predictor:
    """Class probabilities (N, K); a class that training lacks gets 0, and a single one gets 1."""
    present = np.unique(labels.astype(np.intp))
    fitted = clone(model).fit(inputs, labels.astype(np.intp)) if len(present) > 1 else None

    def predict(features: FloatArray) -> FloatArray:
        probabilities = np.zeros((len(features), count))
        probabilities[:, present] = 1.0 if fitted is None else fitted.predict_proba(features)
        return probabilities

    return predict
