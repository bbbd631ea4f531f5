"""The owner's events to one segment of the event log, in one Spark job of two stages.

The first stage reads and cleans, the second puts each bucket of users in order and writes its files. Between them
packed columns are shuffled, a few large values a task. Spark deals out, repeats and shuffles; everything inside a task
is Arrow. What was counted comes back as the job's result, so that a repeated task does not count twice.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import Accumulator, TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from segmenter_plugin.config import Config
from segmenter_plugin.data.arrow_blobs import in_one_piece
from segmenter_plugin.data.event_cleaner import REASONS, EventCleaner
from segmenter_plugin.data.event_intake import COUNTS, EXAMPLES, EventIntake, Parcel
from segmenter_plugin.data.event_order import Integers
from segmenter_plugin.data.segment_part import BOTS_NAMED, SegmentPart
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.failures import cause_of
from segmenter_plugin.spark.scan import ParquetScan, plan_scan, read_split
from segmenter_plugin.spark.source import read_events

#: A bucket holds some million events; the number follows from the size of the input alone, so that no other machine
#: makes other files.
_BYTES_PER_BUCKET = 24 << 20
_FEWEST_BUCKETS, _MOST_BUCKETS, _BUCKETS_OF_UNKNOWN = 2, 4096, 32
_READ_ROWS, _READ_BYTES = 1 << 18, 64 << 20
_PARCELS_BYTES = 32 << 20
_PARCEL = "bucket int, kind string, blob binary"
_RESULT = "kind string, counts string"
_PART = "part"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORKER_ERROR = re.compile(r"segmenter_plugin\.errors\.EventsError: (.*?)(?:\nHint: (.*?))?(?:\n|$)")


@dataclass(frozen=True)
class CleanReport:
    """What became of the owner's rows.

    Attributes:
        rows: Rows that were read.
        kept: Rows of the segment.
        duplicates: Rows that equal another one in every column of ours.
        capped: Rows of bots beyond what is kept of a day, repeats included.
        bots: The largest user-days that were capped: `user_id`, `day` (days since 1970) and `events`, repeats included.
        quarantined: Refused rows by reason.
        examples: Some refused rows of each reason, as JSON.
        unreadable: Values of further numeric columns that are no numbers and became null.
        first: Earliest time of a valid event; None where there is none.
        last: Latest time of a valid event.
        users: How many users there are.
        largest_bucket: Rows of the largest bucket.
        shuffled_bytes: Bytes of everything that went through the shuffle.
        seconds: Of the job.
        cpu_seconds: Of the tasks' Python processes; what the JVM used is not in it.
    """

    rows: int
    kept: int
    duplicates: int
    capped: int
    bots: list[dict[str, Any]]
    quarantined: dict[str, int]
    examples: dict[str, list[str]]
    unreadable: dict[str, int]
    first: datetime | None
    last: datetime | None
    users: int
    largest_bucket: int
    shuffled_bytes: int
    seconds: float
    cpu_seconds: float


def bucket_count(size: int | None) -> int:
    """How many buckets events of that many bytes are kept in; of None, an unknown number of them."""
    if size is None:
        return _BUCKETS_OF_UNKNOWN
    return min(_MOST_BUCKETS, max(_FEWEST_BUCKETS, math.ceil(size / _BYTES_PER_BUCKET)))


def clean_to_segment(
    spark: SparkSession,
    source: Sequence[Path | str] | DataFrame,
    config: Config,
    *,
    buckets: int,
    events: Path,
    quarantine: Path,
) -> CleanReport:
    """Clean events into the files of a segment: ``part-<bucket>.parquet`` for each bucket that has rows.

    Args:
        spark: A session whose workers reach the source and the folders.
        source: Files of `[events] format`, or the owner's rows as `source.read_events` gives them.
        config: `[events]` says what the columns mean.
        buckets: How many buckets of users there are.
        events: Existing empty folder for clean events.
        quarantine: Existing empty folder for refused rows.

    Raises:
        EventsError: A mapped column is missing or of a type that cannot hold it, or the events cannot be read to the
            end; where it is known, the message names the file.
    """
    started = time.perf_counter()
    # Not among the rows that are shuffled: were these other ones when a task is repeated, Spark would give the job up.
    spent = spark.sparkContext.accumulator(0.0)
    parcels = _parcels(spark, source, config, buckets, spent).repartitionById(buckets, "bucket")

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return _written(batches, config, events, quarantine)

    try:
        results = [row.asDict() for row in parcels.mapInArrow(write, _RESULT).collect()]
    except (PySparkException, Py4JJavaError) as error:
        raise _events_error(error, config) from error
    finally:
        _remove_hidden(events, quarantine)
    return _report(results, time.perf_counter() - started, spent.value)


def _parcels(
    spark: SparkSession,
    source: Sequence[Path | str] | DataFrame,
    config: Config,
    buckets: int,
    spent: Accumulator[float],
) -> DataFrame:
    if not isinstance(source, DataFrame) and config.events.format == "parquet":
        scan = plan_scan(source, config, spark.sparkContext.defaultParallelism)
        if scan is not None:
            return _scanned(spark, scan, config, buckets, spent)
    frame = source if isinstance(source, DataFrame) else read_events(spark, config.events, source)
    # A wrong column is told of before any row is read.
    EventCleaner.of(to_arrow_schema(frame.schema, timezone="UTC"), config)

    def clean(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        parcels = _parcels_of_batches(batches, EventIntake(config, buckets, _task_number()), config)
        return _batched(_timed(parcels, spent))

    return frame.mapInArrow(clean, _PARCEL)


def _scanned(
    spark: SparkSession, scan: ParquetScan, config: Config, buckets: int, spent: Accumulator[float]
) -> DataFrame:
    tasks = len(scan.splits)

    def clean(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        numbers = [number for batch in batches for number in batch.column(0).to_pylist()]
        return _batched(_timed(_parcels_of_splits(numbers, scan, config, buckets), spent))

    return spark.range(0, tasks, 1, max(tasks, 1)).mapInArrow(clean, _PARCEL)


def _timed(parcels: Iterator[Parcel], spent: Accumulator[float]) -> Iterator[Parcel]:
    started = time.process_time()
    yield from parcels
    spent.add(time.process_time() - started)


def _parcels_of_splits(numbers: Sequence[int], scan: ParquetScan, config: Config, buckets: int) -> Iterator[Parcel]:
    for number in numbers:
        intake = EventIntake(config, buckets, number)
        for raw in read_split(scan.splits[number], scan.types, config):
            yield from intake.add(raw.rows, raw.cleaner, raw.whole)
        yield from intake.end()


def _parcels_of_batches(batches: Iterator[pa.RecordBatch], intake: EventIntake, config: Config) -> Iterator[Parcel]:
    cleaner = None
    for rows in _larger(batches):
        cleaner = cleaner or EventCleaner.of(rows.schema, config)
        yield from intake.add(rows, cleaner, partial(_taken, rows))
    yield from intake.end()


def _taken(rows: pa.Table, places: Integers) -> pa.Table:
    return rows.take(pa.array(places))


def _larger(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Spark's batches are small for what a batch costs us; as many as fit are taken together."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _READ_ROWS or size >= _READ_BYTES:
            yield in_one_piece(pa.Table.from_batches(waiting))
            waiting, rows, size = [], 0, 0
    if rows:
        yield in_one_piece(pa.Table.from_batches(waiting))


def _batched(parcels: Iterator[Parcel]) -> Iterator[pa.RecordBatch]:
    """Parcels as rows for Spark."""
    waiting: list[Parcel] = []
    size = 0
    for parcel in parcels:
        waiting.append(parcel)
        size += len(parcel.blob)
        if size >= _PARCELS_BYTES:
            yield _as_batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield _as_batch(waiting)


def _as_batch(parcels: Sequence[Parcel]) -> pa.RecordBatch:
    buckets, kinds, blobs = zip(*parcels, strict=True)
    columns = [pa.array(buckets, pa.int32()), pa.array(kinds, pa.string()), pa.array(blobs, pa.binary())]
    return pa.RecordBatch.from_arrays(columns, names=["bucket", "kind", "blob"])


def _written(
    batches: Iterator[pa.RecordBatch], config: Config, events: Path, quarantine: Path
) -> Iterator[pa.RecordBatch]:
    """Write the buckets that a task was dealt; what was counted, by the first stage and here, as rows of JSON."""
    parts: dict[int, SegmentPart] = {}
    results: list[tuple[str, str]] = []
    for batch in batches:
        for bucket, kind, blob in zip(*(batch.column(name) for name in ("bucket", "kind", "blob")), strict=True):
            if kind.as_py() == COUNTS:
                results.append((COUNTS, blob.as_py().decode()))
                continue
            number = bucket.as_py()
            part = parts.get(number) or parts.setdefault(number, SegmentPart(number, config, events, quarantine))
            part.add(kind.as_py(), blob.as_buffer())
    # Each is let go of once it is written.
    results += ((_PART, json.dumps(parts.pop(number).write())) for number in list(parts))
    if results:
        columns = [pa.array(column, pa.string()) for column in zip(*results, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, names=["kind", "counts"])


def _task_number() -> int:
    context = TaskContext.get()
    return 0 if context is None else context.partitionId()


def _report(results: Sequence[dict[str, str]], seconds: float, cleaning_cpu_seconds: float) -> CleanReport:
    found = [(result["kind"], json.loads(result["counts"])) for result in results]
    tasks = sorted((counts for kind, counts in found if kind == COUNTS), key=lambda counts: counts["task"])
    parts = [counts for kind, counts in found if kind == _PART]
    quarantined = _summed(task["quarantined"] for task in tasks)
    rows, kept, capped = sum(task["rows"] for task in tasks), _total(parts, "kept"), _total(parts, "capped")
    examples = {
        reason: [text for task in tasks for text in task["examples"].get(reason, ())][:EXAMPLES]
        for reason in quarantined
    }
    bots = sorted((bot for part in parts for bot in part["bots"]), key=lambda bot: (-bot["events"], str(bot)))
    return CleanReport(
        rows=rows,
        kept=kept,
        duplicates=rows - sum(quarantined.values()) - kept - capped,
        capped=capped,
        bots=bots[:BOTS_NAMED],
        quarantined={reason: quarantined[reason] for reason in REASONS if reason in quarantined},
        examples=examples,
        unreadable=_summed(task["unreadable"] for task in tasks),
        first=_time(min((task["first"] for task in tasks if task["first"] is not None), default=None)),
        last=_time(max((task["last"] for task in tasks if task["last"] is not None), default=None)),
        users=_total(parts, "users"),
        largest_bucket=max((part["kept"] for part in parts), default=0),
        shuffled_bytes=_total(tasks, "packed_bytes"),
        seconds=round(seconds, 3),
        cpu_seconds=round(cleaning_cpu_seconds + sum(part["cpu_seconds"] for part in parts), 3),
    )


def _total(counts: Sequence[dict[str, Any]], name: str) -> int:
    return sum(count[name] for count in counts)


def _summed(counters: Iterator[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return {name: count for name, count in total.items() if count}


def _time(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _events_error(error: PySparkException | Py4JJavaError, config: Config) -> EventsError:
    """What a task said, or else what Spark says, about rows that cannot be read."""
    if own := _WORKER_ERROR.search(str(error)):
        return EventsError(own[1], hint=own[2])
    where = config.events.table or config.events.path
    return EventsError(
        f"the events of {where!r} break off: {cause_of(error)}",
        hint="look for a file that is damaged, or whose columns differ from the others'.",
    )


def _remove_hidden(*folders: Path) -> None:
    """What tasks that were killed have left behind."""
    for folder in folders:
        for leftover in folder.glob(".part-*"):
            leftover.unlink(missing_ok=True)
