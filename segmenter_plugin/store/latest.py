"""Each user's newest whole row within a window, as record batches that can be read more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.newest import Chosen, Newest, key_codes
from segmenter_plugin.store.rows import join_keys_of
from segmenter_plugin.store.scan import (
    ParquetScan,
    SourceColumns,
    Window,
    bounds,
    changed_rows,
    conformed,
    micros,
    plain,
)

#: Rows at once while only keys and times are read.
_KEY_ROWS = 65_536

#: Told how many more rows are done.
Progress = Callable[[int], Any]


class LatestRows(Protocol):
    """Rows that go online."""

    @property
    def schema(self) -> pa.Schema:
        """Types by the source's names."""

    @property
    def rows(self) -> int | None:
        """How many rows there are to choose from, where that is known."""

    def choose(self, progress: Progress) -> int | None:
        """Find each user's newest row, before the first call of `batches`.

        Returns:
            How many users there are, where that is known.

        Raises:
            StoreError: Rows lack their key.
        """

    def batches(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """One row a user, all columns under the view's names.

        Raises:
            StoreError: The rows are not those that were chosen.
        """


class LatestOfFiles:
    """Newest rows of Parquet files in two passes: over keys and times, then over the rows that were chosen.

    Args:
        scan: The files.
        view: Declares the join keys.
        columns: Of that view.
        window: Rows outside of it do not exist.
    """

    def __init__(self, scan: ParquetScan, view: FeatureView, columns: SourceColumns, window: Window) -> None:
        self._scan = scan
        self._view_name = view.name
        self._join_keys = join_keys_of(view)
        self._columns = columns
        self._window = window
        self._event = columns.view_name(columns.event)
        self._created = None if columns.created is None else columns.view_name(columns.created)
        self._chosen: Chosen | None = None

    @property
    def schema(self) -> pa.Schema:
        """Types in the first file."""
        return self._scan.schema

    @property
    def rows(self) -> int:
        """Rows of all row groups that may hold rows of the window."""
        return self._scan.rows

    def choose(self, progress: Progress) -> int:
        """First pass."""
        newest = Newest(self._scan.rows)
        without_key = 0
        names = list(dict.fromkeys([*self._columns.keys.values(), *self._columns.times]))
        for first, batch in self._scan.read(names, _KEY_ROWS):
            event_us = micros(batch.column(self._event))
            inside = self._window.holds(event_us)
            has_key = self._has_key(batch)
            without_key += int((inside & ~has_key).sum())
            self._add(newest, batch, event_us, first, inside & has_key)
            progress(batch.num_rows)
        if without_key:
            raise StoreError(
                f"{without_key} rows of the view {self._view_name!r} in this window lack a value of "
                f"{', '.join(self._join_keys)}; each row needs its key.",
                hint="look at what writes the source; rows without a key cannot be looked up.",
            )
        self._chosen = newest.finish()
        return len(self._chosen)

    def _has_key(self, batch: pa.RecordBatch) -> np.ndarray:
        present = np.ones(batch.num_rows, dtype=bool)
        for name in self._join_keys:
            if batch.column(name).null_count:
                present &= pc.is_valid(batch.column(name)).to_numpy(zero_copy_only=False)
        return present

    def _add(self, newest: Newest, batch: pa.RecordBatch, event_us: np.ndarray, first: int, wanted: np.ndarray) -> None:
        index = np.flatnonzero(wanted)
        if len(index) < batch.num_rows:
            batch = batch.take(pa.array(index))
        created_us = np.zeros(len(index), np.int64) if self._created is None else micros(batch.column(self._created))
        newest.add(key_codes(batch, self._join_keys), event_us[index], created_us, first + index)

    def batches(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Second pass; few chosen rows of several batches are put together."""
        if self._chosen is None:
            raise StoreError("nothing was chosen yet.", hint="call choose() first.")
        chosen = self._chosen
        if not len(chosen):
            return
        pending: list[pa.RecordBatch] = []
        found = pending_rows = 0
        for first, batch in self._scan.read(self._columns.needed, batch_rows, chosen.ordinals):
            rows = self._chosen_of(batch, first, chosen)
            found += rows.num_rows
            pending_rows += rows.num_rows
            pending += [rows] if rows.num_rows else []
            if pending_rows >= batch_rows:
                yield _together(pending)
                pending, pending_rows = [], 0
        self._scan.require_unchanged()
        if found != len(chosen):
            raise changed_rows(len(chosen) - found)
        if pending:
            yield _together(pending)

    def _chosen_of(self, batch: pa.RecordBatch, first: int, chosen: Chosen) -> pa.RecordBatch:
        start, end = bounds(chosen.ordinals, first, batch.num_rows)
        if end - start < batch.num_rows:
            batch = batch.take(pa.array(chosen.ordinals[start:end].astype(np.int64) - first))
        different = micros(batch.column(self._event)) != chosen.event_us[start:end]
        if different.any():
            raise changed_rows(int(different.sum()))
        return batch


class LatestOfQuery:
    """Newest rows as Feast's DuckDB store finds them, streamed from DuckDB: any source that it reads.

    Args:
        table: The `ibis` expression of one row a user.
        columns: Of the view.
    """

    def __init__(self, table: Any, columns: SourceColumns) -> None:
        self._table = table.select(*columns.needed)
        self._columns = columns

    @property
    def schema(self) -> pa.Schema:
        """Types that DuckDB answers with."""
        return self._table.schema().to_pyarrow()

    @property
    def rows(self) -> None:
        """Counting them would be a pass of its own."""
        return

    def choose(self, progress: Progress) -> None:  # noqa: ARG002
        """DuckDB chooses while it answers."""
        return

    def batches(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """One query."""
        types = {field.name: plain(field.type) for field in self.schema}
        for batch in _stream(self._table, batch_rows):
            if batch.num_rows:
                yield conformed(batch, types, self._columns.view_name)


def _stream(table: Any, batch_rows: int) -> pa.RecordBatchReader:
    # Not the table's own to_pyarrow_batches: ibis 12 calls what DuckDB 2 has under another name.
    backend = ibis.get_backend(table)
    backend._run_pre_execute_hooks(table)  # noqa: SLF001 (registers tables in memory, as ibis does before any query)
    relation = backend.con.sql(backend.compile(table))
    read = relation.to_arrow_reader if hasattr(relation, "to_arrow_reader") else relation.fetch_arrow_reader
    return read(batch_rows)


def _together(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
