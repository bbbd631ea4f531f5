"""The best native form: one scan, one shuffle by user, two sorts, one sort-based aggregation with `collect_list`.

Rows with one event id are settled by a window; then one order, (user, day, time, the rest), serves the daily limit, the
gaps between days, the pauses between sessions and the sequence, so that Spark sorts no third time. `collect_list` and
`collect_set` aggregate over rows that are in order of user already: Spark is told to use its sort-based aggregation.
Behaviour and labels are written as one table, which spares it a second pass that ours has.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from build_speed import world
from segmenter_plugin.config import Config
from segmenter_plugin.data.event_block import event_columns
from segmenter_plugin.schemas import activity_fields, label_fields, sequence_fields
from segmenter_plugin.spark.session import open_session

_DAY_US, _PAUSE_US = 86_400_000_000, 30 * 60 * 1_000_000
SETTINGS = {
    "spark.sql.execution.useObjectHashAggregateExec": "false",
    "spark.sql.adaptive.coalescePartitions.enabled": "false",
}


def build(source: Path, out: Path, events: int, cutoff: datetime) -> None:
    """Write behaviour and labels of a cutoff."""
    # Some 400,000 rows a task, at least four tasks a core: fewer spill, more cost files and waits.
    partitions = max(8, -(-events // 400_000))
    spark = open_session("native", settings=SETTINGS | {"spark.sql.shuffle.partitions": str(partitions)})
    config = world.config(source, out, events)
    rows = _arranged(_clean(spark, source, config, cutoff), config, cutoff)
    tables = _tables(rows, config, cutoff)
    tables.write.option("parquet.block.row.count.limit", "16384").parquet(str(out))
    spark.stop()


def _clean(spark: SparkSession, source: Path, config: Config, cutoff: datetime) -> DataFrame:
    """Typed valid rows of the windows."""
    owners = {theirs: ours for ours, names in config.events.types.items() for theirs in names}
    kind = F.create_map(*(F.lit(text) for pair in owners.items() for text in pair))[F.col("kind")]
    since = cutoff - timedelta(days=config.windows.observation_days)
    raw = spark.read.parquet(str(source)).where(
        (F.col("at") >= F.lit(since)) & (F.col("at") < F.lit(config.labels_end(cutoff))) & (F.col("visitor") != "")
    )
    named = raw.select(
        F.col("visitor").alias("user_id"),
        F.col("at").alias("event_timestamp"),
        kind.alias("event_type"),
        F.nullif("sku", F.lit("")).alias("item_id"),
        F.nullif("event", F.lit("")).alias("event_id"),
        F.nullif("department", F.lit("")).alias("category"),
        "unit_price",
        F.col("units").cast("double").alias("units"),
    )
    refund = (F.col("event_type") == "return") | ((F.col("event_type") == "purchase") & (F.col("units") < 0))
    valid = F.col("event_type").isNotNull()
    for name in ("unit_price", "units"):
        number = F.col(name)
        valid &= number.isNull() | (~F.isnan(name) & (F.abs(number) <= 1e12) & ((number >= 0) | refund))
    money = F.round(F.abs(F.col("unit_price") * F.coalesce("units", F.lit(1.0))), config.events.currency_digits)
    kept = named.where(valid).withColumn("event_type", F.when(refund, "return").otherwise(F.col("event_type")))
    return kept.select("*", money.alias("amount"), F.abs("units").alias("quantity")).select(*event_columns(config))


def _arranged(events: DataFrame, config: Config, cutoff: datetime) -> DataFrame:
    """Each event once, at most so many a day, with what the row before it was."""
    rest = event_columns(config)[1:]
    by_user = events.repartition("user_id").withColumns(
        {
            "day": F.floor(F.unix_micros("event_timestamp") / F.lit(_DAY_US)),
            "us": F.unix_micros("event_timestamp"),
        }
    )
    same_event = Window.partitionBy("user_id", "event_id").orderBy(*rest)
    of_day = Window.partitionBy("user_id", "day").orderBy(*rest)
    of_user = Window.partitionBy("user_id").orderBy("day", *rest)
    once = by_user.withColumn("place", F.row_number().over(same_event)).where("place = 1")
    capped = once.withColumn("place", F.row_number().over(of_day)).where(
        F.col("place") <= F.lit(config.events.max_events_per_day)
    )
    ago = F.floor((F.lit(_micros(cutoff)) - F.col("us") - 1) / F.lit(_DAY_US))
    cents = F.round(F.col("amount") * 10**config.events.currency_digits).cast("long")
    placed = capped.withColumns({"ago": ago, "cents": cents, "place": F.row_number().over(of_user)})
    before = {f"{name}_before": F.lag(name).over(of_user) for name in ("us", "ago", "event_type")}
    return placed.withColumns(before)


def _tables(rows: DataFrame, config: Config, cutoff: datetime) -> DataFrame:
    sequences = [field.name for field in sequence_fields(config) if field.name != "sequence_length"]
    columns = [name.removesuffix("_sequence") for name in sequences]
    seen = F.col("us") < F.lit(_micros(cutoff))
    aggregates = _activity(config, cutoff, seen) | _labels(config, cutoff)
    aggregates["_events"] = F.sort_array(F.collect_list(F.when(seen, F.struct("place", *columns))))
    grouped = rows.groupBy("user_id").agg(*(column.alias(name) for name, column in aggregates.items()))
    length, days = config.sequences.length, config.windows.observation_days
    known = grouped.where(F.size("_events") > 0)
    start = F.greatest(F.size("_events") - F.lit(length - 1), F.lit(1))
    last = known.withColumn("_events", F.slice("_events", start, F.lit(length)))
    final = {name: F.col(name) for name in aggregates} | {
        "order_amount_mean": F.try_divide(f"purchase_sum_{days}d", f"order_count_{days}d")
    }
    return last.select(
        "user_id",
        F.lit(cutoff).alias("event_timestamp"),
        *(F.col("_events")[column].alias(name) for column, name in zip(columns, sequences, strict=True)),
        F.size("_events").alias("sequence_length"),
        *(final[field.name].alias(field.name) for field in [*activity_fields(config), *label_fields(config)]),
    )


def _activity(config: Config, cutoff: datetime, seen: Column) -> dict[str, Column]:
    us, kind, scale = F.col("us"), F.col("event_type"), F.lit(10.0**config.events.currency_digits)
    end = F.lit(_micros(cutoff))
    is_order = (kind == "purchase") & ~F.coalesce(
        (F.col("us_before") == us) & (F.col("event_type_before") == "purchase"), F.lit(False)
    )
    gap = F.when(seen, F.nullif(F.col("ago_before") - F.col("ago"), F.lit(0)))
    columns: dict[str, Column] = {}
    for days in sorted({*config.windows.activity_days, config.windows.observation_days}):
        start = F.lit(_micros(cutoff - timedelta(days=days)))
        within, inside = seen & (us >= start), F.col("us_before") >= start
        columns[f"event_count_{days}d"] = F.count_if(within)
        columns[f"order_count_{days}d"] = F.count_if(within & is_order)
        is_first = F.coalesce(~inside, F.lit(True))
        columns[f"active_day_count_{days}d"] = F.count_if(within & (is_first | (gap > 0)))
        columns[f"session_count_{days}d"] = F.count_if(within & (is_first | (us - F.col("us_before") > _PAUSE_US)))
        for name in config.events.types:
            columns[f"{name}_count_{days}d"] = F.count_if(within & (kind == name))
        for name in ("purchase", "return"):
            minor = F.coalesce(F.sum(F.when(within & (kind == name), F.col("cents"))), F.lit(0))
            columns[f"{name}_sum_{days}d"] = minor / scale
    bought = F.when(seen & (kind == "purchase"), F.col("cents"))
    number, total, squares = F.count(bought), F.sum(bought), F.sum(bought * bought)
    columns["purchase_amount_mean"] = total / number / scale
    columns["purchase_amount_max"], columns["purchase_amount_min"] = F.max(bought) / scale, F.min(bought) / scale
    columns["purchase_amount_std"] = F.try_divide(F.sqrt(number * squares - total * total), number) / scale
    for name in ("item", "category"):
        value = "item_id" if name == "item" else name
        columns[f"distinct_{name}_count"] = F.size(F.collect_set(F.when(seen, F.col(value)))).cast("long")
    columns["recency_days"] = (end - F.max(F.when(seen, us))) / F.lit(float(_DAY_US))
    columns["tenure_days"] = (end - F.min(us)) / F.lit(float(_DAY_US))
    for name in config.events.types:
        newest = F.max(F.when(seen & (kind == name), us))
        columns[f"{name}_recency_days"] = (end - newest) / F.lit(float(_DAY_US))
    number, total, squares = F.count(gap), F.sum(gap), F.sum(gap * gap)
    columns["gap_mean_days"] = F.try_divide(total, number)
    columns["gap_std_days"] = F.try_divide(F.sqrt(number * squares - total * total), number)
    return columns


def _labels(config: Config, cutoff: datetime) -> dict[str, Column]:
    columns = {}
    for task in config.tasks:
        start, end = task.window(cutoff)
        inside = (F.col("us") >= F.lit(_micros(start))) & (F.col("us") < F.lit(_micros(end)))
        kind = F.col("event_type")
        if task.kind == "binary":
            column = F.bool_or(inside & (kind == task.event_type))
        elif task.kind == "value":
            sign = F.when(kind == "purchase", 1).when(kind == "return", -1)
            minor = F.coalesce(F.sum(F.when(inside, sign * F.col("cents"))), F.lit(0))
            column = F.greatest(minor, F.lit(0)) / F.lit(10.0**config.events.currency_digits)
        elif task.kind == "multiclass":
            rungs = F.lit(0)
            for height, name in enumerate(task.ladder, start=1):
                rungs = F.when(inside & (kind == name), height).otherwise(rungs)
            column = F.element_at(F.array(*map(F.lit, task.classes)), F.max(rungs) + 1)
        else:
            column = F.sort_array(F.collect_set(F.when(inside & (kind == task.event_type), F.col(str(task.target)))))
        columns[task.label_column] = column
    return columns


def _micros(time: datetime) -> int:
    return (time - world.START) // timedelta(microseconds=1) + int(world.START.timestamp()) * 1_000_000
