"""Sequences and aggregates side by side: what the encoder reads of each user as of a cutoff."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from native_spark.activity import build_activity
from native_spark.sequences import build_sequences
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config


def build_behaviour(timeline: DataFrame, cutoff: datetime, config: Config) -> DataFrame:
    """Sequences joined with activity; both have a row for each user with an event in the observation window.

    Args:
        timeline: As `timeline.arrange` gives it.
        cutoff: Exclusive right end of the observation window, with a zone.
        config: The configuration.
    """
    # Both sides are partitioned and sorted by user already: a merge moves nothing, a broadcast would.
    sequences = build_sequences(timeline, cutoff, config).hint("merge")
    return sequences.join(build_activity(timeline, cutoff, config), Columns.user_id)


def as_of(frame: DataFrame, cutoff: datetime) -> DataFrame:
    """Rows stamped with the cutoff that they are true as of, in order of user within each partition."""
    return frame.withColumn(Columns.event_timestamp, F.lit(cutoff)).sortWithinPartitions(Columns.user_id)
