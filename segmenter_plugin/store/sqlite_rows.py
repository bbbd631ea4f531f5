"""Encoded rows into the tables of Feast's SQLite store, newest first to stay.

Stock runs one statement a feature. Here one statement upserts all features of a user, a transaction holds many
batches, and the rule that the newest row stays is part of the upsert.

Keys come in no order that the index knows, so a batch touches most pages of a large table. A page is written once a
transaction: fewer transactions, fewer bytes.

Times are whole seconds since the epoch, as in stock; rows of the same second therefore count as equally old. Where the
zone of a machine is not UTC, stock reads the naive UTC time as local time (``adapt_datetime_epoch``): a file that two
zones write would mix both, and the newest row would be the one from the west. Ours is the instant, in every zone.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.key_encoding_utils import deserialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.infra.online_stores.sqlite import _quote_id
from feast.protos.feast.types.Value_pb2 import Value

from segmenter_plugin.store.keys import KEY_VERSION
from segmenter_plugin.store.online import StoreRestarted
from segmenter_plugin.store.rows import EncodedRows, ProtoRow
from segmenter_plugin.store.sqlite_file import BUSY_S, explained, inode, locked, quote_text

#: For how long a transaction gathers batches, seconds: stock gives up on a file that is locked for five.
TRANSACTION_S = 3.0

#: From that many rows on, an empty table gets its second index after the rows instead of along with them.
BULK_ROWS = 10_000

_NANOS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: First byte of a ``Value`` that holds a scalar for which stock fills ``value_text``.
_FLOAT, _DOUBLE = 0x35, 0x29
_TEXT_TAGS = np.array([0x12, 0x18, 0x20, 0x38, _FLOAT, _DOUBLE], dtype=np.uint8)


class TableRows:
    """Writer of one table.

    What `write` takes is in the file's open transaction; others see it from the commit on, which is `TRANSACTION_S`
    after the first batch, and at `finish` and `close`.

    Args:
        connection: In autocommit mode.
        path: The file behind it, for messages.
        table: Name of the table.
        conflict: What happens to a row that is there, from `upsert`.
        writing: Held while a transaction is open: threads take turns here rather than by SQLite's polling.

    Raises:
        StoreError: There is no such table.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        table: str,
        conflict: str,
        writing: threading.Lock,
    ) -> None:
        self._connection, self._path = connection, path
        self._table, self._index = _quote_id(table), _quote_id(f"{table}_ek")
        self._conflict, self._writing = conflict, writing
        self._inode = inode(path)
        self._holds, self._began_s = False, 0.0
        with explained(path):
            self._is_empty()

    def write(self, rows: EncodedRows) -> int:
        """Upsert rows.

        Returns:
            How many users have new values; of the others newer ones are stored.

        Raises:
            StoreError: SQLite refuses; what the transaction held is not online.
        """
        if not len(rows) or not rows.values:
            return 0
        # Neighbours in the index are written together.
        statement, parameters = self._statement(rows.take(pc.sort_indices(rows.keys).to_numpy()))
        with explained(self._path), self._undone_on_error():
            self._begin()
            if len(rows) >= BULK_ROWS and self._is_empty():
                # The primary key alone serves every reader; this index repeats its head. `finish` makes it in one go.
                self._connection.execute(f"DROP INDEX IF EXISTS {self._index}")
            before = self._connection.total_changes
            self._connection.executemany(statement, parameters)
            changes = self._connection.total_changes - before
            if time.monotonic() - self._began_s >= TRANSACTION_S:
                self._commit()
        # A user whose stored features are of different times may take only some of them.
        return -(-changes // len(rows.values))

    def finish(self) -> None:
        """Commit, and complete the table's index, of this run or of one that was killed.

        Raises:
            StoreRestarted: The file was removed or replaced meanwhile.
        """
        with explained(self._path), self._undone_on_error():
            self._commit()
        if inode(self._path) != self._inode:
            raise StoreRestarted(f"{self._path} was replaced while it was written.")
        with explained(self._path), self._undone_on_error():
            self._begin()
            self._connection.execute(f"CREATE INDEX IF NOT EXISTS {self._index} ON {self._table} (entity_key)")
            self._commit()

    def close(self) -> None:
        """Commit what is open, also when what was to follow failed."""
        with explained(self._path), self._undone_on_error():
            self._commit()

    def _begin(self) -> None:
        if self._connection.in_transaction:
            return
        if not self._writing.acquire(timeout=BUSY_S):
            raise locked(self._path, "by a writer of this process")
        self._holds = True
        self._connection.execute("BEGIN IMMEDIATE")
        self._began_s = time.monotonic()

    def _commit(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self._release()

    def _release(self) -> None:
        if self._holds:
            self._holds = False
            self._writing.release()

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            try:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            finally:
                self._release()
            raise

    def _statement(self, rows: EncodedRows) -> tuple[str, Iterator[tuple[Any, ...]]]:
        """The upsert of one user, and its parameters for each."""
        columns: list[list[Any]] = [rows.keys.to_pylist(), _stored_times(rows.event_times)]
        created = "NULL"
        if rows.created_times is not None:
            columns.append(_stored_created(rows.created_times))
            created = "?3"
        tuples = []
        for name, cells in rows.values.items():
            columns.append(cells.to_pylist())
            value, text = f"?{len(columns)}", "NULL"
            texts = value_texts(cells)
            if texts is not None:
                columns.append(texts)
                text = f"?{len(columns)}"
            tuples.append(f"(?1, {quote_text(name)}, {value}, {text}, ?2, {created})")
        insert = f"INSERT INTO {self._table} (entity_key, feature_name, value, value_text, event_ts, created_ts)"
        return f"{insert} VALUES {', '.join(tuples)} {self._conflict}", zip(*columns, strict=True)

    def _is_empty(self) -> bool:
        return self._connection.execute(f"SELECT 1 FROM {self._table} LIMIT 1").fetchone() is None  # noqa: S608


class StockRows:
    """Writer that hands rows on as messages.

    Args:
        write: Takes what `OnlineStore.online_write_batch` takes.
    """

    def __init__(self, write: Callable[[list[ProtoRow]], None]) -> None:
        self._write = write

    def write(self, rows: EncodedRows) -> int:
        """Write rows by Feast's rule: each replaces what is stored."""
        self._write(_messages(rows))
        return len(rows)

    def finish(self) -> None:
        """Nothing is pending."""


def value_texts(cells: pa.Array) -> list[str | None] | None:
    """What stock keeps in ``value_text``: ``str`` of a scalar.

    Args:
        cells: (N,) ``binary`` of ``Value`` messages.

    Returns:
        (N,) texts, None for a null, a list or bytes; or None where that holds for all.
    """
    ends = np.frombuffer(cells.buffers()[1], np.int32)[cells.offset : cells.offset + len(cells) + 1]
    lengths = np.diff(ends)
    filled = lengths > 0
    data = np.frombuffer(cells.buffers()[2] or b"", np.uint8)
    tags = np.zeros(len(cells), np.uint8)
    tags[filled] = data[ends[:-1][filled]]
    has_text = np.isin(tags, _TEXT_TAGS)
    if not has_text.any():
        return None
    for tag, number in ((_FLOAT, np.dtype("<f4")), (_DOUBLE, np.dtype("<f8"))):
        if (tags == tag).all():
            payload = data[ends[0] : ends[-1]].reshape(len(cells), 1 + number.itemsize)[:, 1:]
            return [*map(repr, np.ascontiguousarray(payload).view(number)[:, 0].tolist())]
    distinct = pc.if_else(pa.array(has_text), cells, pa.scalar(b"", pa.binary())).dictionary_encode()
    texts = [extract_text_and_num(Value.FromString(cell), False)[0] for cell in distinct.dictionary.to_pylist()]
    return [*map(texts.__getitem__, distinct.indices.to_pylist())]


def upsert(*, overwrite: bool) -> str:
    """What an INSERT does with a row that is there: replaces it, unless it is newer or with `overwrite` always."""
    columns = ("value", "value_text", "event_ts", "created_ts")
    conflict = "ON CONFLICT (entity_key, feature_name) DO UPDATE SET " + ", ".join(
        f"{name} = excluded.{name}" for name in columns
    )
    if overwrite:
        return conflict
    # Without a created time on one side, nothing says that the stored row is newer.
    return (
        f"{conflict} WHERE excluded.event_ts > event_ts OR "
        "(excluded.event_ts = event_ts AND coalesce(excluded.created_ts >= created_ts, 1))"
    )


def _stored_times(nanos: np.ndarray) -> list[int]:
    """(N,) int64 nanoseconds since the epoch as whole seconds, cut towards zero as ``int`` does."""
    seconds = nanos // _NANOS
    return [*(seconds + ((seconds < 0) & (nanos % _NANOS >= 1_000))).tolist()]


def _stored_created(nanos: np.ndarray) -> list[int | None]:
    known = (nanos != 0).tolist()
    return [time if is_known else None for time, is_known in zip(_stored_times(nanos), known, strict=True)]


def _messages(rows: EncodedRows) -> list[ProtoRow]:
    keys = [deserialize_entity_key(key, KEY_VERSION) for key in rows.keys.to_pylist()]
    times = [_EPOCH + timedelta(microseconds=nanos // 1_000) for nanos in rows.event_times.tolist()]
    created: list[datetime | None] = [None] * len(rows)
    if rows.created_times is not None:
        known = rows.created_times.tolist()
        created = [_EPOCH + timedelta(microseconds=nanos // 1_000) if nanos else None for nanos in known]
    cells = zip(*(column.to_pylist() for column in rows.values.values()), strict=True)
    values = [{name: Value.FromString(cell) for name, cell in zip(rows.values, row, strict=True)} for row in cells]
    return [*zip(keys, values, times, created, strict=True)]
