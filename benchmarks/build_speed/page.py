"""What was measured, as a Markdown page and as the ratios that the last line names."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from build_speed.plan import CONTESTANTS, Measured

ABOUT = {
    "empty": "an empty Spark job: a session, two workers with their imports",
    "ours": "ours, plain Parquet files",
    "ours_reader": "ours, through Spark's reader",
    "native": "native Spark SQL, collect_list",
    "lifestream": "pytorch-lifestream, Spark preprocessor",
    "duckdb": "DuckDB",
    "polars": "Polars, streaming",
    "floor": "floor: our columns in two processes, no Spark",
    "ours_eight": "ours, eight cutoffs in one pass",
    "rebuild": "ours, one day more: rebuild",
    "increment": "ours, one day more: increment",
}
DOES = (
    "All make the same rows from the same raw files: rows judged, each event once, at most so many of a user and day "
    "(bots), the last 256 events as parallel lists, all aggregates, four labels. What they do beside or less:\n\n"
    "- ours writes refused rows with their reasons, the event log that increments stand on, a report and manifests, "
    "appears whole, and is safe under retries; no other does any of that;\n"
    "- native Spark, DuckDB and Polars write behaviour and labels as one table instead of two, and drop refused rows "
    "unseen. Native Spark and Polars settle rows with one event id before the daily limit, not after it, which is the "
    "same where such rows are equal, as here;\n"
    "- pytorch-lifestream (0.6.0; the wheel of 0.7.0 cannot import its Spark preprocessor) only orders each user's "
    "events in lists: nothing is judged, made unique or capped, no aggregates, no labels, whole seconds;\n"
    "- the floor cleans, buckets and derives with our own columns, without Spark, a log or refused rows.\n\n"
    "CPU seconds are user and system time of the whole tree of processes, from start to end, JVM and workers included; "
    "medians of the rounds, least to most in brackets. Peak memory counts shared pages once."
)
DAILY = (
    "A fiftieth more events of 3.9 % of the users, a tenth of them late: on top of yesterday's log, and from nothing. "
    "The ratio is net of the empty job. The increment was checked against the rebuild, all others against DuckDB."
)


def versions() -> str:
    """Versions of what is compared."""
    found = [f"Python {platform.python_version()}"]
    for name in ("pyspark", "pyarrow", "numpy", "duckdb"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *lines)]


def lines_of(measured: Measured) -> list[list[object]]:
    """One line a size and contestant."""
    lines: list[list[object]] = []
    for events in measured.sizes:
        for contestant in CONTESTANTS:
            results = measured.of(contestant, events)
            if not results:
                continue
            took = sorted(result["cpu_s"] for result in results)
            cpu, wall, peak = (
                measured.middle(contestant, events, name) or 0 for name in ("cpu_s", "wall_s", "peak_mb")
            )
            agrees = next((result["agrees"] for result in results if "agrees" in result), "")
            spread = f"{cpu:.1f} ({took[0]:.1f} to {took[-1]:.1f})"
            each = f"{cpu / events * 1e6:.2f}"
            lines.append(
                [f"{events:,}", ABOUT[contestant], spread, each, f"{wall:.1f}", f"{peak:,.0f}", len(took), agrees]
            )
    return lines


def ratios(measured: Measured) -> dict[str, Any]:
    """The ratios by which the build is judged: of the largest size that has our build, all sizes below ``sizes``."""
    by_size = {str(events): _ratios(measured, events) for events in measured.sizes}
    full = [events for events in measured.sizes if measured.of("ours", events)]
    if not full:
        return {"sizes": by_size}
    found = by_size[str(full[-1])] | {"cost_per_event_growth": _growth(measured, full)}
    return found | {"sizes": by_size}


def _ratios(measured: Measured, events: int) -> dict[str, float | None]:
    def cpu(contestant: str, less: str | None = None) -> float | None:
        took = measured.middle(contestant, events)
        off = 0.0 if less is None else measured.middle(less, events)
        return None if took is None or off is None else took - off

    pairs = {
        "native_vs_ours": (cpu("native"), cpu("ours")),
        "lifestream_vs_ours": (cpu("lifestream"), cpu("ours")),
        "native_vs_ours_spark_reader": (cpu("native"), cpu("ours_reader")),
        "ours_vs_duckdb": (cpu("ours"), cpu("duckdb")),
        "ours_vs_polars": (cpu("ours"), cpu("polars")),
        "ours_vs_floor": (cpu("ours"), cpu("floor")),
        "eight_cutoffs_vs_one": (cpu("ours_eight"), cpu("ours")),
        "rebuild_vs_increment": (cpu("rebuild", "empty"), cpu("increment", "empty")),
    }
    return {name: _ratio(*pair) for name, pair in pairs.items()} | {
        "peak_mb": measured.middle("ours", events, "peak_mb")
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 2) if above is not None and below else None


def _growth(measured: Measured, sizes: list[int]) -> float | None:
    """CPU seconds an event, net of the empty job, at the largest size as a multiple of those at the smallest."""
    each = []
    for events in (sizes[0], sizes[-1]):
        took, empty = (measured.middle(name, events) for name in ("ours", "empty"))
        if took is None or empty is None:
            return None
        each.append((took - empty) / events)
    return round(each[1] / each[0], 2) if len(sizes) > 1 and each[0] > 0 else None


def page(measured: Measured, command: str, machine: str) -> str:
    """The whole page."""
    head = ("events", "who", "CPU s", "CPU µs an event", "wall s", "peak MB", "runs", "rows")
    lines = ["# From raw events to behaviour and labels", "", f"`{command}`; {machine}.", "", DOES, ""]
    lines += [*table(head, lines_of(measured)), "", "## One day more", "", DAILY, "", "## Ratios of CPU seconds", ""]
    found = ratios(measured)
    names = [name for name in found if name != "sizes"]
    lines += table(("ratio", "value"), [[name, "" if found[name] is None else found[name]] for name in names])
    if failures := measured.failures():
        lines += ["", "## Failed", "", *(f"- {run}: {text}" for run, text in failures.items())]
    return "\n".join([*lines, ""])
