"""From cells to records: one for each set, task and metric, with paired differences and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quality_bench.methods import AGGREGATES, ENCODER, SERVED
from segmenter_plugin.quality.features import FloatArray
from segmenter_plugin.quality.intervals import bootstrap, interval, resample_count
from segmenter_plugin.quality.metrics import METRICS, Metric
from segmenter_plugin.tasks import TaskConfig

#: A bar applies where the test has so many rows of either outcome.
FEWEST = 300
#: Predictions of one method, one for each seed.
BySeed = Sequence[FloatArray]


def outcomes(truth: NDArray[Any], task: TaskConfig) -> dict[str, int]:
    """Rows with and without the outcome: of a ladder its highest step, of labels the (row, label) pairs."""
    highest = len(task.classes) - 1 if task.kind == "multiclass" else 0
    positives = int((truth == highest).sum() if highest else (truth > 0).sum())
    return {"positives": positives, "negatives": int(truth.size) - positives}


def records_of(
    name: str, task: TaskConfig, truth: NDArray[Any], users: NDArray[np.intp], found: Mapping[str, BySeed]
) -> list[dict[str, Any]]:
    """One record a metric.

    A method's value is its mean over seeds; a difference is that of two means on the same resample of users, so its
    interval holds what the choice of users does, for the average seed.

    Args:
        name: Of the set.
        task: What was predicted.
        truth: Labels of the judged rows.
        users: (N,) user numbers.
        found: By method, predictions by seed.
    """
    counts = outcomes(truth, task)
    pairs = [(subject, other) for subject in (SERVED, ENCODER) for other in found if other != subject]
    pairs = [(subject, other) for subject, other in pairs if subject in found]
    records = []
    for metric in METRICS[task.kind]:
        statistics = {method: _mean_over_seeds(metric, truth, seeds) for method, seeds in found.items()}
        whole = np.ones(len(truth))
        with np.errstate(invalid="ignore", divide="ignore"):
            values = {method: float(statistic(whole)) for method, statistic in statistics.items()}
            samples = {} if metric.is_detail else bootstrap(statistics, users, resample_count(len(truth)), 1)
        sign = 1.0 if metric.higher_is_better else -1.0
        differences = {
            f"{subject} - {other}": _difference(values, samples, (subject, other), sign) for subject, other in pairs
        }
        records.append(
            {
                "set": name,
                "task": task.window_name,
                "metric": metric.name,
                "higher_is_better": metric.higher_is_better,
                "detail": metric.is_detail,
                "rows": len(truth),
                **counts,
                "has_bar": min(counts.values()) >= FEWEST and not metric.is_detail,
                "seeds": {method: len(seeds) for method, seeds in found.items()},
                "values": {method: _number(value) for method, value in values.items()},
                "gain": differences.get(f"{SERVED} - {AGGREGATES}"),
                "differences": differences,
            }
        )
    return records


def bars(records: Sequence[Mapping[str, Any]], pair: str) -> dict[str, Any]:
    """How many of the records with a bar are better, clearly better and clearly worse.

    Args:
        records: From `records_of`.
        pair: A key of their ``differences``.
    """
    found = [
        record["differences"][pair]
        for record in records
        if record["has_bar"] and record["differences"].get(pair) is not None
    ]
    gains = [each["gain"] for each in found if each["gain"] is not None]
    count = len(gains)
    return {
        "pair": pair,
        "compared": count,
        "better": sum(gain > 0 for gain in gains),
        "above_zero": sum((each["low"] or 0.0) > 0 for each in found),
        "below_zero": sum((each["high"] or 0.0) < 0 for each in found),
        "better_share": None if not count else sum(gain > 0 for gain in gains) / count,
    }


def _mean_over_seeds(metric: Metric, truth: NDArray[Any], seeds: BySeed) -> Callable[[FloatArray], FloatArray]:
    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray(np.mean([metric.function(truth, values, weights) for values in seeds], axis=0))

    return statistic


def _difference(
    values: Mapping[str, float], samples: Mapping[str, FloatArray], pair: tuple[str, str], sign: float
) -> dict[str, float | None]:
    """Positive means better, whichever way the metric points."""
    subject, other = pair
    low, high = interval(sign * (samples[subject] - samples[other])) if samples else (math.nan, math.nan)
    return {
        "gain": _number(sign * (values[subject] - values[other])),
        "low": _number(low),
        "high": _number(high),
    }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
