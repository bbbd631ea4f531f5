"""Rows that somebody pushes to the offline store, checked and typed as the published ones are."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from feast import FeatureView

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.publish import check_finite, requires_value, whole_seconds
from segmenter_plugin.store.views import FOLDER_TAG


def conformed_rows(view: FeatureView, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Order, type and check pushed rows.

    Args:
        view: Its batch source names the time columns; of a view of ours the features are checked too.
        table: Columns under the names of the view or of its source; a ``created_timestamp`` may be absent or null.
        schema: Of the files that the source reads.

    Returns:
        Columns of `schema`; null in the created column where the pusher gave none.

    Raises:
        StoreError: A column is missing or has another type, a time names no zone, a row has no key or no time, two
            rows are the same user at the same time, or a feature of ours is not fit to be served.
    """
    source = view.batch_source
    keys = _source_names(view, view.join_keys)
    time, created = source.timestamp_field, source.created_timestamp_column
    table = table.rename_columns(_source_names(view, table.column_names))
    if created and created in schema.names and created not in table.column_names:
        table = table.append_column(created, pa.nulls(table.num_rows, schema.field(created).type))
    _check_zones(view, table, [name for name in (time, created) if name])
    rows = _typed(view, table, schema)
    never_null = [field.name for field in schema if not field.nullable and field.name != created]
    _check_no_nulls(view, rows, [*keys, time, *never_null])
    _check_one_row_each(view, rows, [*keys, time])
    if FOLDER_TAG in view.tags:
        _check_features(view, rows.select([name for name in rows.column_names if name not in {*keys, time, created}]))
        rows = whole_seconds(rows)
    return rows


def _source_names(view: FeatureView, names: Sequence[str]) -> list[str]:
    """Feast has renamed the pushed columns to the view's names; the files have the source's."""
    in_source = {ours: theirs for theirs, ours in (view.batch_source.field_mapping or {}).items()}
    return [in_source.get(name, name) for name in names]


def _check_zones(view: FeatureView, table: pa.Table, times: Sequence[str]) -> None:
    """Arrow would take a naive time for UTC and a number for microseconds; a text without a zone it refuses itself."""
    for name in times:
        if name not in table.column_names:
            continue
        kind = table.schema.field(name).type
        is_zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        if not (is_zoned or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise StoreError(
                f"the rows pushed to {view.name!r} hold {name!r} as {kind}, which names no zone.",
                hint="pd.to_datetime(..., utc=True), or .dt.tz_localize with the zone that they are meant in.",
            )


def _typed(view: FeatureView, table: pa.Table, schema: pa.Schema) -> pa.Table:
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise StoreError(
            f"the rows pushed to {view.name!r} lack the columns {missing}; they have {table.column_names}.",
            hint="push the columns that the published files have; store.push tells them too.",
        )
    wanted = pa.schema([field.with_nullable(True) for field in schema])
    try:
        # What is left out here is an index that pandas brought along.
        rows = table.select(schema.names).cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError(
            f"the rows pushed to {view.name!r} do not have the types of the published files: {error}.",
            hint="; ".join(f"{field.name}: {field.type}" for field in schema),
        ) from error
    return rows.combine_chunks()


def _check_no_nulls(view: FeatureView, rows: pa.Table, names: Sequence[str]) -> None:
    for name in names:
        if count := rows.column(name).null_count:
            raise StoreError(
                f"{count} rows pushed to {view.name!r} have no {name}; each row needs one.",
                hint="fill it, or leave those rows out.",
            )


def _check_one_row_each(view: FeatureView, rows: pa.Table, key_and_time: Sequence[str]) -> None:
    distinct = rows.group_by(list(key_and_time)).aggregate([]).num_rows
    if distinct < rows.num_rows:
        raise StoreError(
            f"{rows.num_rows - distinct} rows pushed to {view.name!r} repeat {list(key_and_time)}; nothing tells "
            "which of them counts.",
            hint="keep one of them; push a correction in a second call, its created_timestamp is later.",
        )


def _check_features(view: FeatureView, features: pa.Table) -> None:
    _check_no_nulls(view, features, [field.name for field in features.schema if requires_value(field)])
    for field in features.schema:
        check_finite(field, features.column(field.name))
