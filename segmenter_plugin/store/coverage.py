"""Which materialisations the Arrow engine takes on; Feast's own engine does the others."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from feast import FeatureView, FileSource
from feast.data_format import DeltaFormat, ParquetFormat
from feast.infra.common.materialization_job import MaterializationTask
from feast.infra.offline_stores.offline_store import OfflineStore
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import RepoConfig
from feast.version import get_version

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.files import StoredFiles, source_files
from segmenter_plugin.store.keys import KEY_VERSION, encodes_key
from segmenter_plugin.store.latest import LatestOfFiles, LatestOfQuery, LatestRows
from segmenter_plugin.store.online import ArrowOnlineStore
from segmenter_plugin.store.rows import join_keys_of
from segmenter_plugin.store.scan import ParquetScan, SourceColumns, Window
from segmenter_plugin.store.wire import encodes

#: Feast's internals move with each minor version; this one is tested.
TESTED_FEAST = "0.67"

#: Offline stores of Feast that read a `FileSource`, with both ends of the window included.
_FILE_STORES = {"DuckDBOfflineStore", "DaskOfflineStore"}
_QUERY_STORES = {"DuckDBOfflineStore"}

#: Attributes of a view that make rows of their own, or ask for checks, when set.
_FURTHER_WORK = ("source_views", "feature_transformation", "aggregations", "filter", "enable_validation")

_FURTHER_COLUMNS = ("vector_enabled", "enable_openai_compatible_store")


class NotCovered(Exception):  # noqa: N818 (no error: another engine takes over)
    """Why a materialisation is left to Feast."""


def latest_rows(
    task: MaterializationTask, config: RepoConfig, offline: OfflineStore, online: OnlineStore
) -> LatestRows:
    """Open the rows of a task.

    Raises:
        NotCovered: The task, its view, the stores or a column's type are not among those that are handled here.
        StoreError: A file of the source cannot be read.
    """
    view = task.feature_view
    _require_stores(config, offline, online)
    _require_plain(task, view)
    columns = SourceColumns.of(view)
    rows = _open(task, config, offline, columns)
    _require_types(view, columns, rows.schema)
    return rows


def _require_stores(config: RepoConfig, offline: OfflineStore, online: OnlineStore) -> None:
    version = get_version()
    if version.split(".")[:2] != TESTED_FEAST.split("."):
        raise NotCovered(f"Feast {version} is not {TESTED_FEAST}.x, which it was tested with")
    if not isinstance(online, ArrowOnlineStore):
        raise NotCovered(f"the online store {type(online).__name__} takes no Arrow rows")
    for setting in _FURTHER_COLUMNS:
        if getattr(config.online_store, setting, False):
            raise NotCovered(f"the online store has {setting}, for which Feast writes further columns")
    if config.entity_key_serialization_version != KEY_VERSION:
        raise NotCovered(f"entity_key_serialization_version is {config.entity_key_serialization_version}, not 3")
    if not _descends(offline, _FILE_STORES):
        raise NotCovered(f"the offline store {type(offline).__name__} is neither DuckDB nor Dask")


def _require_plain(task: MaterializationTask, view: Any) -> None:
    if type(view) is not FeatureView:
        raise NotCovered(f"it is a {type(view).__name__}, not a plain FeatureView")
    for attribute in _FURTHER_WORK:
        if getattr(view, attribute, None):
            raise NotCovered(f"the view has {attribute}")
    if not view.online or getattr(view, "offline", False):
        raise NotCovered(f"it writes online={view.online}, offline={getattr(view, 'offline', False)}")
    if not task.only_latest or task.disable_event_timestamp:
        raise NotCovered("more than the newest rows by event_timestamp are asked for")
    if not set(join_keys_of(view)) - {"__dummy_id"}:
        raise NotCovered("the view has no entity")
    if not view.features:
        raise NotCovered("the view has no features")
    if view.batch_source is None:
        raise NotCovered("the view has no batch source")


def _open(task: MaterializationTask, config: RepoConfig, offline: OfflineStore, columns: SourceColumns) -> LatestRows:
    view, source = task.feature_view, task.feature_view.batch_source
    files = _plain_files(source, config)
    if files is not None:
        if not files.infos:
            raise NotCovered(f"no file matches {source.path!r}")
        window = Window.of(task.start_time, task.end_time)
        return LatestOfFiles(ParquetScan(files, columns, window), view, columns, window)
    if not _descends(offline, _QUERY_STORES):
        raise NotCovered(f"{type(offline).__name__} cannot stream a {type(source).__name__}")
    job = offline.pull_latest_from_table_or_query(
        config=config,
        data_source=source,
        join_key_columns=[*columns.keys.values()],
        feature_name_columns=[*columns.features.values()],
        timestamp_field=columns.event,
        created_timestamp_column=columns.created,
        start_date=task.start_time,
        end_date=task.end_time,
    )
    return LatestOfQuery(job.table, columns)


def _plain_files(source: Any, config: RepoConfig) -> StoredFiles | None:
    """The files that hold a source's rows and nothing else; None where only its offline store can tell its rows."""
    if not isinstance(source, FileSource) or not isinstance(source.file_format, DeltaFormat | ParquetFormat | None):
        return None
    try:
        return source_files(source, config.repo_path)
    except StoreError:
        if isinstance(source.file_format, DeltaFormat):
            return None
        raise


def _require_types(view: FeatureView, columns: SourceColumns, schema: pa.Schema) -> None:
    lacking = [name for name in columns.needed if name not in schema.names]
    if lacking:
        raise NotCovered(f"the source has no column {', '.join(lacking)}")
    for name in columns.times:
        if not pa.types.is_timestamp(schema.field(name).type):
            raise NotCovered(f"{name} is {schema.field(name).type}, not a timestamp")
    for key, value_type in join_keys_of(view).items():
        _require_type(key, value_type, schema.field(columns.keys[key]).type, known=encodes_key(value_type))
    for feature in view.features:
        _require_type(feature.name, feature.dtype.to_value_type(), schema.field(columns.features[feature.name]).type)


def _require_type(name: str, value_type: Any, arrow_type: pa.DataType, *, known: bool = True) -> None:
    if not known or not encodes(value_type, arrow_type):
        raise NotCovered(f"{name} is {arrow_type} in the source and {value_type.name} in the view")


def _descends(offline: OfflineStore, names: set[str]) -> bool:
    # By name, because importing Feast's stores imports Dask and DuckDB.
    return any(cls.__name__ in names for cls in type(offline).__mro__)
