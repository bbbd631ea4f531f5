"""What all users met before each cutoff, counted over the buckets of the event log: a small pass before the tables.

A task reads only the columns that are counted, of 35 days before each cutoff; Spark adds the buckets' counts up, which
are whole numbers, so no order of tasks changes a bit. Memory: of each value that occurred its text and 12 bytes a
cutoff, in the driver and, while tables are made, in every Python worker.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.bucket_block import BucketBlock, concatenated
from segmenter_plugin.data.event_block import event_columns, microseconds
from segmenter_plugin.data.value_traffic import (
    TRAFFIC_DAYS,
    ValueTraffic,
    count_names,
    counts_of,
    most_rows_of_a_day,
    traffic_of,
)
from segmenter_plugin.spark.worker_tasks import rows_from_workers

logger = logging.getLogger(__name__)

_ROWS_PER_BATCH = 1 << 16

Traffic = Mapping[str, ValueTraffic]


@dataclass(frozen=True)
class TrafficTask:
    """Counts the values of a bucket.

    Args:
        config: Its `[windows] trend_columns` are counted.
        cutoffs: As of when, with a zone.
    """

    config: Config
    cutoffs: tuple[datetime, ...]

    def __call__(self, paths: Sequence[Path]) -> pa.Table:
        """Count one bucket: its files in all segments."""
        times = [microseconds(time) for time in self.cutoffs]
        return counts_of(self._events(paths), self.config.windows.trend_columns, times)

    def _events(self, paths: Sequence[Path]) -> pa.Table:
        """What one segment of all these events would hold, whose rows may repeat here."""
        events = self._read(paths, [Columns.user_id, Columns.event_timestamp, *self.config.windows.trend_columns])
        most = self.config.events.max_events_per_day
        # Within a segment no user has more. Which rows are beyond the cap of a day, only all columns tell.
        if most is None or len(paths) == 1 or most_rows_of_a_day(events) <= most:
            return events
        whole = self._read(paths, event_columns(self.config))
        return BucketBlock.of([whole], self.config).stored.to_table(self.config)

    def _read(self, paths: Sequence[Path], columns: Sequence[str]) -> pa.Table:
        since = min(self.cutoffs).astimezone(UTC) - timedelta(days=TRAFFIC_DAYS)
        # The cap of a day needs the whole day.
        since = since.replace(hour=0, minute=0, second=0, microsecond=0)
        when = Columns.event_timestamp
        bounds = [(when, ">=", since), (when, "<", max(self.cutoffs))]
        return concatenated(
            [pq.read_table(path, columns=list(columns), filters=bounds, use_threads=False) for path in paths]
        )


def count_traffic(
    spark: SparkSession, parts: Sequence[tuple[int, Mapping[int, Path]]], cutoffs: Sequence[datetime], config: Config
) -> Traffic:
    """Count over all buckets.

    Args:
        spark: A session whose workers reach the files.
        parts: `EventLog.parts`.
        cutoffs: As of when, with a zone.
        config: Its `[windows] trend_columns` are counted.
    """
    task, columns = TrafficTask(config, tuple(cutoffs)), config.windows.trend_columns
    buckets = [list(paths.values()) for _, paths in parts]

    def count(paths: Sequence[Path]) -> list[pa.RecordBatch]:
        batches: list[pa.RecordBatch] = task(paths).to_batches(_ROWS_PER_BATCH)
        return batches

    names = count_names(len(cutoffs))
    schema = ", ".join(["column string", "value string", *(f"{name} bigint" for name in names)])
    counted = rows_from_workers(spark, count, buckets, schema)
    added = counted.groupBy("column", "value").agg(*(F.sum(name).alias(name) for name in names)).toArrow()
    traffic = traffic_of(added, columns, [microseconds(time) for time in cutoffs])
    for name, met in traffic.items():
        logger.info("%s: %d values were met in the %d days before the cutoffs", name, len(met.values), TRAFFIC_DAYS)
    return traffic
