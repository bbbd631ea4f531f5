"""Estimates, paired differences and verdicts; what is too small to judge says so."""

import json

import numpy as np
import pytest

from segmenter_plugin.quality.baselines import Prediction
from segmenter_plugin.quality.comparison import compare
from segmenter_plugin.quality.metrics import METRICS, auroc
from segmenter_plugin.quality.table import to_markdown, to_tables


@pytest.fixture
def judged(tasks):
    random = np.random.default_rng(0)
    truth = random.random(1000) < 0.4
    logit = truth * 1.5 + random.normal(size=1000)
    predictions = {
        "blind": Prediction(random.random(1000)),
        "encoder": Prediction(1 / (1 + np.exp(-(logit - 1)))),
        "ranks": Prediction(logit, has_scale=False),
    }
    return compare(tasks["binary"], truth, predictions, np.arange(1000), 3, subject="encoder"), truth, predictions


def test_estimates_lie_inside_their_intervals(judged):
    result, truth, predictions = judged
    assert (result.rows, result.users, result.positives, result.note) == (1000, 1000, int(truth.sum()), None)
    score = next(score for score in result.scores if (score.method, score.metric) == ("encoder", "auroc"))
    assert score.estimate == pytest.approx(float(auroc(truth, predictions["encoder"].values)))
    assert all(
        score.low < score.estimate < score.high for score in result.scores if score.metric != "calibration_error"
    )


def test_a_ranking_is_not_judged_as_a_probability(judged):
    result, *_ = judged
    of_ranks = {score.metric for score in result.scores if score.method == "ranks"}
    assert of_ranks == {"auroc", "average_precision", "lift_1", "lift_5", "lift_10"}


def test_verdicts_follow_the_metrics_direction(judged):
    result, *_ = judged
    verdicts = {(entry.metric, entry.against): entry for entry in result.differences}
    assert verdicts["auroc", "blind"].verdict == "better"
    assert verdicts["auroc", "blind"].difference > 0
    assert verdicts["log_loss", "blind"].verdict == "better"
    assert verdicts["log_loss", "blind"].difference < 0
    assert verdicts["auroc", "ranks"].verdict == "no clear difference"  # the same order
    assert verdicts["auroc", "ranks"].difference == pytest.approx(0, abs=1e-12)
    assert ("log_loss", "ranks") not in verdicts


def test_a_worse_subject_is_called_worse(judged, tasks):
    _, truth, predictions = judged
    result = compare(tasks["binary"], truth, predictions, np.arange(1000), 3, subject="blind")
    assert {entry.verdict for entry in result.differences if entry.metric == "auroc"} == {"worse"}


def test_users_not_rows_are_resampled(judged, tasks):
    _, truth, predictions = judged
    doubled = {name: Prediction(np.tile(p.values, 2), p.has_scale) for name, p in predictions.items()}
    users = np.tile(np.arange(1000), 2)
    once = compare(tasks["binary"], truth, predictions, np.arange(1000), 3, subject="encoder")
    twice = compare(tasks["binary"], np.tile(truth, 2), doubled, users, 3, subject="encoder")
    assert (twice.rows, twice.users) == (2000, 1000)
    for left, right in zip(once.scores, twice.scores, strict=True):
        if left.metric != "calibration_error":
            assert right.low == pytest.approx(left.low)


@pytest.mark.parametrize(
    ("kind", "few"), [("binary", "4 positives"), ("value", "4 positives"), ("multiclass", "5 rows")]
)
def test_too_few_outcomes_are_reported_without_intervals(kind, few, tasks):
    random = np.random.default_rng(0)
    rows = 5 if kind == "multiclass" else 200
    truth = {
        "binary": np.arange(rows) < 4,
        "value": np.where(np.arange(rows) < 4, 10.0, 0.0),
        "multiclass": np.zeros(rows, int),
    }
    shape = (rows, 3) if kind == "multiclass" else rows
    predictions = {name: Prediction(random.random(shape)) for name in ("encoder", "other")}
    result = compare(tasks[kind], truth[kind], predictions, np.arange(rows), 3, subject="encoder")
    assert few in result.note
    assert all(score.low is None and score.high is None for score in result.scores)
    assert {entry.verdict for entry in result.differences} == {"not tested"}
    assert f"**{result.note}.**" in to_markdown([result])
    assert any(result.note in title for title in to_tables([result]))


def test_one_class_gives_null_not_nan(tasks):
    truth = np.ones(50, dtype=bool)
    result = compare(
        tasks["binary"], truth, {"encoder": Prediction(np.linspace(0, 1, 50))}, np.arange(50), 3, subject="encoder"
    )
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert '"metric": "auroc", "estimate": null' in text
    assert "| n/a |" in to_markdown([result])


@pytest.mark.parametrize("kind", METRICS)
def test_every_kind_is_json_able_and_drawn(kind, training_rows, tasks):
    rows = training_rows(kind, count=200)
    random = np.random.default_rng(1)
    shape = (*rows.labels.shape, 3) if kind in ("multiclass", "category") else rows.labels.shape
    predictions = {name: Prediction(random.random(shape)) for name in ("encoder", "other")}
    result = compare(tasks[kind], rows.labels, predictions, np.arange(200), 3, subject="encoder", resamples=50)
    json.dumps(result.as_dict(), allow_nan=False)
    drawn, verdicts = to_tables([result]).values()
    assert [row["method"] for row in drawn] == ["encoder", "other"]
    shown = [metric for metric in METRICS[kind] if not metric.is_detail]
    assert len(drawn[0]) == 1 + len(shown)
    assert len(verdicts) == len(shown)
    details = [metric.title for metric in METRICS[kind] if metric.is_detail]
    assert all(title in to_markdown([result]) for title in details)


def test_markdown_marks_the_best_and_says_who_wins(judged):
    result, *_ = judged
    text = to_markdown([result])
    encoder = next(line for line in text.splitlines() if line.startswith("| encoder "))
    blind = next(line for line in text.splitlines() if line.startswith("| blind "))
    assert encoder.count("**") == 8
    assert "**" not in blind
    assert "log loss ↓" in text
    assert "AUROC ↑" in text
    assert "| better |" in text
