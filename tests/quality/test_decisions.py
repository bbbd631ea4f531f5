"""Decisions against scikit-learn and hand-made values; weights, ties and order are held with all metrics."""

import numpy as np
import pytest
from sklearn import metrics as reference

from segmenter_plugin.quality import decisions


@pytest.fixture
def binary():
    random = np.random.default_rng(4)
    truth = random.random(400) < 0.3
    return truth, np.clip(np.round(0.3 + 0.25 * truth + random.normal(0, 0.25, 400), 1), 0, 1)


def test_decisions_at_the_threshold_equal_scikit_learn(binary):
    truth, probability = binary
    said = probability >= 0.5  # some lie exactly there
    assert (probability == 0.5).any()
    pairs = {
        decisions.right_share: reference.accuracy_score,
        decisions.precision: reference.precision_score,
        decisions.recall: reference.recall_score,
        decisions.f1: reference.f1_score,
    }
    for ours, theirs in pairs.items():
        assert ours(truth, probability) == pytest.approx(theirs(truth, said)), theirs.__name__


def test_weighted_decisions_equal_scikit_learn_with_sample_weights(binary):
    truth, probability = binary
    weights = np.random.default_rng(5).integers(0, 4, (3, 400)).astype(float)
    for row, precision, f1 in zip(
        weights,
        decisions.precision(truth, probability, weights),
        decisions.f1(truth, probability, weights),
        strict=True,
    ):
        said = probability >= 0.5
        assert precision == pytest.approx(reference.precision_score(truth, said, sample_weight=row))
        assert f1 == pytest.approx(reference.f1_score(truth, said, sample_weight=row))


def test_micro_f1_equals_scikit_learn():
    random = np.random.default_rng(6)
    truth, probabilities = random.random((200, 4)) < 0.3, np.round(random.random((200, 4)), 1)
    expected = reference.f1_score(truth, probabilities >= 0.5, average="micro")
    assert decisions.micro_f1(truth, probabilities) == pytest.approx(expected)


def test_lift_by_hand():
    truth = np.zeros(200, dtype=bool)
    truth[[0, 1, 2, 100]] = True
    score = -np.arange(200.0)
    assert decisions.lift_1(truth, score) == pytest.approx((2 / 2) / (4 / 200))
    assert decisions.lift_10(truth, score) == pytest.approx((3 / 20) / (4 / 200))
    assert decisions.lift_5(truth, np.ones(200)) == pytest.approx(1.0)  # all tied: a random pick
    assert np.isnan(decisions.lift_5(np.zeros(9, dtype=bool), np.arange(9.0)))


def test_a_share_that_does_not_exist_is_nan():
    truth = np.array([True, False])
    assert np.isnan(decisions.precision(truth, np.zeros(2)))
    assert decisions.recall(truth, np.zeros(2)) == 0.0
    assert np.isnan(decisions.recall(np.zeros(2, dtype=bool), np.ones(2)))
    assert np.isnan(decisions.f1(np.zeros(2, dtype=bool), np.zeros(2)))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_report_per_class_equals_scikit_learn(kind):
    random = np.random.default_rng(7)
    names = ("no", "yes") if kind == "binary" else ("a", "b", "c")
    if kind == "binary":
        truth, predicted = random.random(300) < 0.4, np.round(random.random(300), 1)
        said = predicted >= 0.5
    elif kind == "multiclass":
        truth, predicted = random.integers(0, 3, 300), random.dirichlet(np.ones(3), 300)
        said = predicted.argmax(axis=1)
    else:
        truth, predicted = random.random((300, 3)) < 0.4, np.round(random.random((300, 3)), 1)
        said = predicted >= 0.5
    expected = reference.precision_recall_fscore_support(truth, said)
    found = decisions.class_reports(truth, predicted, names, kind)
    assert [report.name for report in found] == list(names)
    for place, name in enumerate(("precision", "recall", "f1", "rows")):
        assert [getattr(report, name) for report in found] == pytest.approx(list(expected[place])), name


def test_a_class_that_is_never_predicted_has_no_precision():
    report = decisions.class_reports(np.array([0, 1, 1]), np.tile([0.9, 0.1], (3, 1)), ("a", "b"), "multiclass")[1]
    assert report.precision is None
    assert report.recall == 0.0


def test_report_of_a_ladder_of_each_category_counts_pairs():
    random = np.random.default_rng(7)
    truth, predicted = random.integers(0, 3, (100, 2)), random.dirichlet(np.ones(3), (100, 2))
    found = decisions.class_reports(truth, predicted, ("a", "b", "c"), "category")
    expected = reference.precision_recall_fscore_support(truth.ravel(), predicted.argmax(axis=-1).ravel())
    for place, name in enumerate(("precision", "recall", "f1", "rows")):
        assert [getattr(report, name) for report in found] == pytest.approx(list(expected[place])), name
