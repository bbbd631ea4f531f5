"""What a build did and found: the stage's result, its tables, and ``reports/build-<cutoff>.json``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key
from segmenter_plugin.config import Config
from segmenter_plugin.data.durable import replace_text
from segmenter_plugin.data.partition import read_manifest, require_manifest
from segmenter_plugin.stages.clean import CleanEvents, bots_of
from segmenter_plugin.stages.derive import Derived, folder_of
from segmenter_plugin.stages.layout import Layout

if TYPE_CHECKING:
    from segmenter_plugin.spark.clean import CleanReport


def report_of(
    times: Sequence[datetime], events: CleanEvents, derived: Derived, config: Config, seconds: float
) -> dict[str, Any]:
    """The result of a build; written as a report, too, where the build made anything.

    Args:
        times: Its cutoffs.
        events: The event log that it read.
        derived: What it made of it.
        config: The configuration.
        seconds: How long it took.
    """
    layout = Layout.of(config)
    cutoffs = {cutoff.isoformat(): _summary(cutoff, derived.stale[cutoff], layout) for cutoff in times}
    result: dict[str, Any] = {"stage": "build", "events": events.summary(), "cutoffs": cutoffs}
    if events.lot is not None:
        result["lot"] = _lot(events.lot)
    if derived.counts:
        result["derived"] = _derived(derived)
    rates = _base_rates(layout)
    result |= {"warnings": _warnings(cutoffs), "seconds": seconds}
    tables = {"Events": _events_table(events, derived), "Refused rows": _refused_table(events)}
    tables |= {"Bots": _bots_table(events), "Labels": _label_table(rates, times)}
    result["tables"] = {title: rows for title, rows in tables.items() if rows}
    if "lot" in result or "derived" in result:
        path = layout.root / "reports" / f"build-{cutoff_key(max(times))}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        report = result | {"base_rates": rates}
        replace_text(path, json.dumps(report, indent=1, default=str, ensure_ascii=False) + "\n")
        result["report"] = str(path)
    return result


def _summary(cutoff: datetime, stale: Sequence[str], layout: Layout) -> dict[str, Any]:
    behaviour = require_manifest(layout.behaviour(cutoff), "segmenter build")
    labels = require_manifest(layout.labels(cutoff), "segmenter build")
    summary = {name: "built" if name in stale else "skipped" for name in ("behaviour", "labels")}
    kept = {name: labels[name] for name in ("base_rates", "label_warnings", "is_complete")}
    return summary | {"users": behaviour["users"]} | kept


def _lot(report: CleanReport) -> dict[str, Any]:
    """What became of the rows that were cleaned now, JSON-able."""
    times = {
        name: None if time is None else time.isoformat()
        for name, time in (("first", report.first), ("last", report.last))
    }
    return dataclasses.asdict(report) | times | {"bots": bots_of(report)}


def _derived(derived: Derived) -> dict[str, Any]:
    """Sums over the buckets, and how uneven they are."""
    sums = {name: derived.total(name) for name in ("events", "duplicates", "corrected", "capped", "late")}
    types: dict[str, int] = {}
    for counts in derived.counts:
        for name, count in counts.types.items():
            types[name] = types.get(name, 0) + count
    times = {name: round(derived.total(name), 3) for name in ("cpu_seconds", "seconds")}
    times["task_seconds"] = times.pop("seconds")
    merged = {"is_merged": derived.is_merged, "skew": _skew([counts.events for counts in derived.counts])}
    return sums | {"event_types": dict(sorted(types.items()))} | times | merged


def _skew(sizes: Sequence[int]) -> float:
    """The largest of some sizes, as a multiple of their mean."""
    mean = sum(sizes) / len(sizes)
    return round(max(sizes) / mean, 2) if mean else 1.0


def _warnings(cutoffs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [f"{cutoff}: {text}" for cutoff, summary in cutoffs.items() for text in summary["label_warnings"]]


def _base_rates(layout: Layout) -> dict[str, dict[str, Any]]:
    """Base rates of every cutoff that is built, oldest first."""
    folder = layout.root / "labels"
    found = [parse_cutoff_key(path.name) for path in (folder.iterdir() if folder.is_dir() else ())]
    manifests = {cutoff: read_manifest(folder_of(layout, "labels", cutoff)) for cutoff in sorted(filter(None, found))}
    return {cutoff.isoformat(): manifest["base_rates"] for cutoff, manifest in manifests.items() if manifest}


def _events_table(events: CleanEvents, derived: Derived) -> list[dict[str, Any]]:
    """Of the rows that were cleaned now, and of what was read of the log."""
    rows: list[dict[str, Any]] = []
    lot = events.lot
    if lot is not None:
        counts: dict[str, float] = {
            "rows": lot.rows,
            "kept": lot.kept,
            "duplicates": lot.duplicates,
            "capped (bots)": lot.capped,
        }
        counts |= {"quarantined": sum(lot.quarantined.values()), "users": lot.users}
        counts |= {"seconds": lot.seconds, "CPU seconds": lot.cpu_seconds, "bytes shuffled": lot.shuffled_bytes}
        counts["largest bucket / mean"] = round(lot.largest_bucket * events.log.buckets / max(lot.kept, 1), 2)
        rows.append({"what": "new events"} | counts)
    if derived.counts:
        names = {"events": "rows", "kept": "kept", "duplicates": "duplicates", "capped": "capped (bots)"}
        counts = {title: derived.total(name) for name, title in names.items()}
        counts |= {"corrected": derived.total("corrected"), "late": derived.total("late")}
        counts |= {"CPU seconds": round(derived.total("cpu_seconds"), 3)}
        skew = {"largest bucket / mean": _skew([each.events for each in derived.counts])}
        rows.append({"what": "event log"} | counts | skew)
    return rows


def _refused_table(events: CleanEvents) -> list[dict[str, Any]]:
    lot = events.lot
    if lot is None:
        return []
    return [
        {
            "reason": reason,
            "rows": count,
            "share": count / lot.rows,
            "for example": next(iter(lot.examples[reason]), ""),
        }
        for reason, count in lot.quarantined.items()
    ]


def _bots_table(events: CleanEvents) -> list[dict[str, Any]]:
    return [] if events.lot is None else bots_of(events.lot)


def _label_table(rates: Mapping[str, Mapping[str, Any]], times: Sequence[datetime]) -> list[dict[str, Any]]:
    """Base rates over time; those of this build's cutoffs are marked."""
    ours = {cutoff.isoformat() for cutoff in times}
    return [
        {"cutoff": f"{cutoff} *" if cutoff in ours else cutoff} | {name: _shown(rate) for name, rate in row.items()}
        for cutoff, row in rates.items()
    ]


def _shown(rate: Any) -> Any:
    if rate is None:
        return "censored"
    if isinstance(rate, Mapping):
        return ", ".join(f"{name} {value:.4g}" for name, value in rate.items())
    return rate
