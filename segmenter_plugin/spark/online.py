"""The newest published row of each user, handed to the executors' writers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import pyarrow as pa
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention
from pyspark.sql.pandas.types import to_arrow_schema

from segmenter_plugin.errors import StoreError
from segmenter_plugin.spark.source import quoted

#: Runs on an executor: a partition's batches in, one batch of counts out.
WriteBatches = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def read_rows(
    spark: SparkSession,
    *,
    table: str | None = None,
    query: str | None = None,
    path: str | Sequence[str] | None = None,
    file_format: str = "parquet",
) -> DataFrame:
    """Published rows as they are.

    Args:
        spark: An open session.
        table: Name of a table; or instead of it
        query: a query; or instead of it
        path: files, globs among them.
        file_format: Of the files.

    Raises:
        StoreError: There is nothing there.
    """
    try:
        if table is not None:
            return spark.table(".".join(quoted(part) for part in table.split(".")))
        if query is not None:
            return spark.sql(query)
        # A column that came with a later generation of files is null in the earlier ones.
        return (
            spark.read.format(file_format)
            .option("mergeSchema", "true")
            .load([path] if isinstance(path, str) else list(path or ()))
        )
    except (AnalysisException, PySparkException) as error:
        raise StoreError(
            f"published rows cannot be read from {table or query or path!r}: {str(error).splitlines()[0]}",
            hint="run `segmenter publish` first, and see that every machine of the cluster reaches this place.",
        ) from error


def newest_rows(
    frame: DataFrame,
    columns: Mapping[str, str],
    *,
    keys: Sequence[str],
    times: Sequence[str],
    window: tuple[datetime, datetime],
) -> DataFrame:
    """Of each key the row with the newest times in the window.

    Args:
        frame: From `read_rows`.
        columns: Name in the result -> column of `frame`.
        keys: Names in the result that identify a row together.
        times: Names of the timestamps by which rows are newer, most significant first (event, then created).
        window: First and last event timestamp, both included.

    Returns:
        At most one row a key; timestamps as instants. A row without a created timestamp counts as the oldest.

    Raises:
        StoreError: A column is missing.
    """
    missing = sorted(set(columns.values()) - set(frame.columns))
    if missing:
        raise StoreError(
            f"the published rows lack the columns {missing}; they have {sorted(frame.columns)}.",
            hint="publish again with the present configuration, or run `feast apply` where the views have changed.",
        )
    named = frame.select(
        *(
            (F.col(quoted(theirs)).cast("timestamp") if ours in times else F.col(quoted(theirs))).alias(ours)
            for ours, theirs in columns.items()
        )
    )
    inside = named.where(F.col(quoted(times[0])).between(F.lit(window[0]), F.lit(window[1])))
    newest_first = Window.partitionBy(*(quoted(key) for key in keys)).orderBy(
        *(F.col(quoted(time)).desc_nulls_last() for time in times)
    )
    # Spark cuts each group to its first row before the shuffle as well (WindowGroupLimit).
    rank = "segmenter_rank"
    return inside.withColumn(rank, F.row_number().over(newest_first)).where(F.col(rank) == 1).drop(rank)


def arrow_schema(frame: DataFrame) -> pa.Schema:
    """Schema of the batches that a frame's tasks get."""
    return to_arrow_schema(frame.schema, timezone="UTC")


def write_partitions(frame: DataFrame, write: WriteBatches, counts: Sequence[str]) -> dict[str, int]:
    """Let each task write its partition.

    Args:
        frame: What is to be written.
        write: Picklable; called once a task, and again where Spark retries or speculates.
        counts: Columns of the one row that `write` yields.

    Returns:
        Sum of each count over all tasks.

    Raises:
        StoreError: A task failed for good.
    """
    schema = ", ".join(f"{name} long" for name in counts)
    try:
        rows = frame.mapInArrow(write, schema).collect()
    except PySparkException as error:
        raise StoreError(
            f"a Spark task could not write its rows online: {_reason(str(error))}",
            hint="mend what it names and run the same command again: rows that are online already are not written "
            "twice, and the registry does not know of this window until all of it is there.",
        ) from error
    return {name: sum(row[name] for row in rows) for name in counts}


def _reason(message: str) -> str:
    """Of an executor's traceback the line that says what was wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    found = (errors or lines or ["no reason was given"])[-1]
    return re.sub(r"^segmenter_plugin\.errors\.\w+: ", "", found)
