"""An audit as jobs: each reads part of what is stored and says what it found; they may run anywhere, in any order.

| job | reads | memory is bounded by |
|---|---|---|
| `CheckRows` | some row groups of one file | a batch |
| `CheckUsers` | the ids of one partition, those whose hash falls into one slice | the hashes of a slice |
| `CheckSource` | published rows beside the rows that they were made from | a batch of each |
| `clock_recount.Recount` | one bucket of the event log and its rows | the bucket |

A file is named by its path, or by its address in a bucket (``s3://…``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from segmenter_plugin.columns import Columns
from segmenter_plugin.data.clock_checks import Broken, RowCheck, check_batch, example
from segmenter_plugin.data.clock_findings import Checked, Finding, Place, merged
from segmenter_plugin.data.clock_sameness import differing
from segmenter_plugin.data.object_rows import ObjectFolder
from segmenter_plugin.data.user_buckets import hashes_of
from segmenter_plugin.errors import SchemaError
from segmenter_plugin.schemas import TIMESTAMP

#: Rows of a batch: those of behaviour hold whole sequences.
BATCH_ROWS = 8192
#: Rows of one `CheckRows`, more or less: whole row groups.
JOB_ROWS = 1 << 20
#: Hashes that one `CheckUsers` holds.
SLICE_ROWS = 1 << 22


@dataclass(frozen=True)
class StoredFile:
    """A Parquet file.

    Attributes:
        address: Its path, or ``s3://bucket/…``.
        endpoint: Of a store that is not Amazon's.
    """

    address: str
    endpoint: str | None = None

    @contextmanager
    def opened(self) -> Iterator[pq.ParquetFile]:
        """The file, closed at the end of the block."""
        filesystem, path = None, self.address
        if path.startswith("s3://"):
            folder = ObjectFolder.of(path, self.endpoint)
            filesystem, path = folder.filesystem, folder.path
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            yield file

    def batches(self, columns: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Stream some columns.

        Args:
            columns: In the order of the batches.
            groups: Of rows; None for all.

        Raises:
            SchemaError: A column is missing.
        """
        with self.opened() as file:
            names = file.schema_arrow.names
            missing = sorted(set(columns) - set(names))
            if missing:
                raise SchemaError(
                    f"{self.address!r} lacks the columns {missing}; it has {names}.",
                    hint="it was made with another configuration; run the stage that makes it again.",
                )
            some = None if groups is None else list(groups)
            for batch in file.iter_batches(BATCH_ROWS, some, list(columns), use_threads=False):
                yield batch.select(list(columns))


@dataclass(frozen=True)
class CheckRows:
    """Holds each row of some row groups of a file against checks."""

    place: Place
    file: StoredFile
    groups: tuple[int, ...]
    checks: tuple[RowCheck, ...]

    def __call__(self) -> list[Checked]:
        """What each check met."""
        wanted = dict.fromkeys([self.place.user, *(name for check in self.checks for name in check.columns)])
        found = [Checked(check.name, self.place.table, 0) for check in self.checks]
        for batch in self.file.batches(list(wanted), self.groups):
            found = merged([*found, *check_batch(batch, self.checks, self.place)])
        return found


def row_jobs(place: Place, files: Sequence[StoredFile], checks: tuple[RowCheck, ...]) -> Iterator[CheckRows]:
    """`CheckRows` of a partition, each of about `JOB_ROWS` rows."""
    for file in files:
        with file.opened() as opened:
            rows = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
        lots = np.cumsum([0, *rows[:-1]]) // JOB_ROWS if rows else np.zeros(0, np.int64)
        for lot in np.unique(lots):
            yield CheckRows(place, file, tuple(np.flatnonzero(lots == lot).tolist()), checks)


@dataclass(frozen=True)
class CheckUsers:
    """Whether any user whose hash falls into a slice has two rows."""

    place: Place
    files: tuple[StoredFile, ...]
    number: int
    slices: int
    name: str = "one_row_a_user"

    def __call__(self) -> list[Checked]:
        """One result; its rows are those of the slice."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *(self._hashes(users) for users in self._users())])
        hashes.sort()
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        return [Checked(self.name, self.place.table, len(hashes), self._findings(repeated) if len(repeated) else ())]

    def _users(self) -> Iterator[pa.Array]:
        for file in self.files:
            for batch in file.batches([self.place.user]):
                yield batch.column(0).drop_null()

    def _hashes(self, users: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        hashes = hashes_of(users)
        return hashes[hashes % np.uint64(self.slices) == np.uint64(self.number)]

    def _findings(self, repeated: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> tuple[Finding, ...]:
        """Two users may have one hash, so those of the repeated ones are looked at themselves."""
        suspects = [users.filter(pa.array(np.isin(hashes_of(users), repeated))) for users in self._users()]
        counts = pc.value_counts(pa.chunked_array(suspects).combine_chunks())
        more = counts.filter(pc.greater(counts.field("counts"), 1))
        if not len(more):
            return ()
        user, rows = more.field("values")[0].as_py(), pc.sum(more.field("counts")).as_py()
        message = "a user has more than one row"
        return (Finding(self.name, self.place.table, self.place.cutoff, rows, message, user=user),)


def user_jobs(place: Place, files: Sequence[StoredFile], rows: int) -> list[CheckUsers]:
    """`CheckUsers` of a partition of so many rows, each of about `SLICE_ROWS`."""
    slices = max(1, -(-rows // SLICE_ROWS))
    return [CheckUsers(place, tuple(files), number, slices) for number in range(slices)]


@dataclass(frozen=True)
class CheckSource:
    """Whether published rows are those that they were made from, in their order.

    So what is found true of a source holds of what was published from it.

    Attributes:
        place: Of the published rows.
        files: Published.
        source: What they were made from.
        columns: To compare, besides the user.
    """

    place: Place
    files: tuple[StoredFile, ...]
    source: tuple[StoredFile, ...]
    columns: tuple[str, ...]
    name: str = "published_as_made"

    def __call__(self) -> list[Checked]:
        """One result."""
        published = _Rows(self.files, (self.place.user, *self.columns))
        made = _Rows(self.source, (Columns.user_id, *self.columns))
        found = [Checked(self.name, self.place.table, 0)]
        while (size := min(published.left(), made.left())) > 0:
            found = merged([*found, self._compared(published.take(size), made.take(size))])
        beyond = published.rest() + made.rest()
        if beyond:
            found = merged([*found, self._result(beyond, "more rows on one side than on the other", beyond)])
        return found

    def _compared(self, published: pa.RecordBatch, made: pa.RecordBatch) -> Checked:
        pairs = {
            name: (_whole_seconds(published.column(place)), _whole_seconds(made.column(place)))
            for place, name in enumerate(published.schema.names)
        }
        differ = {name: differing(left, right.cast(left.type)) for name, (left, right) in pairs.items()}
        rows = np.any(list(differ.values()), axis=0)
        if not rows.any():
            return Checked(self.name, self.place.table, published.num_rows)
        message = "a published row is not the one that it was made from"
        first = int(np.flatnonzero(rows)[0])
        column = next(name for name, flags in differ.items() if flags[first])
        shown = {column: pairs[column][0], "made_from": pairs[column][1]}
        user, values = example(published, Broken(rows, message, shown), self.place)
        return self._result(published.num_rows, message, int(rows.sum()), user, values)

    def _result(
        self,
        rows: int,
        message: str,
        broken: int,
        user: int | str | None = None,
        values: dict[str, str] | None = None,
    ) -> Checked:
        table, cutoff = self.place.table, self.place.cutoff
        finding = Finding(self.name, table, cutoff, broken, message, user=user, values=values or {})
        return Checked(self.name, table, rows, (finding,))


class _Rows:
    """The rows of several files, taken in pieces of any size up to what is left of a batch."""

    def __init__(self, files: Sequence[StoredFile], columns: Sequence[str]) -> None:
        self._batches = (batch for file in files for batch in file.batches(columns))
        self._batch: pa.RecordBatch | None = None

    def left(self) -> int:
        """Rows left of the batch at hand, or of the next one; 0 at the end."""
        while self._batch is None or not self._batch.num_rows:
            self._batch = next(self._batches, None)
            if self._batch is None:
                return 0
        return int(self._batch.num_rows)

    def take(self, size: int) -> pa.RecordBatch:
        """The next rows, at most `left` of them."""
        batch = self._batch
        if batch is None:
            raise ValueError("there are no rows left")
        self._batch = batch.slice(size)
        return batch.slice(0, size)

    def rest(self) -> int:
        """How many rows are left in all; they are gone then."""
        rows = 0
        while size := self.left():
            self.take(size)
            rows += size
        return rows


def _whole_seconds(column: pa.Array) -> pa.Array:
    """Times rounded up to a whole second, as `store.publish` does it; any other column as it is."""
    return pc.ceil_temporal(column.cast(TIMESTAMP), unit="second") if pa.types.is_timestamp(column.type) else column
