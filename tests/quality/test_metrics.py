"""Metrics against scikit-learn, scipy and hand-made values; weights against repeated rows."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as reference

from segmenter_plugin.quality import metrics
from segmenter_plugin.quality.metrics import METRICS


@pytest.fixture
def random():
    return np.random.default_rng(4)


@pytest.fixture
def binary(random):
    truth = random.random(400) < 0.3
    probability = np.clip(np.round(0.3 + 0.25 * truth + random.normal(0, 0.25, 400), 1), 0, 1)  # many ties
    return truth, probability


@pytest.fixture
def money(random):
    truth = np.where(random.random(400) < 0.5, 0.0, random.lognormal(3, 1, 400))
    prediction = np.round(truth * random.lognormal(0, 0.8, 400) + random.gamma(1, 4, 400), 0)
    return truth, prediction


def example(kind, random, rows=200):
    """Truth and prediction with ties for a kind of task."""
    if kind == "binary":
        return random.random(rows) < 0.4, np.round(random.random(rows), 1)
    if kind == "value":
        return np.round(random.gamma(0.5, 20, rows), -1), np.round(random.gamma(0.5, 20, rows), -1)
    probabilities = np.round(random.dirichlet(np.ones(3), rows), 2)
    if kind == "multiclass":
        return random.integers(0, 3, rows), probabilities
    if kind == "category":
        return random.integers(0, 3, (rows, 2)), np.stack([probabilities, probabilities[::-1]], axis=1)
    return random.random((rows, 3)) < 0.3, probabilities


def test_binary_metrics_equal_scikit_learn(binary):
    truth, probability = binary
    assert metrics.auroc(truth, probability) == pytest.approx(reference.roc_auc_score(truth, probability))
    expected = reference.average_precision_score(truth, probability)
    assert metrics.average_precision(truth, probability) == pytest.approx(expected)
    clipped = np.clip(probability, metrics.EPSILON, 1 - metrics.EPSILON)
    assert metrics.log_loss(truth, probability) == pytest.approx(reference.log_loss(truth, clipped))


def test_value_metrics_equal_scipy_and_scikit_learn(money):
    truth, prediction = money
    assert metrics.spearman(truth, prediction) == pytest.approx(spearmanr(truth, prediction).statistic)
    expected = reference.root_mean_squared_log_error(truth, prediction)
    assert metrics.rmsle(truth, prediction) == pytest.approx(expected)


def test_class_metrics_equal_scikit_learn(random):
    truth = random.integers(0, 4, 300)
    probabilities = random.dirichlet(np.ones(5), 300)  # class 4 is predicted but never true
    said = probabilities.argmax(axis=1)
    assert metrics.accuracy(truth, probabilities) == pytest.approx(reference.accuracy_score(truth, said))
    assert metrics.macro_f1(truth, probabilities) == pytest.approx(reference.f1_score(truth, said, average="macro"))
    expected = reference.log_loss(truth, probabilities, labels=range(5))
    assert metrics.multiclass_log_loss(truth, probabilities) == pytest.approx(expected)


def test_category_metrics_are_the_mean_over_categories_of_scikit_learns(random):
    truth, probabilities = random.integers(0, 3, (300, 4)), random.dirichlet(np.ones(3), (300, 4))
    each = list(zip(truth.T, probabilities.transpose(1, 0, 2), strict=True))
    expected = np.mean([reference.roc_auc_score(*pair, multi_class="ovr", average="macro") for pair in each])
    assert metrics.category_auroc(truth, probabilities) == pytest.approx(expected)
    expected = np.mean([reference.log_loss(*pair, labels=range(3)) for pair in each])
    assert metrics.category_log_loss(truth, probabilities) == pytest.approx(expected)


def test_category_auroc_leaves_out_what_does_not_exist(random):
    truth, probabilities = random.integers(0, 2, (300, 2)), random.dirichlet(np.ones(3), (300, 2))
    expected = np.mean([metrics.auroc(truth[:, 0] == number, probabilities[:, 0, number]) for number in (0, 1)])
    truth[:, 1] = 1
    assert metrics.category_auroc(truth, probabilities) == pytest.approx(expected)
    assert np.isnan(metrics.category_auroc(truth[:, 1:], probabilities[:, 1:]))


def test_label_metrics_equal_scikit_learn(random):
    truth = random.random((200, 4)) < 0.3
    probabilities = np.round(random.random((200, 4)), 1)
    for average, function in (("micro", metrics.micro_average_precision), ("macro", metrics.macro_average_precision)):
        expected = reference.average_precision_score(truth, probabilities, average=average)
        assert function(truth, probabilities) == pytest.approx(expected)


def test_macro_average_precision_leaves_out_labels_that_nobody_has(random):
    truth = random.random((200, 3)) < 0.3
    probabilities = random.random((200, 3))
    expected = metrics.macro_average_precision(truth[:, :2], probabilities[:, :2])
    truth[:, 2] = False
    assert metrics.macro_average_precision(truth, probabilities) == pytest.approx(expected)
    assert np.isnan(metrics.macro_average_precision(np.zeros_like(truth), probabilities))


def test_normalised_gini_by_hand():
    truth = np.array([0.0, 10.0, 30.0, 60.0])
    assert metrics.normalised_gini(truth, truth) == pytest.approx(1.0)
    assert metrics.normalised_gini(truth, -truth) == pytest.approx(-1.0)
    assert metrics.normalised_gini(truth, np.ones(4)) == pytest.approx(0.0)
    # Kaggle's form: sum of cumulative shares - (n + 1) / 2, for the ranking 30, 60, 0, 10 over that of 60, 30, 10, 0.
    ranking = (0.3 + 0.9 + 0.9 + 1.0 - 2.5) / (0.6 + 0.9 + 1.0 + 1.0 - 2.5)
    assert metrics.normalised_gini(truth, np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(ranking)


def test_decile_mape_by_hand():
    prediction = np.repeat(np.arange(10, 0, -1.0), 2)
    truth = prediction * 1.25
    assert metrics.decile_mape(truth, prediction) == pytest.approx(0.2)
    truth[-2:] = 0.0  # the lowest decile brought nothing and is left out
    assert metrics.decile_mape(truth, prediction) == pytest.approx(0.2)
    # All tied: each decile holds a tenth of all money, whatever the order of the rows.
    assert metrics.decile_mape(truth, np.full(20, truth.mean() / 2)) == pytest.approx(0.5)


def test_calibration_error_by_hand():
    probability = np.repeat([0.2, 0.8], 50)
    truth = np.r_[np.arange(50) < 10, np.arange(50) < 30]  # 0.2 is right, 0.8 is 0.2 too high
    assert metrics.calibration_error(truth, probability) == pytest.approx(0.1)


def test_calibration_error_of_the_true_probabilities_is_small(random):
    probability = random.beta(0.5, 8, 50_000)
    assert metrics.calibration_error(random.random(50_000) < probability, probability) < 0.01


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_counts_weights_as_repeated_rows(kind, random):
    truth, prediction = example(kind, random)
    counts = random.integers(0, 4, (5, len(truth)))
    for metric in METRICS[kind]:
        weighted = metric.function(truth, prediction, counts.astype(float))
        assert weighted.shape == (5,)
        for row, value in zip(counts, weighted, strict=True):
            repeated = [np.repeat(array, row, axis=0) for array in (truth, prediction)]
            if metric.name == "calibration_error":
                continue  # its bins are those of the whole sample; held by the test below
            assert value == pytest.approx(float(metric.function(*repeated, None))), metric.name


def test_calibration_bins_stay_those_of_the_whole_sample(binary):
    truth, probability = binary
    assert metrics.calibration_error(truth, probability, np.full((1, 400), 3.0))[0] == pytest.approx(
        float(metrics.calibration_error(truth, probability))
    )


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_ignores_row_order_and_ties(kind, random):
    truth, prediction = example(kind, random)
    order = random.permutation(len(truth))
    for metric in METRICS[kind]:
        assert metric.function(truth, prediction, None) == pytest.approx(
            metric.function(truth[order], prediction[order], None)
        ), metric.name


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_prefers_the_truth(kind, random):
    truth, prediction = example(kind, random)
    perfect = np.eye(3)[truth] if kind in ("multiclass", "category") else truth.astype(float)
    for metric in METRICS[kind]:
        right, wrong = metric.function(truth, perfect, None), metric.function(truth, prediction, None)
        assert (right > wrong) == metric.higher_is_better, metric.name


def test_what_does_not_exist_is_nan():
    one_class = np.ones(5, dtype=bool)
    assert np.isnan(metrics.auroc(one_class, np.arange(5.0)))
    assert np.isnan(metrics.average_precision(~one_class, np.arange(5.0)))
    assert np.isnan(metrics.spearman(np.arange(5.0), np.ones(5)))
    assert np.isnan(metrics.normalised_gini(np.zeros(5), np.arange(5.0)))
    assert np.isnan(metrics.decile_mape(np.zeros(5), np.arange(5.0)))
