"""Labels in Spark SQL; `segmenter_plugin.data.block_labels` says what each one means."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from native_spark.timeline import AMOUNT_MINOR, in_observation
from segmenter_plugin.columns import PURCHASE, RETURN, Columns
from segmenter_plugin.config import Config
from segmenter_plugin.tasks import TaskConfig

_SQL_TYPES = {
    "binary": "boolean",
    "value": "double",
    "multiclass": "string",
    "multilabel": "array<string>",
    "category": "array<struct<value:string,rung:string>>",
}


def build_labels(timeline: DataFrame, cutoff: datetime, complete_through: datetime, config: Config) -> DataFrame:
    """Labels of every user who has an event in the observation window.

    Args:
        timeline: As `timeline.arrange` gives it.
        cutoff: Exclusive right end of the observation window, with a zone.
        complete_through: Events are complete before this time; a window that ends later is censored.
        config: `[[tasks]]` and `[windows]`.

    Returns:
        `user_id` and one column a task.
    """
    since = cutoff - timedelta(days=config.windows.observation_days)
    over = [task for task in config.tasks if task.window(cutoff)[1] <= complete_through]
    time = F.col(Columns.event_timestamp)
    until = max((task.window(cutoff)[1] for task in over), default=cutoff)
    seen = timeline.where((time >= F.lit(since)) & (time < F.lit(until)))
    aggregates = [_label(task, cutoff, config).alias(task.label_column) for task in over]
    is_known = F.bool_or(in_observation(cutoff, since)).alias("_is_known")
    grouped = seen.groupBy(Columns.user_id).agg(is_known, *aggregates).where("_is_known")
    names = {task.label_column for task in over}
    return grouped.select(
        Columns.user_id,
        *(
            F.col(task.label_column)
            if task.label_column in names
            else F.lit(None).cast(_SQL_TYPES[task.form]).alias(task.label_column)
            for task in config.tasks
        ),
    )


def _label(task: TaskConfig, cutoff: datetime, config: Config) -> Column:
    start, end = task.window(cutoff)
    time, kind = F.col(Columns.event_timestamp), F.col(Columns.event_type)
    in_window = (time >= F.lit(start)) & (time < F.lit(end))
    if task.kind == "binary":
        return F.bool_or(in_window & (kind == task.event_type))
    if task.kind == "value":
        sign = F.when(kind == PURCHASE, 1).when(kind == RETURN, -1)
        minor = F.coalesce(F.sum(F.when(in_window, sign * F.col(AMOUNT_MINOR))), F.lit(0))
        return F.greatest(minor, F.lit(0)) / F.lit(10.0**config.events.currency_digits)
    if task.kind == "multiclass":
        rung = F.lit(0)
        for height, name in enumerate(task.ladder, start=1):
            rung = F.when(in_window & (kind == name), height).otherwise(rung)
        classes = F.array(*(F.lit(name) for name in task.classes))
        if task.target is not None:
            return _rung_of_each(F.col(task.target), rung, classes)
        return F.element_at(classes, F.max(rung) + 1)
    targets = F.collect_set(F.when(in_window & (kind == task.event_type), F.col(str(task.target))))
    # The cast only says that elements may be null, as the censored column and the schema do.
    return F.sort_array(targets).cast(_SQL_TYPES[task.form])


def _rung_of_each(target: Column, rung: Column, classes: Column) -> Column:
    """Each value that was touched, sorted, with its highest rung."""
    touched = F.when((rung > 0) & target.isNotNull(), F.struct(target.alias("value"), rung.alias("rung")))
    found = F.collect_set(touched)

    def is_highest(one: Column) -> Column:
        return ~F.exists(found, lambda other: (other["value"] == one["value"]) & (other["rung"] > one["rung"]))

    highest = F.sort_array(F.filter(found, is_highest))
    named = F.transform(
        highest, lambda one: F.struct(one["value"], F.element_at(classes, one["rung"] + 1).alias("rung"))
    )
    return named.cast(_SQL_TYPES["category"])
