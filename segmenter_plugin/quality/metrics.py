"""Metrics that take weights, so that a thousand bootstrap resamples cost one vectorised pass.

A weight is how often a row counts. Every function takes ``weights`` of shape (N,), or (R, N) for R resamples at
once, and gives a value of shape () or (R,); left out, each row counts once. Ties are never broken by row order: rows
with equal predictions count as one group. A value that does not exist (one class only, a constant) is NaN.

N: rows, R: resamples, K: classes, L: labels, C: values of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segmenter_plugin.quality.decisions import f1, lift_1, lift_5, lift_10, micro_f1, precision, recall, right_share
from segmenter_plugin.quality.weighted import Array, FloatArray, descending, grouped, row_weights, weighted_mean
from segmenter_plugin.tasks import Form

#: Probabilities are kept this far from 0 and 1 in a logarithm, as scikit-learn does for float32.
EPSILON = 1e-7


def auroc(truth: Array, score: Array, weights: FloatArray | None = None) -> FloatArray:
    """Area under the ROC curve: P(score of a positive > score of a negative) + P(equal) / 2.

    The Mann-Whitney form, Hanley and McNeil 1982.

    Args:
        truth: (N,) bool.
        score: (N,); only its order matters.
        weights: (N,) or (R, N).
    """
    order, starts = descending(score)
    ordered = row_weights(weights, len(truth))[..., order]
    positive = grouped(ordered * np.asarray(truth)[order], starts)
    negative = grouped(ordered, starts) - positive
    above = np.cumsum(positive, axis=-1) - positive / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (above * negative).sum(axis=-1) / (positive.sum(axis=-1) * negative.sum(axis=-1))


def average_precision(truth: Array, score: Array, weights: FloatArray | None = None) -> FloatArray:
    """Precision averaged over the recall steps, sum_g (recall_g - recall_g-1) precision_g, not interpolated.

    As `sklearn.metrics.average_precision_score`; one step for each group of equal scores.

    Args:
        truth: (N,) bool.
        score: (N,); only its order matters.
        weights: (N,) or (R, N).
    """
    order, starts = descending(score)
    ordered = row_weights(weights, len(truth))[..., order]
    positive = grouped(ordered * np.asarray(truth)[order], starts)
    seen = np.cumsum(grouped(ordered, starts), axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, np.cumsum(positive, axis=-1) / seen, 0.0)
        return (positive * precision).sum(axis=-1) / positive.sum(axis=-1)


def log_loss(truth: Array, probability: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean of -log of the probability given to what happened, in nats.

    Args:
        truth: (N,) bool.
        probability: (N,) in [0, 1]; kept `EPSILON` from the ends.
        weights: (N,) or (R, N).
    """
    happened = np.where(truth, probability, 1.0 - np.asarray(probability, dtype=np.float64))
    return weighted_mean(-np.log(np.clip(happened, EPSILON, 1.0)), row_weights(weights, len(truth)))


def calibration_error(
    truth: Array, probability: Array, weights: FloatArray | None = None, bins: int = 10
) -> FloatArray:
    """Expected calibration error: sum over bins of share x |mean probability - share of positives|.

    Naeini et al. 2015, with bins of equal mass (Nixon et al. 2019): equal widths put nearly all rows of a rare
    event into one bin. The bins are those of the whole sample, in every resample; equal probabilities share one.

    Args:
        truth: (N,) bool.
        probability: (N,) in [0, 1].
        weights: (N,) or (R, N).
        bins: Number of bins, at most.
    """
    weights = row_weights(weights, len(truth))
    edges = np.quantile(probability, np.arange(1, bins) / bins)
    place = np.searchsorted(edges, probability, side="right")
    gaps = np.zeros((len(truth), bins))
    gaps[np.arange(len(truth)), place] = np.asarray(probability, dtype=np.float64) - np.asarray(truth)
    return np.abs(weights @ gaps).sum(axis=-1) / weights.sum(axis=-1)


def _ranks(values: Array, weights: FloatArray) -> FloatArray:
    """Mean rank of each row, counting every row `weight` times; (..., N)."""
    distinct, group = np.unique(values, return_inverse=True)
    starts = np.searchsorted(group, np.arange(len(distinct)), sorter=(order := np.argsort(group, kind="stable")))
    size = grouped(weights[..., order], starts)
    return (np.cumsum(size, axis=-1) - (size - 1) / 2)[..., group]


def spearman(truth: Array, prediction: Array, weights: FloatArray | None = None) -> FloatArray:
    """Spearman's rank correlation: Pearson's on mean ranks (so ties are right), as `scipy.stats.spearmanr`.

    Args:
        truth: (N,).
        prediction: (N,); only its order matters.
        weights: (N,) or (R, N).
    """
    weights = row_weights(weights, len(truth))
    total = weights.sum(axis=-1, keepdims=True)
    left, right = _ranks(truth, weights), _ranks(prediction, weights)
    left -= (weights * left).sum(axis=-1, keepdims=True) / total
    right -= (weights * right).sum(axis=-1, keepdims=True) / total
    spread = np.sqrt((weights * left**2).sum(axis=-1) * (weights * right**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * left * right).sum(axis=-1) / spread


def _gini(value: Array, score: Array, weights: FloatArray) -> FloatArray:
    """Twice the area between the gain curve (users by falling score) and the diagonal, by trapezoids."""
    order, starts = descending(score)
    ordered = weights[..., order]
    money = grouped(ordered * np.asarray(value, dtype=np.float64)[order], starts)
    users = grouped(ordered, starts)
    gained = np.cumsum(money, axis=-1) - money / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * (gained * users).sum(axis=-1) / (money.sum(axis=-1) * users.sum(axis=-1)) - 1


def normalised_gini(truth: Array, prediction: Array, weights: FloatArray | None = None) -> FloatArray:
    """Gini of the ranking by prediction over the Gini of the perfect ranking: 1 perfect, 0 random.

    Wang et al. 2019 (arXiv 1912.07753), section 4.2; how much of the money the top of the ranking holds.

    Args:
        truth: (N,) money, >= 0.
        prediction: (N,); only its order matters.
        weights: (N,) or (R, N).
    """
    weights = row_weights(weights, len(truth))
    with np.errstate(invalid="ignore", divide="ignore"):
        return _gini(truth, prediction, weights) / _gini(truth, truth, weights)


def rmsle(truth: Array, prediction: Array, weights: FloatArray | None = None) -> FloatArray:
    """Root mean squared difference of log(1 + money), as `sklearn.metrics.root_mean_squared_log_error`.

    Args:
        truth: (N,) money, >= 0.
        prediction: (N,) money; below 0 counts as 0.
        weights: (N,) or (R, N).
    """
    difference = np.log1p(np.maximum(prediction, 0.0)) - np.log1p(truth)
    return np.sqrt(weighted_mean(difference**2, row_weights(weights, len(truth))))


def decile_mape(truth: Array, prediction: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean over deciles of the prediction of |predicted - actual| / actual money.

    Wang et al. 2019 (arXiv 1912.07753), section 4.2. A row (or a group of ties) that lies across two deciles is
    shared between them. Deciles without any actual money are left out: the ratio does not exist there.

    Args:
        truth: (N,) money, >= 0.
        prediction: (N,) money.
        weights: (N,) or (R, N).
    """
    weights = row_weights(weights, len(truth))
    order, starts = descending(prediction)
    ordered = weights[..., order]
    users = np.cumsum(grouped(ordered, starts), axis=-1)
    curves = [np.cumsum(grouped(ordered * np.asarray(money)[order], starts), axis=-1) for money in (prediction, truth)]
    shape = users.shape[:-1]
    sums = np.empty((2, *shape, 10))
    for place in np.ndindex(shape):
        edges = users[place][-1] * np.arange(11) / 10
        for side, curve in enumerate(curves):
            sums[side][place] = np.diff(np.interp(edges, np.r_[0.0, users[place]], np.r_[0.0, curve[place]]))
    actual = np.where(sums[1] > 0, sums[1], np.nan)
    errors = np.abs(sums[0] - actual) / actual
    counted = np.isfinite(errors).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nansum(errors, axis=-1) / np.where(counted > 0, counted, np.nan)


def accuracy(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Share of rows whose likeliest class is the true one.

    Args:
        truth: (N,) class numbers.
        probabilities: (N, K).
        weights: (N,) or (R, N).
    """
    return weighted_mean(probabilities.argmax(axis=1) == truth, row_weights(weights, len(truth)))


def macro_f1(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean over classes of 2 TP / (2 TP + FP + FN) at the likeliest class.

    As scikit-learn's ``f1_score(average="macro")``. A class that is neither true nor predicted anywhere is left out.

    Args:
        truth: (N,) class numbers.
        probabilities: (N, K).
        weights: (N,) or (R, N).
    """
    weights = row_weights(weights, len(truth))
    classes = np.arange(probabilities.shape[1])
    is_true = (np.asarray(truth)[:, None] == classes).astype(np.float64)
    is_said = (probabilities.argmax(axis=1)[:, None] == classes).astype(np.float64)
    both = weights @ is_true + weights @ is_said
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nanmean(2 * (weights @ (is_true * is_said)) / np.where(both > 0, both, np.nan), axis=-1)


def multiclass_log_loss(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean of -log of the probability given to the true class, in nats.

    Args:
        truth: (N,) class numbers.
        probabilities: (N, K); rows sum to 1.
        weights: (N,) or (R, N).
    """
    happened = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return weighted_mean(-np.log(np.clip(happened, EPSILON, 1.0)), row_weights(weights, len(truth)))


def micro_average_precision(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Average precision over all (row, label) pairs as one ranking.

    Args:
        truth: (N, L) bool.
        probabilities: (N, L).
        weights: (N,) or (R, N).
    """
    pairs = np.repeat(row_weights(weights, len(truth)), truth.shape[1], axis=-1)
    return average_precision(truth.ravel(), probabilities.ravel(), pairs)


def macro_average_precision(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean of the labels' average precisions; labels that no row has are left out.

    Args:
        truth: (N, L) bool.
        probabilities: (N, L).
        weights: (N,) or (R, N).
    """
    labels = [label for label in range(truth.shape[1]) if truth[:, label].any()]
    if not labels:
        return np.full(row_weights(weights, len(truth)).shape[:-1], np.nan)
    return _mean_of_known(
        np.stack([average_precision(truth[:, label], probabilities[:, label], weights) for label in labels])
    )


def category_auroc(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean over values of the mean over classes of AUROC, each class against all others.

    Of one value as scikit-learn's ``roc_auc_score(multi_class="ovr", average="macro")``; classes and values whose
    AUROC does not exist are left out.

    Args:
        truth: (N, C) class numbers.
        probabilities: (N, C, K).
        weights: (N,) or (R, N).
    """

    def of_value(place: int) -> FloatArray:
        classes = range(probabilities.shape[2])
        each = [auroc(truth[:, place] == number, probabilities[:, place, number], weights) for number in classes]
        return _mean_of_known(np.stack(each))

    return _mean_of_known(np.stack([of_value(place) for place in range(truth.shape[1])]))


def category_log_loss(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """Mean over values of `multiclass_log_loss`, in nats.

    Args:
        truth: (N, C) class numbers.
        probabilities: (N, C, K); the last axis sums to 1.
        weights: (N,) or (R, N).
    """
    places = range(truth.shape[1])
    each = [multiclass_log_loss(truth[:, place], probabilities[:, place], weights) for place in places]
    return np.asarray(np.mean(np.stack(each), axis=0))


def _mean_of_known(each: FloatArray) -> FloatArray:
    """(M, ...) -> (...): the mean of those that are finite, NaN where none is."""
    counted = np.isfinite(each).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(each, axis=0) / np.where(counted > 0, counted, np.nan))


@dataclass(frozen=True)
class Metric:
    """A metric as the table shows it."""

    name: str
    title: str
    function: Callable[[Array, Array, FloatArray | None], FloatArray]
    higher_is_better: bool = True
    #: Whether it reads more than the order of predictions; a mean of ranks has no probability or money to judge.
    needs_scale: bool = False
    #: Whether it stands in the second table, of decisions at a threshold and of the ranking's top.
    is_detail: bool = False


#: By form of task.
METRICS: dict[Form, tuple[Metric, ...]] = {
    "binary": (
        Metric("auroc", "AUROC", auroc),
        Metric("average_precision", "average precision", average_precision),
        Metric("log_loss", "log loss", log_loss, higher_is_better=False, needs_scale=True),
        Metric("calibration_error", "ECE", calibration_error, higher_is_better=False, needs_scale=True),
        Metric("lift_1", "lift at 1 %", lift_1, is_detail=True),
        Metric("lift_5", "lift at 5 %", lift_5, is_detail=True),
        Metric("lift_10", "lift at 10 %", lift_10, is_detail=True),
        Metric("accuracy", "accuracy", right_share, needs_scale=True, is_detail=True),
        Metric("precision", "precision", precision, needs_scale=True, is_detail=True),
        Metric("recall", "recall", recall, needs_scale=True, is_detail=True),
        Metric("f1", "F1", f1, needs_scale=True, is_detail=True),
    ),
    "value": (
        Metric("spearman", "Spearman", spearman),
        Metric("normalised_gini", "normalised Gini", normalised_gini),
        Metric("rmsle", "RMSLE", rmsle, higher_is_better=False, needs_scale=True),
        Metric("decile_mape", "decile MAPE", decile_mape, higher_is_better=False, needs_scale=True),
    ),
    "multiclass": (
        Metric("accuracy", "accuracy", accuracy),
        Metric("macro_f1", "macro F1", macro_f1),
        Metric("log_loss", "log loss", multiclass_log_loss, higher_is_better=False, needs_scale=True),
    ),
    "multilabel": (
        Metric("micro_average_precision", "micro AP", micro_average_precision),
        Metric("macro_average_precision", "macro AP", macro_average_precision),
        Metric("micro_f1", "micro F1", micro_f1, needs_scale=True, is_detail=True),
    ),
    "category": (
        Metric("macro_auroc", "macro AUROC", category_auroc),
        Metric("log_loss", "log loss", category_log_loss, higher_is_better=False, needs_scale=True),
    ),
}
