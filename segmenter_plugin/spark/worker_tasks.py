"""A function run on Spark's Python workers, once for each of some arguments.

As `RDD.map` does it, but on the workers that `mapInArrow` uses: those of an RDD are others, which would have to start
and import everything again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
from pyspark.serializers import CPickleSerializer
from pyspark.sql import DataFrame, SparkSession

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def run_on_workers(
    spark: SparkSession, task: Callable[[Argument], Result], arguments: Sequence[Argument]
) -> list[Result]:
    """Results in the order of the arguments, each made in a Spark task of its own.

    Args:
        spark: A session.
        task: What is run; a task that fails is repeated.
        arguments: Small: each task gets all of them.
    """
    # Spark's own, as results of `RDD.map` come by it.
    serializer = CPickleSerializer()

    def run(argument: Argument) -> Iterator[pa.RecordBatch]:
        result = pa.array([serializer.dumps(task(argument))], pa.binary())
        yield pa.RecordBatch.from_arrays([result], names=["result"])

    rows = rows_from_workers(spark, run, arguments, "result binary").collect()
    return [serializer.loads(row["result"]) for row in rows]


def rows_from_workers(
    spark: SparkSession,
    task: Callable[[Argument], Iterable[pa.RecordBatch]],
    arguments: Sequence[Argument],
    schema: str,
) -> DataFrame:
    """Rows that a function gives for each argument, in as many partitions.

    Args:
        spark: A session.
        task: What is run; a task that fails is repeated.
        arguments: Small: each task gets all of them.
        schema: Of the rows, as Spark's DDL has it.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for place in batch.column(0).to_pylist():
                yield from task(arguments[place])

    return spark.range(0, len(arguments), 1, max(1, len(arguments))).mapInArrow(run, schema)
