"""Polars, lazily, with its streaming engine: the same tables, written as one.

What orders rows of one moment is their every other column, as everywhere here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from build_speed import world
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import event_columns, microseconds
from segmenter_plugin.schemas import activity_fields, label_fields, sequence_fields

_DAY_US, _PAUSE_US = 86_400_000_000, 30 * 60 * 1_000_000
us, kind, cents = pl.col("us"), pl.col("event_type"), pl.col("cents")


def build(source: Path, out: Path, events: int, cutoff: datetime) -> None:
    """Write behaviour and labels of a cutoff."""
    out.mkdir(parents=True)
    config = world.config(source, out, events)
    rows = _arranged(_clean(source, config, cutoff), config, cutoff)
    _tables(rows, config, cutoff).sink_parquet(
        out / "part-00000.parquet", compression="zstd", row_group_size=16_384, engine="streaming"
    )


def _clean(source: Path, config: Config, cutoff: datetime) -> pl.LazyFrame:
    owners = {theirs: ours for ours, names in config.events.types.items() for theirs in names}
    since = cutoff - timedelta(days=config.windows.observation_days)
    text = {"visitor": "user_id", "sku": "item_id", "event": "event_id", "department": "category"}
    raw = pl.scan_parquet(source / "*.parquet").filter(
        pl.col("at").is_between(since, config.labels_end(cutoff), closed="left"), pl.col("visitor") != ""
    )
    named = raw.select(
        *(pl.col(theirs).replace("", None).alias(ours) for theirs, ours in text.items()),
        pl.col("at").alias("event_timestamp"),
        pl.col("at").dt.epoch("us").alias("us"),
        pl.col("kind").replace_strict(owners, default=None, return_dtype=pl.String).alias("event_type"),
        pl.col("unit_price").alias("price"),
        pl.col("units").cast(pl.Float64),
    )
    refund = (kind == "return") | ((kind == "purchase") & (pl.col("units") < 0).fill_null(value=False))
    numbers = [
        pl.col(name).is_null()
        | (pl.col(name).is_finite() & (pl.col(name).abs() <= 1e12) & ((pl.col(name) >= 0) | refund))
        for name in ("price", "units")
    ]
    money = (pl.col("price") * pl.col("units").fill_null(1.0)).abs().round(config.events.currency_digits)
    return named.filter(kind.is_not_null(), *numbers).with_columns(
        event_type=pl.when(refund).then(pl.lit("return")).otherwise(kind),
        amount=money,
        quantity=pl.col("units").abs(),
    )


def _arranged(events: pl.LazyFrame, config: Config, cutoff: datetime) -> pl.LazyFrame:
    """Each event once, at most so many a day, in order of user and time, with what the row before it was.

    One sort; as every event has an id, rows that are equal share it, and of those with one id the first stays.
    """
    order = ["user_id", *event_columns(config)[1:]]
    once = events.sort(order).unique(["user_id", "event_id"], keep="first", maintain_order=True)
    first = (pl.col("user_id") != pl.col("user_id").shift()).fill_null(value=True)
    day = us.floordiv(_DAY_US)
    capped = (
        once.with_row_index("row")
        .with_columns(new_day=pl.when(first | (day != day.shift())).then(pl.col("row")).forward_fill())
        .filter(pl.col("row") - pl.col("new_day") < config.events.max_events_per_day)
    )
    before = {"us_before": us.shift(), "kind_before": kind.shift(), "ago_before": pl.col("ago").shift()}
    return capped.with_columns(
        ago=(microseconds(cutoff) - us - 1).floordiv(_DAY_US),
        cents=(pl.col("amount") * 10**config.events.currency_digits).round().cast(pl.Int64),
    ).with_columns(**{name: pl.when(~first).then(column) for name, column in before.items()})


def _tables(rows: pl.LazyFrame, config: Config, cutoff: datetime) -> pl.LazyFrame:
    seen = us < microseconds(cutoff)
    columns = _activity(config, cutoff) | _labels(config, cutoff)
    for field in sequence_fields(config):
        if field.name != "sequence_length":
            column = pl.col(field.name.removesuffix("_sequence"))
            columns[field.name] = column.filter(seen).tail(config.sequences.length).implode()
    columns["sequence_length"] = seen.sum().clip(upper_bound=config.sequences.length).cast(pl.Int32)
    fields = [*sequence_fields(config), *activity_fields(config), *label_fields(config)]
    days = config.windows.observation_days
    orders = pl.col(f"order_count_{days}d")
    mean = pl.when(orders > 0).then(pl.col(f"purchase_sum_{days}d") / orders)
    return (
        rows.group_by("user_id", maintain_order=True)
        .agg(**columns)
        .filter(pl.col("sequence_length") > 0)
        .with_columns(order_amount_mean=mean, event_timestamp=pl.lit(cutoff).cast(pl.Datetime("us", "UTC")))
        .select("user_id", "event_timestamp", *(field.name for field in fields))
    )


def _activity(config: Config, cutoff: datetime) -> dict[str, pl.Expr]:
    end, scale = microseconds(cutoff), 10.0**config.events.currency_digits
    seen, previous = us < end, pl.col("us_before")
    again = ((previous == us) & (pl.col("kind_before") == "purchase")).fill_null(value=False)
    is_order = (kind == "purchase") & ~again
    gap = pl.col("ago_before") - pl.col("ago")
    columns: dict[str, pl.Expr] = {}
    for days in sorted({*config.windows.activity_days, config.windows.observation_days}):
        start = microseconds(cutoff - timedelta(days=days))
        within = seen & (start <= us)
        is_first = (previous < start).fill_null(value=True)
        columns[f"event_count_{days}d"] = within.sum()
        columns[f"order_count_{days}d"] = (within & is_order).sum()
        columns[f"active_day_count_{days}d"] = (within & (is_first | (gap > 0))).sum()
        columns[f"session_count_{days}d"] = (within & (is_first | (us - previous > _PAUSE_US))).sum()
        for name in config.events.types:
            columns[f"{name}_count_{days}d"] = (within & (kind == name)).sum()
        for name in ("purchase", "return"):
            columns[f"{name}_sum_{days}d"] = _money(cents.filter(within & (kind == name)).sum(), config)
    bought = cents.filter(seen & (kind == "purchase"))
    number, total, squares = bought.count(), bought.sum(), (bought * bought).sum()
    known = number > 0
    columns["purchase_amount_mean"] = pl.when(known).then(total / number / scale)
    columns["purchase_amount_max"], columns["purchase_amount_min"] = (
        _money(bought.max(), config),
        _money(bought.min(), config),
    )
    columns["purchase_amount_std"] = pl.when(known).then((number * squares - total * total).sqrt() / number / scale)
    for name, value in (("item", "item_id"), ("category", "category")):
        columns[f"distinct_{name}_count"] = pl.col(value).filter(seen).drop_nulls().n_unique()
    columns["recency_days"] = (end - us.filter(seen).max()) / float(_DAY_US)
    columns["tenure_days"] = (end - us.min()) / float(_DAY_US)
    for name in config.events.types:
        columns[f"{name}_recency_days"] = (end - us.filter(seen & (kind == name)).max()) / float(_DAY_US)
    gaps = gap.filter(seen & (gap > 0))
    number, total, squares = gaps.count(), gaps.sum(), (gaps * gaps).sum()
    columns["gap_mean_days"] = pl.when(number > 0).then(total / number)
    columns["gap_std_days"] = pl.when(number > 0).then((number * squares - total * total).sqrt() / number)
    return {name: column.cast(pl.Int64) if "_count" in name else column for name, column in columns.items()}


def _labels(config: Config, cutoff: datetime) -> dict[str, pl.Expr]:
    columns = {}
    for task in config.tasks:
        start, end = map(microseconds, task.window(cutoff))
        inside = (start <= us) & (end > us)
        if task.kind == "binary":
            column = (inside & (kind == task.event_type)).any()
        elif task.kind == "value":
            money = [cents.filter(inside & (kind == name)).sum() for name in ("purchase", "return")]
            column = _money((money[0] - money[1]).clip(lower_bound=0), config)
        elif task.kind == "multiclass":
            column = pl.lit("none")
            for name in task.ladder:
                column = pl.when((inside & (kind == name)).any()).then(pl.lit(name)).otherwise(column)
        else:
            values = pl.col(str(task.target)).filter(inside & (kind == task.event_type))
            column = values.drop_nulls().unique().sort().implode()
        columns[task.label_column] = column
    return columns


def _money(minor: pl.Expr, config: Config) -> pl.Expr:
    """Polars divides by a constant as it multiplies by its inverse, which is off by a bit."""
    digits = config.events.currency_digits
    return (minor / 10.0**digits).round(digits)
