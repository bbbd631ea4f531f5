"""A function run on Spark's Python workers, once for each of some arguments.

As `RDD.map` does it, but on the workers that `mapInArrow` uses: those of an RDD are others, which would have to start
and import everything again.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
from pyspark.sql import SparkSession

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

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            results = [pickle.dumps(task(arguments[place])) for place in batch.column(0).to_pylist()]
            yield pa.RecordBatch.from_arrays([pa.array(results, pa.binary())], names=["result"])

    places = spark.range(0, len(arguments), 1, max(1, len(arguments)))
    rows = places.mapInArrow(run, "result binary").collect()
    return [pickle.loads(row["result"]) for row in rows]  # noqa: S301 - of our own tasks
