"""Metrics of decisions: who is addressed, and how often that was right.

A binary or multilabel outcome counts as predicted from a probability of `THRESHOLD` on; a multiclass one is the
likeliest class. Weights, ties and NaN are as in `quality.metrics`.

N: rows, R: resamples, K: classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from segmenter_plugin.quality.weighted import Array, FloatArray, descending, grouped, row_weights, weighted_mean
from segmenter_plugin.tasks import Form

THRESHOLD = 0.5


def right_share(truth: Array, probability: Array, weights: FloatArray | None = None) -> FloatArray:
    """Accuracy: share of rows that are on the right side of `THRESHOLD`.

    Args:
        truth: (N,) bool.
        probability: (N,).
        weights: (N,) or (R, N).
    """
    return weighted_mean((probability >= THRESHOLD) == truth, row_weights(weights, len(truth)))


def precision(truth: Array, probability: Array, weights: FloatArray | None = None) -> FloatArray:
    """Share of positives among the rows at or above `THRESHOLD`; NaN where there is no such row.

    Args:
        truth: (N,) bool.
        probability: (N,).
        weights: (N,) or (R, N).
    """
    said = np.asarray(probability) >= THRESHOLD
    return _share(said & truth, said, row_weights(weights, len(truth)))


def recall(truth: Array, probability: Array, weights: FloatArray | None = None) -> FloatArray:
    """Share of the positives that are at or above `THRESHOLD`; NaN where there are no positives.

    Args:
        truth: (N,) bool.
        probability: (N,).
        weights: (N,) or (R, N).
    """
    return _share((np.asarray(probability) >= THRESHOLD) & truth, truth, row_weights(weights, len(truth)))


def f1(truth: Array, probability: Array, weights: FloatArray | None = None) -> FloatArray:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); NaN where nothing is true or predicted.

    Args:
        truth: (N,) bool.
        probability: (N,).
        weights: (N,) or (R, N).
    """
    said = np.asarray(probability) >= THRESHOLD
    return _share(2.0 * (said & truth), 1.0 * said + truth, row_weights(weights, len(truth)))


def micro_f1(truth: Array, probabilities: Array, weights: FloatArray | None = None) -> FloatArray:
    """F1 over all (row, label) pairs.

    Args:
        truth: (N, K) bool.
        probabilities: (N, K).
        weights: (N,) or (R, N).
    """
    pairs = np.repeat(row_weights(weights, len(truth)), truth.shape[1], axis=-1)
    return f1(truth.ravel(), probabilities.ravel(), pairs)


def lift(truth: Array, score: Array, weights: FloatArray | None, share: float) -> FloatArray:
    """How many times the positives of a random pick of the same size are found in the top of the ranking.

    A row (or a group of ties) that lies across the border counts in part.

    Args:
        truth: (N,) bool.
        score: (N,); only its order matters.
        weights: (N,) or (R, N).
        share: Of the rows, in (0, 1].
    """
    order, starts = descending(score)
    ordered = row_weights(weights, len(truth))[..., order]
    rows = np.cumsum(grouped(ordered, starts), axis=-1)
    found = np.cumsum(grouped(ordered * np.asarray(truth)[order], starts), axis=-1)
    top = np.empty(rows.shape[:-1])
    for place in np.ndindex(top.shape):
        top[place] = np.interp(share * rows[place][-1], np.r_[0.0, rows[place]], np.r_[0.0, found[place]])
    with np.errstate(invalid="ignore", divide="ignore"):
        return top / (share * found[..., -1])


def lift_1(truth: Array, score: Array, weights: FloatArray | None = None) -> FloatArray:
    """`lift` of the top 1 %."""
    return lift(truth, score, weights, 0.01)


def lift_5(truth: Array, score: Array, weights: FloatArray | None = None) -> FloatArray:
    """`lift` of the top 5 %."""
    return lift(truth, score, weights, 0.05)


def lift_10(truth: Array, score: Array, weights: FloatArray | None = None) -> FloatArray:
    """`lift` of the top 10 %."""
    return lift(truth, score, weights, 0.10)


@dataclass(frozen=True)
class ClassReport:
    """One class of one method's decisions; a share that does not exist is None."""

    name: str
    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_reports(truth: Array, predicted: Array, classes: Sequence[str], kind: Form) -> tuple[ClassReport, ...]:
    """Precision, recall and F1 of each class, with how many rows truly are of it.

    Where there is a ladder of each category, a row is a pair of a row and a category.

    Args:
        truth: In the shape that `quality.truth` lists.
        predicted: Likewise.
        classes: Names of the K classes; of a binary task two, the negative first.
        kind: The task's form: binary, multiclass, multilabel or category.
    """
    if kind == "binary":
        yes = predicted >= THRESHOLD
        truth, said = np.stack([~truth, truth], axis=1), np.stack([~yes, yes], axis=1)
    elif kind in ("multiclass", "category"):
        truth, predicted = truth.ravel(), predicted.reshape(-1, predicted.shape[-1])
        numbers = np.arange(len(classes))
        truth, said = truth[:, None] == numbers, predicted.argmax(axis=1)[:, None] == numbers
    else:
        said = predicted >= THRESHOLD
    return tuple(_class_report(name, truth[:, place], said[:, place]) for place, name in enumerate(classes))


def _class_report(name: str, truth: Array, said: Array) -> ClassReport:
    def value(metric: Callable[[Array, Array], FloatArray]) -> float | None:
        found = float(metric(truth, said.astype(np.float64)))
        return found if np.isfinite(found) else None

    return ClassReport(name, int(truth.sum()), value(precision), value(recall), value(f1))


def _share(part: Array, whole: Array, weights: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights @ np.asarray(part, dtype=np.float64)) / (weights @ np.asarray(whole, dtype=np.float64))
