"""The comparison as people read it: rows for a drawn table, Markdown for files, sentences on who wins."""

from __future__ import annotations

from collections.abc import Sequence

from segmenter_plugin.quality.comparison import Difference, Score, TaskResult
from segmenter_plugin.quality.decisions import THRESHOLD
from segmenter_plugin.quality.metrics import METRICS, Metric


def metrics_of(result: TaskResult) -> tuple[Metric, ...]:
    """The metrics of the task's kind that its first table shows."""
    return tuple(metric for metric in METRICS[result.kind] if not metric.is_detail)


def details_of(result: TaskResult) -> tuple[Metric, ...]:
    """Those that its second table shows: decisions, and the top of the ranking."""
    return tuple(metric for metric in METRICS[result.kind] if metric.is_detail)


def heading(metric: Metric) -> str:
    """Column title; the arrow says which way is better."""
    return f"{metric.title} {'↑' if metric.higher_is_better else '↓'}"


def best_methods(result: TaskResult) -> dict[str, str]:
    """By metric, the method with the best estimate."""
    best = {}
    for metric in METRICS[result.kind]:
        found = {
            score.method: score.estimate
            for score in result.scores
            if score.metric == metric.name and score.estimate is not None
        }
        if found:
            choose = max if metric.higher_is_better else min
            best[metric.name] = choose(found, key=lambda method: found[method])
    return best


def to_rows(result: TaskResult, metrics: Sequence[Metric]) -> list[dict[str, str]]:
    """One row a method, one column a metric: the estimate with its 95 % interval."""
    by_key = {(score.method, score.metric): score for score in result.scores}
    methods = dict.fromkeys(score.method for score in result.scores)
    return [
        {"method": method} | {heading(metric): _cell(by_key.get((method, metric.name))) for metric in metrics}
        for method in methods
    ]


def verdict_rows(result: TaskResult) -> list[dict[str, str]]:
    """One row for each metric and opponent: who wins, by how much, and whether that could be chance."""
    titles = {metric.name: metric.title for metric in metrics_of(result)}
    return [
        {
            "metric": titles[difference.metric],
            "method": difference.method,
            "against": difference.against,
            "difference": _difference_cell(difference),
            "verdict": difference.verdict,
        }
        for difference in result.differences
        if difference.metric in titles
    ]


def to_tables(results: Sequence[TaskResult]) -> dict[str, list[dict[str, str]]]:
    """Title -> rows, as the command line draws them."""
    tables: dict[str, list[dict[str, str]]] = {}
    for result in results:
        note = f"; {result.note}" if result.note else ""
        tables[f"{result.task}: {caption(result)}{note}"] = to_rows(result, metrics_of(result))
        tables[f"{result.task}: who wins"] = verdict_rows(result)
    return tables


def to_markdown(results: Sequence[TaskResult]) -> str:
    """All tasks as Markdown; the best estimate of each column is bold."""
    parts = []
    for result in results:
        parts += [f"## {result.task}", "", f"{caption(result)}.", ""]
        parts += [f"**{result.note}.**", ""] if result.note else []
        parts += [*_bold_table(result, metrics_of(result)), "", *_markdown(verdict_rows(result)), ""]
        if details_of(result):
            parts += [f"An outcome counts as predicted from a probability of {THRESHOLD} on.", ""]
            parts += [*_bold_table(result, details_of(result)), ""]
        if result.classes:
            parts += [*_markdown(class_rows(result)), ""]
    return "\n".join(parts)


def class_rows(result: TaskResult) -> list[dict[str, str]]:
    """One row for each method and class."""
    return [
        {"method": method, "class": report.name, "rows": f"{report.rows:,}"}
        | {name: _share(getattr(report, name)) for name in ("precision", "recall", "f1")}
        for method, reports in result.classes.items()
        for report in reports
    ]


def _bold_table(result: TaskResult, metrics: Sequence[Metric]) -> list[str]:
    best = {heading(metric): best_methods(result).get(metric.name) for metric in metrics}
    return _markdown(
        [
            {name: f"**{cell}**" if best.get(name) == row["method"] else cell for name, cell in row.items()}
            for row in to_rows(result, metrics)
        ]
    )


def caption(result: TaskResult) -> str:
    """What the rows are and where the intervals come from."""
    positives = "" if result.positives is None else f", {result.positives:,} positive"
    resampled = f"95 % intervals from {result.resamples:,} resamples of users" if result.resamples else "no intervals"
    return f"{result.rows:,} rows of {result.users:,} users{positives}; {resampled}"


def _markdown(rows: Sequence[dict[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = [rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(score: Score | None) -> str:
    if score is None or score.estimate is None:
        return "n/a"
    if score.low is None or score.high is None:
        return f"{score.estimate:.3f}"
    return f"{score.estimate:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _difference_cell(difference: Difference) -> str:
    if difference.difference is None:
        return "n/a"
    if difference.low is None or difference.high is None:
        return f"{difference.difference:+.3f}"
    return f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
