"""The benchmark's page: what was compared, the bars, a table a task, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quality_bench.methods import AGGREGATES, ENCODER, SERVED
from quality_bench.records import FEWEST

Record = Mapping[str, Any]


def page(
    records: Sequence[Record],
    judged: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    studies: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """The whole page as Markdown.

    Args:
        records: From `records.records_of`.
        judged: From `records.bars`.
        notes: Lines on what was skipped, is missing, or was found beside the tables.
        studies: Rows by the study's name.
    """
    parts = ["# Quality beside the baselines, on later time", "", "`python benchmarks/quality.py`", "", _ABOUT, ""]
    rows = [
        {
            "comparison": each["pair"],
            "compared": each["compared"],
            "better": each["better"],
            "interval above 0": each["above_zero"],
            "interval below 0": each["below_zero"],
        }
        for each in judged
        if each["compared"]
    ]
    parts += ["## Bars", "", f"Of (set, task, metric) with at least {FEWEST} positives and negatives.", ""]
    parts += [markdown(rows), ""]
    if notes:
        parts += ["## Notes", "", *(f"- {note}" for note in notes), ""]
    for name, task in dict.fromkeys((record["set"], record["task"]) for record in records):
        chosen = [record for record in records if (record["set"], record["task"]) == (name, task)]
        parts += _task_section(f"{name}: {task}", chosen)
    for name, rows in studies.items():
        parts += [f"## Study: {name.replace('_', ' ')}", "", *_study_tables(rows)]
    return "\n".join(parts).rstrip() + "\n"


def _study_tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each set of columns: tasks of different kinds have different metrics."""
    shapes = dict.fromkeys(tuple(row) for row in rows)
    parts: list[str] = []
    for shape in shapes:
        parts += [markdown([row for row in rows if tuple(row) == shape]), ""]
    return parts


_ABOUT = f"""Each method is fitted on the same (user, cutoff) rows and kept-out validation users, and judged at later
cutoffs. Baselines try six settings each, chosen on the validation users. `{SERVED}` joins `{AGGREGATES}`, the encoder's
prediction and LightGBM on aggregates, scores and embedding by weights from out-of-fold rows
(`segmenter_plugin.quality.stacking`); the encoder scores its training rows cross-fitted by user. Values are means over
seeds; differences are paired, their 95 % intervals resampled by user, and positive means better, whichever way the
metric points. Probabilities become decisions at 0.5."""


def _task_section(title: str, records: Sequence[Record]) -> list[str]:
    first = records[0]
    seeds = ", ".join(f"{method} {count}" for method, count in first["seeds"].items())
    parts = [
        f"## {title}",
        "",
        f"{first['rows']:,} rows, {first['positives']:,} positive, {first['negatives']:,} negative. Seeds: {seeds}.",
        "",
    ]
    for is_detail in (False, True):
        shown = [record for record in records if record["detail"] == is_detail]
        if not shown:
            continue
        methods = list(shown[0]["values"])
        rows = [
            {"method": method} | {_heading(record): _value(record["values"][method]) for record in shown}
            for method in methods
        ]
        parts += [markdown(rows), ""]
    pairs = [pair for pair in first["differences"] if pair.startswith((f"{SERVED} - ", f"{ENCODER} - {AGGREGATES}"))]
    rows = [
        {"difference": pair}
        | {_heading(record): _gain(record["differences"][pair]) for record in records if not record["detail"]}
        for pair in pairs
    ]
    return [*parts, markdown(rows), ""]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; nothing where there are none."""
    if not rows:
        return "Nothing."
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _heading(record: Record) -> str:
    return f"{record['metric']} {'↑' if record['higher_is_better'] else '↓'}"


def _value(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _gain(found: Mapping[str, float | None]) -> str:
    if found["gain"] is None:
        return "n/a"
    if found["low"] is None or found["high"] is None:
        return f"{found['gain']:+.4f}"
    return f"{found['gain']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
