"""Rows of Parquet files in bounded memory, in an order that is the same each time.

Files are read row group after row group with small buffers, never ahead. Row groups outside the window are left out by
their statistics; the rows of the others are numbered in reading order, and by that ordinal a second reading finds them
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.files import StoredFiles
from segmenter_plugin.store.newest import MISSING
from segmenter_plugin.store.rows import join_keys_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_BUFFER = 1 << 20
_REMOTE_BUFFER = 8 << 20

CHANGED_HINT = "run again; write new files beside the old ones instead of in their place."


@dataclass(frozen=True)
class SourceColumns:
    """Columns of a view: what the view calls them, and what its source does.

    Args:
        keys: Source's name of each join key, by the view's name.
        features: Likewise.
        event: Source's name of the event timestamp.
        created: Source's name of the created timestamp, or None.
        renamed: The view's name of each source column that has another one there.
    """

    keys: dict[str, str]
    features: dict[str, str]
    event: str
    created: str | None
    renamed: dict[str, str]

    @classmethod
    def of(cls, view: FeatureView) -> SourceColumns:
        """Turn the field mapping of a view's batch source around."""
        source = view.batch_source
        renamed = dict(source.field_mapping or {})
        original = {new: old for old, new in renamed.items()}
        return cls(
            keys={name: original.get(name, name) for name in join_keys_of(view)},
            features={feature.name: original.get(feature.name, feature.name) for feature in view.features},
            # The source names its timestamps by its own columns; Feast takes the view's names too.
            event=original.get(source.timestamp_field, source.timestamp_field),
            created=original.get(source.created_timestamp_column, source.created_timestamp_column) or None,
            renamed=renamed,
        )

    @property
    def times(self) -> list[str]:
        """Timestamps, by the source's names."""
        return [self.event] if self.created is None else [self.event, self.created]

    @property
    def needed(self) -> list[str]:
        """All of them, by the source's names, each once."""
        return list(dict.fromkeys([*self.keys.values(), *self.features.values(), *self.times]))

    def view_name(self, column: str) -> str:
        """What the view calls a column of the source."""
        return self.renamed.get(column, column)


@dataclass(frozen=True)
class Window:
    """Event timestamps from the first to the last, both included, in microseconds since the epoch."""

    start_us: int
    end_us: int

    @classmethod
    def of(cls, start: datetime, end: datetime) -> Window:
        """A naive time is UTC, as everywhere in Feast."""
        return cls(_micros_of(start), _micros_of(end))

    def holds(self, event_us: np.ndarray) -> np.ndarray:
        """(N,) bool; false where there is no time."""
        return (event_us >= self.start_us) & (event_us <= self.end_us)


def _micros_of(time: datetime) -> int:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def micros(column: pa.Array) -> np.ndarray:
    """(N,) int64 microseconds since the epoch of timestamps; `MISSING` for null. Below a microsecond is cut off."""
    whole = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
    return whole.fill_null(MISSING).to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class _RowGroup:
    path: str
    index: int
    first: int
    rows: int


class ParquetScan:
    """The rows of some Parquet files, from row groups that may hold rows of a window.

    Args:
        files: At least one; the first one's types hold for all.
        columns: What is needed of them.
        window: Which rows matter; others of the same row groups are read too.

    Raises:
        StoreError: A file lacks a column that the first one has.
    """

    def __init__(self, files: StoredFiles, columns: SourceColumns, window: Window) -> None:
        self._files = files
        self._columns = columns
        self._groups: list[_RowGroup] = []
        self.rows = 0
        self.schema = pa.schema([])
        for number, info in enumerate(files.infos):
            with self._open(info.path) as file:
                schema = _needed_of(file.schema_arrow, columns)
                if number == 0:
                    self.schema = schema
                self._require(schema, info.path)
                self._plan(file, info.path, window)

    def _require(self, schema: pa.Schema, path: str) -> None:
        lacking = [name for name in self.schema.names if name not in schema.names]
        if lacking:
            raise StoreError(
                f"{path!r} has no column {', '.join(lacking)}, which other files of the same source have.",
                hint="write it anew with all columns, or narrow the source's path.",
            )

    def _plan(self, file: pq.ParquetFile, path: str, window: Window) -> None:
        event = self._columns.event
        leaf = _leaf(file, event)
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            if leaf is not None and _outside(group.column(leaf), file.schema_arrow.field(event).type, window):
                continue
            self._groups.append(_RowGroup(path, index, self.rows, group.num_rows))
            self.rows += group.num_rows

    def read(
        self, names: Sequence[str], batch_rows: int, ordinals: np.ndarray | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Read columns.

        Args:
            names: By the source's names.
            batch_rows: Rows of a batch at most; one does not reach beyond a file.
            ordinals: Ascending; row groups that hold none of them are left out.

        Yields:
            The ordinal of a batch's first row, and the batch, under the view's names.

        Raises:
            StoreError: A file went away or has fewer rows than when this object was made.
        """
        wanted = [
            group for group in self._groups if ordinals is None or count_between(ordinals, group.first, group.rows)
        ]
        for path, groups in groupby(wanted, key=lambda group: group.path):
            with self._open(path) as file:
                for run in _runs(groups):
                    yield from self._read_run(file, run, names, batch_rows)

    def _read_run(
        self, file: pq.ParquetFile, run: list[_RowGroup], names: Sequence[str], batch_rows: int
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        ordinal = run[0].first
        end = run[-1].first + run[-1].rows
        indices = [group.index for group in run]
        if indices[-1] >= file.num_row_groups:
            raise _changed([run[0].path])
        # One thread: the other one of a small machine is busy with writing.
        for batch in file.iter_batches(batch_rows, row_groups=indices, columns=list(names), use_threads=False):
            yield ordinal, self._conformed(batch, names)
            ordinal += batch.num_rows
        if ordinal != end:
            raise _changed([run[0].path])

    def _conformed(self, batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
        """The columns under the view's names, in the types of the first file."""
        return conformed(batch, {name: self.schema.field(name).type for name in names}, self._columns.view_name)

    def _open(self, path: str) -> pq.ParquetFile:
        buffer = _LOCAL_BUFFER if self._files.is_local else _REMOTE_BUFFER
        try:
            stream = self._files.filesystem.open_input_file(path)
        except FileNotFoundError as error:
            raise _changed([path]) from error
        try:
            return pq.ParquetFile(stream, buffer_size=buffer, pre_buffer=False)
        except pa.ArrowInvalid as error:
            raise StoreError(
                f"{path!r} cannot be read as Parquet: {error}.",
                hint="it may be half-written; write it anew or take it out of the source's path.",
            ) from error

    def require_unchanged(self) -> None:
        """Look whether the files are still what they were when this object was made.

        Raises:
            StoreError: One was rewritten or removed.
        """
        changed = self._files.changed()
        if changed:
            raise _changed(changed)


def conformed(batch: pa.RecordBatch, types: dict[str, pa.DataType], view_name: Callable[[str], str]) -> pa.RecordBatch:
    """Columns of a batch in the given types, under the view's names."""
    arrays = []
    for name, wanted in types.items():
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        arrays.append(column if column.type == wanted else column.cast(wanted))
    return pa.RecordBatch.from_arrays(arrays, [view_name(name) for name in types])


def plain(data_type: pa.DataType) -> pa.DataType:
    """What a dictionary holds; any other type as it is."""
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def count_between(ordinals: np.ndarray, first: int, rows: int) -> int:
    """How many of ascending ordinals lie in ``[first, first + rows)``."""
    start, end = bounds(ordinals, first, rows)
    return end - start


def bounds(ordinals: np.ndarray, first: int, rows: int) -> tuple[int, int]:
    """Where the ordinals in ``[first, first + rows)`` begin and end."""
    # Of the same type, as NumPy would convert all of the ordinals otherwise.
    start, end = np.searchsorted(ordinals, np.array([first, first + rows], dtype=ordinals.dtype))
    return int(start), int(end)


def _changed(paths: Sequence[str]) -> StoreError:
    return StoreError(f"the source changed while it was read: {', '.join(map(repr, paths[:3]))}.", hint=CHANGED_HINT)


def changed_rows(count: int) -> StoreError:
    """The error for rows that are not those that were chosen."""
    return StoreError(f"the source changed while it was read: {count} rows are not what they were.", hint=CHANGED_HINT)


def _needed_of(schema: pa.Schema, columns: SourceColumns) -> pa.Schema:
    fields = [schema.field(name) for name in columns.needed if name in schema.names]
    return pa.schema([field.with_type(plain(field.type)).remove_metadata() for field in fields])


def _runs(groups: Iterator[_RowGroup]) -> Iterator[list[_RowGroup]]:
    """Row groups that follow each other, together."""
    run: list[_RowGroup] = []
    for group in groups:
        if run and group.index != run[-1].index + 1:
            yield run
            run = []
        run.append(group)
    if run:
        yield run


def _leaf(file: pq.ParquetFile, column: str) -> int | None:
    """Number of a flat column among those that Parquet stores."""
    schema = file.metadata.schema
    leaves = [i for i in range(len(schema)) if schema.column(i).path == column]
    return leaves[0] if leaves and pa.types.is_timestamp(file.schema_arrow.field(column).type) else None


def _outside(chunk: Any, data_type: pa.DataType, window: Window) -> bool:
    """Whether no row of a column chunk can be in the window, as far as its statistics tell."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return False
    low, high = micros(pa.array([statistics.min, statistics.max], data_type))
    return bool(high < window.start_us or low > window.end_us)
