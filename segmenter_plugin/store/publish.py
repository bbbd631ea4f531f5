"""Record batches in, feature rows out: renamed, stamped and checked, one batch in memory at a time.

A row is identified by (user, event_timestamp, model_version). A partition holds one cutoff and one row a user, and is
replaced whole, so publishing twice, or publishing a corrected row, leaves one row and not two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.clock import cutoff_key, parse_cutoff_key
from segmenter_plugin.columns import Columns
from segmenter_plugin.data.partition import MANIFEST, data_files
from segmenter_plugin.errors import ConfigError, MissingStageError, StoreError
from segmenter_plugin.schemas import TIMESTAMP, conform, key_fields, user_type_of

#: In a partition's manifest: Arrow's name of the type of the ids.
USER_TYPE = "user_type"


@dataclass
class Tally:
    """What went through one `feature_rows`."""

    rows: int = 0
    #: Rows whose weights have seen events after the cutoff: fit to serve, unfit to train a ranker on.
    seen_after_cutoff: int = 0


def feature_schema(columns: Sequence[pa.Field], join_key: str, user_type: pa.DataType) -> pa.Schema:
    """Schema of a published partition: join key, event_timestamp, created_timestamp, then the columns.

    Raises:
        ConfigError: `join_key` is also the name of a column.
    """
    user, event_timestamp = key_fields(user_type)
    created = pa.field(Columns.created_timestamp, TIMESTAMP, nullable=False)
    if join_key in {event_timestamp.name, created.name, *(column.name for column in columns)}:
        raise ConfigError(
            f"[store] join_key = {join_key!r} is also the name of a published column.", hint="choose another."
        )
    return pa.schema([user.with_name(join_key), event_timestamp, created, *columns])


def feature_rows(
    batches: Iterable[pa.RecordBatch], *, schema: pa.Schema, cutoff: datetime, created: datetime, tally: Tally
) -> Iterator[pa.RecordBatch]:
    """Turn rows of ours into published rows.

    Args:
        batches: Hold ``user_id``, ``event_timestamp`` and the schema's columns; further columns are dropped.
        schema: From `feature_schema`.
        cutoff: What every ``event_timestamp`` must equal.
        created: Stamped on each row, in UTC.
        tally: Counted up while the rows go through.

    Yields:
        Batches of `schema`, in the order of the input. Beside the batch at hand only the ids are held.

    Raises:
        SchemaError: A column is missing or has another type.
        StoreError: A row has no user, a user has two rows, an ``event_timestamp`` is not the cutoff, provenance is
            missing, or a number is not finite.
    """
    join_key = schema.names[0]
    # Nullable, so that a missing user is told as what it is and not as a cast that failed.
    written = [field.with_nullable(True) for field in schema if field.name != Columns.created_timestamp]
    expected = pa.schema([written[0].with_name(Columns.user_id), *written[1:]])
    keys: list[pa.Array] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        rows = conform(pa.table(batch), expected, f"the rows to publish as of {cutoff_key(cutoff)}")
        _check_rows(rows, cutoff)
        rows = whole_seconds(rows)
        tally.rows += rows.num_rows
        tally.seen_after_cutoff += _seen_after(rows, cutoff)
        keys.append(rows.column(Columns.user_id).combine_chunks())
        stamps = pa.repeat(pa.scalar(created, TIMESTAMP), rows.num_rows)
        rows = rows.rename_columns([join_key, *expected.names[1:]])
        rows = rows.append_column(Columns.created_timestamp, stamps).select(schema.names).cast(schema)
        yield from rows.to_batches()
    _check_one_row_each(keys)


def _check_rows(rows: pa.Table, cutoff: datetime) -> None:
    for name in (Columns.user_id, Columns.event_timestamp):
        if rows.column(name).null_count:
            raise StoreError(
                f"{rows.column(name).null_count} rows have no {name}; each row needs one.",
                hint="run `segmenter build` again, and the stages after it.",
            )
    other = pc.filter(
        rows.column(Columns.event_timestamp),
        pc.not_equal(rows.column(Columns.event_timestamp), pa.scalar(cutoff, TIMESTAMP)),
    )
    if len(other):
        raise StoreError(
            f"{len(other)} rows have another event_timestamp than the cutoff {cutoff.isoformat()}, "
            f"for example {other[0].as_py().isoformat()}.",
            hint="the partition was written for another cutoff; run the stage that makes it again.",
        )
    for field in rows.schema:
        column = rows.column(field.name)
        if requires_value(field) and column.null_count:
            raise StoreError(
                f"{column.null_count} rows have no {field.name}; each published row needs one.",
                hint="run `segmenter score` and `segmenter segment` again for this cutoff.",
            )
        check_finite(field, column)


def requires_value(field: pa.Field) -> bool:
    """Whether each published row needs a value in that column of ours."""
    provenance = (Columns.model_version, Columns.trained_through, Columns.segment_id)
    return pa.types.is_list(field.type) or field.name in provenance


def check_finite(field: pa.Field, column: pa.ChunkedArray) -> None:
    """Refuse numbers that no ranking model should meet.

    Raises:
        StoreError: A number is NaN or infinite, or a list holds such a number or null.
    """
    values = pc.list_flatten(column) if pa.types.is_list(field.type) else column
    if not pa.types.is_floating(values.type):
        return
    bad = pc.sum(pc.invert(pc.is_finite(values))).as_py() or 0
    if pa.types.is_list(field.type):
        bad += values.null_count
    if bad:
        raise StoreError(
            f"the column {field.name!r} holds {bad} values that are NaN, infinite or null within a list; only finite "
            "numbers are served, and null where nothing is known.",
            hint="a NaN in scores comes from the weights: look at the training loss, then score again.",
        )


def whole_seconds(rows: pa.Table) -> pa.Table:
    """Round ``trained_through`` up to a whole second.

    Feast's online stores keep timestamps as whole seconds and cut off the rest (0.67): the row read online would claim
    weights younger than they are, and differ from the published one. Up is the safe side, and as cutoffs are whole
    seconds it never passes one.
    """
    index = rows.schema.get_field_index(Columns.trained_through)
    if index < 0:
        return rows
    rounded = pc.ceil_temporal(rows.column(index), unit="second")
    return rows.set_column(index, rows.schema.field(index), rounded)


def _seen_after(rows: pa.Table, cutoff: datetime) -> int:
    if Columns.trained_through not in rows.column_names:
        return 0
    return pc.sum(pc.greater(rows.column(Columns.trained_through), pa.scalar(cutoff, TIMESTAMP))).as_py() or 0


def _check_one_row_each(keys: list[pa.Array]) -> None:
    if not keys:
        raise StoreError("there are no rows to publish.", hint="no user had an event in the observation window.")
    column = pa.chunked_array(keys)
    if pc.count_distinct(column).as_py() < len(column):
        counts = pc.value_counts(column.combine_chunks())
        repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        raise StoreError(
            f"{len(repeated)} users have more than one row at this cutoff, for example {repeated[0].as_py()!r}; "
            "each may have one.",
            hint="two sources hold the same user; run `segmenter build` again.",
        )


def published_cutoffs(folder: Path) -> list[datetime]:
    """Cutoffs of the whole partitions of one view, ascending."""
    found = [parse_cutoff_key(path.parent.name) for path in folder.glob(f"*/{MANIFEST}")]
    return sorted(cutoff for cutoff in found if cutoff is not None)


def published_user_type(folders: Iterable[Path], join_key: str) -> pa.DataType:
    """Arrow type of the ids, string or int64, as the newest published partition has them.

    Args:
        folders: Of views, each with partitions under it; the first that holds one is read, its file footer only.
        join_key: Name of the id column there.

    Raises:
        MissingStageError: Nothing has been published.
    """
    for folder in folders:
        for cutoff in reversed(published_cutoffs(folder)):
            for path in data_files(folder / cutoff_key(cutoff)):
                schema = pq.read_schema(path)
                if join_key in schema.names:
                    index = schema.get_field_index(join_key)
                    key = schema.field(index).with_name(Columns.user_id)
                    return user_type_of(pa.schema([key]))
    raise MissingStageError(
        f"no published rows with a column {join_key!r} are there to tell whether user ids are strings or int64.",
        hint="run `segmenter publish --cutoff TIME` first; then `feast apply`.",
    )
