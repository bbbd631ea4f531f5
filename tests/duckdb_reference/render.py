"""Fills the SQL files with the columns, windows and tasks that a configuration names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from string import Template
from typing import Any

from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import event_columns, microseconds
from segmenter_plugin.schemas import activity_fields, sequence_fields

DAY_US = 86_400_000_000
PAUSE_US = 30 * 60 * 1_000_000
_SQL_TYPES = {
    "binary": "BOOLEAN",
    "value": "DOUBLE",
    "multiclass": "VARCHAR",
    "multilabel": "VARCHAR[]",
    "category": "STRUCT(value VARCHAR, rung VARCHAR)[]",
}
_TIME_SCALE = {"s": 1_000_000, "ms": 1_000, "us": 1}
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


def typed(config: Config, raw: str, types: Mapping[str, str]) -> str:
    """Valid rows of the owner's; the first three columns are `user_id`, `event_us` and `event_type`.

    Args:
        config: `[events]`.
        raw: A relation, as SQL.
        types: Its columns and their DuckDB types: whole numbers, DOUBLE, VARCHAR, TIMESTAMP with or without zone.
    """
    events, mapped = config.events, config.events.columns.mapped
    own = _settled_columns(config)[3:]
    numbers = ("amount", "quantity", *events.columns.numeric)
    named = {"user_id": _text_or_whole(mapped["user_id"], types), "event_us": _micros(config, types)}
    if events.columns.event_type is None:
        named["owner_type"] = _quoted(events.types[str(events.constant_event_type)][0])
    else:
        named["owner_type"] = _text(events.columns.event_type)
    for name in own:
        if name not in numbers:
            named[name] = _text(mapped[name])
        elif name in events.columns.numeric:
            number = f'"{name}"::DOUBLE'
            named[name] = f"CASE WHEN isfinite({number}) THEN {number} END"
    for name, ours in (("price", "price"), ("units", "quantity")):
        named[name] = f'"{mapped[ours]}"::DOUBLE' if ours in mapped else "NULL::DOUBLE"
    cases = " ".join(
        f"WHEN owner_type IN ({', '.join(map(_quoted, names))}) THEN {_quoted(ours)}"
        for ours, names in events.types.items()
    )
    amount = f"round(abs(money), {events.currency_digits}) AS amount"
    replaced = {"amount": amount, "quantity": "abs(units) AS quantity"}
    return _fill(
        "typed",
        named=_list(f'{sql} AS "{name}"' for name, sql in named.items()),
        raw=raw,
        kind=f"CASE {cases} ELSE {'owner_type' if events.unknown_type == 'keep' else 'NULL'} END",
        has_returns=str("return" in events.types).upper(),
        money="price" if events.price_is == "line" else "price * abs(coalesce(units, 1))",
        columns=_list(replaced.get(name, f'"{name}"') for name in own),
        earliest_us=microseconds(config.time(events.earliest_timestamp)),
        latest_us=microseconds(config.time(events.latest_timestamp or "2100-01-01T00:00:00+00:00")),
    )


def stored(config: Config, typed: str) -> str:
    """What the event log holds of a relation of `typed`."""
    return _fill(
        "stored",
        typed=typed,
        columns=_list(f'"{name}"' for name in _settled_columns(config)),
        oldest_first=_oldest_first(config),
        most_a_day=config.events.max_events_per_day or 2**62,
    )


def settled(config: Config, stored: str) -> str:
    """Each event of a relation of `stored` once."""
    event_id = "event_id" if "event_id" in _settled_columns(config) else "NULL"
    return _fill("settled", stored=stored, oldest_first=_oldest_first(config), event_id=event_id)


def behaviour(config: Config, settled: str, cutoff: datetime, stored: str = "") -> str:
    """Sequences and aggregates of each user as of a cutoff, in the order of `schemas.behaviour_schema`.

    `stored` is needed where `windows.trend_columns` names columns.
    """
    days = sorted({*config.windows.activity_days, config.windows.observation_days})
    keys = _keys(config)
    fields = [field.name for field in [*sequence_fields(config), *activity_fields(config)]]
    counted = {f"{kind}_count_{length}d" for kind in keys for length in days} | {
        f"distinct_{kind}_count" for kind in keys
    }
    columns = [name for name in fields if name.endswith("_sequence")]
    return _fill(
        "behaviour",
        settled=settled,
        since_us=microseconds(cutoff - timedelta(days=config.windows.observation_days)),
        cutoff_us=microseconds(cutoff),
        cents=_cents(config),
        order_key=_order_key(config),
        newest_first=", ".join(f'"{name}" DESC NULLS LAST' for name in _settled_columns(config)[1:]),
        sequences=_list(f"list({_element(name)} ORDER BY place DESC) AS {name}" for name in columns),
        length=config.sequences.length,
        sums=_list(f"{sql} AS {name}" for name, sql in _sums(config, cutoff, days).items()),
        active_days=_list(f"count(*) FILTER (days_ago < {length}) AS active_day_count_{length}d" for length in days),
        keys=",\n\n".join(
            [
                *(_key(kind, column, cutoff, days) for kind, column in keys.items()),
                *(_trends(column, cutoff, stored) for column in config.windows.trend_columns),
            ]
        ),
        fields=_list(
            f"coalesce({name}, 0) AS {name}" if name in counted else f'"{name}"'
            for name in fields
            if name != "order_amount_mean"
        )
        + _order_mean(config, fields),
        joins="\n".join(
            f"LEFT JOIN {name}s USING (user_id)"
            for name in [*keys, *(f"{_kind(column)}_trend" for column in config.windows.trend_columns)]
        ),
    )


def labels(config: Config, settled: str, cutoff: datetime, complete_through: datetime) -> str:
    """Labels of each user of `behaviour`."""
    outcomes, columns = {}, []
    for task in config.tasks:
        name, kind = task.label_column, _SQL_TYPES[task.form]
        if task.window(cutoff)[1] > complete_through:
            columns.append(f"NULL::{kind} AS {name}")
            continue
        outcomes[name], absent = _outcome(task, cutoff, config)
        columns.append(f"coalesce({name}, {absent}) AS {name}")
    return _fill(
        "labels",
        settled=settled,
        since_us=microseconds(cutoff - timedelta(days=config.windows.observation_days)),
        cutoff_us=microseconds(cutoff),
        until_us=microseconds(config.labels_end(cutoff)),
        cents=_cents(config),
        outcomes=_list([*(f"{sql} AS {name}" for name, sql in outcomes.items()), "count(*) AS events"]),
        labels=_list(columns),
    )


def _trends(column: str, cutoff: datetime, stored: str) -> str:
    return _fill("trends", kind=_kind(column), column=f'"{column}"', stored=stored, cutoff_us=microseconds(cutoff))


def _kind(column: str) -> str:
    return column.removesuffix("_id")


def _fill(name: str, **values: Any) -> str:
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _list(parts: Iterable[str]) -> str:
    return ",\n        ".join(parts)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _settled_columns(config: Config) -> list[str]:
    return ["event_us" if name == "event_timestamp" else name for name in event_columns(config)]


def _oldest_first(config: Config) -> str:
    return ", ".join(f'"{name}" ASC NULLS FIRST' for name in _settled_columns(config)[1:])


def _text(theirs: str) -> str:
    return f"""nullif("{theirs}"::VARCHAR, '')"""


def _text_or_whole(theirs: str, types: Mapping[str, str]) -> str:
    return f'"{theirs}"::BIGINT' if types[theirs] in _WHOLE else _text(theirs)


def _micros(config: Config, types: Mapping[str, str]) -> str:
    theirs = config.events.columns.event_timestamp
    if types[theirs] in _WHOLE:
        return f'"{theirs}"::BIGINT * {_TIME_SCALE[str(config.events.timestamp_unit)]}'
    if types[theirs] == "TIMESTAMP WITH TIME ZONE" or config.events.timezone is None:
        return f'epoch_us("{theirs}")'
    return f"""epoch_us("{theirs}" AT TIME ZONE {_quoted(config.events.timezone)})"""


def _cents(config: Config) -> str:
    if config.events.columns.price is None:
        return "NULL::BIGINT"
    return f"round(amount * 10 ** {config.events.currency_digits})::BIGINT"


def _order_key(config: Config) -> str:
    named = [name for name in ("order_id", "session_id") if name in config.events.columns.mapped]
    keys = [*(f"'{name}:' || {name}" for name in named), "'at:' || event_us"]
    return f"CASE WHEN event_type = 'purchase' THEN coalesce({', '.join(keys)}) END"


def _element(name: str) -> str:
    column = name.removesuffix("_sequence")
    return "make_timestamp(event_us)::TIMESTAMPTZ" if column == "event_timestamp" else f'"{column}"'


def _keys(config: Config) -> dict[str, str]:
    """Kinds of keys that are counted -> the column that holds them."""
    kinds = {"order": "order_key", "session": "session_id", "item": "item_id", "category": "category", "brand": "brand"}
    return {kind: name for kind, name in kinds.items() if kind == "order" or name in config.events.columns.mapped}


def _key(kind: str, column: str, cutoff: datetime, days: list[int]) -> str:
    starts = {length: microseconds(cutoff - timedelta(days=length)) for length in days}
    counts = [f"count(*) FILTER (newest_us >= {start}) AS {kind}_count_{length}d" for length, start in starts.items()]
    return _fill("key", kind=kind, column=column, counts=_list([*counts, f"count(*) AS distinct_{kind}_count"]))


def _sums(config: Config, cutoff: datetime, days: list[int]) -> dict[str, str]:
    scale, end = f"{10**config.events.currency_digits}.0::DOUBLE", microseconds(cutoff)
    sums: dict[str, str] = {}
    for length in days:
        start = microseconds(cutoff - timedelta(days=length))
        within = f"event_us >= {start}"
        sums[f"event_count_{length}d"] = f"count(*) FILTER ({within})"
        for kind in config.events.types:
            sums[f"{kind}_count_{length}d"] = f"count(*) FILTER ({within} AND event_type = {_quoted(kind)})"
        if "session_id" not in config.events.columns.mapped:
            pauses = f"count(*) FILTER (previous_us >= {start} AND event_us - previous_us > {PAUSE_US})"
            sums[f"session_count_{length}d"] = f"{pauses} + (max(event_us) >= {start})::BIGINT"
        for kind in ("purchase", "return"):
            money = f"sum(cents) FILTER ({within} AND event_type = '{kind}')"
            sums[f"{kind}_sum_{length}d"] = f"coalesce({money}, 0)::BIGINT / {scale}"
    sums["recency_days"] = f"({end} - max(event_us)) / {DAY_US}.0::DOUBLE"
    sums["tenure_days"] = f"({end} - min(event_us)) / {DAY_US}.0::DOUBLE"
    for kind in config.events.types:
        newest = f"max(event_us) FILTER (event_type = {_quoted(kind)})"
        sums[f"{kind}_recency_days"] = f"({end} - {newest}) / {DAY_US}.0::DOUBLE"
    return sums | _prices(scale) | _means(config)


def _prices(scale: str) -> dict[str, str]:
    """Statistics of the cents of purchases; whole numbers until the last step."""
    bought = "FILTER (event_type = 'purchase')"
    number, total = f"count(cents) {bought}", f"(sum(cents) {bought})::HUGEINT"
    squares = f"(sum(cents::HUGEINT * cents) {bought})::HUGEINT"
    return {
        "purchase_amount_mean": f"{total}::DOUBLE / {number} / {scale}",
        "purchase_amount_max": f"max(cents) {bought} / {scale}",
        "purchase_amount_min": f"min(cents) {bought} / {scale}",
        "purchase_amount_std": f"sqrt(({number} * {squares} - {total} * {total})::DOUBLE) / {number} / {scale}",
    }


def _means(config: Config) -> dict[str, str]:
    means = {}
    for name in config.events.columns.numeric:
        means[f"{name}_mean"], means[f"{name}_known_count"] = f'avg("{name}")', f'count("{name}")'
    return means


def _order_mean(config: Config, fields: list[str]) -> str:
    if "order_amount_mean" not in fields:
        return ""
    days = config.windows.observation_days
    if "purchase" not in config.events.types:
        return ",\n        NULL::DOUBLE AS order_amount_mean"
    return f",\n        purchase_sum_{days}d / nullif(order_count_{days}d, 0) AS order_amount_mean"


def _outcome(task: Any, cutoff: datetime, config: Config) -> tuple[str, str]:
    """A label over the events after the cutoff, and what it is for a user of whom nothing is heard."""
    start, end = map(microseconds, task.window(cutoff))
    within = f"event_us >= {start} AND event_us < {end}"
    of_type = f"{within} AND event_type = {_quoted(task.event_type)}"
    if task.kind == "binary":
        return f"count(*) FILTER ({of_type}) > 0", "FALSE"
    if task.kind == "value":
        totals = (
            f"coalesce(sum(cents) FILTER ({within} AND event_type = '{kind}'), 0)" for kind in ("purchase", "return")
        )
        return f"greatest({' - '.join(totals)}, 0)::BIGINT / {10**config.events.currency_digits}.0::DOUBLE", "0"
    if task.form == "category":
        return _ladder_of_each(task, within), "[]"
    if task.kind == "multiclass":
        rungs = " ".join(
            f"WHEN count(*) FILTER ({within} AND event_type = {_quoted(name)}) > 0 THEN {_quoted(name)}"
            for name in reversed(task.ladder)
        )
        return f"CASE {rungs} ELSE 'none' END", "'none'"
    return f'list_sort(list(DISTINCT "{task.target}") FILTER ({of_type} AND "{task.target}" IS NOT NULL))', "[]"


def _ladder_of_each(task: Any, within: str) -> str:
    """Each value that events of the ladder had, with the highest rung whose events had it."""
    target, types = f'"{task.target}"', ", ".join(map(_quoted, task.ladder))
    touched = (
        f"list_sort(list(DISTINCT {target}) FILTER ({within} AND event_type IN ({types}) AND {target} IS NOT NULL))"
    )
    highest_first = [(f"reached_{place}", name) for place, name in reversed(list(enumerate(task.ladder)))]
    sets = ", ".join(
        f"{key} := list(DISTINCT {target}) FILTER ({within} AND event_type = {_quoted(name)})"
        for key, name in highest_first
    )
    found = f"struct_pack(touched := {touched}, {sets})"
    rungs = " ".join(f"WHEN list_contains(found.{key}, word) THEN {_quoted(name)}" for key, name in highest_first)
    rows = f"[{{'value': word, 'rung': CASE {rungs} END}} FOR word IN found.touched]"
    return f"list_transform([{found}], lambda found: {rows})[1]"
