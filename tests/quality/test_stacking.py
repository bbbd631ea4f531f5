"""The stack: never far below its members, fitted out of fold, on every kind of task."""

from dataclasses import replace

import numpy as np
import pytest

from segmenter_plugin.errors import TrainingError
from segmenter_plugin.quality.boosted import fit_activity_lightgbm
from segmenter_plugin.quality.deviance import deviance
from segmenter_plugin.quality.metrics import METRICS
from segmenter_plugin.quality.stacking import EncoderOutput, fit_stack
from segmenter_plugin.quality.training_rows import TrainingRows

KINDS = tuple(METRICS)


def folds_of(count):
    return np.arange(count) % 3


def encoder_of(rows, kind, seed, skill=1.0):
    """An encoder that sees something of the label that the aggregates do not tell."""
    random = np.random.default_rng(seed)
    is_ladder = kind in ("multiclass", "category")
    outcome = np.eye(3)[rows.labels] if is_ladder else np.asarray(rows.labels > 0, dtype=float)
    raw = skill * (outcome - 0.5) + random.normal(0, 1, outcome.shape)
    if kind == "value":
        predicted = 40 * np.exp(raw)
    elif is_ladder:
        predicted = np.exp(raw) / np.exp(raw).sum(axis=-1, keepdims=True)
    else:
        predicted = 1 / (1 + np.exp(-raw))
    signals = np.column_stack([raw.reshape(len(raw), -1), random.normal(size=(len(raw), 2))])
    return EncoderOutput(predicted, signals)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_encoder_adds_is_gained(kind, training_rows, tasks):
    rows, later = training_rows(kind, count=900), training_rows(kind, count=1500, seed=1)
    stack = fit_stack(rows, encoder_of(rows, kind, 2), folds_of(900), tasks[kind], 5)
    joined = stack(later.activity, encoder_of(later, kind, 3))
    alone = fit_activity_lightgbm(rows, tasks[kind], 5)(later.activity)
    assert joined.shape == alone.shape
    assert deviance(later.labels, joined, kind) < deviance(later.labels, alone, kind) - 0.01


@pytest.mark.parametrize("kind", ["binary", "value"])
def test_an_encoder_that_knows_nothing_costs_little(kind, training_rows, tasks):
    rows, later = training_rows(kind, count=1500), training_rows(kind, count=1500, seed=1)
    stack = fit_stack(rows, encoder_of(rows, kind, 2, skill=0.0), folds_of(1500), tasks[kind], 5)
    joined = stack(later.activity, encoder_of(later, kind, 3, skill=0.0))
    alone = fit_activity_lightgbm(rows, tasks[kind], 5)(later.activity)
    assert stack.blend.weights[1] < 0.1
    assert deviance(later.labels, joined, kind) < deviance(later.labels, alone, kind) * 1.02


def test_weights_come_from_rows_that_the_boosters_have_not_seen(training_rows, tasks):
    rows = training_rows("binary", count=300)
    learned = []

    def fit(part: TrainingRows, task, seed):
        learned.append(part.activity)
        known = {row.tobytes() for row in part.activity}
        # Says how many of the rows it is asked about it was fitted on.
        return lambda activity: np.array([0.9 if row.tobytes() in known else 0.1 for row in activity])

    encoder = encoder_of(rows, "binary", 2)
    rows = replace(rows, activity=np.arange(300 * 8.0).reshape(300, 8))
    stack = fit_stack(rows, encoder, folds_of(300), tasks["binary"], 5, fit=fit)
    assert [len(part) for part in learned] == [200] * 6 + [300] * 2
    # Out of fold both boosters say the same of everybody, so the encoder alone tells users apart.
    assert stack.blend.weights[1] > 0.3


def test_one_fold_is_refused(training_rows, tasks):
    rows = training_rows("binary", count=100)
    with pytest.raises(TrainingError, match="in one fold"):
        fit_stack(rows, encoder_of(rows, "binary", 2), np.zeros(100, dtype=np.intp), tasks["binary"], 5)
