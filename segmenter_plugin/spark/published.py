"""Published rows of one view as a frame, without the files that cannot hold a row of the times asked for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own convention
from pyspark.sql.types import TimestampType

from segmenter_plugin.clock import parse_cutoff_key
from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.object_rows import ObjectFolder, committed
from segmenter_plugin.data.published_views import published_views
from segmenter_plugin.errors import StoreError
from segmenter_plugin.spark.failures import cause_of
from segmenter_plugin.spark.source import quoted
from segmenter_plugin.storage import VIEW_PLACE, published_folder, published_table, published_uri, spark_address

#: Columns of `published_rows` beside the view's own.
USER, TIME, CREATED = "user", "time", "created"


@dataclass(frozen=True)
class Bounds:
    """Event timestamps that a reader asks for, both ends included; None is no bound."""

    first: datetime | None = None
    last: datetime | None = None

    def hold(self, time: datetime) -> bool:
        """Whether a time lies within."""
        return (self.first is None or self.first <= time) and (self.last is None or time <= self.last)

    def condition(self, time: Column) -> Column:
        """Whether a column's time lies within."""
        is_held = time.isNotNull()
        if self.first is not None:
            is_held &= time >= F.lit(self.first)
        return is_held if self.last is None else is_held & (time <= F.lit(self.last))


def chosen_views(config: Config, names: Sequence[str]) -> dict[str, list[str]]:
    """Folder -> features of the views that are asked for, by folder or by registered name.

    Raises:
        StoreError: There is no such view, or none is named.
    """
    features = {folder: [field.name for field in fields] for folder, fields in published_views(config).items()}
    folders = {folder: folder for folder in features}
    folders |= {f"{config.store.name_prefix}{folder}": folder for folder in features}
    asked = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in asked if name not in folders]
    if unknown or not asked:
        near = difflib.get_close_matches(unknown[0], list(folders), n=1) if unknown else []
        raise StoreError(
            f"the views {unknown} are not published; there are {list(features)}." if asked else "no view is named.",
            hint=f"did you mean {near[0]!r}?" if near else f"name some of {list(features)}.",
        )
    return {folders[name]: features[folders[name]] for name in asked}


def published_rows(
    spark: SparkSession, config: Config, view: str, features: Sequence[str], bounds: Bounds
) -> DataFrame:
    """Rows of one view: `USER`, `TIME`, `CREATED`, and a struct of time and features that is named as the view.

    Args:
        spark: An open session.
        config: ``[store]`` says whether a folder or a table holds the rows.
        view: The view's folder.
        features: Its columns.
        bounds: Rows outside are left out, and partitions that lie outside as a whole are not opened.

    Raises:
        StoreError: There are no rows, a column is missing, or a time names no zone.
    """
    frame = _read(spark, config, view, bounds)
    _check(frame, view, [config.store.join_key, Columns.event_timestamp, Columns.created_timestamp, *features])
    user, time = F.col(quoted(config.store.join_key)), F.col(Columns.event_timestamp)
    # A row that does not say when it was published counts as the oldest.
    created = F.coalesce(F.col(Columns.created_timestamp), F.timestamp_micros(F.lit(0)))
    held = F.struct(time.alias(TIME), *(F.col(quoted(name)) for name in features))
    kept = frame.where(user.isNotNull() & bounds.condition(time))
    return kept.select(user.alias(USER), time.alias(TIME), created.alias(CREATED), held.alias(view))


def _read(spark: SparkSession, config: Config, view: str, bounds: Bounds) -> DataFrame:
    store, root = config.store, config.root_path.absolute()
    is_delta = store.table_format == "delta"
    local = published_table(root, view) if is_delta else published_folder(root, view)
    where = spark_address(str(local) if store.published is None else published_uri(store, view))
    try:
        if store.table is not None:
            where = store.table.replace(VIEW_PLACE, view)
            return spark.table(".".join(quoted(part) for part in where.split(".")))
        if is_delta:
            return spark.read.format("delta").load(where)
        # A column that came with a later generation of files is null in the earlier ones.
        return spark.read.option("mergeSchema", "true").parquet(*_paths(config, view, bounds))
    except (AnalysisException, PySparkException, Py4JJavaError) as error:
        delta = (
            ' A Delta table needs Delta\'s jars in the session: spark-submit --packages "io.delta:delta-spark_2.13:…".'
        )
        raise StoreError(
            f"published rows of {view!r} cannot be read from {where!r}: {cause_of(error)}",
            hint="run `segmenter publish` first, and see that every machine of the cluster reaches this place."
            + (delta if is_delta else ""),
        ) from error


def _paths(config: Config, view: str, bounds: Bounds) -> list[str]:
    """The files of a view that may hold rows of the times asked for."""
    if config.store.published is None:
        return _local_paths(published_folder(config.root_path.absolute(), view), bounds)
    uri = published_uri(config.store, view)
    partitions = committed(ObjectFolder.of(uri, config.store.published_endpoint))
    times = {name: parse_cutoff_key(name) for name in sorted(partitions)}
    held = [name for name, time in times.items() if time is None or bounds.hold(time)]
    files = [f"s3://{info.path}" for name in held or list(times)[:1] for info in partitions[name].files]
    return [spark_address(file) for file in files or [f"{uri}/*/*.parquet"]]


def _local_paths(folder: Path, bounds: Bounds) -> list[str]:
    folders = sorted({path.parent for path in folder.glob("*/*.parquet")})
    times = {path: parse_cutoff_key(path.name) for path in folders}
    # A folder that is not named after a cutoff holds pushed rows, of any time.
    held = [path for path, time in times.items() if time is None or bounds.hold(time)]
    # Where all lie outside, one is read all the same: it tells the columns of an empty answer.
    return [f"file://{path}/*.parquet" for path in held or folders[:1]] or [f"file://{folder}/*/*.parquet"]


def _check(frame: DataFrame, view: str, names: Sequence[str]) -> None:
    missing = sorted(set(names) - set(frame.columns))
    if missing:
        raise StoreError(
            f"the published rows of {view!r} lack the columns {missing}; they have {sorted(frame.columns)}.",
            hint="publish again with the present configuration.",
        )
    for name in (Columns.event_timestamp, Columns.created_timestamp):
        kind = frame.schema[name].dataType
        if not isinstance(kind, TimestampType):
            raise StoreError(
                f"the published rows of {view!r} hold {name!r} as {kind.simpleString()}, which names no zone.",
                hint="write the table from the published files as they are, with times as `timestamp`.",
            )
