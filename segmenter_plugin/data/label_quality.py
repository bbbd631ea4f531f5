"""How often each label occurs, counted part by part, and which labels cannot be learnt from.

| kind | counts, beside `users` and `known` |
|---|---|
| binary | `positive` |
| value | `positive`: above 0; `sum`; `unpaid`: 0 although a binary task saw a purchase in the same window |
| multiclass | `class <name>` of each class |
| multilabel | `positive`: some value |
| multiclass with a target | `positive`: some value; `class <name>` of each rung: (user, value) pairs that end there |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segmenter_plugin.columns import PURCHASE
from segmenter_plugin.tasks import TaskConfig

#: Counts by label column.
LabelCounts = dict[str, dict[str, float]]

#: Above this share of buyers who paid nothing, the price is probably not what the configuration takes it for.
_MANY_UNPAID = 0.5


def label_counts(labels: pa.Table, tasks: Sequence[TaskConfig]) -> LabelCounts:
    """Count the labels of some users.

    Args:
        labels: `schemas.labels_schema`.
        tasks: `[[tasks]]`.
    """
    return {task.label_column: _counts(task, labels, tasks) for task in tasks}


def added(parts: Iterable[LabelCounts]) -> LabelCounts:
    """Counts of all parts together."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for part in parts:
        for column, counts in part.items():
            for name, count in counts.items():
                gathered.setdefault(column, {}).setdefault(name, []).append(count)
    # Exact, so that the mean does not depend on the order in which parts come.
    return {
        column: {name: math.fsum(each) if name == "sum" else sum(each) for name, each in counts.items()}
        for column, counts in gathered.items()
    }


def base_rates(counts: LabelCounts, tasks: Sequence[TaskConfig]) -> dict[str, Any]:
    """Share of users (of each class) by label column; None where censored.

    For money the share above 0 and the mean; for a ladder of each category the share of users who touch some value, and
    of each rung the share of what is touched.
    """
    return {task.label_column: _rate(task, counts[task.label_column]) for task in tasks}


def label_warnings(rates: Mapping[str, Any], counts: LabelCounts, tasks: Sequence[TaskConfig]) -> list[str]:
    """What about the labels of a cutoff is suspicious, a sentence each.

    Args:
        rates: `base_rates`.
        counts: What they come from.
        tasks: `[[tasks]]`.
    """
    known = [task for task in tasks if rates[task.label_column] is not None]
    return [
        f"{task.label_column}: {finding}"
        for task in known
        for finding in _findings(task, rates[task.label_column], counts[task.label_column])
    ]


def _counts(task: TaskConfig, labels: pa.Table, tasks: Sequence[TaskConfig]) -> dict[str, float]:
    column = labels[task.label_column]
    counts: dict[str, float] = {"users": len(column), "known": len(column) - column.null_count}
    if task.kind == "binary":
        return counts | {"positive": _number(column)}
    if task.kind == "value":
        sums = {"positive": _number(pc.greater(column, 0)), "sum": pc.sum(column).as_py() or 0.0}
        return counts | sums | {"unpaid": _unpaid(task, labels, tasks)}
    if task.form == "multiclass":
        return counts | _class_counts(column, task.classes)
    counts["positive"] = _number(pc.greater(pc.list_value_length(column), 0))
    if task.form == "category":
        return counts | _class_counts(pc.struct_field(pc.list_flatten(column), "rung"), task.ladder)
    return counts


def _class_counts(column: pa.ChunkedArray, classes: Sequence[str]) -> dict[str, float]:
    found = {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
    return {f"class {name}": found.get(name, 0) for name in classes}


def _unpaid(task: TaskConfig, labels: pa.Table, tasks: Sequence[TaskConfig]) -> int:
    window = (task.gap_days, task.prediction_days)
    for other in tasks:
        is_purchase = other.kind == "binary" and other.event_type == PURCHASE
        if is_purchase and (other.gap_days, other.prediction_days) == window:
            return _number(pc.and_(labels[other.label_column], pc.equal(labels[task.label_column], 0)))
    return 0


def _number(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)


def _rate(task: TaskConfig, counts: Mapping[str, float]) -> Any:
    known = counts["known"]
    if not known:
        return None
    if task.form == "multiclass":
        return {name: counts[f"class {name}"] / known for name in task.classes}
    share = counts["positive"] / known
    if task.form == "category":
        touched = sum(counts[f"class {name}"] for name in task.ladder)
        return {"any": share} | {name: counts[f"class {name}"] / max(touched, 1) for name in task.ladder}
    if task.kind == "value":
        return {"above_zero": share, "mean": counts["sum"] / known}
    return share if task.kind == "binary" else {"any": share}


def _findings(task: TaskConfig, rate: Any, counts: Mapping[str, float]) -> Iterable[str]:
    if task.kind == "multiclass":
        absent = sorted(name for name, share in rate.items() if not share)
        if absent:
            yield f"nobody is of the classes {absent}" if task.target is None else f"nothing is of the rungs {absent}"
        return
    share = counts["positive"] / counts["known"]
    if not share:
        yield f"no user has an event of type {task.event_type!r} that counts in the window"
    elif share == 1 and task.kind == "binary":
        yield f"every user has an event of type {task.event_type!r} in the window"
    buyers = counts["positive"] + counts.get("unpaid", 0)
    if counts.get("unpaid", 0) > _MANY_UNPAID * buyers:
        yield f"of {buyers:.0f} buyers in the window {counts['unpaid']:.0f} paid nothing, or got it all back"
