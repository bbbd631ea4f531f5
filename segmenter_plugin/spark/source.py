"""The owner's events as they are: files or a table, and what identifies their present state."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention

from segmenter_plugin.config import EventsConfig
from segmenter_plugin.errors import EventsError
from segmenter_plugin.spark.failures import cause_of
from segmenter_plugin.spark.files import local_files, local_name

logger = logging.getLogger(__name__)

#: So many files are tried one by one to find the one that is broken.
_MOST_TRIED = 1000


def read_events(spark: SparkSession, config: EventsConfig, files: Sequence[Path | str] | None = None) -> DataFrame:
    """The owner's rows, all columns, nothing mapped.

    Besides Parquet and CSV any format of Spark's reader is read, with `[events] options`, as that reader does it.

    CSV columns are text, whatever they look like: a guess from some rows would turn the user "007" into 7.

    Args:
        spark: The session that reads.
        config: Says where the events are.
        files: Only these of the files that `[events] path` names.

    Raises:
        EventsError: There is nothing there, or it is not of the configured format.
    """
    where = repr(config.table or config.path)
    try:
        if config.table is not None:
            return spark.table(config.table)
        if config.format not in ("parquet", "csv"):
            return spark.read.format(config.format).options(**config.options).load(str(config.path))
        paths = _paths(config) if files is None else [str(path) for path in files]
        reader = spark.read.options(**_partitions(config))
        if config.format == "csv":
            return reader.options(header=True, inferSchema=False, enforceSchema=False, escape='"').csv(paths)
        first = next(iter(files or local_files(config) or ()), None)
        if first is not None and (nanoseconds := _nanosecond_columns(first)):
            return _read_nanoseconds(spark, reader, paths, nanoseconds)
        return reader.parquet(*paths)
    except (PySparkException, Py4JJavaError) as error:
        kind = "table" if config.table is not None else f"{config.format} files"
        broken = _first_broken(spark, config)
        raise EventsError(
            f"[events] {where} cannot be read as {kind}: {cause_of(error)}{'' if broken is None else f' ({broken})'}",
            hint="check [events] path, table and format; a format that does not come with Spark needs its package "
            "(spark.jars.packages).",
        ) from error


def _first_broken(spark: SparkSession, config: EventsConfig) -> str | None:
    """The first file that cannot be read by itself where others can: Spark does not always say which one it met."""
    if config.path is None:
        return None
    try:
        names = (
            spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(config.path)).select("path")
        )
        files = sorted(row["path"] for row in names.limit(_MOST_TRIED).collect())
    except (PySparkException, Py4JJavaError):
        return None
    return next((name for name in files if not _is_readable(spark, config, name)), None) if len(files) > 1 else None


def _is_readable(spark: SparkSession, config: EventsConfig, name: str) -> bool:
    try:
        spark.read.format(config.format).options(**config.options).load(name)
    except (PySparkException, Py4JJavaError):
        return False
    return True


def _paths(config: EventsConfig) -> list[str]:
    """What Spark is to read: a folder as a whole; else each file."""
    files = local_files(config)
    if files is None:
        return [str(config.path)]
    whole = Path(local_name(str(config.path)))
    return [str(whole)] if whole.is_dir() else [str(path) for path in files]


def _partitions(config: EventsConfig) -> dict[str, str]:
    """The folder below which folders' names such as ``day=1`` are columns, also where only some files are read."""
    whole = Path(local_name(str(config.path)))
    return {"basePath": str(whole)} if config.path is not None and whole.is_dir() else {}


def _nanosecond_columns(file: Path | str) -> dict[str, bool]:
    """Columns that pandas wrote with its own default unit -> whether they are instants (not naive)."""
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise EventsError(
            f"{str(file)!r} is not a Parquet file: {error}.", hint='set [events] format = "csv" if it is text.'
        ) from error
    stamps = [field for field in schema if pa.types.is_timestamp(field.type) and field.type.unit == "ns"]
    return {field.name: field.type.tz is not None for field in stamps}


def _read_nanoseconds(
    spark: SparkSession, reader: DataFrameReader, paths: list[str], columns: dict[str, bool]
) -> DataFrame:
    """Spark has no nanoseconds and refuses the file, unless asked to show them as integers."""
    logger.info("reading the nanosecond columns %s as microseconds", sorted(columns))
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")
    raw = reader.parquet(*paths)
    for name, is_instant in columns.items():
        column = quoted(name)
        micros = F.timestamp_micros(F.expr(f"({column} - pmod({column}, 1000L)) div 1000L"))
        raw = raw.withColumn(name, micros if is_instant else micros.cast("timestamp_ntz"))
    return raw


def quoted(name: str) -> str:
    """An owner's column name as Spark's SQL reads it, dots and all."""
    return "`" + name.replace("`", "``") + "`"
