"""The data sources of our views: one factory, whichever offline store reads them.

Feast's DuckDB store takes a `FileSource`, its Spark store nothing but a `SparkSource`. `[store] offline` says which of
them a repository has.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from feast import FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

from segmenter_plugin.columns import Columns
from segmenter_plugin.config import Config
from segmenter_plugin.data.object_rows import GLOB
from segmenter_plugin.errors import ConfigError
from segmenter_plugin.storage import (
    VIEW_PLACE,
    StoreConfig,
    published_folder,
    published_table,
    published_uri,
    spark_address,
)
from segmenter_plugin.store.files import counted_addresses


def published_source(config: Config, view: str) -> DataSource:
    """Where the published rows of one view are read from.

    In a repository of your own, hand it to the views that you declare::

        user_value_views(source=lambda view: published_source(config, view), ...)

    Args:
        config: Its ``[store]`` section names the root, the offline store and, for Spark, the tables.
        view: Unprefixed name, which is also the published folder's: ``user_scores_g1``.

    Returns:
        A source by path, or by table where ``[store] table`` is given.
    """
    store = config.store
    name = f"{store.name_prefix}{view}_source"
    if store.offline == "duckdb":
        return published_files(config, view)
    if store.table is not None:
        return _spark_source(name, table=store.table.replace(VIEW_PLACE, view))
    path = spark_address(_place(store, config.root_path.absolute(), view))
    return _spark_source(name, path=path, file_format="parquet")


def published_files(config: Config, view: str) -> FileSource:
    """The files that `segmenter publish` writes, whichever offline store reads them.

    Args:
        config: As in `published_source`.
        view: As in `published_source`.
    """
    store = config.store
    return FileSource(
        name=f"{store.name_prefix}{view}_source",
        path=_place(store, config.root_path.absolute(), view),
        s3_endpoint_override=store.published_endpoint,
        file_format=DeltaFormat() if store.table_format == "delta" else None,
        # The cutoff: what a row says was true then.
        timestamp_field=Columns.event_timestamp,
        # Of two rows for one user and cutoff, the one published later counts.
        created_timestamp_column=Columns.created_timestamp,
    )


def _place(store: StoreConfig, root: Path, view: str) -> str:
    """A Delta table; else a glob, as a partition holds a manifest beside its rows (and duckdb reads no folder)."""
    if store.table_format == "delta":
        return str(published_table(root, view)) if store.published is None else published_uri(store, view)
    folder = str(published_folder(root, view)) if store.published is None else published_uri(store, view)
    return f"{folder}/{GLOB}"


def _spark_source(name: str, **where: str) -> SparkSource:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The spark data source API is an experimental", RuntimeWarning)
        return SparkSource(
            name=name,
            timestamp_field=Columns.event_timestamp,
            created_timestamp_column=Columns.created_timestamp,
            **where,
        )


def rows_location(source: DataSource, repo_path: Path | None) -> dict[str, Any]:
    """Where Spark finds the rows of a source, as keyword arguments of `spark.online.read_rows`.

    Args:
        source: Batch source of a view: Parquet files, or whatever a `SparkSource` names.
        repo_path: Folder of the repository, which a file source's relative path starts from.

    Raises:
        ConfigError: Spark cannot read a source of that class.
    """
    if isinstance(source, FileSource) and isinstance(source.file_format, ParquetFormat | None):
        path = FileSource.get_uri_for_file_path(repo_path=repo_path, uri=source.path)
        counted = counted_addresses(source) if "://" in path else None
        if counted is not None:
            return {"path": [spark_address(address) for address in counted], "file_format": "parquet"}
        return {"path": path if "://" in path else f"file://{path}", "file_format": "parquet"}
    if isinstance(source, SparkSource):
        if source.table:
            return {"table": source.table}
        if source.query:
            return {"query": source.query}
        if source.path and source.file_format and source.table_format is None:
            return {"path": source.path, "file_format": source.file_format}
    raise ConfigError(
        f"the source {source.name!r} is a {type(source).__name__} that Spark does not read here.",
        hint="a FileSource of Parquet files, or a SparkSource by table, query or path.",
    )
