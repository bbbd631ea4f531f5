"""Messy raw rows, and what a segment of the event log must hold of them, from sets and loops.

Only the cleaner is the package's own: it judges all rows at once here, and in parts there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.event_cleaner import EventCleaner
from segmenter_plugin.data.event_intake import COUNTS, EventIntake
from segmenter_plugin.data.segment_part import SegmentPart

MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)
RAW = pa.schema(
    [
        ("note", pa.string()),
        ("customer", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
        ("sku", pa.string()),
        ("uid", pa.string()),
        ("paid", pa.float64()),
        ("weight", pa.string()),
    ]
)
Row = dict[str, Any]


def segment_config(most: int | None = 3, **events: Any) -> Config:
    """A configuration of such rows; `note` is not mapped."""
    columns = {
        "user_id": "customer",
        "item_id": "sku",
        "event_type": "kind",
        "event_timestamp": "at",
        "event_id": "uid",
        "price": "paid",
        "numeric": ["weight"],
    }
    types = {"view": ["seen", "looked"], "purchase": ["bought"]}
    given = {"path": "unused", "columns": columns, "types": types, "max_events_per_day": most} | events
    config = parse_config({"events": {name: value for name, value in given.items() if value is not None}})
    # TOML has no null, so the absence of a limit is not a key that can be written.
    return config if most is not None else _without_limit(config)


def _without_limit(config: Config) -> Config:
    return config.model_copy(update={"events": config.events.model_copy(update={"max_events_per_day": None})})


#: Few values each, so that repeats, full days and every kind of refusal are common.
ROW = st.fixed_dictionaries(
    {
        "note": st.sampled_from([None, "x", "y"]),
        "customer": st.sampled_from([None, "", "anna", "berta", "ç", "dora"]),
        "at": st.sampled_from([None, *(MIDNIGHT + timedelta(hours=hours) for hours in (-25, -1, 0, 1, 2, 3, 30))]),
        "kind": st.sampled_from(["seen", "looked", "bought", "danced"]),
        "sku": st.sampled_from([None, "a", "b"]),
        "uid": st.sampled_from([None, "e1", "e2"]),
        "paid": st.sampled_from([None, 0.5, 2.0, -1.0]),
        "weight": st.sampled_from([None, "1.5", "heavy"]),
    }
)
ROWS = st.lists(ROW, max_size=60)


def raw_table(rows: Iterable[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RAW)


def expected(rows: pa.Table, config: Config) -> dict[str, Any]:
    """Rows of the segment in order, and the report's counts."""
    cleaned = EventCleaner.of(rows.schema, config).clean(rows)
    events = [tuple(event.values()) for event in cleaned.events.to_pylist()]
    most = config.events.max_events_per_day
    days: dict[tuple[Any, int], list[tuple[Any, ...]]] = {}
    for event in sorted(set(events), key=_order):
        days.setdefault(_day_of(event), []).append(event)
    seen = Counter(map(_day_of, events))
    bots = {day: seen[day] for day, different in days.items() if most is not None and len(different) > most}
    kept = [event for different in days.values() for event in different[:most]]
    capped = sum(count - (most or 0) for count in bots.values())
    refused = Counter(cleaned.reasons.to_pylist())
    times = [event[1] for event in events]
    return {
        "events": sorted(kept, key=_order),
        "refused": sorted(
            zip(cleaned.reasons.to_pylist(), rows.take(cleaned.refused).to_pylist(), strict=True), key=str
        ),
        "rows": rows.num_rows,
        "kept": len(kept),
        "duplicates": len(events) - len(kept) - capped,
        "capped": capped,
        "bots": sorted((day[0], day[1], count) for day, count in bots.items()),
        "quarantined": dict(refused),
        "unreadable": {name: count for name, count in cleaned.unreadable.items() if count},
        "first": min(times, default=None),
        "last": max(times, default=None),
        "users": len({event[0] for event in kept}),
    }


def _order(event: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((value is not None, value if value is not None else 0) for value in event)


def _day_of(event: tuple[Any, ...]) -> tuple[Any, int]:
    return event[0], (event[1] - datetime(1970, 1, 1, tzinfo=UTC)).days


def files_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of each file of a folder; fails where anything else lies there."""
    return {path.name: pq.read_table(path, partitioning=None).to_pylist() for path in sorted(folder.iterdir())}


def written(events: Path, quarantine: Path) -> dict[str, Any]:
    """What lies in the two folders, as `expected` has it."""
    kept = [tuple(row.values()) for rows in files_of(events).values() for row in rows]
    refused = [row for rows in files_of(quarantine).values() for row in rows]
    return {
        "events": sorted(kept, key=_order),
        "refused": sorted(((row["quarantine_reason"], _read(row["raw_row"])) for row in refused), key=str),
    }


def _read(text: str) -> Row:
    row = json.loads(text)
    return row | ({"at": datetime.fromisoformat(row["at"])} if isinstance(row.get("at"), str) else {})


def in_tasks(tasks: Sequence[Sequence[pa.Table]], config: Config, buckets: int, events: Path, quarantine: Path) -> Any:
    """Clean batches of several tasks as Spark's stages would, but here: counts of the tasks and of the buckets."""
    parts: dict[int, SegmentPart] = {}
    counts = []
    for number, batches in enumerate(tasks):
        intake = EventIntake(config, buckets, number)
        parcels = []
        for rows in batches:
            cleaner = EventCleaner.of(rows.schema, config)
            parcels += intake.add(rows, cleaner, lambda places, rows=rows: rows.take(pa.array(places)))
        for parcel in [*parcels, *intake.end()]:
            if parcel.kind == COUNTS:
                counts.append(json.loads(parcel.blob))
                continue
            part = parts.setdefault(parcel.bucket, SegmentPart(parcel.bucket, config, events, quarantine))
            part.add(parcel.kind, parcel.blob)
    return counts, [part.write() for part in parts.values()]
