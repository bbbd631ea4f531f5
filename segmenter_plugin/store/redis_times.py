"""Event timestamps as Redis holds them: serialised messages, few distinct ones in a batch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from google.protobuf.message import DecodeError

from segmenter_plugin.errors import StoreError
from segmenter_plugin.store.wire import decode_time

#: Stands for the time of a row that is not there; older than any.
ABSENT = np.iinfo(np.int64).min

_KEPT = 10_000


class TimeMemo(dict[bytes | None, int]):
    """Nanoseconds of the timestamps seen so far: each distinct one is parsed once."""

    def __init__(self) -> None:
        super().__init__({None: ABSENT})

    def __missing__(self, serialised: bytes) -> int:
        try:
            nanos = decode_time(serialised)
        except DecodeError as error:
            raise StoreError(
                f"an event_timestamp in Redis is no timestamp: {serialised[:40]!r}",
                hint="another program writes to the keys of this project; give Feast a database (db=…) of its own.",
            ) from error
        self[serialised] = nanos
        return nanos

    def nanos(self, times: Iterable[bytes | None]) -> np.ndarray:
        """(N,) int64 nanoseconds since the epoch, `ABSENT` for None."""
        if len(self) > _KEPT:
            self.clear()
            self[None] = ABSENT
        return np.fromiter(map(self.__getitem__, times), np.int64)


def unless_newer(stored: np.ndarray, written: np.ndarray) -> np.ndarray:
    """(N,) whether a row goes online: unless what is stored is newer.

    Redis keeps no created_timestamp, so of equal event_timestamps the row that comes later wins: it is the corrected
    one.

    Args:
        stored: (N,) int64 event times that are there, `ABSENT` for none.
        written: (N,) int64 event times that come.
    """
    return written >= stored


def as_stock(stored: np.ndarray, written: np.ndarray) -> np.ndarray:
    """The same by Feast's rule, which skips equal times, and overwrites those up to 1970."""
    return (written > stored) | (stored <= 0)


def if_newer(stored: np.ndarray, written: np.ndarray) -> np.ndarray:
    """The same where equal times mean the same row, and what is stored may be its correction."""
    return written > stored
