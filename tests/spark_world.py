"""Random small worlds of events, and what Spark should make of them, computed in plain Python from sets and loops.

The reference shares no code with the package but the schemas and the configuration; it is written from the meaning of
each column, not from how Spark gets there.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import strategies as st

from segmenter_plugin.config import Config, parse_config
from segmenter_plugin.data.block_tables import TablesAsOf, tables_as_of
from segmenter_plugin.data.event_block import EventBlock
from segmenter_plugin.schemas import sequence_fields

CUTOFF = datetime(2024, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
OBSERVATION, LENGTH = 20, 5
OWNER_TYPES = {"seen": "view", "bought": "purchase", "sent_back": "return"}

#: The owner's columns, with their types.
RAW = pa.schema(
    [
        ("customer", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("kind", pa.string()),
        ("sku", pa.string()),
        ("receipt", pa.string()),
        ("visit", pa.string()),
        ("department", pa.string()),
        ("maker", pa.string()),
        ("channel", pa.string()),
        ("paid", pa.float64()),
        ("units", pa.int64()),
        ("weight", pa.float64()),
    ]
)


def world_config(*, sessions: bool = True, **sections: Any) -> Config:
    """A configuration of such worlds; without `sessions` there are neither session nor order ids."""
    ids = {"order_id": "receipt", "session_id": "visit"} if sessions else {}
    columns = {
        "user_id": "customer",
        "item_id": "sku",
        "event_type": "kind",
        "event_timestamp": "at",
        "category": "department",
        "brand": "maker",
        "price": "paid",
        "quantity": "units",
        "categorical": ["channel"],
        "numeric": ["weight"],
    }
    types = {ours: [theirs] for theirs, ours in OWNER_TYPES.items()}
    tree = {
        "events": {"path": "unused.parquet", "columns": columns | ids, "types": types},
        "windows": {"observation_days": OBSERVATION, "activity_days": [1, 7]},
        "sequences": {"length": LENGTH},
        "tasks": [
            {"name": "purchase", "kind": "binary", "prediction_days": 3},
            {"name": "late", "kind": "binary", "prediction_days": 4, "gap_days": 2},
            {"name": "spend", "kind": "value", "prediction_days": 5},
            {"name": "depth", "kind": "multiclass", "prediction_days": 3, "ladder": ["view", "purchase"]},
            {"name": "taste", "kind": "multilabel", "prediction_days": 5, "target": "category"},
            {
                "name": "interest",
                "kind": "multiclass",
                "prediction_days": 5,
                "ladder": ["view", "purchase"],
                "target": "category",
            },
            {"name": "never_over", "kind": "binary", "prediction_days": 90},
        ],
    }
    return parse_config(tree | sections)


def events_of(user: str) -> st.SearchStrategy[dict[str, Any]]:
    """One raw event; times, ids and values are coarse, so that ties and repeats are common."""
    minutes = st.one_of(
        st.integers(-30 * 24 * 60, 10 * 24 * 60),
        st.sampled_from([-OBSERVATION * 24 * 60, -24 * 60, -1, 0, 1]),
        st.sampled_from([-60, -45, -30, -15]),
        st.sampled_from([days * 24 * 60 for days in (2, 3, 5, 6)]),  # where prediction windows begin and end
    )
    few = lambda *values: st.sampled_from([None, *values])  # noqa: E731
    return st.fixed_dictionaries(
        {
            "customer": st.just(user),
            "at": minutes.map(lambda number: CUTOFF + timedelta(minutes=number)),
            "kind": st.sampled_from(list(OWNER_TYPES)),
            "sku": few("a", "b", "c"),
            "receipt": few("r1", "r2"),
            "visit": few("s1", "s2"),
            "department": few("food", "toys"),
            "maker": few("x", "y"),
            "channel": few("web", "shop"),
            "paid": few(0.1, 0.2, 0.3, 19.99),
            "units": few(1, 3),
            "weight": few(0.5, 2.0),
        }
    )


def raw_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RAW)


def clean(rows: Iterable[dict[str, Any]], config: Config) -> dict[str, list[dict[str, Any]]]:
    """Clean events by user, oldest first, without duplicates."""
    mapped = config.events.columns.mapped
    by_user: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in rows:
        event = {ours: row[theirs] for ours, theirs in mapped.items()}
        event["event_type"] = OWNER_TYPES[row["kind"]]
        price, units = row["paid"], row["units"]
        event["cents"] = None if price is None else round(round(price * 100) * (1 if units is None else units))
        event["amount"] = None if price is None else event["cents"] / 100
        event["quantity"] = None if units is None else float(units)
        values = tuple(event["amount" if ours == "price" else ours] for ours in mapped)
        by_user.setdefault(row["customer"], {})[values] = event
    return {user: sorted(events.values(), key=lambda event: _order(event, config)) for user, events in by_user.items()}


def _order(event: dict[str, Any], config: Config) -> tuple[Any, ...]:
    mapped = config.events.columns.mapped
    ids = [name for name in ("order_id", "session_id", "category", "brand") if name in mapped]
    names = ["event_timestamp", "event_type", "item_id", *ids, "channel", "amount", "quantity", "weight"]
    return tuple((event[name] is not None, event[name] if event[name] is not None else 0) for name in names)


def observed(events: list[dict[str, Any]], cutoff: datetime, days: int = OBSERVATION) -> list[dict[str, Any]]:
    return [event for event in events if cutoff - days * DAY <= event["event_timestamp"] < cutoff]


def sequence_row(events: list[dict[str, Any]], cutoff: datetime, config: Config) -> dict[str, Any]:
    last = observed(events, cutoff)[-config.sequences.length :]
    names = [field.name for field in sequence_fields(config) if field.name != "sequence_length"]
    row: dict[str, Any] = {name: [event[name.removesuffix("_sequence")] for event in last] for name in names}
    return row | {"sequence_length": len(last)}


def activity_row(events: list[dict[str, Any]], cutoff: datetime, config: Config) -> dict[str, Any]:
    row: dict[str, Any] = {}
    types = list(config.events.types)
    for days in (*config.windows.activity_days, OBSERVATION):
        window = observed(events, cutoff, days)
        row[f"event_count_{days}d"] = len(window)
        row[f"order_count_{days}d"] = len({_order_of(event, config) for event in window} - {None})
        row[f"session_count_{days}d"] = _session_count(observed(events, cutoff), window, config)
        row[f"active_day_count_{days}d"] = len({_day_of(event, cutoff) for event in window})
        for kind in types:
            row[f"{kind}_count_{days}d"] = len(_only(window, kind))
        for kind in ("purchase", "return"):
            row[f"{kind}_sum_{days}d"] = sum(event["cents"] or 0 for event in _only(window, kind)) / 100
    everything = observed(events, cutoff)
    age = lambda event: (cutoff - event["event_timestamp"]) / DAY  # noqa: E731
    row["recency_days"], row["tenure_days"] = min(map(age, everything)), max(map(age, everything))
    for kind in types:
        row[f"{kind}_recency_days"] = min(map(age, _only(everything, kind)), default=None)
    active = sorted({_day_of(event, cutoff) for event in everything})
    gaps = [later - earlier for earlier, later in pairwise(active)]
    mean = sum(gaps) / len(gaps) if gaps else None
    row["gap_mean_days"] = mean
    row["gap_std_days"] = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) if gaps else None
    amounts = [event["cents"] for event in _only(everything, "purchase") if event["cents"] is not None]
    row["purchase_amount_mean"] = sum(amounts) / len(amounts) / 100 if amounts else None
    row["purchase_amount_max"] = max(amounts) / 100 if amounts else None
    row["purchase_amount_min"] = min(amounts) / 100 if amounts else None
    row["purchase_amount_std"] = statistics.pstdev(amounts) / 100 if amounts else None
    orders = row[f"order_count_{OBSERVATION}d"]
    row["order_amount_mean"] = sum(amounts) / 100 / orders if orders else None
    for name, key in (("item", "item_id"), ("category", "category"), ("brand", "brand")):
        row[f"distinct_{name}_count"] = len({event[key] for event in everything} - {None})
    for name in config.events.columns.numeric:
        known = [event[name] for event in everything if event[name] is not None]
        row[f"{name}_known_count"] = len(known)
        row[f"{name}_mean"] = sum(known) / len(known) if known else None
    return row


def label_row(
    events: list[dict[str, Any]], cutoff: datetime, complete_through: datetime, config: Config
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for task in config.tasks:
        start = cutoff + task.gap_days * DAY
        end = start + task.prediction_days * DAY
        window = [event for event in events if start <= event["event_timestamp"] < end]
        if end > complete_through:
            row[task.label_column] = None
        elif task.kind == "binary":
            row[task.label_column] = bool(_only(window, task.event_type))
        elif task.kind == "value":
            money = {kind: sum(event["cents"] or 0 for event in _only(window, kind)) for kind in ("purchase", "return")}
            row[task.label_column] = max(0, money["purchase"] - money["return"]) / 100
        elif task.kind == "multiclass" and task.target is not None:
            row[task.label_column] = _rungs(window, task.ladder, task.target)
        elif task.kind == "multiclass":
            reached = [name for name in task.ladder if _only(window, name)]
            row[task.label_column] = reached[-1] if reached else "none"
        else:
            row[task.label_column] = sorted({event[task.target] for event in _only(window, task.event_type)} - {None})
    return row


def _rungs(events: list[dict[str, Any]], ladder: Iterable[str], target: str) -> list[dict[str, str]]:
    """Each value of the target with the last rung that has an event of it."""
    rungs: dict[str, str] = {}
    for name in ladder:
        for event in _only(events, name):
            if event[target] is not None:
                rungs[event[target]] = name
    return [{"value": value, "rung": rungs[value]} for value in sorted(rungs)]


def _only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event_type"] == kind]


def _day_of(event: dict[str, Any], cutoff: datetime) -> int:
    """0 for the 24 hours up to the cutoff (their start included), 1 for those before, ..."""
    return math.ceil((cutoff - event["event_timestamp"]) / DAY) - 1


def _order_of(event: dict[str, Any], config: Config) -> tuple[str, Any] | None:
    if event["event_type"] != "purchase":
        return None
    for name in ("order_id", "session_id"):
        if name in config.events.columns.mapped and event[name] is not None:
            return name, event[name]
    return "at", event["event_timestamp"]


def _session_count(everything: list[dict[str, Any]], window: list[dict[str, Any]], config: Config) -> int:
    if "session_id" in config.events.columns.mapped:
        return len({event["session_id"] for event in window} - {None})
    sessions, touched, previous = 0, set(), None
    for event in everything:
        if previous is None or event["event_timestamp"] - previous > timedelta(minutes=30):
            sessions += 1
        previous = event["event_timestamp"]
        if any(event is other for other in window):
            touched.add(sessions)
    return len(touched)


def worlds(users: int, most_events: int = 10) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Raw events of several users, in no particular order."""
    each = [st.lists(events_of(f"user-{number}"), min_size=2, max_size=most_events) for number in range(users)]
    return st.tuples(*each).map(lambda lists: [event for events in lists for event in events])


def built(spark: Any, rows: list[dict[str, Any]], config: Config, partitions: int = 2) -> dict[str, dict[str, Any]]:
    """Sequences and activity of each user at `CUTOFF`, by the package."""
    found: dict[str, dict[str, Any]] = {}
    for tables in tables_of(spark, rows, config, CUTOFF, partitions):
        found |= _by_user(tables.behaviour)
    return found


def labelled(
    spark: Any, rows: list[dict[str, Any]], config: Config, complete_through: datetime
) -> dict[str, dict[str, Any]]:
    """Labels of each user at `CUTOFF`, by the package."""
    found: dict[str, dict[str, Any]] = {}
    for tables in tables_of(spark, rows, config, complete_through):
        found |= _by_user(tables.labels)
    return found


def tables_of(
    spark: Any, rows: list[dict[str, Any]], config: Config, complete_through: datetime, partitions: int = 2
) -> Iterator[TablesAsOf]:
    """Tables at `CUTOFF` of each partition of cleaned events, as a build makes them of each file."""
    from native_spark.events import clean_events
    from pyspark.sql import functions as F  # noqa: N812

    raw = spark.createDataFrame(raw_table(rows)).repartition(partitions)
    events = clean_events(raw, config, partitions).events.withColumn("partition", F.spark_partition_id()).toArrow()
    for partition in events["partition"].unique():
        block = EventBlock.of(events.filter(pc.equal(events["partition"], partition)).drop("partition"), config)
        yield from tables_as_of(block.without_duplicates(), [CUTOFF], complete_through, config)


def _by_user(table: pa.Table) -> dict[str, dict[str, Any]]:
    rows = table.drop("event_timestamp").to_pylist()
    return {row.pop("user_id"): row for row in rows}
