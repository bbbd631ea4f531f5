"""The jobs of an audit of the clocks on Spark's executors, and rows in Spark's own tables.

Jobs read files themselves, as `blocks` does, so they need a file system, or a bucket, that every machine reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
from pyspark.serializers import CPickleSerializer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from segmenter_plugin.data.clock_checks import RowCheck, check_batch
from segmenter_plugin.data.clock_findings import Checked, Finding, Place, merged
from segmenter_plugin.spark.source import quoted
from segmenter_plugin.spark.worker_tasks import run_on_workers

Result = TypeVar("Result")


def run_on_spark(spark: SparkSession, jobs: Sequence[Callable[[], Result]]) -> Iterator[Result]:
    """Results of jobs in their order, each run in a Spark task of its own.

    Args:
        spark: A session whose workers reach what the jobs read.
        jobs: Small, and to be sent to a worker.
    """
    yield from run_on_workers(spark, _run, jobs) if jobs else ()


def check_spark_table(
    spark: SparkSession,
    table: str,
    key: Sequence[str],
    place: Place,
    checks: Callable[[list[str]], tuple[RowCheck, ...]],
) -> list[Checked]:
    """Check the rows of a table that Spark knows, batch by batch where they lie.

    Args:
        spark: A session with the table's catalog.
        table: Its name.
        key: Columns of which no two rows have the same.
        place: What to call it; its rows have times of their own.
        checks: From the names of its columns.
    """
    frame = spark.table(".".join(quoted(part) for part in table.split(".")))
    return [*check_frame(frame, place, checks(frame.columns)), _check_key(frame, place, key)]


def check_frame(frame: DataFrame, place: Place, checks: tuple[RowCheck, ...]) -> list[Checked]:
    """Hold each row of a frame against checks; what comes back is one small row a task."""
    columns = list(dict.fromkeys([place.user, *(name for check in checks for name in check.columns)]))
    serializer = CPickleSerializer()

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found: list[Checked] = []
        for batch in batches:
            found = merged([*found, *check_batch(batch, checks, place)])
        yield pa.RecordBatch.from_arrays([pa.array([serializer.dumps(found)], pa.binary())], names=["found"])

    chosen = frame.select(*(F.col(quoted(name)) for name in columns))
    rows = chosen.mapInArrow(run, "found binary").collect()
    nothing = [Checked(check.name, place.table, 0) for check in checks]
    return merged([*nothing, *(checked for row in rows for checked in serializer.loads(row["found"]))])


def _check_key(frame: DataFrame, place: Place, key: Sequence[str]) -> Checked:
    keys = frame.groupBy(*(F.col(quoted(name)) for name in key)).count()
    counted = keys.agg(F.sum("count").alias("rows"), F.sum(F.when(F.col("count") > 1, F.col("count"))).alias("more"))
    sums = counted.collect()[0]
    if not sums["more"]:
        return Checked("one_row_a_user", place.table, sums["rows"] or 0)
    first = keys.where(F.col("count") > 1).first()
    user = None if first is None else first[place.user]
    finding = Finding("one_row_a_user", place.table, None, sums["more"], "a user has more than one row", user=user)
    return Checked("one_row_a_user", place.table, sums["rows"], (finding,))


def _run(job: Callable[[], Result]) -> Result:
    return job()
