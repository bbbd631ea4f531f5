"""Behaviour and labels from the event log: a task reads what the log has of one bucket of users, and writes their rows.

Spark hands out the buckets and repeats what fails; inside a task everything is columns (`data.block_tables`), for all
cutoffs in one pass. Memory is bounded by the events of a bucket. A file appears whole under its name, and a repeated
task writes the same again, so retries and speculative copies do no harm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import Broadcast
from pyspark.sql import SparkSession

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.block_files import write_block_table
from segmenter_plugin.data.block_tables import tables_as_of
from segmenter_plugin.data.bucket_block import BucketBlock
from segmenter_plugin.data.event_block import event_columns, microseconds
from segmenter_plugin.data.label_quality import LabelCounts, label_counts
from segmenter_plugin.data.segment_part import appearing, part_file, write_events
from segmenter_plugin.spark.output import ROWS_PER_GROUP
from segmenter_plugin.spark.traffic import Traffic, count_traffic
from segmenter_plugin.spark.worker_tasks import run_on_workers


@dataclass(frozen=True)
class BlockCounts:
    """What a task met in its bucket.

    Attributes:
        events: Rows read.
        kept: Of them, what tables were made from and what a merged segment holds.
        duplicates: Rows of a segment that were equal to one of another.
        capped: Rows beyond the cap of a day that only the segments together reached.
        corrected: Rows that an earlier one with their `event_id` made void.
        late: Rows of fresh segments older than `BlockTask.late_before`.
        users: By cutoff.
        labels: By cutoff.
        types: Events by type.
        seconds: Wall clock.
        cpu_seconds: Of the task's process.
    """

    events: int
    kept: int
    duplicates: int
    capped: int
    corrected: int
    late: int
    users: Mapping[datetime, int]
    labels: Mapping[datetime, LabelCounts]
    types: Mapping[str, int]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class BlockTask:
    """What is made of each bucket.

    Args:
        config: The configuration that the events were cleaned with.
        since: Events of the days before it are left out; None where all are needed, see `first_needed`.
        until: Events at or after it are left out; None where all are needed.
        complete_through: Events are complete before this time; a label window that ends later is censored.
        folders: Cutoff -> where its ``behaviour`` and ``labels`` go; what has no folder is not written.
        merge_into: Folder for one file of all events of the bucket; None where segments stay as they are.
        fresh: Numbers of the segments that came after the previous build.
        late_before: An event of a fresh segment before this time is late.
        traffic: What all users met, where `windows.trend_columns` asks for it; `build_blocks` counts it.
    """

    config: Config
    since: datetime | None
    until: datetime | None
    complete_through: datetime
    folders: Mapping[datetime, Mapping[str, Path]]
    merge_into: Path | None = None
    fresh: frozenset[int] = frozenset()
    late_before: datetime | None = None
    traffic: Broadcast[Traffic] | None = None

    def __call__(self, part: tuple[int, Mapping[int, Path]]) -> BlockCounts:
        """Build from one bucket: its number, and its file in each segment by the segment's number."""
        started, cpu_started = time.perf_counter(), time.process_time()
        number, paths = part
        tables = {segment: self._read(segment, path) for segment, path in paths.items()}
        bucket = BucketBlock.of(list(tables.values()), self.config)
        if self.merge_into is not None:
            write_events(bucket.stored.to_table(self.config), part_file(self.merge_into, number))
        users, labels = {}, {}
        traffic = None if self.traffic is None else self.traffic.value
        for made in tables_as_of(bucket.resolved, list(self.folders), self.complete_through, self.config, traffic):
            users[made.cutoff] = made.behaviour.num_rows
            labels[made.cutoff] = label_counts(made.labels, self.config.tasks)
            for name, folder in self.folders[made.cutoff].items():
                _write({"behaviour": made.behaviour, "labels": made.labels}[name], folder, number)
        return BlockCounts(
            events=sum(table.num_rows for table in tables.values()),
            kept=len(bucket.stored),
            duplicates=bucket.duplicates,
            capped=bucket.capped,
            corrected=bucket.corrected,
            late=sum(self._late(tables[segment]) for segment in tables.keys() & self.fresh),
            users=users,
            labels=labels,
            types=bucket.types(),
            seconds=time.perf_counter() - started,
            cpu_seconds=time.process_time() - cpu_started,
        )

    def _read(self, segment: int, path: Path) -> pa.Table:
        columns, when = event_columns(self.config), Columns.event_timestamp
        # Late events are counted however old they are.
        bounds = [] if self.since is None or segment in self.fresh else [(when, ">=", self.since)]
        bounds += [] if self.until is None else [(when, "<", self.until)]
        return pq.read_table(path, columns=columns, filters=bounds or None, use_threads=False)

    def _late(self, table: pa.Table) -> int:
        if self.late_before is None:
            return 0
        times = table[Columns.event_timestamp].cast(pa.int64()).to_numpy()
        return int(np.count_nonzero(times < microseconds(self.late_before)))


def first_needed(since: datetime, config: Config) -> datetime | None:
    """From when on events must be read to tell what happened since a time; None for all.

    The cap of a day needs the whole day. Which row an `event_id` stands for is decided by the earliest, and that may be
    as old as can be.
    """
    if Columns.event_id in config.events.columns.mapped:
        return None
    return since.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def build_blocks(
    spark: SparkSession, parts: Sequence[tuple[int, Mapping[int, Path]]], task: BlockTask
) -> list[BlockCounts]:
    """Build from every bucket, in as many Spark tasks.

    Args:
        spark: A session whose workers reach the files and the folders.
        parts: `EventLog.parts`.
        task: What is made of them.

    Returns:
        What each task met.
    """
    if task.config.windows.trend_columns:
        traffic = count_traffic(spark, parts, list(task.folders), task.config)
        task = replace(task, traffic=spark.sparkContext.broadcast(traffic))
    return run_on_workers(spark, task, parts)


def _write(table: pa.Table, folder: Path, number: int) -> None:
    if table.num_rows:
        with appearing(part_file(folder, number)) as aside:
            write_block_table(table, aside, ROWS_PER_GROUP)
