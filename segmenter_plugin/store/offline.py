"""Feast's DuckDB offline store, and pushes into the published folders.

Stock DuckDB reads a glob of Parquet files but cannot push into one (FileNotFoundError in Feast 0.67): it would rewrite
one file in place. Published files are never rewritten, so a push becomes a partition of its own beside them.

A Delta table is read as the files of one snapshot, and what we published to a bucket as the files that count there,
both through Arrow where they are not on this machine. Stock needs DuckDB's extensions for either, a download on first
use, and reads in a bucket whatever matches the glob.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from feast import FeatureView, FileSource, RepoConfig
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import (
    DuckDBOfflineStore,
    DuckDBOfflineStoreConfig,
    _read_data_source,
    _write_data_source,
)
from feast.infra.offline_stores.ibis import (
    get_historical_features_ibis,
    pull_all_from_table_or_query_ibis,
    pull_latest_from_table_or_query_ibis,
)
from feast.infra.offline_stores.offline_store import RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from ibis.expr.types import Table

from segmenter_plugin.clock import publication_time
from segmenter_plugin.data.partition import fingerprint, is_current, new_published
from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.files import StoredFiles, counted_addresses, source_files
from segmenter_plugin.store.pushed import conformed_rows

#: Two levels of stars: partition folders, and the files in them.
_PARTITIONED = "*/*.parquet"


class PublishedDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]  # feast is untyped
    """``offline_store: {type: segmenter_plugin.store.offline.PublishedDuckDBOfflineStore}``."""

    type: Literal["segmenter_plugin.store.offline.PublishedDuckDBOfflineStore"] = (
        "segmenter_plugin.store.offline.PublishedDuckDBOfflineStore"
    )


class PublishedDuckDBOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]  # feast is untyped
    """DuckDB that takes pushes too, for sources whose path is a glob ``folder/*/*.parquet``.

    All reads but those of Delta tables and of what we published to a bucket are Feast's own.
    """

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        """Point-in-time join, as in stock."""
        asked = (config, feature_views, feature_refs, entity_df, registry, project)
        options["full_feature_names"] = full_feature_names
        if not any(_is_read_here(view.batch_source) for view in feature_views):
            return DuckDBOfflineStore.get_historical_features(*asked, **options)
        return get_historical_features_ibis(*asked, **options, **_access(config))

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig, data_source: DataSource, *arguments: Any, **options: Any
    ) -> RetrievalJob:
        """Newest row of each key, as in stock."""
        if not _is_read_here(data_source):
            return DuckDBOfflineStore.pull_latest_from_table_or_query(config, data_source, *arguments, **options)
        return pull_latest_from_table_or_query_ibis(config, data_source, *arguments, **options, **_access(config))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig, data_source: DataSource, *arguments: Any, **options: Any
    ) -> RetrievalJob:
        """All rows of a window, as in stock."""
        if not _is_read_here(data_source):
            return DuckDBOfflineStore.pull_all_from_table_or_query(config, data_source, *arguments, **options)
        return pull_all_from_table_or_query_ibis(config, data_source, *arguments, **options, **_access(config))

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Columns of the newest file under a glob; as in stock for any other source.

        Raises:
            StoreError: The glob matches no file.
        """
        if _is_read_here(data_source):
            schema = _dataset(data_source, config.repo_path).schema
            return [(field.name, str(field.type)) for field in schema]
        folder = _partitioned_folder(config, data_source)
        if folder is None:
            return super().get_table_column_names_and_types_from_data_source(config, data_source)
        schema = _newest_schema(folder)
        return [(field.name, str(field.type)) for field in schema]

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows as one new partition, which readers see whole or not at all.

        Pushing the same rows again writes nothing: the partition is named by what is in it, a ``created_timestamp``
        that is given included. Rows without one are stamped with the present time.

        Raises:
            StoreError: Rows that do not fit, see `store.pushed.conformed_rows`; or nothing has been published yet;
                or the source is a Delta table.
        """
        if _is_delta(feature_view.batch_source):
            raise StoreError(
                f"rows pushed to {feature_view.name!r} cannot be written to its Delta table.",
                hint="push to the online store only, and append the history with your own job.",
            )
        folder = _partitioned_folder(config, feature_view.batch_source)
        if folder is None:
            DuckDBOfflineStore.offline_write_batch(config, feature_view, table, progress)
            return
        schema = _newest_schema(folder)
        rows = conformed_rows(feature_view, table, schema)
        if rows.num_rows:
            _write(folder, rows, schema, feature_view.batch_source.created_timestamp_column)
        if progress is not None:
            progress(rows.num_rows)


def _is_delta(source: DataSource | None) -> bool:
    return isinstance(source, FileSource) and isinstance(source.file_format, DeltaFormat)


def _is_read_here(source: DataSource | None) -> bool:
    return isinstance(source, FileSource) and (_is_delta(source) or counted_addresses(source) is not None)


def _read(source: DataSource, repo_path: str) -> Table:
    if not _is_read_here(source):
        return _read_data_source(source, repo_path)
    if "://" in source.path:
        # DuckDB asks the dataset for the columns and rows that a query needs, so it is never in memory as a whole.
        return ibis.memtable(_dataset(source, repo_path))
    return ibis.read_parquet([info.path for info in _files(source, repo_path).infos], union_by_name=True)


def _files(source: FileSource, repo_path: Path | str | None) -> StoredFiles:
    return source_files(source, None if repo_path is None else Path(repo_path))


def _dataset(source: FileSource, repo_path: Path | str | None) -> ds.Dataset:
    """Of files of several generations: a column that one of them lacks is null there."""
    files = _files(source, repo_path)
    paths = [info.path for info in files.infos]
    each = ds.dataset(paths, filesystem=files.filesystem, format="parquet")
    schema = pa.unify_schemas([fragment.physical_schema.remove_metadata() for fragment in each.get_fragments()])
    return each.replace_schema(schema)


def _access(config: RepoConfig) -> dict[str, Any]:
    """How Feast's queries reach the rows."""
    settings = config.offline_store
    return {
        "data_source_reader": _read,
        "data_source_writer": _write_data_source,
        "staging_location": settings.staging_location,
        "staging_location_endpoint_override": settings.staging_location_endpoint_override,
    }


def _partitioned_folder(config: RepoConfig, source: DataSource | None) -> Path | None:
    """The folder of partitions that a source reads, or None for a source that is something else.

    Raises:
        StoreError: The source is a glob of another shape, or not on a file system of this machine.
    """
    if not isinstance(source, FileSource) or not isinstance(source.file_format, ParquetFormat | None):
        return None
    path = FileSource.get_uri_for_file_path(repo_path=config.repo_path, uri=source.path)
    if "*" not in path:
        return None
    folder = path.removesuffix(f"/{_PARTITIONED}")
    if "*" in folder or "://" in folder or folder == path:
        raise StoreError(
            f"the source {source.name!r} reads {source.path!r}; only a glob folder/{_PARTITIONED} on this machine's "
            "file system can be pushed into.",
            hint="push to the online store only, and write the history with your own job.",
        )
    return Path(folder)


def _newest_schema(folder: Path) -> pa.Schema:
    """Schema of the file that was written last: columns come and go over time."""
    files = sorted(folder.glob(_PARTITIONED), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if not files:
        raise StoreError(
            f"no file matches {str(folder / _PARTITIONED)!r}, so the columns of its rows are not known.",
            hint="run `segmenter publish --cutoff TIME` once, then push.",
        )
    return pq.read_schema(files[-1]).remove_metadata()


def _write(folder: Path, rows: pa.Table, schema: pa.Schema, created_column: str | None) -> None:
    made_from = fingerprint("push", {"rows": _content_hash(rows)}, {})
    # "cutoff=", because readers that take folder names for columns want one name in all; the rest is no time, so
    # nobody takes it for a cutoff that was published whole.
    target = folder / f"cutoff=pushed-{made_from[:16]}"
    if is_current(target, made_from):
        return
    if created_column:
        rows = _stamped(rows, created_column)
    # Staged in the folder itself, one level deeper than the glob reaches.
    with new_published(target, folder, {"stage": "push", "fingerprint": made_from, "rows": rows.num_rows}) as staging:
        pq.write_table(rows.cast(schema), staging / "part-00000.parquet", compression="zstd")


def _content_hash(rows: pa.Table) -> str:
    # Parquet holds values only, no padding and nothing behind a null, so equal rows make equal bytes.
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="none")
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _stamped(rows: pa.Table, created_column: str) -> pa.Table:
    index = rows.schema.get_field_index(created_column)
    field = rows.schema.field(index)
    now = pa.scalar(publication_time(), field.type)
    return rows.set_column(index, field, rows.column(index).fill_null(now))
