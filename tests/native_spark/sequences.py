"""Per user, the last events before a cutoff as parallel lists, oldest first."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from native_spark.timeline import RECENCY_RANK, in_observation
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.schemas import sequence_fields


def build_sequences(timeline: DataFrame, cutoff: datetime, config: Config) -> DataFrame:
    """The last `sequences.length` events of each user in the observation window.

    The events are cut to that number while they stream by in order, so a bot's million events never meet in one list.

    Args:
        timeline: As `timeline.arrange` gives it.
        cutoff: Exclusive right end of the observation window, with a zone.
        config: `windows.observation_days`, `sequences.length`, and which columns there are.

    Returns:
        One row for each user with an event in the window: `user_id` and `schemas.sequence_fields`.
    """
    since = cutoff - timedelta(days=config.windows.observation_days)
    newest_first = Window.partitionBy(Columns.user_id).orderBy(RECENCY_RANK)
    numbered = timeline.where(in_observation(cutoff, since)).withColumn("_number", F.row_number().over(newest_first))
    last = numbered.where(F.col("_number") <= config.sequences.length)
    lists = [field.name for field in sequence_fields(config) if field.name != Columns.sequence_length]
    columns = [name.removesuffix("_sequence") for name in lists]
    # Aggregation promises no order, so each event carries its place; descending rank is oldest first.
    gathered = last.groupBy(Columns.user_id).agg(
        F.sort_array(F.collect_list(F.struct(RECENCY_RANK, *columns)), asc=False).alias("_events")
    )
    return gathered.select(
        Columns.user_id,
        *(F.col("_events")[column].alias(name) for column, name in zip(columns, lists, strict=True)),
        F.size("_events").alias(Columns.sequence_length),
    )
