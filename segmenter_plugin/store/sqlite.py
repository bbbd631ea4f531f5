"""Feast's SQLite online store, its tables unchanged, written and read by statements over many users.

A lookup is one statement, which answers with a row a user and a column a feature; stock gets a row a feature and parses
a message from each. How rows are written: `sqlite_rows`.

Stock's other calls (apply, teardown, document search, `online_read`) stay what they are, on stock's own connection.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from sqlite3 import Connection
from typing import Any, Literal

from feast import FeatureView
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, _quote_id, _table_id
from feast.repo_config import RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp

from segmenter_plugin.store.online import ArrowOnlineStore, FetchedView, RowWriter, ViewLookup
from segmenter_plugin.store.rows import ProtoRow
from segmenter_plugin.store.sqlite_file import Readers, explained, inode, open_for_writing, quote_text, remove_beside
from segmenter_plugin.store.sqlite_rows import StockRows, TableRows, upsert

#: Users of one lookup statement.
KEYS_PER_STATEMENT = 2048

#: SQLite joins at most 64 tables, and each feature of a lookup is a join.
FEATURES_PER_STATEMENT = 60


class ArrowSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]  # feast has no types
    """Stock's configuration, and how rows are chosen.

    Args:
        enforce_ttl: Answer a row that is older than its view's ttl as OUTSIDE_MAX_AGE.
        strict_stock: Overwrite whatever is stored, as Feast does, instead of keeping a newer row.
    """

    type: Literal["segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"] = (
        "segmenter_plugin.store.sqlite.ArrowSqliteOnlineStore"
    )
    enforce_ttl: bool = False
    strict_stock: bool = False


class ArrowSqliteOnlineStore(ArrowOnlineStore, SqliteOnlineStore):  # type: ignore[misc]  # feast has no types
    """SQLite online store for Arrow record batches.

    With ``vector_enabled`` or ``enable_openai_compatible_store`` rows have further columns; Feast's own code writes
    them, by Feast's rule.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pools: dict[tuple[str, int, int], Readers] = {}
        self._writing = threading.Lock()

    @contextmanager
    def writer(self, config: RepoConfig, view: FeatureView, *, strict_stock: bool = False) -> Iterator[RowWriter]:
        """Open the table of a view. Others see its rows from its commits on, which come every few seconds.

        Raises:
            StoreError: There is no such table, or the file cannot be written.
        """
        if _has_further_columns(config):
            yield StockRows(lambda data: SqliteOnlineStore.online_write_batch(self, config, view, data, None))
            return
        path = self._get_db_path(config)
        table = _table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
        conflict = upsert(overwrite=strict_stock or config.online_store.strict_stock)
        with explained(path):
            connection = open_for_writing(path)
        with closing(connection):  # also where the table is not there
            rows = TableRows(connection, path, table, conflict, self._writing)
            try:
                yield rows
            finally:
                rows.close()

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[ProtoRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of messages."""
        if _has_further_columns(config):
            SqliteOnlineStore.online_write_batch(self, config, table, data, progress)
        else:
            super().online_write_batch(config, table, data, progress)

    def fetch(self, config: RepoConfig, lookups: Sequence[ViewLookup]) -> list[FetchedView]:
        """Read rows of several views, all as of one moment.

        Raises:
            StoreError: There is no such table, or the file cannot be read.
        """
        path = self._get_db_path(config)
        with explained(path), self._readers(path).snapshot() as connection:
            return [_lookup(connection, f"{config.project}_{lookup.name}", lookup) for lookup in lookups]

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Any]) -> None:
        """Remove the file, as stock does, and what write-ahead mode keeps beside it."""
        path = self._get_db_path(config)
        self._close_readers(path)
        super().teardown(config, tables, entities)
        remove_beside(path)

    def _readers(self, path: str) -> Readers:
        # Not through a fork, and not of a file that another process has removed and made anew.
        place = (path, os.getpid(), inode(path))
        pool = self._pools.get(place)
        if pool is None:
            self._close_readers(path)
            pool = self._pools.setdefault(place, Readers(path))
        return pool

    def _close_readers(self, path: str) -> None:
        for place in [place for place in list(self._pools) if place[:2] == (path, os.getpid())]:
            pool = self._pools.pop(place, None)
            if pool is not None:
                pool.close()


def _lookup(connection: Connection, table: str, lookup: ViewLookup) -> FetchedView:
    cells: list[list[bytes | None]] = [[] for _ in lookup.features]
    times: list[int | None] = []
    for start in range(0, len(lookup.keys), KEYS_PER_STATEMENT):
        keys = lookup.keys[start : start + KEYS_PER_STATEMENT]
        chunk: list[Sequence[int | None]] = []
        for first in range(0, len(lookup.features), FEATURES_PER_STATEMENT):
            features = lookup.features[first : first + FEATURES_PER_STATEMENT]
            *columns, found_times = _columns(connection, table, features, keys)
            chunk.append(found_times)
            for place, column in enumerate(columns, start=first):
                cells[place].extend(column)
        times += [_last_known(row) for row in zip(*chunk, strict=True)] if len(chunk) > 1 else chunk[0]
    messages = {time: _time_message(time) for time in set(times) if time is not None}
    return FetchedView(cells=cells, event_times=[None if time is None else messages[time] for time in times])


def _columns(
    connection: Connection, table: str, features: Sequence[str], keys: Sequence[bytes]
) -> list[tuple[Any, ...]]:
    """(N,) values of each feature, and last the event times as they are stored."""
    count = len(keys)
    step = 1 << max(count.bit_length() - 4, 0)  # few different statements, so that most are found prepared
    padding: list[bytes | None] = [None] * (-count % step)
    found = connection.execute(_select(table, features, count + len(padding)), [*keys, *padding]).fetchall()
    return [*zip(*found[:count], strict=True)]


def _select(table: str, features: Sequence[str], count: int) -> str:
    """A row for each of `count` keys, in the order asked: a column a feature, then the event time."""
    cells = ", ".join(f"f{i}.value" for i in range(len(features)))
    joins = " ".join(
        f"LEFT JOIN {_quote_id(table)} f{i} ON f{i}.entity_key = k.column1 AND f{i}.feature_name = {quote_text(name)}"
        for i, name in enumerate(features)
    )
    # Where features are of different times, stock answers with the one that was first written last.
    time = ", ".join(f"f{i}.event_ts" for i in reversed(range(len(features))))
    keys = ", ".join(["(?)"] * count)
    return f"SELECT {cells}, coalesce({time}, NULL) FROM (VALUES {keys}) k {joins}"  # noqa: S608 (names are quoted)


def _last_known(times: Sequence[int | None]) -> int | None:
    return next((time for time in reversed(times) if time is not None), None)


def _time_message(stored: int) -> bytes:
    """``Timestamp`` of a stored time."""
    return Timestamp(seconds=int(stored)).SerializeToString()


def _has_further_columns(config: RepoConfig) -> bool:
    return bool(config.online_store.vector_enabled or config.online_store.enable_openai_compatible_store)
