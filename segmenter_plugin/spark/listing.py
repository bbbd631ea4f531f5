"""Which files Spark reads for events that lie elsewhere, and the rows of some of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.failures import cause_of
from segmenter_plugin.spark.source import read_events

_FILE = "_metadata.file_path"


def remote_files(spark: SparkSession, config: EventsConfig) -> dict[str, str] | None:
    """Every file that Spark reads for the events, with its size and time, which tell whether it changed.

    Returns:
        None where the source does not tell (not made of files, or a table format that hides them).

    Raises:
        EventsError: The source cannot be read.
    """
    raw = read_events(spark, config)
    keys = ("file_path", "file_size", "file_modification_time")
    try:
        rows = raw.select(*(F.col(f"_metadata.{key}").cast("string").alias(key) for key in keys)).distinct().collect()
    except AnalysisException:
        return None
    except (PySparkException, Py4JJavaError) as error:
        raise EventsError(
            f"the events of {config.table or config.path!r} break off: {cause_of(error)}",
            hint="look for a file that is damaged, or of another format.",
        ) from error
    return {row["file_path"]: f"{row['file_size']}-{row['file_modification_time']}" for row in rows} or None


def size_of(states: Mapping[str, str]) -> int:
    """Bytes of files as `remote_files` tells of them."""
    return sum(int(state.partition("-")[0]) for state in states.values())


def rows_of_files(spark: SparkSession, config: EventsConfig, files: Collection[str]) -> DataFrame:
    """The owner's rows that lie in some of the files that `remote_files` names; Spark opens no others."""
    return read_events(spark, config).where(F.col(_FILE).isin(sorted(files)))
