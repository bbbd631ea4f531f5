"""One SQLite file: how it is opened, shared by those who read, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from segmenter_plugin.errors import StoreError

#: How long a writer waits for another process that writes, seconds.
BUSY_S = 30.0

_READER_CACHE_KIB, _WRITER_CACHE_KIB = 8 * 1024, 64 * 1024

_LATER = "wait until that one has ended, then run again."

#: What is wrong, by the start of SQLite's error name, and what to do.
_EXPLANATIONS = {
    "SQLITE_CANTOPEN": (
        "cannot be opened",
        "run `feast apply`, which makes the file; if it is there, look at its rights.",
    ),
    "SQLITE_BUSY": ("is locked by another writer", _LATER),
    "SQLITE_FULL": ("cannot grow", "make room on its disk, then run again; what was online still is."),
    "SQLITE_READONLY": ("cannot be written", "give this user the right to write the file and its folder."),
    "SQLITE_IOERR": ("cannot be read or written", "look at its disk, then run again; whole batches are intact."),
    "SQLITE_CORRUPT": ("is damaged", "run `feast teardown`, `feast apply`, and materialise again."),
    "SQLITE_NOTADB": ("is no SQLite file", "look at online_store.path in feature_store.yaml."),
}


class Readers:
    """Connections of one file; a lookup borrows one, so there are as many as there are lookups at a time.

    Args:
        path: The file, which exists.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection, all of whose statements see the file as of one moment."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _open(self._path, cache_kib=_READER_CACHE_KIB)
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            if connection.in_transaction:
                connection.rollback()
            self._idle.append(connection)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def open_for_writing(path: str) -> sqlite3.Connection:
    """A connection without implicit transactions, to a file that is in write-ahead mode from now on.

    In that mode readers, stock's too, go on while a batch is written, and see all of it or nothing. Where the file
    system does not allow it the file stays as it is.
    """
    connection = _open(path, cache_kib=_WRITER_CACHE_KIB)
    connection.execute("PRAGMA synchronous = NORMAL")  # safe in this mode; only the last batches can go with the power
    connection.execute("PRAGMA journal_size_limit = 67108864")
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        connection.execute("PRAGMA journal_mode = WAL")
    return connection


def _open(path: str, *, cache_kib: int) -> sqlite3.Connection:
    uri = f"file:{quote(str(Path(path).absolute()))}?mode=rw"  # never makes the file: that is `feast apply`
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


def inode(path: str) -> int:
    """Which file is at a path now; 0 for none."""
    try:
        return Path(path).stat().st_ino
    except FileNotFoundError:
        return 0


def remove_beside(path: str) -> None:
    """Remove what write-ahead mode leaves when connections were cut; a new file of that name would read it."""
    for suffix in ("-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)


def quote_text(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def locked(path: str, by: str) -> StoreError:
    """The error of a file that another writer keeps."""
    return StoreError(f"the online store {path} has been locked {by} for {BUSY_S:g} s.", hint=_LATER)


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what SQLite says into a `StoreError` with a hint."""
    try:
        yield
    except sqlite3.Error as error:
        if "no such table" in str(error):
            raise StoreError(
                f"the online store {path} lacks a table ({error}).",
                hint="run `feast apply`, which makes the tables of the views.",
            ) from error
        name = getattr(error, "sqlite_errorname", None) or ""
        for start, (what, hint) in _EXPLANATIONS.items():
            if name.startswith(start):
                raise StoreError(f"the online store {path} {what} ({name}: {error}).", hint=hint) from error
        raise
