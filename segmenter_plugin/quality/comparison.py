"""Several methods on the same rows of one task: each metric with its interval, and who wins by how much."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segmenter_plugin.quality.baselines import Prediction
from segmenter_plugin.quality.decisions import ClassReport, class_reports
from segmenter_plugin.quality.intervals import FloatArray, bootstrap, interval, resample_count
from segmenter_plugin.quality.metrics import METRICS, Metric
from segmenter_plugin.tasks import Form, TaskConfig

logger = logging.getLogger(__name__)

#: With fewer rows of the rarer outcome than this, a percentile interval says nothing.
FEWEST_OUTCOMES = 10

Verdict = Literal["better", "worse", "no clear difference", "not tested"]


@dataclass(frozen=True)
class Score:
    """One method under one metric; ends of the 95 % interval, None where there is none."""

    task: str
    method: str
    metric: str
    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """Two methods under one metric on the same resamples.

    Attributes:
        difference: Estimate of `method` minus that of `against`, in the metric's unit.
        verdict: On `method`: "better" or "worse" where the 95 % interval leaves 0 out.
    """

    task: str
    metric: str
    method: str
    against: str
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True)
class TaskResult:
    """Everything that is said about one task.

    Attributes:
        positives: Rows with the outcome (a purchase, money spent), of binary and value tasks.
        classes: By method, precision, recall and F1 of each class; empty for a value task.
    """

    task: str
    kind: Form
    rows: int
    users: int
    positives: int | None
    resamples: int
    note: str | None
    scores: tuple[Score, ...]
    differences: tuple[Difference, ...]
    classes: Mapping[str, tuple[ClassReport, ...]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        tree = asdict(self)
        lists = {name: list(tree[name]) for name in ("scores", "differences")}
        return tree | lists | {"classes": {method: list(reports) for method, reports in tree["classes"].items()}}


def compare(
    task: TaskConfig,
    truth: NDArray[Any],
    predictions: Mapping[str, Prediction],
    users: NDArray[np.intp],
    seed: int,
    *,
    subject: str,
    classes: Sequence[str] = (),
    resamples: int | None = None,
) -> TaskResult:
    """Every metric of every method, and the subject against each other method.

    Args:
        task: What is predicted.
        truth: Labels, in the shape that `quality.truth` lists.
        predictions: By method.
        users: (N,) user numbers from `intervals.user_codes`.
        seed: Fixes the resamples.
        subject: The method that the others are compared with.
        classes: Names of the K classes of a multiclass or multilabel task.
        resamples: R; by default as many as `intervals.resample_count` says.
    """
    statistics = _statistics(task, truth, predictions)
    note = _too_few(task, truth)
    count = 0 if note else (resample_count(len(truth)) if resamples is None else resamples)
    whole = np.ones(len(truth))
    with np.errstate(invalid="ignore", divide="ignore"):
        estimates = {key: float(statistic(whole)) for key, statistic in statistics.items()}
        samples = bootstrap(statistics, users, count, seed) if count else {}
    scores = tuple(
        Score(
            task.window_name, method, metric, _number(estimates[metric, method]), *_ends(samples.get((metric, method)))
        )
        for metric, method in statistics
    )
    differences = tuple(
        _difference(task, metric, (subject, against), estimates, samples)
        for metric in METRICS[task.form]
        for against in predictions
        if against != subject and {(metric.name, subject), (metric.name, against)} <= statistics.keys()
    )
    positives = int((truth > 0).sum()) if task.kind in ("binary", "value") else None
    logger.info(
        "%s: %d rows, %s positive, %d methods compared", task.window_name, len(truth), positives, len(predictions)
    )
    return TaskResult(
        task=task.window_name,
        kind=task.form,
        rows=len(truth),
        users=len(np.unique(users)),
        positives=positives,
        resamples=count,
        note=note,
        scores=scores,
        differences=differences,
        classes=_classes(task, truth, predictions, classes),
    )


def _classes(
    task: TaskConfig, truth: NDArray[Any], predictions: Mapping[str, Prediction], classes: Sequence[str]
) -> dict[str, tuple[ClassReport, ...]]:
    names = ("no", "yes") if task.kind == "binary" else tuple(classes)
    if task.kind == "value":
        return {}
    return {
        method: class_reports(truth, prediction.values, names, task.form)
        for method, prediction in predictions.items()
        if prediction.has_scale
    }


def _statistics(
    task: TaskConfig, truth: NDArray[Any], predictions: Mapping[str, Prediction]
) -> dict[tuple[str, str], Callable[[FloatArray], FloatArray]]:
    def statistic(metric: Metric, values: FloatArray) -> Callable[[FloatArray], FloatArray]:
        return lambda weights: metric.function(truth, values, weights)

    return {
        (metric.name, method): statistic(metric, prediction.values)
        for metric in METRICS[task.form]
        for method, prediction in predictions.items()
        if prediction.has_scale or not metric.needs_scale
    }


def _too_few(task: TaskConfig, truth: NDArray[Any]) -> str | None:
    if task.kind in ("binary", "value"):
        positives = int((truth > 0).sum())
        counts = {"positives": positives, "negatives": len(truth) - positives}
        if task.kind == "value":
            counts.pop("negatives")  # everybody may well have spent something
        few = {name: count for name, count in counts.items() if count < FEWEST_OUTCOMES}
    else:
        few = {"rows": len(truth)} if len(truth) < FEWEST_OUTCOMES else {}
    if not few:
        return None
    said = " and ".join(f"{count} {name}" for name, count in few.items())
    return f"only {said}: fewer than {FEWEST_OUTCOMES}, so no intervals, and the estimates mean little"


def _difference(
    task: TaskConfig,
    metric: Metric,
    pair: tuple[str, str],
    estimates: Mapping[tuple[str, str], float],
    samples: Mapping[tuple[str, str], FloatArray],
) -> Difference:
    method, against = pair
    left, right = (metric.name, method), (metric.name, against)
    low, high = _ends(samples[left] - samples[right] if samples else None)
    verdict: Verdict = "not tested"
    if low is not None and high is not None:
        verdict = "no clear difference"
        if low > 0 or high < 0:
            verdict = "better" if (low > 0) == metric.higher_is_better else "worse"
    difference = _number(estimates[left] - estimates[right])
    return Difference(task.window_name, metric.name, method, against, difference, low, high, verdict)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _ends(samples: FloatArray | None) -> tuple[float | None, float | None]:
    if samples is None:
        return None, None
    low, high = interval(samples)
    return _number(low), _number(high)
