"""Every registered baseline, on every kind of task."""

from dataclasses import replace

import numpy as np
import pytest

from segmenter_plugin.errors import ConfigError, TrainingError
from segmenter_plugin.quality import boosted
from segmenter_plugin.quality.baselines import BASELINES, fit_baseline, rank_mean
from segmenter_plugin.quality.metrics import METRICS, auroc, normalised_gini
from segmenter_plugin.quality.rfm import rfm_columns

KINDS = tuple(METRICS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_learns_every_kind(name, kind, training_rows, tasks):
    later = training_rows(kind, seed=1)
    predicted = fit_baseline(name, training_rows(kind), tasks[kind], seed=5)(later.activity)
    assert predicted.shape == {"binary": (1500,), "value": (1500,), "category": (1500, 2, 3)}.get(kind, (1500, 3))
    assert np.isfinite(predicted).all()
    assert (predicted >= 0).all()
    constant = np.tile(predicted.mean(axis=0), (1500, *[1] * (predicted.ndim - 1)))
    metric = METRICS[kind][0]
    learnt, chance = (float(metric.function(later.labels, values, None)) for values in (predicted, constant))
    assert learnt > (chance if np.isfinite(chance) else 0) + 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BASELINES)
def test_the_seed_fixes_the_predictions(name, kind, training_rows, tasks):
    rows = training_rows(kind, count=600)
    first, again = (fit_baseline(name, rows, tasks[kind], seed=5)(rows.activity) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(("kind", "metric"), [("binary", auroc), ("value", normalised_gini)])
def test_all_aggregates_see_more_than_recency_frequency_and_money(kind, metric, training_rows, tasks):
    rows, later = training_rows(kind, count=4000), training_rows(kind, seed=1)
    quality = {
        name: metric(later.labels, fit_baseline(name, rows, tasks[kind], 5)(later.activity)) for name in BASELINES
    }
    assert quality["activity_lightgbm"] > quality["rfm_logistic"] + 0.03


def test_value_predictions_are_money(training_rows, tasks):
    later = training_rows("value", seed=1)
    for name in BASELINES:
        predicted = fit_baseline(name, training_rows("value"), tasks["value"], 5)(later.activity)
        assert predicted.mean() == pytest.approx(later.labels.mean(), rel=0.15), name


def test_both_forms_of_the_value_baseline_predict_money(training_rows, tasks, monkeypatch):
    rows, later = training_rows("value"), training_rows("value", seed=1)
    for preferred in (0, 1):  # two parts, then Tweedie
        asked = iter([1.0 - preferred, float(preferred)])
        monkeypatch.setattr(boosted, "_ranking_quality", lambda *_, asked=asked: next(asked))
        predicted = boosted.fit_activity_lightgbm(rows, tasks["value"], 5)(later.activity)
        assert predicted.mean() == pytest.approx(later.labels.mean(), rel=0.15)
        assert normalised_gini(later.labels, predicted) > 0.4


def test_without_validation_users_nothing_stops_early(training_rows, tasks):
    rows, later = training_rows("value"), training_rows("value", seed=1)
    predict = fit_baseline("activity_lightgbm", replace(rows, validation=np.zeros(1500, dtype=bool)), tasks["value"], 5)
    assert predict(later.activity).mean() == pytest.approx(later.labels.mean(), rel=0.15)


@pytest.mark.parametrize("name", BASELINES)
def test_a_ladder_of_each_category_is_one_ladder_a_category(name, training_rows, tasks):
    rows = training_rows("category", count=600)
    predicted = fit_baseline(name, rows, tasks["category"], 5)(rows.activity)
    first = fit_baseline(name, replace(rows, labels=rows.labels[:, 0]), tasks["multiclass"], 5)(rows.activity)
    np.testing.assert_array_equal(predicted[:, 0], first)
    np.testing.assert_array_equal(predicted[:, 1], np.tile([0.0, 1.0, 0.0], (600, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_boosting_does_not_train_on_validation_users(kind, training_rows, tasks):
    rows = training_rows(kind, count=800)
    spoilt = rows.labels.copy()
    spoilt[rows.validation] = np.random.default_rng(0).permutation(spoilt[rows.validation])
    none = replace(rows, validation=np.zeros(800, dtype=bool))
    one = fit_baseline("activity_lightgbm", replace(rows, labels=spoilt), tasks[kind], 5)(rows.activity)
    all_rows = fit_baseline("activity_lightgbm", replace(none, labels=spoilt), tasks[kind], 5)(rows.activity)
    assert not np.array_equal(one, all_rows)


def test_a_class_that_training_lacks_gets_no_probability(training_rows, tasks):
    rows = training_rows("multiclass")
    kept = rows.labels != 1
    two = replace(rows, activity=rows.activity[kept], labels=rows.labels[kept], validation=rows.validation[kept])
    predicted = fit_baseline("rfm_logistic", two, tasks["multiclass"], 5)(rows.activity)
    assert (predicted[:, 1] == 0).all()
    np.testing.assert_allclose(predicted.sum(axis=1), 1)


def test_rfm_takes_the_longest_window_and_the_tasks_event_type(tasks):
    names = (
        "order_count_7d",
        "view_count_7d",
        "purchase_sum_7d",
        "order_count_90d",
        "view_count_90d",
        "purchase_sum_90d",
    )
    names += ("recency_days", "purchase_recency_days", "view_recency_days")
    assert rfm_columns(names, tasks["binary"]) == ("purchase_recency_days", "order_count_90d", "purchase_sum_90d")
    viewing = tasks["binary"].model_copy(update={"event_type": "view"})
    assert rfm_columns(names, viewing) == ("view_recency_days", "view_count_90d", "purchase_sum_90d")
    without_price = (*(name for name in names if "sum" not in name), "purchase_count_90d")
    assert rfm_columns(without_price, tasks["binary"])[2] == "purchase_count_90d"


def test_one_class_and_no_rows_are_refused(training_rows, tasks):
    rows = training_rows("binary", count=100)
    with pytest.raises(TrainingError, match="same outcome"):
        fit_baseline("rfm_logistic", replace(rows, labels=np.zeros(100, dtype=bool)), tasks["binary"], 5)
    with pytest.raises(TrainingError, match="no training rows"):
        fit_baseline("rfm_logistic", replace(rows, validation=np.ones(100, dtype=bool)), tasks["binary"], 5)
    with pytest.raises(ConfigError, match="oracle"):
        fit_baseline("oracle", rows, tasks["binary"], 5)


def test_rank_mean_joins_orders_and_has_no_scale():
    joined = rank_mean([np.array([1.0, 2.0, 3.0, 3.0]), np.array([100.0, 0.0, 50.0, 50.0])])
    assert not joined.has_scale
    np.testing.assert_allclose(joined.values, [(1 + 4) / 8, (2 + 1) / 8, (3.5 + 2.5) / 8, (3.5 + 2.5) / 8])
